/* transpose.h - transposes 16 vectors in place: afterwards lane j of r[i] is what lane i of r[j]
 * was.  Moves only, so every path gives the same bits. */
#ifndef MLXN_CPU_TRANSPOSE_H
#define MLXN_CPU_TRANSPOSE_H

#include "backends/cpu/simd.h"

#if defined(MLXN_ISA_AVX512)

static inline void vf_transpose(vf r[16])
{
    vf t[16];
    for (int i = 0; i < 16; i += 2) { /* pairs of rows */
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* r[i + k]: column 4q + k of rows i .. i + 3, q = quarter */
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int k = 0; k < 4; k++) { /* gather the four quarters of each column */
        vf a = _mm512_shuffle_f32x4(r[k], r[4 + k], 0x88),
           b = _mm512_shuffle_f32x4(r[k], r[4 + k], 0xdd);
        vf c = _mm512_shuffle_f32x4(r[8 + k], r[12 + k], 0x88);
        vf d = _mm512_shuffle_f32x4(r[8 + k], r[12 + k], 0xdd);
        t[k] = _mm512_shuffle_f32x4(a, c, 0x88);
        t[4 + k] = _mm512_shuffle_f32x4(b, d, 0x88);
        t[8 + k] = _mm512_shuffle_f32x4(a, c, 0xdd);
        t[12 + k] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; i++)
        r[i] = t[i];
}

#elif defined(MLXN_ISA_AVX2)

static inline void vf_transpose_8(const __m256 *r, __m256 *out)
{
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        out[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
        out[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
    }
}

static inline void vf_transpose(vf r[16])
{
    __m256 in[8], out[4][8]; /* the four 8 x 8 blocks */
    for (int block = 0; block < 4; block++) {
        for (int i = 0; i < 8; i++)
            in[i] = block & 1 ? r[(block & 2) * 4 + i].b : r[(block & 2) * 4 + i].a;
        vf_transpose_8(in, out[block]);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = VF_PAIR(out[0][i], out[2][i]);
        r[8 + i] = VF_PAIR(out[1][i], out[3][i]);
    }
}

#else

static inline void vf_transpose(vf r[16])
{
    float in[16][16], out[16][16];
    for (int i = 0; i < 16; i++)
        vf_store(in[i], r[i]);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            out[i][j] = in[j][i];
    for (int i = 0; i < 16; i++)
        r[i] = vf_load(out[i]);
}

#endif
#endif
