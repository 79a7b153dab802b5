/* panel.h - the inner product of a panel of activation rows with unpacked groups of the weight.
 *
 * PANEL_G groups times PANEL_R rows are accumulated in registers at a time: as many as the path's
 * register file holds.  Each output is one chain, in the order that mlxn/ops/matmul.h states, so
 * the shape of the block changes nothing. */
#ifndef MLXN_OPS_MATMUL_PANEL_H
#define MLXN_OPS_MATMUL_PANEL_H

#include "ops/matmul/plan.h"
#include "ops/matmul/unpack.h"

#if defined(MLXN_ISA_AVX512)
#define PANEL_G 2
#define PANEL_R 6
#elif defined(MLXN_ISA_AVX2)
#define PANEL_G 1
#define PANEL_R 2
#else
#define PANEL_G 1
#define PANEL_R 3
#endif

CPU_INLINE int32_t panel_int(const uint8_t *p)
{
    int32_t i;
    memcpy(&i, p, sizeof i);
    return i;
}

CPU_INLINE float panel_float(const uint8_t *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

/* One block of k, `n` rows from row `r0` of the panel: the constants kind and n fold. */
CPU_INLINE void panel_fast_tile(packed_kind kind, int n, const uint8_t *const w[PANEL_G],
                                const uint8_t *act, int r0, vf acc[PANEL_G][PANEL_R])
{
    const int halves = kind == PACKED_DUAL ? 2 : 1, steps = 8 / halves;
    const uint8_t *a = act + 32 * PLAN_PANEL + 4 * r0, *ja = a + 4 * PLAN_PANEL;
    const uint8_t *start = ja + 4 * PLAN_PANEL;
    CPU_UNROLL
    for (int h = 0; h < halves; h++) {
        vi dot[PANEL_G][PANEL_R];
        CPU_UNROLL
        for (int r = 0; r < n; r++)
            CPU_UNROLL
        for (int g = 0; g < PANEL_G; g++)
            dot[g][r] = vi_set(panel_int(start + 4 * (h * PLAN_PANEL + r)));
        CPU_UNROLL
        for (int j = h * steps; j < (h + 1) * steps; j++) {
            CPU_UNROLL
            for (int g = 0; g < PANEL_G; g++) {
                const vb u = vb_load(w[g] + 64 * j);
                CPU_UNROLL
                for (int r = 0; r < n; r++)
                    dot[g][r] = vb_dot(dot[g][r], u, panel_int(act + 32 * (r0 + r) + 4 * j));
            }
        }
        CPU_UNROLL
        for (int g = 0; g < PANEL_G; g++) {
            const vf s = vf_load((const float *)(const void *)(w[g] + 512 + 64 * h));
            CPU_UNROLL
            for (int r = 0; r < n; r++)
                acc[g][r] = vf_fma(vi_to_float(dot[g][r]),
                                   vf_mul(s, vf_set(panel_float(a + 4 * r))), acc[g][r]);
        }
    }
    CPU_UNROLL
    for (int g = 0; kind == PACKED_OFFSET && g < PANEL_G; g++) {
        const vf t = vf_load((const float *)(const void *)(w[g] + 576));
        CPU_UNROLL
        for (int r = 0; r < n; r++)
            acc[g][r] = vf_fma(vf_set(panel_float(ja + 4 * r)), t, acc[g][r]);
    }
}

CPU_INLINE void panel_exact_tile(packed_kind kind, int n, const uint8_t *const w[PANEL_G],
                                 const uint8_t *act, int r0, vf acc[PANEL_G][PANEL_R])
{
    const int halves = kind == PACKED_DUAL ? 2 : 1, steps = PACKED_K / halves;
    const uint8_t *x = act + 4 * r0, *sum = x + 4 * PACKED_K * PLAN_PANEL;
    CPU_UNROLL
    for (int h = 0; h < halves; h++) {
        vf p[PANEL_G][PANEL_R];
        CPU_UNROLL
        for (int g = 0; g < PANEL_G; g++)
            CPU_UNROLL
        for (int r = 0; r < n; r++)
            p[g][r] = vf_set(0);
        for (int k = h * steps; k < (h + 1) * steps; k++) {
            vf u[PANEL_G];
            CPU_UNROLL
            for (int g = 0; g < PANEL_G; g++)
                u[g] = vf_load((const float *)(const void *)(w[g] + 64 * k));
            CPU_UNROLL
            for (int r = 0; r < n; r++) {
                const vf xk = vf_set(panel_float(x + 4 * (k * PLAN_PANEL + r)));
                CPU_UNROLL
                for (int g = 0; g < PANEL_G; g++)
                    p[g][r] = vf_fma(u[g], xk, p[g][r]);
            }
        }
        CPU_UNROLL
        for (int g = 0; g < PANEL_G; g++) {
            const vf s = vf_load((const float *)(const void *)(w[g] + 2048 + 64 * h));
            CPU_UNROLL
            for (int r = 0; r < n; r++)
                acc[g][r] = vf_fma(p[g][r], s, acc[g][r]);
        }
    }
    CPU_UNROLL
    for (int g = 0; kind == PACKED_OFFSET && g < PANEL_G; g++) {
        const vf t = vf_load((const float *)(const void *)(w[g] + 2112));
        CPU_UNROLL
        for (int r = 0; r < n; r++)
            acc[g][r] = vf_fma(vf_set(panel_float(sum + 4 * r)), t, acc[g][r]);
    }
}

/* Where a block of outputs goes. */
typedef struct panel_output {
    mlxn_dtype dtype;
    void *base;
    int64_t stride;          /* elements from row to row */
    int64_t row, rows;       /* first row of the block; rows of the output */
    int64_t column, columns; /* first column; columns of the output */
} panel_output;

CPU_INLINE void panel_store(const panel_output *out, int n, vf acc[PANEL_G][PANEL_R], int r0)
{
    for (int g = 0; g < PANEL_G; g++) {
        const int64_t column = out->column + PACKED_ROWS * g, left = out->columns - column;
        for (int r = 0; r < n && out->row + r0 + r < out->rows && left > 0; r++)
            vf_store_as_n(out->dtype, out->base, (out->row + r0 + r) * out->stride + column,
                          acc[g][r], left < 16 ? (int)left : 16);
    }
}

CPU_INLINE void panel_run(packed_kind kind, int quantised, int n, const uint8_t *const groups[],
                          const uint8_t *act, int64_t tiles, int r0, const panel_output *out)
{
    const uint8_t *w[PANEL_G];
    vf acc[PANEL_G][PANEL_R];
    CPU_UNROLL
    for (int g = 0; g < PANEL_G; g++) {
        w[g] = groups[g];
        CPU_UNROLL
        for (int r = 0; r < n; r++)
            acc[g][r] = vf_set(0);
    }
    for (int64_t tile = 0; tile < tiles; tile++) {
        if (quantised)
            panel_fast_tile(kind, n, w, act, r0, acc);
        else
            panel_exact_tile(kind, n, w, act, r0, acc);
        act += PLAN_PANEL * (quantised ? 48 : 132);
        CPU_UNROLL
        for (int g = 0; g < PANEL_G; g++)
            w[g] += quantised ? PLAN_FAST_TILE : PLAN_EXACT_TILE;
    }
    panel_store(out, n, acc, r0);
}

/* All rows of a panel, or as many as the output has left. */
CPU_INLINE void panel_rows(packed_kind kind, int quantised, const uint8_t *const groups[],
                           const uint8_t *act, int64_t tiles, const panel_output *out)
{
    const int64_t rows = out->rows - out->row;
#if defined(MLXN_ISA_AVX512)
    if (rows <= 2)
        panel_run(kind, quantised, 2, groups, act, tiles, 0, out);
    else if (rows <= 4)
        panel_run(kind, quantised, 4, groups, act, tiles, 0, out);
    else
        panel_run(kind, quantised, PANEL_R, groups, act, tiles, 0, out);
#else
    for (int r0 = 0; r0 < PLAN_PANEL && r0 < rows; r0 += PANEL_R)
        panel_run(kind, quantised, PANEL_R, groups, act, tiles, r0, out);
#endif
}

#endif
