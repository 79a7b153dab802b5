/* internal.h - the structures behind the handles, shared by core, backends and operators.
 *
 * Layers: core knows no backend and no operator by name.  A backend fills a mlxn_device_ops and
 * embeds mlxn_device at the start of its own device.  An operator describes a kernel launch with
 * mlxn_launch(); what it takes from here is the view of a buffer. */
#ifndef MLXN_CORE_INTERNAL_H
#define MLXN_CORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <mlxn/graph.h>
#include <mlxn/registry.h>

/* ---- storage and buffers ---- */

typedef enum mlxn_storage_flags {
    MLXN_STORAGE_FILE = 1,    /* a private mapping of a file: untouched pages may be dropped */
    MLXN_STORAGE_WRAPPED = 2, /* memory of the caller: not freed by the backend */
    MLXN_STORAGE_WEIGHT = 4,  /* a prepared weight: lives long, and is read from end to end */
} mlxn_storage_flags;

typedef struct mlxn_storage {
    atomic_int refs;
    uint32_t flags;
    mlxn_device *device;
    void *host;       /* host address of byte 0; NULL where the host cannot reach it */
    uint64_t address; /* unique over the device's live storage: the key of hazards */
    size_t bytes;
    void *backend;                  /* the backend's own */
    void (*release)(void *context); /* wrapped memory: called instead of the backend's free */
    void *context;
    _Atomic uint64_t last_commit; /* serial of the last commit that uses it outside of graphs */
    atomic_int in_graphs;         /* operands of live graphs that it is */
    atomic_int written;           /* a dispatch was recorded that writes to it */
} mlxn_storage;

typedef enum mlxn_layout {
    MLXN_LAYOUT_STRIDED = 0,
    MLXN_LAYOUT_PACKED = 1, /* prepared weight: shape is the source's, bytes are the backend's */
} mlxn_layout;

struct mlxn_buffer {
    atomic_int refs;
    mlxn_storage *storage;
    mlxn_dtype dtype;
    mlxn_layout layout;
    int rank;
    int64_t shape[MLXN_MAX_RANK];
    int64_t strides[MLXN_MAX_RANK]; /* elements */
    int64_t elements;
    size_t offset; /* bytes into the storage */
    size_t bytes;  /* from the first to the last byte */
};

/* A new view without checks; takes over the caller's reference to the storage, on failure too. */
mlxn_status mlxn_buffer_make(mlxn_storage *storage, mlxn_dtype dtype, int rank,
                             const int64_t *shape, const int64_t *strides, size_t offset,
                             mlxn_buffer **out);
/* flags: MLXN_STORAGE_WEIGHT or 0. */
mlxn_status mlxn_storage_alloc(mlxn_device *device, size_t bytes, uint32_t flags, int zero,
                               mlxn_storage **out);
void mlxn_storage_retain(mlxn_storage *storage);
void mlxn_storage_release(mlxn_storage *storage);
/* The newest commit that may use the storage; of graphs only the newest replay of any is known, so
 * that a replay need not go through their operands. */
uint64_t mlxn_storage_last_use(const mlxn_storage *storage);
/* The whole pages inside [offset, offset + bytes) of a mapped file need not stay in memory: they
 * are read again if touched.  Does nothing for other storage, or where the backend cannot. */
void mlxn_storage_drop(mlxn_storage *storage, size_t offset, size_t bytes);
/* Checks dtype, rank and extents and gives the bytes of a dense buffer of that shape. */
mlxn_status mlxn_shape_bytes(const char *who, mlxn_dtype dtype, int rank, const int64_t *shape,
                             size_t *bytes);
/* A packed weight of `bytes` bytes with the dtype and shape of `like`, contents indeterminate. */
mlxn_status mlxn_buffer_create_packed(const mlxn_buffer *like, size_t bytes, mlxn_buffer **out);

/* ---- hazards ---- */

/* `rows` runs of `row_bytes` bytes, `pitch` bytes apart, from `address`. */
typedef struct mlxn_range {
    uint64_t address, row_bytes, pitch, rows;
} mlxn_range;

mlxn_range mlxn_buffer_range(const mlxn_buffer *buffer);
int mlxn_ranges_overlap(const mlxn_range *a, const mlxn_range *b);

typedef struct mlxn_node mlxn_node;

/* What has been read and written since the last barrier. */
typedef struct mlxn_hazards {
    struct mlxn_access_record {
        mlxn_range range;
        mlxn_access access;
        const mlxn_node *node;
    } * records;
    size_t count, capacity;
} mlxn_hazards;

/* The earlier dispatch that `node` depends on, or NULL. */
const mlxn_node *mlxn_hazards_find(const mlxn_hazards *hazards, const mlxn_node *node,
                                   int *operand);
mlxn_status mlxn_hazards_add(mlxn_hazards *hazards, const mlxn_node *node);
void mlxn_hazards_clear(mlxn_hazards *hazards);
void mlxn_hazards_free(mlxn_hazards *hazards);

/* ---- kernels ---- */

typedef enum mlxn_cpu_path { /* order of preference, worst first */
                             MLXN_PATH_PORTABLE,
                             MLXN_PATH_AVX2,
                             MLXN_PATH_AVX512,
                             MLXN_PATH_NEON,
                             MLXN_PATH_DOTPROD,
                             MLXN_PATH_COUNT,
} mlxn_cpu_path;

typedef struct mlxn_gpu_traits mlxn_gpu_traits;
typedef struct mlxn_gpu_plan mlxn_gpu_plan;
typedef struct mlxn_gpu_launch mlxn_gpu_launch;
typedef mlxn_status (*mlxn_gpu_planner)(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                                        mlxn_gpu_plan *plan);

/* Numbers that GPU code is made for: K_CONSTANT(name, i) of kernel text is at[i]. */
typedef struct mlxn_constants {
    int n;
    int32_t at[MLXN_MAX_CONSTANTS];
} mlxn_constants;

/* Bytes of an operand that a thread reads early in a dispatch. */
typedef struct mlxn_early_read {
    int operand;
    size_t offset, bytes;
} mlxn_early_read;
enum { MLXN_EARLY_READS = 8 };

/* What a kernel is made of, on every backend. */
typedef struct mlxn_kernel_source {
    const char *name;
    mlxn_cpu_kernel cpu[MLXN_PATH_COUNT]; /* a missing path falls back to the portable one */
    size_t (*cpu_shared)(const void *args, uint32_t n_threads);
    /* CPU: what a thread reads first, in that order, as far as it pays to have it in the cache
     * before the dispatch begins: at most MLXN_EARLY_READS pieces, how many; NULL: none */
    int (*cpu_early)(const void *args, uint32_t thread, uint32_t n_threads, mlxn_early_read *out);
    mlxn_gpu_planner gpu_plan;     /* NULL: not on a GPU */
    const char *const *gpu_faults; /* what the bits of the word of faults say, NULL at the end */
    /* of a user's kernel: */
    const char *cuda_text, *metal_text, *entry;
    mlxn_constants constants;
} mlxn_kernel_source;

/* The library's own kernels, in the order of src/ops/kernels.def; defined by src/ops/kernels.c. */
extern const mlxn_kernel_source mlxn_builtin_kernels[];
extern const int mlxn_builtin_kernel_count;

typedef struct mlxn_kernel {
    mlxn_kernel_source source;
    int built;
    /* filled by the backend's build: */
    mlxn_cpu_kernel run;
    void *backend;
    /* the registry's own: */
    char *owned; /* name and entry of a user's kernel; NULL: one of the library */
    struct mlxn_kernel *next;
} mlxn_kernel;

/* ---- recorded work ---- */

typedef struct mlxn_bound {
    mlxn_storage *storage; /* NULL: absent */
    size_t offset;
    mlxn_range range;
    mlxn_access access;
} mlxn_bound;

/* How a GPU runs a user's kernel; the CPU ignores it. */
typedef struct mlxn_grid {
    uint32_t groups[3], threads;
    size_t shared_bytes;
} mlxn_grid;

struct mlxn_node {
    mlxn_node *next;
    mlxn_kernel *kernel; /* NULL: a replay of `graph` */
    mlxn_graph *graph;
    int barrier_before;
    int n_operands;
    mlxn_bound *operands;
    void **ptr; /* host addresses of the operands */
    void *args;
    size_t args_bytes;
    mlxn_grid grid;
    const mlxn_gpu_plan *plan;          /* GPU: see core/gpu.h */
    size_t shared_bytes, shared_offset; /* scratch of this dispatch */
    _Atomic uint64_t next_item;         /* CPU: mlxn_cpu_next */
};

/* A list of nodes with its memory; owned by an encoder, or by a graph. */
typedef struct mlxn_arena_block mlxn_arena_block;
typedef struct mlxn_work {
    mlxn_node *first, **last;
    uint64_t dispatches, barriers; /* replays count what they replay */
    mlxn_arena_block *blocks, *spare;
    int barrier_pending;
    size_t shared_used, shared_max; /* scratch of the current barrier group, and the largest */
    mlxn_hazards hazards;
} mlxn_work;

void *mlxn_work_alloc(mlxn_work *work, size_t bytes); /* NULL: out of memory */
void mlxn_work_init(mlxn_work *work);
void mlxn_work_clear(mlxn_work *work); /* drops nodes and references, keeps the memory */
void mlxn_work_free(mlxn_work *work);
/* Decides about a barrier in front of `node` (mode as of the encoder) and appends it; notes at the
 * storage what it writes. */
mlxn_status mlxn_work_append(mlxn_work *work, mlxn_node *node, mlxn_barrier_mode mode);

struct mlxn_graph {
    atomic_int refs;
    mlxn_device *device;
    mlxn_work work;
    uint64_t last_commit; /* serial of the last commit that replays it */
    struct mlxn_binding *bindings;
    void *backend; /* the backend's executable form, made at first submit; freed by graph_free */
};

/* One commit, in the device's queue until done.  Owned by its encoder. */
typedef struct mlxn_commit {
    struct mlxn_commit *next;
    mlxn_work *work;
    uint64_t serial;
    mlxn_status status;
    char detail[256];   /* of a failure */
    double gpu_seconds; /* GPU: how long it ran; 0 where that is not known */
} mlxn_commit;

/* ---- devices ---- */

typedef struct mlxn_device_ops {
    void (*close)(mlxn_device *device); /* frees the device */
    /* fills host, address and backend of a storage of storage->bytes bytes */
    mlxn_status (*alloc)(mlxn_device *device, mlxn_storage *storage, int zero);
    void (*free)(mlxn_device *device, mlxn_storage *storage);
    /* makes storage of host memory; NULL or MLXN_ERR_UNSUPPORTED: the core copies instead */
    mlxn_status (*wrap)(mlxn_device *device, mlxn_storage *storage, void *memory);
    /* as mlxn_storage_drop; NULL where there is nothing to do */
    void (*drop)(mlxn_device *device, mlxn_storage *storage, size_t offset, size_t bytes);
    mlxn_status (*write)(mlxn_device *device, mlxn_storage *storage, size_t offset, const void *src,
                         size_t bytes);
    mlxn_status (*read)(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                        size_t bytes);
    mlxn_status (*build)(mlxn_device *device, mlxn_kernel *kernel);
    void (*unbuild)(mlxn_device *device, mlxn_kernel *kernel);
    /* compiles what a plan launches, as it is recorded; NULL where there is nothing to do */
    mlxn_status (*prepare)(mlxn_device *device, mlxn_gpu_plan *plan);
    /* appends to the queue; never blocks */
    mlxn_status (*submit)(mlxn_device *device, mlxn_commit *commit);
    /* returns when every commit up to `serial` is done; *waited: whether one was not */
    void (*wait)(mlxn_device *device, uint64_t serial, int *waited);
    void (*graph_free)(mlxn_device *device, mlxn_graph *graph);
    /* as mlxn_graph_measure, with arguments that are in order; NULL: it cannot */
    mlxn_status (*measure)(mlxn_device *device, mlxn_graph *graph, int repetitions,
                           mlxn_graph_costs *costs, mlxn_launch_cost *launches, size_t capacity);
    mlxn_status (*get_info)(const mlxn_device *device, mlxn_device_info *info);
} mlxn_device_ops;

struct mlxn_device {
    atomic_int refs;
    const char *backend;
    const mlxn_device_ops *ops;
    uint32_t threads;           /* CPU: the team, which sizes scratch; GPU: 0 */
    const mlxn_gpu_traits *gpu; /* NULL on the CPU */
    pthread_mutex_t lock;       /* registry, builds, queue order */
    mlxn_kernel *builtin;       /* array, as mlxn_builtin_kernels */
    mlxn_kernel *user;          /* list */
    _Atomic uint64_t submitted; /* serial of the newest commit */
    _Atomic uint64_t replayed;  /* serial of the newest commit that replays a graph */
    _Atomic uint64_t allocated, allocated_max;
    _Atomic int late_status; /* first late failure not yet reported by mlxn_device_wait */
    char late_detail[256];
};

mlxn_status mlxn_device_init(mlxn_device *device, const char *backend, const mlxn_device_ops *ops);
void mlxn_device_fini(mlxn_device *device);
/* Gives the commit the next serial and queues it; notes it at the storage it uses. */
mlxn_status mlxn_device_submit(mlxn_device *device, mlxn_commit *commit);
/* A commit ended with a failure (commit->status, commit->detail): remember it on the device. */
void mlxn_device_note_failure(mlxn_device *device, const mlxn_commit *commit);

typedef struct mlxn_backend {
    const char *name;
    mlxn_status (*open)(const mlxn_device_desc *desc, mlxn_device **out);
} mlxn_backend;
extern const mlxn_backend *const mlxn_backends[]; /* best first, NULL at the end */

/* ---- launches ---- */

/* Records a dispatch of kernel number `kernel` of mlxn_builtin_kernels. */
mlxn_status mlxn_launch(mlxn_encoder *encoder, int kernel, const mlxn_operand *operands,
                        int n_operands, const void *args, size_t args_bytes, const mlxn_grid *grid);
mlxn_status mlxn_launch_kernel(mlxn_encoder *encoder, mlxn_kernel *kernel,
                               const mlxn_operand *operands, int n_operands, const void *args,
                               size_t args_bytes, const mlxn_grid *grid);
mlxn_status mlxn_kernel_find(mlxn_device *device, const char *name, mlxn_kernel **out);

/* ---- sizes ---- */

static inline int mlxn_mul_overflows(size_t a, size_t b, size_t *out)
{
    return __builtin_mul_overflow(a, b, out);
}
static inline int mlxn_add_overflows(size_t a, size_t b, size_t *out)
{
    return __builtin_add_overflow(a, b, out);
}

#endif
