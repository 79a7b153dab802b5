/* packed.h - the layout of prepared weights.
 *
 * 16 rows (outputs) form a group, 32 elements of k of a group form a tile, so that vector lane n is
 * row n and no sum ever runs across lanes.  Rows are padded to a whole group and k to a whole tile,
 * with zeros.  A group is one run of bytes, 64-byte aligned:
 *
 *   the quants of all its tiles | the superblock scales of all its 256-element blocks (K-quants)
 *   | the scales of all its tiles | padding
 *
 * Quants of a tile, with element (n, k) in byte p = 64*(k/4) + 4*n + k%4 of eight 64-byte vectors:
 *   8 bit       the value + 128
 *   4 bit       256 bytes: byte p holds k < 16 in its low half, k + 16 in its high half
 *   5 bit       as 4 bit, then eight uint64: bit p%64 of word p/64 is bit 4
 *   6 bit       as 4 bit, then 128 bytes: bits 2i, 2i+1 of byte 64*h + p%64, p/64 = 4h + i, are
 *               bits 4 and 5
 *   f32 f16 bf16  [k][n]
 * Scales of a tile: 16 f16 d; q4_1, q5_1: 16 f16 d, 16 f16 m; K-quants: 16 bytes scale, 16 bytes
 * minimum; q6_k: two times 16 bytes scale.  Superblock: 16 f16 d and, but for q6_k, 16 f16 dmin.
 * The encoding loses nothing, so plain and prepared weights give the same bits.
 *
 * On GPUs a group has the same parts of the same sizes, but what one row stores for a tile lies
 * together, so that a thread reads it in 16-byte pieces and neighbouring threads neighbouring
 * pieces (kernels/quants.h):
 *   4 bit       [n] 16 bytes: byte i holds k = i in its low half, k = i + 16 in its high half
 *   5 bit       as 4 bit, then [n] uint32: bit 8*(k%4) + k/4 is bit 4
 *   6 bit       as 4 bit, then [n] uint32[2]: word k/16, byte k%4, bits 2i, 2i+1, i = k%16/4, are
 *               bits 4 and 5
 *   8 bit       [k/16][n] 16 bytes, the value + 128
 *   f32, f16, bf16  [piece of 16 bytes along k][n]
 * Scales of a tile: [n] f16 d; q4_1, q5_1: [n] {f16 d, f16 m}; q4_k, q5_k: [n] {scale, minimum}
 * bytes; q6_k: [n] {scale of the first 16, of the others}.  Superblock: [n] {f16 d, f16 dmin};
 * q6_k: [n] f16 d. */
#ifndef MLXN_OPS_MATMUL_PACKED_H
#define MLXN_OPS_MATMUL_PACKED_H

#include <stddef.h>
#include <stdint.h>
#include <mlxn/dtype.h>

enum {
    PACKED_ROWS = 16, /* rows a group */
    PACKED_K = 32,    /* elements of k a tile */
};

typedef enum packed_kind {
    PACKED_FLOAT,
    PACKED_SCALE,  /* s * u */
    PACKED_OFFSET, /* s * u + t */
    PACKED_DUAL,   /* s * u for the first 16 of k, t * u for the others */
} packed_kind;

typedef struct packed_format {
    packed_kind kind;
    int zero_point;    /* u = stored quant - zero_point */
    int quant_bytes;   /* a tile */
    int scale_bytes;   /* a tile */
    int super_bytes;   /* a superblock of 8 tiles; 0: none */
    int element_bytes; /* float formats */
} packed_format;

static inline packed_format packed_format_of(mlxn_dtype dtype)
{
    switch (dtype) {
    case MLXN_Q4_0:
        return (packed_format){PACKED_SCALE, 8, 256, 32, 0, 0};
    case MLXN_Q4_1:
        return (packed_format){PACKED_OFFSET, 0, 256, 64, 0, 0};
    case MLXN_Q5_0:
        return (packed_format){PACKED_SCALE, 16, 320, 32, 0, 0};
    case MLXN_Q5_1:
        return (packed_format){PACKED_OFFSET, 0, 320, 64, 0, 0};
    case MLXN_Q8_0:
        return (packed_format){PACKED_SCALE, 128, 512, 32, 0, 0};
    case MLXN_Q4_K:
        return (packed_format){PACKED_OFFSET, 0, 256, 32, 64, 0};
    case MLXN_Q5_K:
        return (packed_format){PACKED_OFFSET, 0, 320, 32, 64, 0};
    case MLXN_Q6_K:
        return (packed_format){PACKED_DUAL, 32, 384, 32, 32, 0};
    case MLXN_F32:
        return (packed_format){PACKED_FLOAT, 0, 2048, 0, 0, 4};
    default: /* f16, bf16 */
        return (packed_format){PACKED_FLOAT, 0, 1024, 0, 0, 2};
    }
}

static inline int64_t packed_tiles(int64_t k)
{
    return (k + PACKED_K - 1) / PACKED_K;
}

static inline int64_t packed_groups(int64_t rows)
{
    return (rows + PACKED_ROWS - 1) / PACKED_ROWS;
}

static inline size_t packed_super_offset(packed_format f, int64_t tiles)
{
    return (size_t)tiles * (size_t)f.quant_bytes;
}

static inline size_t packed_scale_offset(packed_format f, int64_t tiles)
{
    return packed_super_offset(f, tiles) + (size_t)((tiles + 7) / 8) * (size_t)f.super_bytes;
}

static inline size_t packed_group_bytes(packed_format f, int64_t tiles)
{
    return (packed_scale_offset(f, tiles) + (size_t)tiles * (size_t)f.scale_bytes + 63) &
           ~(size_t)63;
}

#endif
