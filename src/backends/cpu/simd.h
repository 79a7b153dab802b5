/* simd.h - the vector types that CPU kernels are written on.
 *
 * vf is 16 floats, vi is 16 int32, vm is a mask of 16 lanes, vb is 64 bytes: one AVX-512 register,
 * two of AVX2, four of NEON, or an array in portable C.  A kernel file is compiled once for each
 * path (MLXN_ISA names it); every function here gives the same bits on every path, NaN payloads
 * apart.  Semantics worth knowing:
 *  - vf_fma(a, b, c) = a*b + c with one rounding; nothing else contracts.
 *  - vf_max(a, b) is a > b ? a : b (b if either is NaN), vf_min likewise with <.
 *  - vf_sum and vf_max_all combine lanes by a xor butterfly of distance 8, 4, 2, 1.
 *  - vf_to_int rounds to nearest even; out of range is not defined.
 *  - stores to f16 and bf16 round to nearest even, subnormals kept, NaN stays NaN.
 *  - vf_stream* store past the caches, to a multiple of the vector's bytes; vf_stream_end() makes
 *    them visible to other threads.
 *  - vf_swap_pairs exchanges lanes 2i and 2i + 1.
 *  - the _n forms touch only the first n (0 to 16) elements of memory; loads fill with 0.
 *  - vb_dot(acc, w, a) adds to each int32 lane the dot product of its four unsigned bytes of w,
 *    less VB_DOT_BIAS each, and the four signed bytes of a (a in -127..127).  VB_DOT_BIAS is 0 or
 *    128, whatever suits the path, so the caller corrects by VB_DOT_BIAS * sum(a). */
#ifndef MLXN_CPU_SIMD_H
#define MLXN_CPU_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <mlxn/dtype.h>

#define CPU_JOIN2(a, b) a##_##b
#define CPU_JOIN(a, b)  CPU_JOIN2(a, b)
/* The name of a function that exists once for each path. */
#define CPU_NAME(name) CPU_JOIN(mlxn_cpu_##name, MLXN_ISA)

#define VF_LANES       16

#if defined(MLXN_ISA_AVX512)
#include "backends/cpu/simd_avx512.h"
#elif defined(MLXN_ISA_AVX2)
#include "backends/cpu/simd_avx2.h"
#elif defined(MLXN_ISA_NEON) || defined(MLXN_ISA_DOTPROD)
#include "backends/cpu/simd_neon.h"
#else
#include "backends/cpu/simd_portable.h"
#endif

/* ---- scalars, the same on every path ---- */

static inline float cpu_bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t cpu_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float cpu_load_bf16(uint16_t h)
{
    return cpu_bits_float((uint32_t)h << 16);
}

static inline uint16_t cpu_store_bf16(float f)
{
    uint32_t u = cpu_float_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static inline float cpu_load_f16(uint16_t h)
{
    float f;
    vf v = vf_load_f16_n(&h, 1);
    vf_store_n(&f, v, 1);
    return f;
}

/* ---- by dtype: inlined with a constant dtype, so that the switch folds away ---- */

static inline size_t cpu_dtype_bytes(mlxn_dtype dtype)
{
    return dtype == MLXN_F32 ? 4 : 2;
}

static inline vf vf_load_as(mlxn_dtype dtype, const void *base, int64_t index)
{
    if (dtype == MLXN_F32)
        return vf_load((const float *)base + index);
    if (dtype == MLXN_F16)
        return vf_load_f16((const uint16_t *)base + index);
    return vf_load_bf16((const uint16_t *)base + index);
}

static inline vf vf_load_as_n(mlxn_dtype dtype, const void *base, int64_t index, int n)
{
    if (dtype == MLXN_F32)
        return vf_load_n((const float *)base + index, n);
    if (dtype == MLXN_F16)
        return vf_load_f16_n((const uint16_t *)base + index, n);
    return vf_load_bf16_n((const uint16_t *)base + index, n);
}

static inline void vf_store_as(mlxn_dtype dtype, void *base, int64_t index, vf v)
{
    if (dtype == MLXN_F32)
        vf_store((float *)base + index, v);
    else if (dtype == MLXN_F16)
        vf_store_f16((uint16_t *)base + index, v);
    else
        vf_store_bf16((uint16_t *)base + index, v);
}

static inline void vf_store_as_n(mlxn_dtype dtype, void *base, int64_t index, vf v, int n)
{
    if (dtype == MLXN_F32)
        vf_store_n((float *)base + index, v, n);
    else if (dtype == MLXN_F16)
        vf_store_f16_n((uint16_t *)base + index, v, n);
    else
        vf_store_bf16_n((uint16_t *)base + index, v, n);
}

/* base + index at a multiple of 16 elements' bytes; vf_stream_end() before another thread reads. */
static inline void vf_stream_as(mlxn_dtype dtype, void *base, int64_t index, vf v)
{
    if (dtype == MLXN_F32)
        vf_stream((float *)base + index, v);
    else if (dtype == MLXN_F16)
        vf_stream_f16((uint16_t *)base + index, v);
    else
        vf_stream_bf16((uint16_t *)base + index, v);
}

/* The sum of 32 virtual lanes held in two vectors: butterfly of distance 16, then vf_sum. */
static inline float vf_sum32(vf lanes_0_15, vf lanes_16_31)
{
    return vf_sum(vf_add(lanes_0_15, lanes_16_31));
}

#endif
