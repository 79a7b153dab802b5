/* pack.h - GGUF rows into a group of the packed layout (packed.h).
 *
 * The block layouts are those of GGUF: d, m, dmin are f16 in front (q6_k: at the end), the 16-byte
 * halves of 32 nibbles are elements 0-15 (low) and 16-31 (high) in q4_0 to q5_1; in the K-quants 32
 * bytes hold two sub-blocks of 32.  All of it is moved four elements (a uint32) at a time. */
#ifndef MLXN_OPS_MATMUL_PACK_H
#define MLXN_OPS_MATMUL_PACK_H

#include "backends/cpu/kernel.h"
#include "ops/matmul/packed.h"

static inline uint32_t pack_load32(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static inline void pack_store32(uint8_t *p, uint32_t u)
{
    memcpy(p, &u, sizeof u);
}

/* 32 nibbles from two times 16 bytes of the same half (shift 0 or 4) of `lo` and `hi`. */
static inline void pack_nibbles(uint8_t *quants, int row, const uint8_t *lo, const uint8_t *hi,
                                int shift)
{
    for (int j = 0; j < 4; j++) {
        uint32_t a = pack_load32(lo + 4 * j) >> shift & 0x0f0f0f0fu;
        uint32_t b = pack_load32(hi + 4 * j) >> shift & 0x0f0f0f0fu;
        pack_store32(quants + 64 * j + 4 * row, a | b << 4);
    }
}

/* Adds the fifth bits of four elements of k: bits 4*row .. 4*row+3 of word j. */
static inline void pack_fifth(uint8_t *masks, int row, int j, uint32_t four_bits)
{
    masks[8 * j + row / 2] |= (uint8_t)(four_bits << 4 * (row & 1));
}

static inline void pack_q5_high(uint8_t *masks, int row, const uint8_t *qh)
{
    for (int j = 0; j < 8; j++)
        pack_fifth(masks, row, j, (uint32_t)(qh[j / 2] >> 4 * (j & 1)) & 15u);
}

/* One 32-element block of the formats with blocks of 32. */
static inline void pack_block32(mlxn_dtype dtype, const uint8_t *block, uint8_t *quants,
                                uint8_t *scales, int row)
{
    const int has_m = dtype == MLXN_Q4_1 || dtype == MLXN_Q5_1;
    const int is_5 = dtype == MLXN_Q5_0 || dtype == MLXN_Q5_1;
    const uint8_t *at = block + 2 + 2 * has_m;
    memcpy(scales + 2 * row, block, 2);
    if (has_m)
        memcpy(scales + 32 + 2 * row, block + 2, 2);
    if (dtype == MLXN_Q8_0) {
        for (int j = 0; j < 8; j++)
            pack_store32(quants + 64 * j + 4 * row, pack_load32(at + 4 * j) ^ 0x80808080u);
        return;
    }
    if (is_5) {
        pack_q5_high(quants + 256, row, at);
        at += 4;
    }
    for (int j = 0; j < 4; j++) /* the nibbles are already paired k, k + 16 */
        pack_store32(quants + 64 * j + 4 * row, pack_load32(at + 4 * j));
}

/* The eight 6-bit scales and minima of q4_k and q5_k. */
static inline void pack_scales_k(const uint8_t *s, uint8_t *scales, int row)
{
    for (int b = 0; b < 8; b++) {
        int sc = b < 4 ? s[b] & 63 : (s[b + 4] & 15) | s[b - 4] >> 6 << 4;
        int m = b < 4 ? s[b + 4] & 63 : s[b + 4] >> 4 | s[b] >> 6 << 4;
        scales[32 * b + row] = (uint8_t)sc;
        scales[32 * b + 16 + row] = (uint8_t)m;
    }
}

/* One 256-element block of q4_k or q5_k: d, dmin, scales[12], (q5_k: qh[32],) qs[128]. */
static inline void pack_block_k45(mlxn_dtype dtype, const uint8_t *block, uint8_t *quants,
                                  uint8_t *super, uint8_t *scales, int row)
{
    const int is_5 = dtype == MLXN_Q5_K, tile_bytes = is_5 ? 320 : 256;
    const uint8_t *qh = block + 16, *qs = block + (is_5 ? 48 : 16);
    memcpy(super + 2 * row, block, 2);
    memcpy(super + 32 + 2 * row, block + 2, 2);
    pack_scales_k(block + 4, scales, row);
    for (int b = 0; b < 8; b++, quants += tile_bytes) {
        const uint8_t *q = qs + 32 * (b / 2);
        pack_nibbles(quants, row, q, q + 16, 4 * (b & 1));
        for (int j = 0; is_5 && j < 8; j++) {
            /* bit b of four bytes, brought together at bit 24 by one product */
            uint32_t h = pack_load32(qh + 4 * j) >> b & 0x01010101u;
            pack_fifth(quants + 256, row, j, h * 0x01020408u >> 24 & 15u);
        }
    }
}

/* One 256-element block of q6_k: ql[128], qh[64], scales[16], d. */
static inline void pack_block_q6k(const uint8_t *block, uint8_t *quants, uint8_t *super,
                                  uint8_t *scales, int row)
{
    memcpy(super + 2 * row, block + 208, 2);
    for (int b = 0; b < 8; b++, quants += 384, scales += 32) {
        const int quarter = b & 3;
        const uint8_t *ql = block + 64 * (b / 4) + 32 * (quarter & 1);
        const uint8_t *qh = block + 128 + 32 * (b / 4);
        pack_nibbles(quants, row, ql, ql + 16, quarter & 2 ? 4 : 0);
        for (int h = 0; h < 2; h++) {
            uint32_t high = 0;
            for (int i = 0; i < 4; i++)
                high |= (pack_load32(qh + 16 * h + 4 * i) >> 2 * quarter & 0x03030303u) << 2 * i;
            pack_store32(quants + 256 + 64 * h + 4 * row, high);
        }
        scales[row] = block[192 + 2 * b];
        scales[16 + row] = block[192 + 2 * b + 1];
    }
}

static inline void pack_float_row(int element_bytes, const uint8_t *src, int64_t k, uint8_t *group,
                                  int row)
{
    for (int64_t i = 0; i < k; i++)
        if (element_bytes == 4)
            memcpy(group + 4 * (i * PACKED_ROWS + row), src + 4 * i, 4);
        else
            memcpy(group + 2 * (i * PACKED_ROWS + row), src + 2 * i, 2);
}

static inline void pack_row(mlxn_dtype dtype, const uint8_t *src, int64_t k, uint8_t *group,
                            int row)
{
    const packed_format f = packed_format_of(dtype);
    const int64_t tiles = packed_tiles(k);
    uint8_t *quants = group, *super = group + packed_super_offset(f, tiles);
    uint8_t *scales = group + packed_scale_offset(f, tiles);
    if (f.kind == PACKED_FLOAT) {
        pack_float_row(f.element_bytes, src, k, group, row);
        return;
    }
    if (!f.super_bytes) {
        const int block_bytes = f.quant_bytes / 16 + f.scale_bytes / 16;
        for (int64_t t = 0; t < tiles; t++)
            pack_block32(dtype, src + t * block_bytes, quants + t * f.quant_bytes,
                         scales + t * f.scale_bytes, row);
        return;
    }
    for (int64_t b = 0; b < tiles / 8; b++) {
        uint8_t *q = quants + 8 * b * f.quant_bytes, *s = scales + 8 * b * f.scale_bytes;
        if (dtype == MLXN_Q6_K)
            pack_block_q6k(src + 210 * b, q, super + 32 * b, s, row);
        else
            pack_block_k45(dtype, src + (dtype == MLXN_Q5_K ? 176 : 144) * b, q, super + 64 * b, s,
                           row);
    }
}

/* Packs rows 0 .. n_rows - 1 (1 to 16) of `k` elements; missing rows and elements become zeros. */
static inline void pack_group_as(mlxn_dtype dtype, const uint8_t *src, int64_t row_bytes,
                                 int n_rows, int64_t k, uint8_t *group)
{
    memset(group, 0, packed_group_bytes(packed_format_of(dtype), packed_tiles(k)));
    for (int row = 0; row < n_rows; row++)
        pack_row(dtype, src + row * row_bytes, k, group, row);
}

static inline void pack_group(mlxn_dtype dtype, const uint8_t *src, int64_t row_bytes, int n_rows,
                              int64_t k, uint8_t *group)
{
    switch (dtype) { /* constants, so that each format gets its own loop */
#define PACK_CASE(name)                                               \
    case MLXN_##name:                                                 \
        pack_group_as(MLXN_##name, src, row_bytes, n_rows, k, group); \
        return;
        PACK_CASE(Q4_0)
        PACK_CASE(Q4_1)
        PACK_CASE(Q5_0)
        PACK_CASE(Q5_1)
        PACK_CASE(Q8_0)
        PACK_CASE(Q4_K)
        PACK_CASE(Q5_K)
        PACK_CASE(Q6_K)
        PACK_CASE(F32)
#undef PACK_CASE
    default:
        pack_group_as(MLXN_F16, src, row_bytes, n_rows, k, group);
    }
}

#endif
