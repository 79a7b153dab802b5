/* registry.h - kernels by name.
 *
 * Every kernel of the library, and every kernel a user registers, has a name on its device.  A
 * kernel is built (looked up, compiled) on its first dispatch and kept.  Registering a name again
 * replaces the user's earlier kernel for later dispatches; the library's own names are refused.
 *
 * A CPU kernel is a C function that every thread of the team calls once for a dispatch; it splits
 * the work itself, by call->thread of call->n_threads, or with mlxn_cpu_next(). */
#ifndef MLXN_REGISTRY_H
#define MLXN_REGISTRY_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

#define MLXN_MAX_OPERANDS   24
#define MLXN_MAX_ARGS_BYTES 1024
#define MLXN_MAX_CONSTANTS  8

typedef enum mlxn_access {
    MLXN_READ = 1,
    MLXN_WRITE = 2,
    MLXN_READ_WRITE = 3,
} mlxn_access;

/* What a CPU kernel gets.  Pointers are to the first byte of each operand's view, NULL for an
 * operand that was not given. */
typedef struct mlxn_cpu_call {
    void *const *ptr; /* one an operand, in the order of the dispatch */
    const void *args; /* the dispatch's argument bytes, 16-byte aligned */
    void *shared;     /* scratch of the whole dispatch, 64-byte aligned, not zeroed */
    uint32_t thread;  /* 0 .. n_threads - 1 */
    uint32_t n_threads;
    struct mlxn_cpu_run *run; /* the library's own */
} mlxn_cpu_call;

typedef void (*mlxn_cpu_kernel)(const mlxn_cpu_call *call);

/* The next of the numbers 0, 1, 2, ... of this dispatch: each is given once to one thread.  Which
 * thread gets which changes from run to run, so results must not depend on it. */
MLXN_API uint64_t mlxn_cpu_next(const mlxn_cpu_call *call);
/* Waits for all threads of the team; every thread must call it equally often in a dispatch. */
MLXN_API void mlxn_cpu_barrier(const mlxn_cpu_call *call);
/* Reports that a value read from a device buffer is out of range: wait returns MLXN_ERR_FAULT with
 * `what`, the value and the limit.  The first report of a commit is kept.  `what` is static text.
 */
MLXN_API void mlxn_cpu_fault(const mlxn_cpu_call *call, const char *what, int64_t value,
                             int64_t limit);

typedef struct mlxn_kernel_desc {
    size_t size;
    const char *name;
    mlxn_cpu_kernel cpu; /* NULL: not on the CPU */
    /* texts are not copied: they live as long as the device */
    const char *cuda_text;  /* CUDA C++ with an extern "C" kernel `name`; NULL: not on CUDA */
    const char *metal_text; /* MSL with a kernel `name`; NULL: not on Metal */
    /* CPU: bytes of call->shared for a dispatch with these arguments; NULL: none */
    size_t (*cpu_shared)(const void *args, uint32_t n_threads);
    const char *entry; /* what the kernel is called in the texts; NULL: name */
    /* Numbers that the texts are compiled with, so that the compiler can unroll and fold them:
     * constants[i] is function constant i on Metal (`constant int n [[function_constant(i)]];`) and
     * the macro MLXN_CONSTANT_<i> on CUDA.  Copied. */
    const int32_t *constants;
    int n_constants; /* at most MLXN_MAX_CONSTANTS */
} mlxn_kernel_desc;

/* Any thread.  MLXN_ERR_ARGUMENT: no name, no code at all, or a name of the library's. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_kernel_register(mlxn_device *device,
                                                          const mlxn_kernel_desc *desc);

/* The names on a device, any thread: library kernels first, then user kernels, the latest first
 * (one that was replaced is still there); NULL past the end. */
MLXN_API const char *mlxn_kernel_name(mlxn_device *device, int index);

typedef struct mlxn_operand {
    mlxn_buffer *buffer; /* NULL: absent */
    mlxn_access access;
} mlxn_operand;

typedef struct mlxn_dispatch_args {
    size_t size;
    const char *kernel;
    const mlxn_operand *operands;
    int n_operands; /* at most MLXN_MAX_OPERANDS */
    const void *args;
    size_t args_bytes;   /* at most MLXN_MAX_ARGS_BYTES; copied */
    uint32_t groups[3];  /* GPU: thread groups of the grid; ignored on the CPU */
    uint32_t threads;    /* GPU: threads a group */
    size_t shared_bytes; /* GPU: dynamic group memory */
} mlxn_dispatch_args;

/* Records a dispatch of a user's kernel by name.  MLXN_ERR_NOT_FOUND: nothing is named so;
 * MLXN_ERR_ARGUMENT also for the library's own, which operators record; MLXN_ERR_UNSUPPORTED: it
 * has no code for this device; MLXN_ERR_COMPILE: that does not compile. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_dispatch(mlxn_encoder *encoder,
                                                   const mlxn_dispatch_args *args);

MLXN_EXTERN_C_END
#endif
