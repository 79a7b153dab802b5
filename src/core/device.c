/* device.c - opening devices, and what all devices have in common. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/internal.h"

const char *mlxn_backend_name(int index)
{
    for (int i = 0; mlxn_backends[i]; i++)
        if (i == index)
            return mlxn_backends[i]->name;
    return NULL;
}

mlxn_status mlxn_device_open(const char *backend, int index, mlxn_device **out)
{
    return mlxn_device_open_with(MLXN_DESC(mlxn_device_desc, .backend = backend, .index = index),
                                 out);
}

static mlxn_status open_named(const mlxn_device_desc *desc, mlxn_device **out)
{
    char names[64] = "";
    for (int i = 0; mlxn_backends[i]; i++) {
        if (!strcmp(mlxn_backends[i]->name, desc->backend))
            return mlxn_backends[i]->open(desc, out);
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", mlxn_backends[i]->name);
    }
    return mlxn_fail(MLXN_ERR_NOT_FOUND, "device_open: no backend \"%s\" in this build (has: %s)",
                     desc->backend, names);
}

/* The first that opens.  Else the failure is that of the last backend which this machine has: that
 * it lacks the others is not what went wrong. */
static mlxn_status open_best(const mlxn_device_desc *desc, mlxn_device **out)
{
    mlxn_status status = MLXN_ERR_UNSUPPORTED;
    char detail[256] = "device_open: no backend of this build runs on this machine";
    for (int i = 0; mlxn_backends[i]; i++) {
        mlxn_status tried = mlxn_backends[i]->open(desc, out);
        if (tried == MLXN_OK)
            return MLXN_OK;
        if (tried != MLXN_ERR_UNSUPPORTED) {
            status = tried;
            snprintf(detail, sizeof detail, "%s", mlxn_last_error());
        }
    }
    return mlxn_fail(status, "%s", detail);
}

mlxn_status mlxn_device_open_with(const mlxn_device_desc *desc, mlxn_device **out)
{
    mlxn_device_desc d;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "device_open: out is NULL");
    *out = NULL;
    MLXN_TRY(mlxn_desc_copy("device_open", &d, sizeof d, desc));
    if (d.index < 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "device_open: index is %d, needs >= 0", d.index);
    if (d.backend)
        return open_named(&d, out);
    return open_best(&d, out);
}

mlxn_status mlxn_device_init(mlxn_device *device, const char *backend, const mlxn_device_ops *ops)
{
    atomic_init(&device->refs, 1);
    device->backend = backend;
    device->ops = ops;
    device->builtin = calloc((size_t)mlxn_builtin_kernel_count + 1, sizeof *device->builtin);
    if (!device->builtin)
        return mlxn_fail(MLXN_ERR_MEMORY, "device_open: out of memory");
    for (int i = 0; i < mlxn_builtin_kernel_count; i++)
        device->builtin[i].source = mlxn_builtin_kernels[i];
    pthread_mutex_init(&device->lock, NULL);
    return MLXN_OK;
}

void mlxn_device_fini(mlxn_device *device)
{
    for (int i = 0; i < mlxn_builtin_kernel_count; i++)
        if (device->builtin[i].built)
            device->ops->unbuild(device, &device->builtin[i]);
    while (device->user) {
        mlxn_kernel *kernel = device->user;
        device->user = kernel->next;
        if (kernel->built)
            device->ops->unbuild(device, kernel);
        free(kernel->owned);
        free(kernel);
    }
    free(device->builtin);
    pthread_mutex_destroy(&device->lock);
}

mlxn_device *mlxn_device_retain(mlxn_device *device)
{
    if (device)
        atomic_fetch_add_explicit(&device->refs, 1, memory_order_relaxed);
    return device;
}

void mlxn_device_release(mlxn_device *device)
{
    if (device && atomic_fetch_sub_explicit(&device->refs, 1, memory_order_acq_rel) == 1)
        device->ops->close(device);
}

mlxn_status mlxn_device_get_info(const mlxn_device *device, mlxn_device_info *info)
{
    if (!device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "device_get_info: device is NULL");
    MLXN_TRY(mlxn_info_check("device_get_info", info, sizeof *info));
    size_t size = info->size;
    mlxn_device_info now = {.size = size, .backend = device->backend};
    MLXN_TRY(device->ops->get_info(device, &now));
    now.allocated = atomic_load(&device->allocated);
    now.allocated_max = atomic_load(&device->allocated_max);
    *info = now;
    return MLXN_OK;
}

/* ---- the queue ---- */

static void mark_use(mlxn_device *device, const mlxn_work *work, uint64_t serial)
{
    for (const mlxn_node *node = work->first; node; node = node->next) {
        for (int i = 0; i < node->n_operands; i++)
            if (node->operands[i].storage)
                atomic_store_explicit(&node->operands[i].storage->last_commit, serial,
                                      memory_order_relaxed);
        if (node->graph) {
            node->graph->last_commit = serial;
            atomic_store(&device->replayed, serial);
        }
    }
}

mlxn_status mlxn_device_submit(mlxn_device *device, mlxn_commit *commit)
{
    pthread_mutex_lock(&device->lock);
    commit->serial = atomic_load(&device->submitted) + 1;
    mlxn_status status = device->ops->submit(device, commit);
    if (status == MLXN_OK) {
        atomic_store(&device->submitted, commit->serial);
        mark_use(device, commit->work, commit->serial);
    }
    pthread_mutex_unlock(&device->lock);
    return status;
}

void mlxn_device_note_failure(mlxn_device *device, const mlxn_commit *commit)
{
    int none = MLXN_OK;
    if (atomic_compare_exchange_strong(&device->late_status, &none, (int)commit->status))
        memcpy(device->late_detail, commit->detail, sizeof device->late_detail);
}

mlxn_status mlxn_device_wait(mlxn_device *device)
{
    int waited;
    if (!device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "device_wait: device is NULL");
    device->ops->wait(device, atomic_load(&device->submitted), &waited);
    mlxn_status status = (mlxn_status)atomic_load(&device->late_status);
    if (status == MLXN_OK)
        return MLXN_OK;
    mlxn_fail(status, "%s", device->late_detail);
    atomic_store(&device->late_status, MLXN_OK);
    return status;
}
