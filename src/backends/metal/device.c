/* device.c - a Metal device: opened without any framework at link time, Apple7 (M1) and later,
 * whose simdgroups have the 32 lanes that the kernel texts count on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/metal/constants.h"
#include "backends/metal/metal.h"

static void metal_close(mlxn_device *device)
{
    metal_device *metal = (metal_device *)device;
    void *pool = mlxn_objc.pool_push();
    mlxn_metal_release_flights(metal);
    mlxn_metal_release_buffer(metal, metal->scratch);
    mlxn_metal_release_buffer(metal, metal->nothing);
    mlxn_metal_release_libraries(metal);
    objc_release(metal->residency);
    objc_release(metal->queue);
    objc_release(metal->device);
    mlxn_objc.pool_pop(pool);
    mlxn_device_fini(device);
    pthread_cond_destroy(&metal->landed);
    pthread_mutex_destroy(&metal->lock);
    pthread_mutex_destroy(&metal->code_lock);
    free(metal);
}

/* A text of the library is compiled when it is first recorded, since plans choose the entry; a
 * user's is compiled here, so that its errors come early. */
static mlxn_status metal_build(mlxn_device *device, mlxn_kernel *kernel)
{
    metal_pipeline *p;
    const mlxn_kernel_source *source = &kernel->source;
    mlxn_gpu_launch launch = {.text = source->metal_text,
                              .entry = source->entry,
                              .whole = 1,
                              .constants = source->constants,
                              .threads = 1};
    if (!kernel->owned || !source->metal_text)
        return MLXN_OK;
    return mlxn_metal_find_pipeline((metal_device *)device, &launch, &p);
}

static void metal_unbuild(mlxn_device *device, mlxn_kernel *kernel)
{
    (void)device;
    (void)kernel; /* pipelines are the device's */
}

static mlxn_status metal_get_info(const mlxn_device *device, mlxn_device_info *info)
{
    const metal_device *metal = (const metal_device *)device;
    info->name = metal->name;
    info->path = metal->path;
    info->memory_bytes = objc_working_set(metal->device);
    return MLXN_OK;
}

/* The highest Apple family, 7 or later; 0: an older one, or not Apple's. */
static int family_of(id device)
{
    int family = 0;
    for (long f = MTLGPUFamilyApple7; objc_supports_family(device, f); f++)
        family = 7 + (int)(f - MTLGPUFamilyApple7);
    return family;
}

static id new_residency(id device)
{
    id descriptor, set, error = NULL;
    if (!objc_responds(device, OBJC_SELECTOR(new_residency_set)))
        return NULL;
    descriptor = mlxn_objc_new("MTLResidencySetDescriptor");
    set = objc_new_residency_set(device, descriptor, &error);
    objc_release(descriptor);
    return set;
}

static mlxn_status set_up(metal_device *metal)
{
    const int family = family_of(metal->device);
    const char *name = objc_utf8(objc_device_name(metal->device));
    snprintf(metal->name, sizeof metal->name, "%s", name ? name : "Metal");
    snprintf(metal->path, sizeof metal->path, "apple%d", family);
    if (!family)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                         "device_open: %s is no Apple GPU of family 7 or later", metal->name);
    metal->traits = (mlxn_gpu_traits){.dialect = MLXN_GPU_METAL,
                                      .architecture = family,
                                      .processors = 10, /* of an M1 to M4: 7 to 10; not told */
                                      .overrides = !getenv("MLXN_METAL_PORTABLE")};
    metal->max_group_memory = objc_max_group_memory(metal->device);
    metal->queue = objc_new_queue(metal->device);
    if (!metal->queue)
        return mlxn_fail(MLXN_ERR_DEVICE, "device_open: %s gives no command queue", metal->name);
    objc_set_queue_label(metal->queue, mlxn_objc_string("mlxn"));
    metal->residency = new_residency(metal->device);
    if (metal->residency)
        objc_add_residency_set(metal->queue, metal->residency);
    metal->nothing = mlxn_metal_new_buffer(metal, 16);
    if (!metal->nothing)
        return mlxn_fail(MLXN_ERR_MEMORY, "device_open: no memory on %s", metal->name);
    return MLXN_OK;
}

static const mlxn_device_ops ops = {
    .close = metal_close,
    .alloc = mlxn_metal_alloc,
    .free = mlxn_metal_free,
    .wrap = mlxn_metal_wrap,
    .write = mlxn_metal_write,
    .read = mlxn_metal_read,
    .build = metal_build,
    .unbuild = metal_unbuild,
    .prepare = mlxn_metal_prepare,
    .submit = mlxn_metal_submit,
    .wait = mlxn_metal_wait,
    .get_info = metal_get_info,
};

static mlxn_status metal_open(const mlxn_device_desc *desc, mlxn_device **out)
{
    MLXN_TRY(mlxn_objc_load());
    if (desc->index > 0)
        return mlxn_fail(MLXN_ERR_NOT_FOUND, "device_open: metal has one device, not number %d",
                         desc->index);
    metal_device *metal = calloc(1, sizeof *metal);
    if (!metal)
        return mlxn_fail(MLXN_ERR_MEMORY, "device_open: out of memory");
    mlxn_status status = mlxn_device_init(&metal->base, "metal", &ops);
    if (status != MLXN_OK) {
        free(metal);
        return status;
    }
    metal->base.gpu = &metal->traits;
    metal->last = &metal->first;
    pthread_mutex_init(&metal->lock, NULL);
    pthread_mutex_init(&metal->code_lock, NULL);
    pthread_cond_init(&metal->landed, NULL);
    void *pool = mlxn_objc.pool_push();
    metal->device = mlxn_objc.default_device();
    status = metal->device ? set_up(metal)
                           : mlxn_fail(MLXN_ERR_NOT_FOUND, "device_open: Metal finds no device");
    mlxn_objc.pool_pop(pool);
    if (status != MLXN_OK) {
        metal_close(&metal->base);
        return status;
    }
    *out = &metal->base;
    return MLXN_OK;
}

const mlxn_backend mlxn_metal_backend = {"metal", metal_open};
