/* activations.h - activation rows into panels (plan.h).
 *
 * fast: a block of 32 gets the scale a = max|x| / 127 and q = x * (127 / max) rounded to nearest
 * even (max 0: all 0).  A NaN in a block makes a NaN, an infinity makes it infinite, so outputs
 * that meet them are not finite. */
#ifndef MLXN_OPS_MATMUL_ACTIVATIONS_H
#define MLXN_OPS_MATMUL_ACTIVATIONS_H

#include "ops/matmul/plan.h"
#include "ops/matmul/unpack.h"

static inline vf act_scale_round(vf x, float factor, int8_t *q)
{
    vf y = vf_mul(x, vf_set(factor));
    y = vf_select(vf_eq(y, y), y, vf_set(0)); /* 0 * inf; the conversion needs numbers in range */
    y = vf_min(vf_max(y, vf_set(-127)), vf_set(127));
    vi i = vf_to_int(y);
    vi_store_i8(q, i);
    return vi_to_float(i);
}

/* One block of row `r` of a panel of `rows` rows. */
static inline void act_quantise(vf x0, vf x1, packed_format f, uint8_t *block, int64_t rows,
                                int64_t r)
{
    int8_t *q = (int8_t *)block + 32 * r;
    float *a = (float *)(void *)(block + 32 * rows) + r, *ja = a + rows;
    int32_t *start = (int32_t *)(void *)(block + 40 * rows) + r;
    float max = vf_max_all(vf_max(vf_abs(x0), vf_abs(x1)));
    if (vm_any(vm_not(vm_and(vf_eq(x0, x0), vf_eq(x1, x1)))))
        max = cpu_bits_float(0x7fc00000u);
    const float factor = max > 0 ? 127.0f / max : 0.0f;
    /* sums of whole numbers below 2^24: exact in any order */
    const float j0 = vf_sum(act_scale_round(x0, factor, q));
    const float j1 = vf_sum(act_scale_round(x1, factor, q + 16));
    const int32_t less = VB_DOT_BIAS - f.zero_point;
    *a = max / 127.0f;
    *ja = (j0 + j1) * *a;
    start[0] = less * (int32_t)(f.kind == PACKED_DUAL ? j0 : j0 + j1);
    start[rows] = less * (int32_t)j1;
}

/* The block as floats, [k][rows], and its sum, ascending. */
static inline void act_keep(vf x0, vf x1, uint8_t *block, int64_t rows, int64_t r)
{
    float x[PACKED_K], sum = 0, *out = (float *)(void *)block + r;
    vf_store(x, x0);
    vf_store(x + 16, x1);
    for (int k = 0; k < PACKED_K; k++) {
        out[k * rows] = x[k];
        sum += x[k];
    }
    out[PACKED_K * rows] = sum;
}

static inline void act_block(const matmul_params *p, const matmul_plan *m, const void *input,
                             int64_t row, int64_t tile, uint8_t *block, int64_t r)
{
    const mlxn_dtype dtype = (mlxn_dtype)p->input_dtype;
    const int64_t left = p->weight.cols - tile * PACKED_K;
    const int64_t at = row * p->input_stride + tile * PACKED_K;
    vf x0 = vf_set(0), x1 = vf_set(0);
    if (row < p->rows && left >= PACKED_K) {
        x0 = vf_load_as(dtype, input, at);
        x1 = vf_load_as(dtype, input, at + 16);
    } else if (row < p->rows) {
        x0 = vf_load_as_n(dtype, input, at, left < 16 ? (int)left : 16);
        if (left > 16)
            x1 = vf_load_as_n(dtype, input, at + 16, (int)left - 16);
    }
    if (m->quantised)
        act_quantise(x0, x1, m->format, block, m->panel_rows, r);
    else
        act_keep(x0, x1, block, m->panel_rows, r);
}

/* Prepares the blocks [begin, end) of the panels that start at row `first`. */
static inline void act_prepare(const matmul_params *p, const matmul_plan *m, const void *input,
                               int64_t first, int64_t begin, int64_t end, uint8_t *panels)
{
    for (int64_t i = begin; i < end; i++) {
        const int64_t panel = i / m->tiles, tile = i % m->tiles;
        uint8_t *block = panels + (size_t)panel * m->panel_bytes + (size_t)tile * m->block_bytes;
        for (int64_t r = 0; r < m->panel_rows; r++)
            act_block(p, m, input, first + panel * m->panel_rows + r, tile, block, r);
    }
}

#endif
