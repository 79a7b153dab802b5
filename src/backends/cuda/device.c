/* device.c - opening a GPU: driver, primary context, stream, traits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/cuda.h"
#include "backends/cuda/embedded.h"
#include "kernels/text.h"

enum {
    OLDEST_ARCHITECTURE = 75, /* CUDA 13 dropped what is before it */
    /* programmatic edges of graphs */
    EDGES_ARCHITECTURE = 90,
    EDGES_DRIVER = 12030,
};

static void cuda_close(mlxn_device *device)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    if (cuda->context) {
        (void)mlxn_cuda_enter(cuda);
        mlxn_cuda_mirror_close(cuda);
        mlxn_cuda_queue_close(cuda);
        mlxn_cuda_memory_close(cuda);
        mlxn_cuda_modules_close(cuda);
        cuda->cu.cuCtxSetCurrent(NULL);
        cuda->cu.cuDevicePrimaryCtxRelease_v2(cuda->ordinal);
    }
    mlxn_device_fini(device);
    mlxn_cuda_driver_close(&cuda->cu);
    pthread_mutex_destroy(&cuda->stream_lock);
    pthread_mutex_destroy(&cuda->code_lock);
    free(cuda);
}

/* Texts are compiled for a plan, not for a kernel. */
static mlxn_status cuda_build(mlxn_device *device, mlxn_kernel *kernel)
{
    (void)device;
    (void)kernel;
    return MLXN_OK;
}

static void cuda_unbuild(mlxn_device *device, mlxn_kernel *kernel)
{
    (void)device;
    (void)kernel;
}

static mlxn_status cuda_get_info(const mlxn_device *device, mlxn_device_info *info)
{
    const mlxn_cuda_device *cuda = (const mlxn_cuda_device *)device;
    info->name = cuda->name;
    info->path = cuda->path;
    info->memory_bytes = cuda->memory_bytes;
    return MLXN_OK;
}

static const mlxn_device_ops ops = {
    .close = cuda_close,
    .alloc = mlxn_cuda_alloc,
    .free = mlxn_cuda_free,
    .wrap = mlxn_cuda_wrap,
    .write = mlxn_cuda_write,
    .read = mlxn_cuda_read,
    .build = cuda_build,
    .unbuild = cuda_unbuild,
    .prepare = mlxn_cuda_prepare,
    .submit = mlxn_cuda_submit,
    .wait = mlxn_cuda_wait,
    .graph_free = mlxn_cuda_graph_free,
    .measure = mlxn_cuda_measure,
    .get_info = cuda_get_info,
};

static mlxn_status find_gpu(mlxn_cuda_device *cuda, int index)
{
    int count = 0;
    MLXN_TRY(CU(&cuda->cu, cuDeviceGetCount, &count));
    if (!count)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "cuda: the driver finds no GPU");
    if (index >= count)
        return mlxn_fail(MLXN_ERR_NOT_FOUND, "device_open: cuda has %d device%s, not number %d",
                         count, count == 1 ? "" : "s", index);
    return CU(&cuda->cu, cuDeviceGet, &cuda->ordinal, index);
}

static mlxn_status read_traits(mlxn_cuda_device *cuda)
{
    int major = 0, minor = 0, processors = 0;
    mlxn_cuda_driver *cu = &cuda->cu;
    MLXN_TRY(CU(cu, cuDeviceGetAttribute, &major, MLXN_CU_CAPABILITY_MAJOR, cuda->ordinal));
    MLXN_TRY(CU(cu, cuDeviceGetAttribute, &minor, MLXN_CU_CAPABILITY_MINOR, cuda->ordinal));
    MLXN_TRY(CU(cu, cuDeviceGetAttribute, &processors, MLXN_CU_MULTIPROCESSORS, cuda->ordinal));
    MLXN_TRY(CU(cu, cuDeviceGetName, cuda->name, (int)sizeof cuda->name, cuda->ordinal));
    MLXN_TRY(CU(cu, cuDeviceTotalMem_v2, &cuda->memory_bytes, cuda->ordinal));
    cuda->name[sizeof cuda->name - 1] = 0;
    cuda->traits = (mlxn_gpu_traits){.dialect = MLXN_GPU_CUDA,
                                     .architecture = 10 * major + minor,
                                     .processors = (uint32_t)processors,
                                     .overrides = mlxn_cuda_has_compiler(cuda) &&
                                                  !getenv("MLXN_CUDA_PORTABLE")};
    snprintf(cuda->path, sizeof cuda->path, "sm_%d", cuda->traits.architecture);
    if (cuda->traits.architecture < OLDEST_ARCHITECTURE)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "cuda: %s is of architecture %d.%d, needs %d.%d",
                         cuda->name, major, minor, OLDEST_ARCHITECTURE / 10,
                         OLDEST_ARCHITECTURE % 10);
    return MLXN_OK;
}

/* What the device can, unless MLXN_CUDA_EDGES says less. */
static mlxn_status choose_edges(mlxn_cuda_device *cuda)
{
    static const char *const names[] = {"full", "programmatic", "chain"};
    const char *given = getenv("MLXN_CUDA_EDGES");
    const int can = cuda->traits.architecture >= EDGES_ARCHITECTURE &&
                    cuda->cu.version >= EDGES_DRIVER && cuda->cu.cuGraphAddDependencies_v2;
    int chosen = MLXN_CUDA_EDGES_PROGRAMMATIC;
    if (given && *given)
        for (chosen = 0; chosen < 3 && strcmp(given, names[chosen]); chosen++)
            ;
    if (chosen == 3)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "cuda: MLXN_CUDA_EDGES is \"%s\", not full, "
                         "programmatic or chain",
                         given);
    cuda->edges = can ? (mlxn_cuda_edges)chosen : MLXN_CUDA_EDGES_FULL;
    return MLXN_OK;
}

static mlxn_status start(mlxn_cuda_device *cuda, int index)
{
    MLXN_TRY(mlxn_cuda_driver_open(&cuda->cu));
    MLXN_TRY(find_gpu(cuda, index));
    MLXN_TRY(read_traits(cuda));
    MLXN_TRY(choose_edges(cuda));
    MLXN_TRY(CU(&cuda->cu, cuDevicePrimaryCtxRetain, &cuda->context, cuda->ordinal));
    MLXN_TRY(mlxn_cuda_enter(cuda));
    mlxn_cuda_pool_open(cuda);
    MLXN_TRY(mlxn_cuda_queue_open(cuda));
    MLXN_TRY(mlxn_cuda_memory_open(cuda));
    return mlxn_cuda_mirror_open(cuda);
}

/* Whether the library's kernels can be had. */
static int has_code(mlxn_cuda_device *cuda)
{
    char *ptx = NULL;
    const int has = mlxn_cuda_has_compiler(cuda) ||
                    mlxn_cuda_embedded(mlxn_kernel_text_matmul, &ptx) == MLXN_OK;
    free(ptx);
    return has;
}

static mlxn_status cuda_open(const mlxn_device_desc *desc, mlxn_device **out)
{
    mlxn_cuda_device *cuda = calloc(1, sizeof *cuda);
    if (!cuda)
        return mlxn_fail(MLXN_ERR_MEMORY, "device_open: out of memory");
    mlxn_status status = mlxn_device_init(&cuda->base, "cuda", &ops);
    if (status != MLXN_OK) {
        free(cuda);
        return status;
    }
    cuda->base.gpu = &cuda->traits;
    pthread_mutex_init(&cuda->stream_lock, NULL);
    pthread_mutex_init(&cuda->code_lock, NULL);
    status = start(cuda, desc->index);
    /* not asked for by name: another backend serves better than one that cannot compile */
    if (status == MLXN_OK && !desc->backend && !has_code(cuda))
        status = mlxn_fail(MLXN_ERR_UNSUPPORTED, "device_open: cuda: %s", cuda->nvrtc_detail);
    if (status != MLXN_OK) {
        cuda_close(&cuda->base);
        return status;
    }
    *out = &cuda->base;
    return MLXN_OK;
}

const mlxn_backend mlxn_cuda_backend = {"cuda", cuda_open};
