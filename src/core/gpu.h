/* gpu.h - how a GPU runs a dispatch: launches of kernel text.
 *
 * A GPU backend knows no operator.  A kernel of the library has a planner that turns a recorded
 * dispatch into launches: entry, grid, what each parameter is bound to.  It runs while the dispatch
 * is recorded, so a plan follows from shapes, capacities and addresses, never from contents, and a
 * recorded plan can be replayed.  Every backend, and the emulator of the tests, runs the same plan.
 *
 * A planner for a kernel of few numbers:
 *     mlxn_gpu_launch *launch;
 *     MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_x, "x", node->args, node->args_bytes, &launch));
 *     mlxn_gpu_bind_operands(launch, X_OPERANDS);
 *     mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
 *     launch->groups[0] = ...; launch->threads = ...; */
#ifndef MLXN_CORE_GPU_H
#define MLXN_CORE_GPU_H

#include "core/internal.h"

enum {
    MLXN_GPU_LAUNCHES = 12,
    MLXN_GPU_PARAMETERS = MLXN_MAX_OPERANDS + 1,
    MLXN_GPU_ARGS_BYTES = 4096,   /* of all launches of a plan */
    MLXN_GPU_SCRATCH_ALIGN = 256, /* of offsets into the scratch */
    MLXN_GPU_VARIANTS = 32,       /* of a kernel's code: constants that it is made for */
};

/* What a parameter is bound to: the operand of this number, or */
enum {
    MLXN_GPU_NONE = -1,    /* nothing: a null address */
    MLXN_GPU_FAULT = -2,   /* the kernel's word of faults: bit i is text i of kernels.def */
    MLXN_GPU_SCRATCH = -3, /* memory of this dispatch alone, contents indeterminate */
};

typedef enum mlxn_gpu_dialect {
    MLXN_GPU_EMULATOR,
    MLXN_GPU_CUDA,
    MLXN_GPU_METAL,
} mlxn_gpu_dialect;

/* What a planner may ask of a device. */
typedef struct mlxn_gpu_traits {
    mlxn_gpu_dialect dialect;
    int architecture;    /* CUDA: 10 * major + minor; Metal: number of the Apple family */
    uint32_t processors; /* multiprocessors, cores */
    uint32_t
        threads_wanted; /* tests: threads a group, where a planner has the choice; 0: its own */
    int schedule;       /* tests: a schedule in the operator's own numbers; 0: its own */
    int overrides;      /* whether kernels outside the portable text may be planned */
} mlxn_gpu_traits;

typedef struct mlxn_gpu_launch {
    const char *text;  /* complete source */
    const char *entry; /* a kernel in it: its parameters are those below, then the args struct */
    int whole;         /* a user's text: compiled whole by CUDA, for its constants alone */
    mlxn_constants constants;
    uint32_t groups[3], threads;
    uint32_t shared_bytes; /* dynamic group memory of a user's kernel */
    int after;             /* ordered behind the first so many launches of its plan */
    int early; /* may start before what it is ordered behind has ended: it calls k_wait() */
    int n_parameters;
    int16_t operand[MLXN_GPU_PARAMETERS];
    size_t offset[MLXN_GPU_PARAMETERS]; /* bytes into the operand's view, into the scratch */
    const void *args;
    size_t args_bytes;
    void *function; /* the backend's own: the compiled entry */
} mlxn_gpu_launch;

struct mlxn_gpu_plan {
    const mlxn_work *work; /* while it is made: what was recorded before */
    int n_launches;
    size_t scratch_bytes;
    size_t args_used;
    mlxn_gpu_launch launches[MLXN_GPU_LAUNCHES];
    _Alignas(16) unsigned char args[MLXN_GPU_ARGS_BYTES];
};

/* Appends a launch of one group in x, y and z with no parameters; args are copied into the plan. */
mlxn_status mlxn_gpu_add(mlxn_gpu_plan *plan, const char *text, const char *entry, const void *args,
                         size_t args_bytes, mlxn_gpu_launch **out);
/* The next parameter. */
void mlxn_gpu_bind(mlxn_gpu_launch *launch, int operand, size_t offset);
/* The next n parameters: operands 0 .. n - 1. */
void mlxn_gpu_bind_operands(mlxn_gpu_launch *launch, int n);
/* The next constant of its code.  It says again what the args say, or is K_OPEN: code that was made
 * for no constants (PTX, the emulator) gives the same bits.  Every value is another compilation. */
void mlxn_gpu_constant(mlxn_gpu_launch *launch, int32_t value);
int mlxn_gpu_same_constants(const mlxn_constants *a, const mlxn_constants *b);
/* For a backend that has `variants` of the launch's kernel, none for its constants: whether it
 * takes code that serves all constants instead, which are K_OPEN then.  So shapes that keep
 * changing cost a bounded number of compilations.  Never for a user's kernel: its constants are all
 * it has. */
int mlxn_gpu_open_constants(mlxn_gpu_launch *launch, int variants);
/* n as an extent of a grid: at least 1, and no more than every device takes along x, y and z, for
 * kernels that go in strides of the grid. */
uint32_t mlxn_gpu_groups(int64_t n);
/* Takes `bytes` more of scratch, aligned; the offset to bind. */
size_t mlxn_gpu_scratch(mlxn_gpu_plan *plan, size_t bytes);

/* Whether nothing that the recording has before this node writes what the operand reads, so that a
 * launch of the node may read it before k_wait().  What the recording writes later, for its next
 * replay, does no harm.  True of an operand that is absent (below 0, too). */
int mlxn_gpu_settled(const mlxn_gpu_plan *plan, const mlxn_node *node, int operand);

/* Plans a node of this device and keeps the plan in the work's memory, as node->plan; sets
 * node->shared_bytes.  Does nothing for devices without traits. */
mlxn_status mlxn_gpu_plan_node(mlxn_device *device, mlxn_work *work, mlxn_node *node);

#endif
