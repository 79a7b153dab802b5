/* cuda.h - the CUDA backend: a device is the primary context of one GPU and one stream.
 *
 * device.c opens and closes it, memory.c moves bytes, module.c turns kernel text into functions,
 * queue.c runs commits and graph.c what is replayed.  The backend knows no operator: a recorded
 * dispatch carries a plan (core/gpu.h), and its launches are what runs. */
#ifndef MLXN_BACKENDS_CUDA_H
#define MLXN_BACKENDS_CUDA_H

#include "core/gpu.h"
#include "backends/cuda/driver.h"
#include "backends/cuda/nvrtc.h"

enum {
    MLXN_CUDA_EVENTS = 16,             /* commits that can be told apart when waiting */
    MLXN_CUDA_STAGING_BYTES = 4 << 20, /* of each of two pieces */
};

/* Pinned memory that writes go through: two pieces in turn, each free again when the copies from
 * it are done. */
typedef struct mlxn_cuda_staging {
    unsigned char *piece[2];
    struct CUevent_st *free[2];
    int now; /* the piece in use */
    size_t used;
} mlxn_cuda_staging;

typedef struct mlxn_cuda_module mlxn_cuda_module;

typedef struct mlxn_cuda_device {
    mlxn_device base;
    mlxn_gpu_traits traits;
    mlxn_cuda_driver cu;
    int ordinal;
    struct CUctx_st *context;
    struct CUstream_st *stream;
    char name[128], path[16];
    size_t memory_bytes;
    int pooled; /* memory comes from the driver's stream-ordered pool */

    pthread_mutex_t stream_lock; /* the stream, what is queued on it, staging, scratch */
    mlxn_commit *first, **last;  /* not known to be done, oldest first */
    _Atomic uint64_t done;       /* serial of the newest commit known to be done */
    struct CUevent_st *events[MLXN_CUDA_EVENTS]; /* commit n ended: n % MLXN_CUDA_EVENTS */
    mlxn_cuda_staging staging;
    unsigned long long scratch;
    size_t scratch_bytes;
    volatile uint32_t *faults; /* a word a kernel of the library, in pinned memory */
    unsigned long long faults_address;

    pthread_mutex_t code_lock;
    mlxn_nvrtc nvrtc;
    mlxn_status nvrtc_status; /* of opening it, once nvrtc_tried */
    int nvrtc_tried;
    char nvrtc_detail[256];
    mlxn_cuda_module *modules;
} mlxn_cuda_device;

extern const mlxn_backend mlxn_cuda_backend;

/* Makes the device's context the calling thread's; before every use of the driver. */
mlxn_status mlxn_cuda_enter(mlxn_cuda_device *cuda);

/* ---- memory.c ---- */

mlxn_status mlxn_cuda_memory_open(mlxn_cuda_device *cuda);
void mlxn_cuda_memory_close(mlxn_cuda_device *cuda);
mlxn_status mlxn_cuda_take(mlxn_cuda_device *cuda, size_t bytes, unsigned long long *address);
void mlxn_cuda_give(mlxn_cuda_device *cuda, unsigned long long address);
mlxn_status mlxn_cuda_alloc(mlxn_device *device, mlxn_storage *storage, int zero);
void mlxn_cuda_free(mlxn_device *device, mlxn_storage *storage);
mlxn_status mlxn_cuda_wrap(mlxn_device *device, mlxn_storage *storage, void *memory);
mlxn_status mlxn_cuda_write(mlxn_device *device, mlxn_storage *storage, size_t offset,
                            const void *src, size_t bytes);
mlxn_status mlxn_cuda_read(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                           size_t bytes);

/* ---- module.c ---- */

/* Compiles what a recorded plan launches, unless it was, and notes the functions in it. */
mlxn_status mlxn_cuda_prepare(mlxn_device *device, mlxn_gpu_plan *plan);
void mlxn_cuda_modules_close(mlxn_cuda_device *cuda);

/* ---- queue.c ---- */

mlxn_status mlxn_cuda_queue_open(mlxn_cuda_device *cuda);
void mlxn_cuda_queue_close(mlxn_cuda_device *cuda);
mlxn_status mlxn_cuda_submit(mlxn_device *device, mlxn_commit *commit);
void mlxn_cuda_wait(mlxn_device *device, uint64_t serial, int *waited);

/* The parameters of a launch as the driver takes them: pointers to values; scratch is where the
 * node's work has its scratch. */
typedef struct mlxn_cuda_parameters {
    unsigned long long address[MLXN_GPU_PARAMETERS];
    void *pointer[MLXN_GPU_PARAMETERS + 1];
} mlxn_cuda_parameters;
void mlxn_cuda_bind(const mlxn_cuda_device *cuda, const mlxn_node *node,
                    const mlxn_gpu_launch *launch, unsigned long long scratch,
                    mlxn_cuda_parameters *out);

/* ---- graph.c ---- */

/* Launches a recorded graph on the stream; the first time it is built. */
mlxn_status mlxn_cuda_graph_launch(mlxn_cuda_device *cuda, mlxn_graph *graph);
void mlxn_cuda_graph_free(mlxn_device *device, mlxn_graph *graph);

#endif
