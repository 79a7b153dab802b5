/* block.h - 32 elements of a row at a time, for kernels that treat all elements alike.
 *
 * A vf_block holds elements i to i + 31 in two vectors, in an order that is the path's and the
 * dtype's own, so that no path has to shuffle: natural (a: the first 16, b: the rest), or split (a:
 * the even ones, b: the odd ones), which is how AVX-512 takes bf16 apart fastest.  Values that meet
 * in arithmetic must have one order; f32 operands are brought into it by vf_block_order. */
#ifndef MLXN_CPU_BLOCK_H
#define MLXN_CPU_BLOCK_H

#include <math.h>
#include "backends/cpu/kernel.h"
#include "backends/cpu/transpose.h"

enum { VF_BLOCK = 2 * VF_LANES };

typedef struct vf_block {
    vf a, b;
} vf_block;

#if defined(MLXN_ISA_AVX512)

CPU_INLINE int vf_block_is_split(mlxn_dtype dtype)
{
    return dtype == MLXN_BF16;
}

CPU_INLINE vf_block vf_block_load_split(const uint16_t *p)
{
    const __m512i both = _mm512_loadu_si512(p);
    const __m512i high = _mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000u));
    return (vf_block){_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), _mm512_castsi512_ps(high)};
}

/* Rounded to nearest even by 16-bit operations on all 32 at once: up if what is cut off, low, is
 * over half, or is half and high is odd: (low | (high & 1)) > 0x8000.  A NaN must have no bits
 * among those that are cut off: one of a bf16 has none, nor has NAN. */
CPU_INLINE __m512i vf_block_pack_split(vf_block x)
{
    const __m512i even = _mm512_castps_si512(x.a), odd = _mm512_castps_si512(x.b);
    const __mmask32 odd_words = 0xaaaaaaaau;
    const __m512i high = _mm512_mask_blend_epi16(odd_words, _mm512_srli_epi32(even, 16), odd);
    const __m512i low = _mm512_mask_blend_epi16(odd_words, even, _mm512_slli_epi32(odd, 16));
    const __m512i sticky = _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi16(1), 0xf8);
    const __mmask32 up = _mm512_cmpgt_epu16_mask(sticky, _mm512_set1_epi16((int16_t)0x8000));
    return _mm512_mask_sub_epi16(high, up, high, _mm512_set1_epi16(-1));
}

CPU_INLINE void vf_block_store_split(uint16_t *p, vf_block x)
{
    _mm512_storeu_si512(p, vf_block_pack_split(x));
}

CPU_INLINE void vf_block_stream_split(uint16_t *p, vf_block x)
{
    _mm512_stream_si512((void *)p, vf_block_pack_split(x));
}

/* Natural to split; any NaN becomes the one that vf_block_pack_split can round. */
CPU_INLINE vf_block vf_block_split(vf_block x)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    x.a = vf_select(vf_eq(x.a, x.a), x.a, vf_set(NAN));
    x.b = vf_select(vf_eq(x.b, x.b), x.b, vf_set(NAN));
    return (vf_block){_mm512_permutex2var_ps(x.a, even, x.b),
                      _mm512_permutex2var_ps(x.a, odd, x.b)};
}

/* Adds what stands at distance 16 in the row: eight even sums, then eight odd ones. */
CPU_INLINE vf vf_block_fold_split(vf_block x)
{
    return vf_add(_mm512_shuffle_f32x4(x.a, x.b, 0x44), _mm512_shuffle_f32x4(x.a, x.b, 0xee));
}

#else

CPU_INLINE int vf_block_is_split(mlxn_dtype dtype)
{
    (void)dtype;
    return 0;
}

#endif

CPU_INLINE vf_block vf_block_load(mlxn_dtype dtype, const void *base, int64_t i)
{
#if defined(MLXN_ISA_AVX512)
    if (vf_block_is_split(dtype))
        return vf_block_load_split((const uint16_t *)base + i);
#endif
    return (vf_block){vf_load_as(dtype, base, i), vf_load_as(dtype, base, i + VF_LANES)};
}

/* x in the order of `dtype`; stream: past the caches, to a multiple of 64 bytes. */
CPU_INLINE void vf_block_store(mlxn_dtype dtype, int stream, void *base, int64_t i, vf_block x)
{
#if defined(MLXN_ISA_AVX512)
    if (vf_block_is_split(dtype)) {
        if (stream)
            vf_block_stream_split((uint16_t *)base + i, x);
        else
            vf_block_store_split((uint16_t *)base + i, x);
        return;
    }
#endif
    if (stream) {
        vf_stream_as(dtype, base, i, x.a);
        vf_stream_as(dtype, base, i + VF_LANES, x.b);
    } else {
        vf_store_as(dtype, base, i, x.a);
        vf_store_as(dtype, base, i + VF_LANES, x.b);
    }
}

/* A block in natural order brought into the order of `dtype`. */
CPU_INLINE vf_block vf_block_order(mlxn_dtype dtype, vf_block x)
{
#if defined(MLXN_ISA_AVX512)
    if (vf_block_is_split(dtype))
        return vf_block_split(x);
#endif
    (void)dtype;
    return x;
}

/* Sums of 16 blocks in the order of `dtype`, block i's in lane i: each by the butterfly of distance
 * 16, 8, 4, 2, 1 over its elements. */
CPU_INLINE vf vf_block_sums(mlxn_dtype dtype, const vf_block x[16])
{
    vf r[16];
    CPU_UNROLL
    for (int i = 0; i < 16; i++) {
#if defined(MLXN_ISA_AVX512)
        if (vf_block_is_split(dtype))
            r[i] = vf_block_fold_split(x[i]);
        else
#endif
            r[i] = vf_add(x[i].a, x[i].b);
    }
    vf_transpose(r);
    /* element e of the sixteen is in r[e], or (split) in r[e / 2 + 8 * (e % 2)] */
    const int split = vf_block_is_split(dtype), far = split ? 4 : 8, middle = far / 2;
    const int near = split ? 1 : 2, last = split ? 8 : 1;
    CPU_UNROLL
    for (int i = 0; i < 16; i++)
        if (!(i & far))
            r[i] = vf_add(r[i], r[i + far]);
    CPU_UNROLL
    for (int i = 0; i < 16; i++)
        if (!(i & (far | middle)))
            r[i] = vf_add(r[i], r[i + middle]);
    CPU_UNROLL
    for (int i = 0; i < 16; i++)
        if (!(i & (far | middle | near)))
            r[i] = vf_add(r[i], r[i + near]);
    return vf_add(r[0], r[last]);
}

#endif
