/* blocks.h - plain GGUF rows of weights as tiles (quants.h), for kernel text.
 *
 * The block layouts are those of GGUF: d, m, dmin are f16 in front (q6_k: at the end), the 16-byte
 * halves of 32 nibbles are elements 0-15 (low) and 16-31 (high) in q4_0 to q5_1; in the K-quants 32
 * bytes hold two tiles.  Blocks have any alignment, so all is read in bytes. */
#ifndef MLXN_KERNELS_BLOCKS_H
#define MLXN_KERNELS_BLOCKS_H

#include "kernels/quants.h"

FN uint k_read16(GLOBAL(const uchar) p)
{
    return (uint)p[0] | (uint)p[1] << 8;
}
FN uint k_read32(GLOBAL(const uchar) p)
{
    return k_read16(p) | k_read16(p + 2) << 16;
}

/* Four nibbles of the half at `shift` of p, and four of p + 16 above them. */
FN uint k_read_nibbles(GLOBAL(const uchar) p, int shift)
{
    return (k_read32(p) >> shift & 0x0f0f0f0fu) | (k_read32(p + 16) >> shift & 0x0f0f0f0fu) << 4;
}

/* q4_0, q4_1, q5_0, q5_1, q8_0. */
template <class Q> FN k_tile<Q> k_block_small(Q, GLOBAL(const uchar) row, int64_t tile)
{
    const int has_m = Q::kind == K_KIND_OFFSET, five = Q::bits == 5;
    const int bytes = 2 + 2 * has_m + 4 * Q::bits;
    GLOBAL(const uchar) block = row + tile * bytes;
    GLOBAL(const uchar) at = block + 2 + 2 * has_m;
    k_tile<Q> y;
    y.super = 0u;
    y.scale = has_m ? k_read32(block) : k_read16(block);
    for (int j = 0; j < Q::bits / 4 * 4; j++)
        y.q[j] = k_read32(at + 4 * five + 4 * j) ^ (Q::bits == 8 ? 0x80808080u : 0u);
    if (five) { /* bit k to bit 8 (k % 4) + k / 4 */
        const uint high = k_read32(at);
        uint spread = 0u;
        for (int j = 0; j < 8; j++)
            spread |= ((high >> 4 * j & 15u) * 0x00204081u & 0x01010101u) << j;
        y.q[Q::bits - 1] = spread;
    }
    return y;
}

/* q4_k, q5_k: d, dmin, scales[12], (q5_k: qh[32],) qs[128]. */
template <class Q> FN k_tile<Q> k_block_k45(Q, GLOBAL(const uchar) row, int64_t tile)
{
    const int five = Q::bits == 5, b = (int)(tile & 7);
    GLOBAL(const uchar) block = row + (tile >> 3) * (five ? 176 : 144);
    GLOBAL(const uchar) s = block + 4;
    GLOBAL(const uchar) qs = block + (five ? 48 : 16) + 32 * (b / 2);
    k_tile<Q> y;
    uint scale, offset;
    if (b < 4) {
        scale = (uint)s[b] & 63u;
        offset = (uint)s[b + 4] & 63u;
    } else {
        scale = ((uint)s[b + 4] & 15u) | (uint)s[b - 4] >> 6 << 4;
        offset = (uint)s[b + 4] >> 4 | (uint)s[b] >> 6 << 4;
    }
    y.scale = scale | offset << 8;
    y.super = k_read32(block);
    for (int j = 0; j < 4; j++)
        y.q[j] = k_read_nibbles(qs + 4 * j, 4 * (b & 1));
    if (five) {
        uint high = 0u;
        for (int j = 0; j < 8; j++)
            high |= (k_read32(block + 16 + 4 * j) >> b & 0x01010101u) << j;
        y.q[Q::bits - 1] = high;
    }
    return y;
}

/* q6_k: ql[128], qh[64], scales[16], d. */
template <class Q> FN k_tile<Q> k_block_q6k(Q, GLOBAL(const uchar) row, int64_t tile)
{
    const int b = (int)(tile & 7), quarter = b & 3;
    GLOBAL(const uchar) block = row + (tile >> 3) * 210;
    GLOBAL(const uchar) ql = block + 64 * (b / 4) + 32 * (quarter & 1);
    GLOBAL(const uchar) qh = block + 128 + 32 * (b / 4);
    k_tile<Q> y;
    y.scale = k_read16(block + 192 + 2 * b);
    y.super = k_read16(block + 208);
    for (int j = 0; j < 4; j++)
        y.q[j] = k_read_nibbles(ql + 4 * j, (quarter & 2) * 2);
    for (int h = 0; h < 2; h++) {
        uint high = 0u;
        for (int i = 0; i < 4; i++)
            high |= (k_read32(qh + 16 * h + 4 * i) >> 2 * quarter & 0x03030303u) << 2 * i;
        y.q[(4 + h) & (Q::bits - 1)] = high;
    }
    return y;
}

/* Elements past the row's `cols` are zero. */
template <class Q>
FN k_tile<Q> k_block_floats(Q, GLOBAL(const uchar) row, int64_t tile, int64_t cols)
{
    const int64_t first = tile * K_TILE;
    k_tile<Q> y;
    y.scale = y.super = 0u;
    for (int j = 0; j < Q::bits; j++) {
        const int64_t k = first + (Q::bits == 32 ? j : 2 * j);
        GLOBAL(const uchar) at = row + k * (Q::bits / 8);
        y.q[j] = 0u;
        if (k < cols)
            y.q[j] = Q::bits == 32 || k + 1 < cols ? k_read32(at) : k_read16(at);
    }
    return y;
}

/* Tile `tile` of a row of `cols` elements. */
template <class Q> FN k_tile<Q> k_block_load(Q, GLOBAL(const uchar) row, int64_t tile, int64_t cols)
{
    if (Q::kind == K_KIND_FLOAT)
        return k_block_floats(Q(), row, tile, cols);
    if (Q::kind == K_KIND_DUAL)
        return k_block_q6k(Q(), row, tile);
    if (Q::super)
        return k_block_k45(Q(), row, tile);
    return k_block_small(Q(), row, tile);
}

#endif
