/* kernel.h - what a CPU kernel file includes: vector types, the call, how to define a kernel and
 * split its work. */
#ifndef MLXN_CPU_KERNEL_H
#define MLXN_CPU_KERNEL_H

#include <mlxn/registry.h>
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

/* The part [*begin, *end) of n items that belongs to this thread: even, contiguous. */
static inline void cpu_split(const mlxn_cpu_call *call, int64_t n, int64_t *begin, int64_t *end)
{
    int64_t each = n / call->n_threads, rest = n % call->n_threads, thread = call->thread;
    *begin = each * thread + (thread < rest ? thread : rest);
    *end = *begin + each + (thread < rest);
}

/* A thread's way through n items of a long read: memory is read fastest as one long run by each
 * thread, so seven eighths are divided beforehand, and the rest goes in smaller runs to whoever is
 * free.  Runs begin at multiples of `unit`. */
typedef struct cpu_share {
    int64_t n, fixed, run;
    int started;
} cpu_share;

static inline cpu_share cpu_share_of(const mlxn_cpu_call *call, int64_t n, int64_t unit)
{
    const int64_t threads = call->n_threads, fixed = n * 7 / 8 / threads / unit * unit;
    const int64_t run = (n - fixed * threads) / (4 * threads) / unit * unit;
    return (cpu_share){n, fixed, run < unit ? unit : run, 0};
}

/* The next run [*begin, *end); 0 at the end.  Takes numbers from mlxn_cpu_next. */
static inline int cpu_share_next(const mlxn_cpu_call *call, cpu_share *s, int64_t *begin,
                                 int64_t *end)
{
    if (!s->started++) {
        *begin = s->fixed * call->thread;
        *end = *begin + s->fixed;
        return 1;
    }
    *begin = s->fixed * call->n_threads + (int64_t)mlxn_cpu_next(call) * s->run;
    *end = *begin + s->run < s->n ? *begin + s->run : s->n;
    return *begin < s->n;
}

#endif
