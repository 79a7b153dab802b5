/* kernel.h - what a CPU kernel file includes: vector types, the call, how to define a kernel and
 * split its work. */
#ifndef MLXN_CPU_KERNEL_H
#define MLXN_CPU_KERNEL_H

#include <mlxn/registry.h>
#include "backends/cpu/simd.h"

#define CPU_INLINE static inline __attribute__((always_inline))
/* In front of a loop of constant count whose body must end up in registers. */
#if defined(__clang__)
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 32")
#endif

/* Opens the definition of kernel `id` for the SIMD path being compiled. */
#define CPU_KERNEL(id)                            \
    void CPU_NAME(id)(const mlxn_cpu_call *call); \
    void CPU_NAME(id)(const mlxn_cpu_call *call)

/* The part [*begin, *end) of n items that belongs to this thread: even, contiguous. */
static inline void cpu_split(const mlxn_cpu_call *call, int64_t n, int64_t *begin, int64_t *end)
{
    *begin = (int64_t)((unsigned __int128)n * call->thread / call->n_threads);
    *end = (int64_t)((unsigned __int128)n * (call->thread + 1) / call->n_threads);
}

#endif
