/* unpack.h - a tile of the packed layout (packed.h) in registers: eight vectors of quants as bytes,
 * lane = row, four elements of k a lane; and its scale vectors.  The dtype is a constant where
 * these are inlined, so every switch folds. */
#ifndef MLXN_OPS_MATMUL_UNPACK_H
#define MLXN_OPS_MATMUL_UNPACK_H

#include "backends/cpu/kernel.h"
#include "ops/matmul/packed.h"

CPU_INLINE void unpack_nibbles(const uint8_t *quants, vb u[8])
{
    CPU_UNROLL
    for (int j = 0; j < 4; j++) {
        vb v = vb_load(quants + 64 * j);
        u[j] = vb_and(v, vb_set(15));
        u[j + 4] = vb_shr(v, 4);
    }
}

CPU_INLINE void unpack_fifth(const uint8_t *masks, vb u[8])
{
    CPU_UNROLL
    for (int j = 0; j < 8; j++) {
        uint64_t mask;
        memcpy(&mask, masks + 8 * j, sizeof mask);
        u[j] = vb_or(u[j], vb_from_bits(mask, 16));
    }
}

CPU_INLINE void unpack_two_bits(const uint8_t *planes, vb u[8])
{
    const vb bits = vb_set(0x30);
    CPU_UNROLL
    for (int h = 0; h < 2; h++) {
        vb v = vb_load(planes + 64 * h);
        u[4 * h] = vb_or(u[4 * h], vb_and(vb_shl(v, 4), bits));
        u[4 * h + 1] = vb_or(u[4 * h + 1], vb_and(vb_shl(v, 2), bits));
        u[4 * h + 2] = vb_or(u[4 * h + 2], vb_and(v, bits));
        u[4 * h + 3] = vb_or(u[4 * h + 3], vb_and(vb_shr(v, 2), bits));
    }
}

CPU_INLINE void unpack_quants(mlxn_dtype dtype, const uint8_t *quants, vb u[8])
{
    if (dtype == MLXN_Q8_0) {
        CPU_UNROLL
        for (int j = 0; j < 8; j++)
            u[j] = vb_load(quants + 64 * j);
        return;
    }
    unpack_nibbles(quants, u);
    if (dtype == MLXN_Q5_0 || dtype == MLXN_Q5_1 || dtype == MLXN_Q5_K)
        unpack_fifth(quants + 256, u);
    if (dtype == MLXN_Q6_K)
        unpack_two_bits(quants + 256, u);
}

CPU_INLINE vf unpack_bytes(const uint8_t *p)
{
    return vi_to_float(vi_load_u8(p));
}

/* s and t as in packed_kind; every product here is exact (11 bits of d times 8). */
CPU_INLINE void unpack_scales(mlxn_dtype dtype, const uint8_t *super, const uint8_t *scales, vf *s,
                              vf *t)
{
    const uint16_t *halves = (const void *)(packed_format_of(dtype).super_bytes ? super : scales);
    vf d = vf_load_f16(halves);
    switch (packed_format_of(dtype).kind) {
    case PACKED_DUAL:
        *s = vf_mul(d, vi_to_float(vi_load_i8((const int8_t *)scales)));
        *t = vf_mul(d, vi_to_float(vi_load_i8((const int8_t *)scales + 16)));
        return;
    case PACKED_OFFSET:
        *s = d;
        *t = vf_load_f16(halves + 16);
        if (packed_format_of(dtype).super_bytes) {
            *s = vf_mul(d, unpack_bytes(scales));
            *t = vf_neg(vf_mul(*t, unpack_bytes(scales + 16)));
        }
        return;
    default:
        *s = d;
        *t = vf_set(0);
    }
}

/* A group seen tile by tile. */
typedef struct unpack_group {
    const uint8_t *quants, *super, *scales;
} unpack_group;

CPU_INLINE unpack_group unpack_group_at(packed_format f, const uint8_t *group, int64_t tiles)
{
    return (unpack_group){group, group + packed_super_offset(f, tiles),
                          group + packed_scale_offset(f, tiles)};
}

CPU_INLINE void unpack_tile(mlxn_dtype dtype, unpack_group g, int64_t tile, vb u[8], vf *s, vf *t)
{
    const packed_format f = packed_format_of(dtype);
    unpack_quants(dtype, g.quants + tile * f.quant_bytes, u);
    unpack_scales(dtype, g.super + (tile >> 3) * f.super_bytes, g.scales + tile * f.scale_bytes, s,
                  t);
}

/* Four consecutive elements of k of a block format as exact floats, less the zero point. */
CPU_INLINE void unpack_floats(vb u, float zero_point, vf out[4])
{
    const vi two_to_23 = vi_set(0x4b000000); /* as a float; a byte or-ed in is added to it */
    const vf less = vf_set(8388608.0f + zero_point);
    out[0] = vf_sub(vi_float_bits(vi_or(vb_lane_byte(u, 0), two_to_23)), less);
    out[1] = vf_sub(vi_float_bits(vi_or(vb_lane_byte(u, 1), two_to_23)), less);
    out[2] = vf_sub(vi_float_bits(vi_or(vb_lane_byte(u, 2), two_to_23)), less);
    out[3] = vf_sub(vi_float_bits(vi_or(vb_lane_byte(u, 3), two_to_23)), less);
}

#endif
