/* matvec.h - one activation row: the weight goes from memory to registers to the dot product, once.
 *
 * The time is that of reading the weight, so all of a group's bytes are prefetched in the order in
 * which they lie, a fixed distance ahead, past the end of the group into the next.  In exact mode
 * and for float weights two groups run side by side to hide the latency of their chains. */
#ifndef MLXN_OPS_MATMUL_MATVEC_H
#define MLXN_OPS_MATMUL_MATVEC_H

#include "ops/matmul/panel.h"

enum { MATVEC_AHEAD = 12288 }; /* measured: 16 KiB does as well, 8 KiB takes 5% longer */

CPU_INLINE void matvec_prefetch(const uint8_t *p, int bytes)
{
    CPU_UNROLL
    for (int i = 0; i < bytes; i += 64)
        __builtin_prefetch(p + i + MATVEC_AHEAD, 0, 3);
}

/* Bytes a tile moves through the packed weight, superblock scales included. */
CPU_INLINE int matvec_tile_bytes(packed_format f)
{
    return f.quant_bytes + f.scale_bytes + f.super_bytes / 8;
}

CPU_INLINE vi matvec_dot(const vb *u, const uint8_t *q, const uint8_t *start)
{
    vi dot = vi_set(panel_int(start));
    CPU_UNROLL
    for (int j = 0; j < 4; j++)
        dot = vb_dot(dot, u[j], panel_int(q + 4 * j));
    return dot;
}

CPU_INLINE vf matvec_fast(mlxn_dtype dtype, const uint8_t *group, const uint8_t *act, int64_t tiles)
{
    const packed_format f = packed_format_of(dtype);
    const int ahead = matvec_tile_bytes(f);
    const unpack_group at = unpack_group_at(f, group, tiles);
    vf acc = vf_set(0);
    for (int64_t tile = 0; tile < tiles; tile++, act += 48, group += ahead) {
        vb u[8];
        vf s, t, a = vf_set(panel_float(act + 32));
        matvec_prefetch(group, ahead);
        unpack_tile(dtype, at, tile, u, &s, &t);
        vi dot = matvec_dot(u, act, act + 40);
        if (f.kind == PACKED_DUAL) {
            acc = vf_fma(vi_to_float(dot), vf_mul(s, a), acc);
            dot = matvec_dot(u + 4, act + 16, act + 44);
            acc = vf_fma(vi_to_float(dot), vf_mul(t, a), acc);
            continue;
        }
        const uint8_t zero[4] = {0};
        dot = vi_add(dot, matvec_dot(u + 4, act + 16, zero));
        acc = vf_fma(vi_to_float(dot), vf_mul(s, a), acc);
        if (f.kind == PACKED_OFFSET)
            acc = vf_fma(vf_set(panel_float(act + 36)), t, acc);
    }
    return acc;
}

/* Asks for what both groups of a pair read MATVEC_AHEAD bytes later: past their ends that is in the
 * next pair, a group's size further on. */
CPU_INLINE void matvec_prefetch_pair(const uint8_t *const groups[2], int64_t at, int64_t size,
                                     int bytes)
{
    const int64_t next = at + MATVEC_AHEAD < size ? at : at + size;
    matvec_prefetch(groups[0] + next, bytes);
    matvec_prefetch(groups[1] + next, bytes);
}

/* p over sixteen elements of k of both groups, going on from p. */
CPU_INLINE void matvec_exact_half(float zero_point, const vb *u0, const vb *u1, const float *x,
                                  vf p[2])
{
    CPU_UNROLL
    for (int j = 0; j < 4; j++) {
        vf w0[4], w1[4];
        unpack_floats(u0[j], zero_point, w0);
        unpack_floats(u1[j], zero_point, w1);
        CPU_UNROLL
        for (int i = 0; i < 4; i++) {
            const vf xk = vf_set(x[4 * j + i]);
            p[0] = vf_fma(w0[i], xk, p[0]);
            p[1] = vf_fma(w1[i], xk, p[1]);
        }
    }
}

CPU_INLINE void matvec_exact(mlxn_dtype dtype, const uint8_t *const groups[2], const float *x,
                             int64_t tiles, vf acc[2])
{
    const packed_format f = packed_format_of(dtype);
    const unpack_group at[2] = {unpack_group_at(f, groups[0], tiles),
                                unpack_group_at(f, groups[1], tiles)};
    const float zero_point = (float)f.zero_point;
    const int bytes = matvec_tile_bytes(f);
    acc[0] = acc[1] = vf_set(0);
    for (int64_t tile = 0; tile < tiles; tile++, x += PACKED_K + 1) {
        vb u0[8], u1[8];
        vf s[2], t[2], p[2] = {vf_set(0), vf_set(0)};
        matvec_prefetch_pair(groups, tile * bytes, tiles * bytes, bytes);
        unpack_tile(dtype, at[0], tile, u0, &s[0], &t[0]);
        unpack_tile(dtype, at[1], tile, u1, &s[1], &t[1]);
        matvec_exact_half(zero_point, u0, u1, x, p);
        if (f.kind == PACKED_DUAL)
            for (int g = 0; g < 2; g++) {
                acc[g] = vf_fma(p[g], s[g], acc[g]);
                s[g] = t[g];
                p[g] = vf_set(0);
            }
        matvec_exact_half(zero_point, u0 + 4, u1 + 4, x + 16, p);
        for (int g = 0; g < 2; g++)
            acc[g] = vf_fma(p[g], s[g], acc[g]);
        for (int g = 0; f.kind == PACKED_OFFSET && g < 2; g++)
            acc[g] = vf_fma(vf_set(x[PACKED_K]), t[g], acc[g]);
    }
}

/* Float weights: scale 1, so a block's p is added as it is (fma(p, 1, acc)).  Those of 16 bits are
 * prefetched (1.22 times as fast where memory is fast); f32 is read at the memory's rate without,
 * and 5% slower with it. */
CPU_INLINE void matvec_float(mlxn_dtype dtype, const uint8_t *const groups[2], const float *x,
                             int64_t tiles, vf acc[2])
{
    const int bytes = matvec_tile_bytes(packed_format_of(dtype));
    acc[0] = acc[1] = vf_set(0);
    for (int64_t tile = 0; tile < tiles; tile++, x += PACKED_K + 1) {
        vf p[2] = {vf_set(0), vf_set(0)};
        const int64_t at = tile * PACKED_K * PACKED_ROWS;
        if (dtype != MLXN_F32)
            matvec_prefetch_pair(groups, tile * bytes, tiles * bytes, bytes);
        CPU_UNROLL
        for (int k = 0; k < PACKED_K; k++) {
            const vf xk = vf_set(x[k]);
            p[0] = vf_fma(vf_load_as(dtype, groups[0], at + PACKED_ROWS * k), xk, p[0]);
            p[1] = vf_fma(vf_load_as(dtype, groups[1], at + PACKED_ROWS * k), xk, p[1]);
        }
        acc[0] = vf_add(acc[0], p[0]);
        acc[1] = vf_add(acc[1], p[1]);
    }
}

#endif
