/* kernel.h - what a CPU kernel file includes: vector types, the call, how to define a kernel and
 * split its work. */
#ifndef MLXN_CPU_KERNEL_H
#define MLXN_CPU_KERNEL_H

#include <mlxn/registry.h>
#include "backends/cpu/share.h"
#include "backends/cpu/simd.h"

/* CPU_INLINE: always inlined, so that constant arguments fold.  CPU_UNROLL: in front of a loop of
 * constant count whose body must end up in registers.  Neither changes a result, and both take
 * compilers minutes where they do not pay: on the portable path, and with sanitizers. */
#if defined(__SANITIZE_ADDRESS__)
#define CPU_SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CPU_SLOW_BUILD 1
#endif
#endif
#if defined(CPU_SLOW_BUILD)
#define CPU_INLINE static inline
#else
#define CPU_INLINE static inline __attribute__((always_inline))
#endif
#if defined(CPU_SLOW_BUILD) || defined(MLXN_ISA_PORTABLE)
#define CPU_UNROLL
#elif defined(__clang__)
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 32")
#endif

/* Opens the definition of kernel `id` for the SIMD path being compiled. */
#define CPU_KERNEL(id)                            \
    void CPU_NAME(id)(const mlxn_cpu_call *call); \
    void CPU_NAME(id)(const mlxn_cpu_call *call)

/* Asks for the lines of bytes that will be read soon; the address may be past the end. */
CPU_INLINE void cpu_prefetch(const void *p, int bytes)
{
    for (int i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)p + i, 0, 3);
}

/* The part [*begin, *end) of n items that belongs to this thread: even, contiguous. */
static inline void cpu_split(const mlxn_cpu_call *call, int64_t n, int64_t *begin, int64_t *end)
{
    int64_t each = n / call->n_threads, rest = n % call->n_threads, thread = call->thread;
    *begin = each * thread + (thread < rest ? thread : rest);
    *end = *begin + each + (thread < rest);
}

#endif
