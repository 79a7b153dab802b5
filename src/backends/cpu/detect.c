/* detect.c - which SIMD paths this machine can run. */
#include <stdio.h>
#include <string.h>
#include "backends/cpu/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const char *const path_names[MLXN_PATH_COUNT] = {"portable", "avx2", "avx512", "neon",
                                                        "dotprod"};

const char *mlxn_cpu_path_name(mlxn_cpu_path path)
{
    return path_names[path];
}

#if defined(MLXN_HAVE_AVX2)
/* F16C is leaf 1, ECX bit 29; clang 14 does not know it by name. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}
#endif

/* The mlxn_cpu_isa bits that machine and build have. */
static uint32_t present(void)
{
    uint32_t isas = MLXN_CPU_PORTABLE;
#if defined(__x86_64__)
    __builtin_cpu_init();
#if defined(MLXN_HAVE_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        isas |= MLXN_CPU_AVX2;
#endif
#if defined(MLXN_HAVE_AVX512)
    if ((isas & MLXN_CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        isas |= MLXN_CPU_AVX512;
#endif
#elif defined(__aarch64__)
#if defined(MLXN_HAVE_NEON)
    isas |= MLXN_CPU_NEON;
#endif
#if defined(MLXN_HAVE_DOTPROD) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        isas |= MLXN_CPU_DOTPROD;
#elif defined(MLXN_HAVE_DOTPROD)
    isas |= MLXN_CPU_DOTPROD; /* every Apple arm64 has it */
#endif
#endif
    return isas;
}

mlxn_cpu_path mlxn_cpu_best_path(uint32_t mask)
{
    uint32_t isas = present();
    if (mask)
        isas &= mask | MLXN_CPU_PORTABLE;
    for (int path = MLXN_PATH_COUNT - 1; path > 0; path--)
        if (isas >> path & 1)
            return (mlxn_cpu_path)path;
    return MLXN_PATH_PORTABLE;
}

mlxn_status mlxn_cpu_parse_mask(const char *names, uint32_t *mask)
{
    *mask = 0;
    while (*names) {
        size_t n = strcspn(names, ",");
        int path = 0;
        while (path < MLXN_PATH_COUNT &&
               (strlen(path_names[path]) != n || strncmp(names, path_names[path], n) != 0))
            path++;
        if (path == MLXN_PATH_COUNT)
            return mlxn_fail(MLXN_ERR_ARGUMENT, "MLXN_CPU_MASK: \"%.*s\" is no instruction set",
                             (int)n, names);
        *mask |= 1u << path;
        names += n + (names[n] == ',');
    }
    return MLXN_OK;
}
