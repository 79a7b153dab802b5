/* cuda.h - the CUDA backend: a device is the primary context of one GPU and one stream.
 *
 * device.c opens and closes it, pool.c takes and gives back memory, memory.c moves bytes, module.c
 * turns kernel text into functions, launch.c fills in what a launch is given, queue.c runs commits,
 * graph.c what is replayed, and mirror.c shows the host what that wrote.  The backend knows no
 * operator: a recorded dispatch carries a plan (core/gpu.h), and its launches are what runs. */
#ifndef MLXN_BACKENDS_CUDA_H
#define MLXN_BACKENDS_CUDA_H

#include "core/gpu.h"
#include "backends/cuda/driver.h"
#include "backends/cuda/nvrtc.h"
#include "backends/cuda/publish.h"

enum {
    MLXN_CUDA_EVENTS = 16,             /* commits that can be told apart when waiting */
    MLXN_CUDA_STAGING_BYTES = 4 << 20, /* of each of two pieces */
    MLXN_CUDA_MIRRORS = 64,            /* storages that the host sees, and the count */
    MLXN_CUDA_MIRROR_BYTES = 64,       /* of each at most */
    MLXN_CUDA_PUBLISHED = 4,           /* of one graph */
};

/* Pinned memory that writes go through: two pieces in turn, each free again when the copies from
 * it are done. */
typedef struct mlxn_cuda_staging {
    unsigned char *piece[2];
    struct CUevent_st *free[2];
    int now; /* the piece in use */
    size_t used;
} mlxn_cuda_staging;

/* A line of the board; see mirror.c. */
typedef struct mlxn_cuda_mirror {
    int used, fresh, given_up;
} mlxn_cuda_mirror;

/* How the launches of a graph are ordered; see graph.c. */
typedef enum mlxn_cuda_edges {
    MLXN_CUDA_EDGES_FULL,
    MLXN_CUDA_EDGES_PROGRAMMATIC,
    MLXN_CUDA_EDGES_CHAIN,
} mlxn_cuda_edges;

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
    mlxn_cuda_edges edges;

    pthread_mutex_t stream_lock; /* the stream, what is queued on it, staging, scratch */
    mlxn_commit *first, **last;  /* not known to be done, oldest first */
    _Atomic uint64_t done;       /* serial of the newest commit known to be done */
    struct CUevent_st *events[MLXN_CUDA_EVENTS]; /* commit n ended: n % MLXN_CUDA_EVENTS */
    uint32_t counts[MLXN_CUDA_EVENTS]; /* of the board, when commit n ended; 0: it does not say */
    volatile uint32_t *board;          /* pinned */
    unsigned long long board_address, counter;
    uint32_t published; /* counts that are queued */
    mlxn_cuda_mirror mirrors[MLXN_CUDA_MIRRORS];
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
static inline mlxn_status mlxn_cuda_enter(mlxn_cuda_device *cuda)
{
    return CU(&cuda->cu, cuCtxSetCurrent, cuda->context);
}

/* ---- pool.c ---- */

void mlxn_cuda_pool_open(mlxn_cuda_device *cuda);
mlxn_status mlxn_cuda_take(mlxn_cuda_device *cuda, size_t bytes, unsigned long long *address);
void mlxn_cuda_give(mlxn_cuda_device *cuda, unsigned long long address);

/* ---- memory.c ---- */

mlxn_status mlxn_cuda_memory_open(mlxn_cuda_device *cuda);
void mlxn_cuda_memory_close(mlxn_cuda_device *cuda);
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
/* The same for one launch. */
mlxn_status mlxn_cuda_compile(mlxn_cuda_device *cuda, mlxn_gpu_launch *launch);
/* Whether NVRTC is there; without it there is at most PTX of the portable text. */
int mlxn_cuda_has_compiler(mlxn_cuda_device *cuda);
void mlxn_cuda_modules_close(mlxn_cuda_device *cuda);

/* ---- launch.c ---- */

/* The parameters of a launch as the driver takes them: pointers to values; scratch is where the
 * node's work has its scratch. */
typedef struct mlxn_cuda_parameters {
    unsigned long long address[MLXN_GPU_PARAMETERS];
    void *pointer[MLXN_GPU_PARAMETERS + 1];
} mlxn_cuda_parameters;
void mlxn_cuda_bind(const mlxn_cuda_device *cuda, const mlxn_node *node,
                    const mlxn_gpu_launch *launch, unsigned long long scratch,
                    mlxn_cuda_parameters *out);

/* ---- queue.c ---- */

mlxn_status mlxn_cuda_queue_open(mlxn_cuda_device *cuda);
void mlxn_cuda_queue_close(mlxn_cuda_device *cuda);
mlxn_status mlxn_cuda_submit(mlxn_device *device, mlxn_commit *commit);
void mlxn_cuda_wait(mlxn_device *device, uint64_t serial, int *waited);

/* ---- mirror.c ---- */

mlxn_status mlxn_cuda_mirror_open(mlxn_cuda_device *cuda);
void mlxn_cuda_mirror_close(mlxn_cuda_device *cuda);
/* The storage is freed; something that does not publish will write it. */
void mlxn_cuda_mirror_drop(mlxn_storage *storage);
void mlxn_cuda_mirror_stale(const mlxn_storage *storage);
/* What the node writes is no longer what the host sees of it. */
void mlxn_cuda_written(const mlxn_node *node);
/* Whether the board has what the storage holds, which is then read from it. */
int mlxn_cuda_mirror_read(const mlxn_cuda_device *cuda, const mlxn_storage *storage, size_t offset,
                          void *dst, size_t bytes);

/* The storages that a graph publishes. */
typedef struct mlxn_cuda_published {
    int count;
    mlxn_storage *storage[MLXN_CUDA_PUBLISHED];
} mlxn_cuda_published;
void mlxn_cuda_published_of(mlxn_cuda_device *cuda, const mlxn_work *work,
                            mlxn_cuda_published *out);
/* The graph is launched. */
void mlxn_cuda_published_launch(mlxn_cuda_device *cuda, const mlxn_cuda_published *p);
/* Whether the board has come to a count. */
int mlxn_cuda_has_published(const mlxn_cuda_device *cuda, uint32_t count);

/* The launch that ends such a graph, with what the driver is given. */
typedef struct mlxn_cuda_publish {
    mlxn_gpu_launch launch;
    struct publish_args args;
    mlxn_cuda_parameters parameters;
} mlxn_cuda_publish;
mlxn_status mlxn_cuda_publish_bind(mlxn_cuda_device *cuda, const mlxn_cuda_published *p,
                                   mlxn_cuda_publish *out);

/* ---- graph.c ---- */

/* Launches a recorded graph on the stream; the first time it is built. */
mlxn_status mlxn_cuda_graph_launch(mlxn_cuda_device *cuda, mlxn_graph *graph);
/* Where it has its scratch, once it was launched. */
unsigned long long mlxn_cuda_graph_scratch(const mlxn_graph *graph);
/* Whether it ends by counting itself. */
int mlxn_cuda_graph_publishes(const mlxn_graph *graph);
void mlxn_cuda_graph_free(mlxn_device *device, mlxn_graph *graph);
/* A launch as a node of a graph. */
mlxn_cuda_kernel_node mlxn_cuda_node_of(const mlxn_gpu_launch *launch, void **parameters);

/* ---- measure.c ---- */

mlxn_status mlxn_cuda_measure(mlxn_device *device, mlxn_graph *graph, int repetitions,
                              mlxn_graph_costs *costs, mlxn_launch_cost *launches, size_t capacity);

#endif
