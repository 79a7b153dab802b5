/* device.h - a compute device.
 *
 * A device owns memory, a queue and the kernels built for it.  All handles of the library are
 * opaque and counted: _create/_open gives one reference, _retain adds one, _release drops one
 * (NULL is fine) and the last release frees.  A buffer, encoder, pool or graph retains its device.
 *
 * Threads: a device may be used by several threads at once; so may buffers.  An encoder, pool or
 * graph belongs to one thread at a time.
 *
 * The CPU device computes in the thread that waits: commit queues the work, mlxn_encoder_wait (or
 * a read, write or map that needs a result) runs what is queued, together with the device's
 * threads - 1 persistent workers.  With one thread there is no other thread at all. */
#ifndef MLXN_DEVICE_H
#define MLXN_DEVICE_H

#include <stddef.h>
#include <stdint.h>
#include <mlxn/status.h>

MLXN_EXTERN_C_BEGIN

/* Descriptors.  Each starts with its size, so that it can grow: MLXN_DESC(type, .field = value)
 * is the address of a compound literal with the size filled in.  Size 0 is an error, a size larger
 * than the library knows is accepted if the unknown tail is zero, a smaller one reads as zeros.
 * Structs that the library fills start with their size too, set by the caller; it must be the one
 * that the library knows. */
#define MLXN_DESC(type, ...) (&(type){.size = sizeof(type), __VA_ARGS__})

/* The two rules, for layers on top that have descriptors of their own (model.h is one): `desc`, of
 * whatever size, into the `bytes` of `out`, whose size becomes `bytes`; and whether `info` has that
 * size.  MLXN_ERR_ARGUMENT with a text that `who` begins: NULL, or a size that will not do. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_desc_copy(const char *who, void *out, size_t bytes,
                                                    const void *desc);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_info_check(const char *who, const void *info,
                                                     size_t bytes);

typedef struct mlxn_device mlxn_device;

/* CPU instruction sets, as bits: for mlxn_device_desc.cpu_mask and the environment variable
 * MLXN_CPU_MASK (names joined by commas).  The portable C path is always allowed. */
typedef enum mlxn_cpu_isa {
    MLXN_CPU_PORTABLE = 1 << 0, /* plain C11, no SIMD assumed */
    MLXN_CPU_AVX2 = 1 << 1,     /* AVX2, FMA, F16C */
    MLXN_CPU_AVX512 = 1 << 2,   /* AVX-512 F, BW, DQ, VL, VNNI */
    MLXN_CPU_NEON = 1 << 3,     /* arm64 Advanced SIMD */
    MLXN_CPU_DOTPROD = 1 << 4,  /* arm64 with the dot product extension */
} mlxn_cpu_isa;

enum { MLXN_CPU_THREADS_MAX = 1024 }; /* of a team */

typedef struct mlxn_device_desc {
    size_t size;
    const char *backend; /* "cpu", "cuda", "metal"; NULL: the best there is */
    int index;           /* which device of that backend, from 0 */
    uint32_t threads;    /* CPU: threads of the team; 0: the CPUs of the affinity mask */
    uint32_t cpu_mask;   /* CPU: allowed mlxn_cpu_isa bits; 0: all (or MLXN_CPU_MASK) */
} mlxn_device_desc;

/* Opens device `index` of `backend` with defaults.  MLXN_ERR_NOT_FOUND: no such backend in this
 * build, or no such device; MLXN_ERR_UNSUPPORTED: the backend cannot run on this machine.
 * MLXN_ERR_ARGUMENT: more than MLXN_CPU_THREADS_MAX threads, or in cpu_mask a bit that is no
 * mlxn_cpu_isa (those that this machine lacks are allowed). */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_device_open(const char *backend, int index,
                                                      mlxn_device **out);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_device_open_with(const mlxn_device_desc *desc,
                                                           mlxn_device **out);
MLXN_API mlxn_device *mlxn_device_retain(mlxn_device *device);
MLXN_API void mlxn_device_release(mlxn_device *device);

typedef struct mlxn_device_info {
    size_t size;            /* set by the caller: sizeof(mlxn_device_info) */
    const char *backend;    /* "cpu" */
    const char *name;       /* the hardware's own name; lives as long as the device */
    const char *path;       /* CPU: the SIMD path in use ("avx512"); GPU: the architecture */
    uint32_t threads;       /* CPU: the team; GPU: 0 */
    uint64_t memory_bytes;  /* device memory; 0 if not known */
    uint64_t allocated;     /* bytes of live storage allocated by the library on this device */
    uint64_t allocated_max; /* high-water mark of `allocated` */
} mlxn_device_info;

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_device_get_info(const mlxn_device *device,
                                                          mlxn_device_info *info);

/* The backends of this build, best first: name 0, 1, ... until NULL. */
MLXN_API const char *mlxn_backend_name(int index);

/* Waits until everything committed to the device has run; returns its first late failure. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_device_wait(mlxn_device *device);

MLXN_EXTERN_C_END
#endif
