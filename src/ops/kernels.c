/* kernels.c - the table of the library's kernels, with the CPU function of every SIMD path that
 * this build has. */
#include "ops/kernels.h"
#include "ops/plans.h"
#include "ops/shared.h"

#define MLXN_KERNEL(name, shared, early, plan, faults)      \
    void mlxn_cpu_##name##_portable(const mlxn_cpu_call *); \
    void mlxn_cpu_##name##_avx2(const mlxn_cpu_call *);     \
    void mlxn_cpu_##name##_avx512(const mlxn_cpu_call *);   \
    void mlxn_cpu_##name##_neon(const mlxn_cpu_call *);     \
    void mlxn_cpu_##name##_dotprod(const mlxn_cpu_call *);
#include "ops/kernels.def"
#undef MLXN_KERNEL

#if defined(MLXN_HAVE_AVX2)
#define AVX2(name) mlxn_cpu_##name##_avx2
#else
#define AVX2(name) NULL
#endif
#if defined(MLXN_HAVE_AVX512)
#define AVX512(name) mlxn_cpu_##name##_avx512
#else
#define AVX512(name) NULL
#endif
#if defined(MLXN_HAVE_NEON)
#define NEON(name) mlxn_cpu_##name##_neon
#else
#define NEON(name) NULL
#endif
#if defined(MLXN_HAVE_DOTPROD)
#define DOTPROD(name) mlxn_cpu_##name##_dotprod
#else
#define DOTPROD(name) NULL
#endif

const mlxn_kernel_source mlxn_builtin_kernels[] = {
#define MLXN_KERNEL(id, shared, early, plan, faults)                                 \
    {.name = #id,                                                                    \
     .cpu = {mlxn_cpu_##id##_portable, AVX2(id), AVX512(id), NEON(id), DOTPROD(id)}, \
     .cpu_shared = (shared),                                                         \
     .cpu_early = (early),                                                           \
     .gpu_plan = (plan),                                                             \
     .gpu_faults = (faults)},
#include "ops/kernels.def"
#undef MLXN_KERNEL
};

const int mlxn_builtin_kernel_count = MLXN_KERNEL_COUNT;
