/* registry.c - kernels by name, built at their first use; see mlxn/registry.h. */
#include <stdlib.h>
#include <string.h>
#include "core/internal.h"

static mlxn_kernel *lookup(mlxn_device *device, const char *name)
{
    for (mlxn_kernel *kernel = device->user; kernel; kernel = kernel->next)
        if (!strcmp(kernel->source.name, name))
            return kernel;
    for (int i = 0; i < mlxn_builtin_kernel_count; i++)
        if (!strcmp(mlxn_builtin_kernels[i].name, name))
            return &device->builtin[i];
    return NULL;
}

mlxn_status mlxn_kernel_find(mlxn_device *device, const char *name, mlxn_kernel **out)
{
    mlxn_status status = MLXN_OK;
    pthread_mutex_lock(&device->lock);
    mlxn_kernel *kernel = lookup(device, name);
    if (!kernel)
        status = mlxn_fail(MLXN_ERR_NOT_FOUND, "dispatch: no kernel is named \"%s\"", name);
    else if (!kernel->built)
        status = device->ops->build(device, kernel);
    if (status == MLXN_OK)
        kernel->built = 1;
    pthread_mutex_unlock(&device->lock);
    *out = kernel;
    return status;
}

static mlxn_status check_new(const mlxn_device *device, const mlxn_kernel_desc *desc)
{
    if (!device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "kernel_register: device is NULL");
    if (!desc->name || !desc->name[0])
        return mlxn_fail(MLXN_ERR_ARGUMENT, "kernel_register: name is missing");
    if (!desc->cpu && !desc->cuda_text && !desc->metal_text)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "kernel_register: %s has no code for any backend",
                         desc->name);
    if (desc->n_constants < 0 || desc->n_constants > MLXN_MAX_CONSTANTS ||
        (desc->n_constants && !desc->constants))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "kernel_register: %s has %d constants%s, at most %d",
                         desc->name, desc->n_constants, desc->constants ? "" : " at NULL",
                         MLXN_MAX_CONSTANTS);
    for (int i = 0; i < mlxn_builtin_kernel_count; i++)
        if (!strcmp(mlxn_builtin_kernels[i].name, desc->name))
            return mlxn_fail(MLXN_ERR_ARGUMENT, "kernel_register: %s is a kernel of the library",
                             desc->name);
    return MLXN_OK;
}

/* The kernel's name and entry, to be freed in one piece. */
static char *own_names(const mlxn_kernel_desc *d, mlxn_kernel_source *out)
{
    const char *entry = d->entry ? d->entry : d->name;
    char *owned = malloc(strlen(d->name) + strlen(entry) + 2);
    if (!owned)
        return NULL;
    out->name = strcpy(owned, d->name);
    out->entry = strcpy(owned + strlen(d->name) + 1, entry);
    return owned;
}

mlxn_status mlxn_kernel_register(mlxn_device *device, const mlxn_kernel_desc *desc)
{
    mlxn_kernel_desc d;
    MLXN_TRY(mlxn_desc_copy("kernel_register", &d, sizeof d, desc));
    MLXN_TRY(check_new(device, &d));
    mlxn_kernel *kernel = calloc(1, sizeof *kernel);
    if (kernel) {
        kernel->source = (mlxn_kernel_source){.cpu = {d.cpu},
                                              .cpu_shared = d.cpu_shared,
                                              .cuda_text = d.cuda_text,
                                              .metal_text = d.metal_text,
                                              .constants.n = d.n_constants};
        kernel->owned = own_names(&d, &kernel->source);
    }
    if (!kernel || !kernel->owned) {
        free(kernel);
        return mlxn_fail(MLXN_ERR_MEMORY, "kernel_register: out of memory");
    }
    if (d.n_constants)
        memcpy(kernel->source.constants.at, d.constants, (size_t)d.n_constants * sizeof(int32_t));
    /* An earlier kernel of the name stays behind the new one: recorded work may still use it. */
    pthread_mutex_lock(&device->lock);
    kernel->next = device->user;
    device->user = kernel;
    pthread_mutex_unlock(&device->lock);
    return MLXN_OK;
}

const char *mlxn_kernel_name(mlxn_device *device, int index)
{
    const char *name = NULL;
    if (!device || index < 0)
        return NULL;
    if (index < mlxn_builtin_kernel_count)
        return mlxn_builtin_kernels[index].name;
    index -= mlxn_builtin_kernel_count;
    pthread_mutex_lock(&device->lock);
    for (mlxn_kernel *kernel = device->user; kernel && !name; kernel = kernel->next)
        if (index-- == 0)
            name = kernel->source.name;
    pthread_mutex_unlock(&device->lock);
    return name;
}
