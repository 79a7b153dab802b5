/* quants.h - rows of weights, a tile of 32 elements at a time, for kernel text.
 *
 * A weight dtype is a k_format, as a tag.  A k_tile holds what one row stores for a tile, in the
 * order of the packed layout of GPUs (ops/matmul/packed.h), where a row's words lie in 16-byte
 * pieces; blocks.h reads the same from plain GGUF rows.  An element is s*u + t with u a small whole
 * number; k_quad gives u, k_scales_of gives s and t. */
#ifndef MLXN_KERNELS_QUANTS_H
#define MLXN_KERNELS_QUANTS_H

#include "kernels/dialect.h"
#include "kernels/types.h"
#include "kernels/vector.h"

enum { K_TILE = 32, K_GROUP_ROWS = 16 }; /* elements a tile, rows a group */

/* As packed_kind: no scale, s*u, s*u + t, or s*u for the first 16 elements and t*u for the rest. */
enum { K_KIND_FLOAT, K_KIND_SCALE, K_KIND_OFFSET, K_KIND_DUAL };

/* D: the element of float formats; SUPER: tiles in superblocks of 8. */
template <class D, int BITS, int KIND, int ZERO, int SUPER> struct k_format {
    typedef D element;
    enum { bits = BITS, kind = KIND, zero = ZERO, super = SUPER, quant_bytes = 64 * BITS };
};
typedef k_format<k_f32, 32, K_KIND_FLOAT, 0, 0> k_weight_f32;
typedef k_format<k_f16, 16, K_KIND_FLOAT, 0, 0> k_weight_f16;
typedef k_format<k_bf16, 16, K_KIND_FLOAT, 0, 0> k_weight_bf16;
typedef k_format<k_f32, 4, K_KIND_SCALE, 8, 0> k_weight_q4_0;
typedef k_format<k_f32, 4, K_KIND_OFFSET, 0, 0> k_weight_q4_1;
typedef k_format<k_f32, 5, K_KIND_SCALE, 16, 0> k_weight_q5_0;
typedef k_format<k_f32, 5, K_KIND_OFFSET, 0, 0> k_weight_q5_1;
typedef k_format<k_f32, 8, K_KIND_SCALE, 128, 0> k_weight_q8_0;
typedef k_format<k_f32, 4, K_KIND_OFFSET, 0, 1> k_weight_q4_k;
typedef k_format<k_f32, 5, K_KIND_OFFSET, 0, 1> k_weight_q5_k;
typedef k_format<k_f32, 6, K_KIND_DUAL, 32, 1> k_weight_q6_k;

/* X(name, tag) for every weight dtype. */
#define K_WEIGHTS(X)       \
    X(f32, k_weight_f32)   \
    X(f16, k_weight_f16)   \
    X(bf16, k_weight_bf16) \
    X(q4_0, k_weight_q4_0) \
    X(q4_1, k_weight_q4_1) \
    X(q5_0, k_weight_q5_0) \
    X(q5_1, k_weight_q5_1) \
    X(q8_0, k_weight_q8_0) \
    X(q4_k, k_weight_q4_k) \
    X(q5_k, k_weight_q5_k) \
    X(q6_k, k_weight_q6_k)

/* A row's tile: `bits` words of quants; f16 pairs or bytes of scales, as stored. */
template <class Q> struct k_tile {
    uint q[Q::bits];
    uint scale, super;
};
struct k_scales {
    float s, t;
};

/* ---- the packed layout ---- */

struct k_group {
    GLOBAL(const uchar) quants;
    GLOBAL(const uchar) supers;
    GLOBAL(const uchar) scales;
};

/* The words `scale` and `super` of a k_tile. */
template <class Q> FN uint2 k_tile_scales(Q, REF(k_group) g, uint tile, uint row)
{
    const uint at = tile * (uint)K_GROUP_ROWS + row;
    const uint above = (tile >> 3) * (uint)K_GROUP_ROWS + row;
    uint scale = 0u, super = 0u;
    if (Q::kind == K_KIND_OFFSET && !Q::super)
        scale = ((GLOBAL(const uint))g.scales)[at];
    else if (Q::kind != K_KIND_FLOAT)
        scale = ((GLOBAL(const ushort))g.scales)[at];
    if (Q::super && Q::kind == K_KIND_OFFSET)
        super = ((GLOBAL(const uint))g.supers)[above];
    else if (Q::super)
        super = ((GLOBAL(const ushort))g.supers)[above];
    return k_uint2(scale, super);
}

/* Tile `tile` of row `row` of a group: quants in 16-byte pieces [piece][row], then what is left. */
template <class Q> FN k_tile<Q> k_tile_load(Q, REF(k_group) g, uint tile, uint row)
{
    GLOBAL(const uchar) at = g.quants + (int64_t)(tile * (uint)Q::quant_bytes);
    const uint2 scales = k_tile_scales(Q(), g, tile, row);
    k_tile<Q> y;
    K_UNROLL
    for (int i = 0; i < Q::bits / 4; i++) {
        const uint4 v = ((GLOBAL(const uint4))at)[K_GROUP_ROWS * i + (int)row];
        y.q[4 * i] = v.x;
        y.q[4 * i + 1] = v.y;
        y.q[4 * i + 2] = v.z;
        y.q[4 * i + 3] = v.w;
    }
    if (Q::bits % 4 == 1)
        y.q[Q::bits - 1] = ((GLOBAL(const uint))(at + 256))[row];
    if (Q::bits % 4 == 2) {
        const uint2 v = ((GLOBAL(const uint2))(at + 256))[row];
        y.q[Q::bits - 2] = v.x;
        y.q[Q::bits - 1] = v.y;
    }
    y.scale = scales.x;
    y.super = scales.y;
    return y;
}

/* ---- values ---- */

template <class Q> FN k_scales k_scales_of(Q, REF(k_tile<Q>) tile)
{
    const uint low = tile.scale & 255u, high = tile.scale >> 8 & 255u;
    k_scales y = {1.0f, 0.0f};
    if (Q::kind == K_KIND_FLOAT)
        return y;
    y.s = k_low(k_f16(), Q::super ? tile.super : tile.scale);
    if (Q::kind == K_KIND_OFFSET)
        y.t = k_high(k_f16(), Q::super ? tile.super : tile.scale);
    if (Q::kind == K_KIND_OFFSET && Q::super) { /* products of 11 and 6 bits: exact */
        y.s *= (float)low;
        y.t = -(y.t * (float)high);
    }
    if (Q::kind == K_KIND_DUAL) { /* signed bytes */
        y.t = y.s * ((float)(high ^ 128u) - 128.0f);
        y.s *= (float)(low ^ 128u) - 128.0f;
    }
    return y;
}

/* The quants of the elements 16 to 31 in the place of the first 16. */
template <class Q> FN k_tile<Q> k_upper_half(Q, k_tile<Q> tile)
{
    if (Q::bits == 4 || Q::bits == 5 || Q::bits == 6)
        for (int i = 0; i < 4; i++)
            tile.q[i] >>= 4;
    else
        for (int i = 0; i < Q::bits / 2; i++)
            tile.q[i] = tile.q[i + Q::bits / 2];
    if (Q::bits == 5)
        tile.q[Q::bits - 1] >>= 4;
    if (Q::bits == 6)
        tile.q[Q::bits - 2] = tile.q[Q::bits - 1];
    return tile;
}

/* Bytes of the stored quants of elements 4j .. 4j + 3. */
template <class Q> FN uint k_quad_bytes(Q, REF(k_tile<Q>) tile, int j)
{
    const int half_at = j >> 2, i = j & 3;
    if (Q::bits == 8)
        return tile.q[j & (Q::bits - 1)];
    uint y = tile.q[i] >> 4 * half_at & 0x0f0f0f0fu;
    if (Q::bits == 5)
        y |=
            (j < 4 ? tile.q[Q::bits - 1] << (4 - j) : tile.q[Q::bits - 1] >> (j - 4)) & 0x10101010u;
    if (Q::bits == 6) {
        const uint two = half_at ? tile.q[Q::bits - 1] : tile.q[Q::bits - 2];
        y |= (i < 2 ? two << (4 - 2 * i) : two >> (2 * i - 4)) & 0x30303030u;
    }
    return y;
}

/* u of elements 4j .. 4j + 3.  A byte becomes the low bits of 2^23 + byte, so that all is exact. */
template <class Q> FN k_floats<4> k_quad(Q, REF(k_tile<Q>) tile, int j)
{
    k_floats<4> y;
    if (Q::bits == 32) {
        for (int i = 0; i < 4; i++)
            y.v[i] = k_float(tile.q[(4 * j + i) & (Q::bits - 1)]);
        return y;
    }
    if (Q::bits == 16) {
        const uint a = tile.q[2 * j & (Q::bits - 1)], b = tile.q[(2 * j + 1) & (Q::bits - 1)];
        y.v[0] = k_low(typename Q::element(), a);
        y.v[1] = k_high(typename Q::element(), a);
        y.v[2] = k_low(typename Q::element(), b);
        y.v[3] = k_high(typename Q::element(), b);
        return y;
    }
    const uint bytes = k_quad_bytes(Q(), tile, j);
    for (int i = 0; i < 4; i++)
        y.v[i] = k_byte_float(bytes, i) - (float)(8388608 + Q::zero);
    return y;
}

#endif
