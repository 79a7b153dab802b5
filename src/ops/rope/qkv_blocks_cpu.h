/* qkv_blocks_cpu.h - heads in whole blocks of 32 elements: the shapes that models have.
 *
 * Several heads of a part go together: their sums of squares are reduced across the heads, and one
 * division and root serve them all.  Weights, cosines and sines are in the block order of the data
 * dtype.  The bits are those of qkv_head_cpu.h. */
#ifndef MLXN_OPS_ROPE_QKV_BLOCKS_CPU_H
#define MLXN_OPS_ROPE_QKV_BLOCKS_CPU_H

#include "backends/cpu/block.h"
#include "ops/norm/rms_cpu.h"
#include "ops/rope/qkv_prepare.h"

enum { QKV_ROWS = 16 };

/* Heads of one part, of one or more tokens; output and cache NULL: not wanted. */
typedef struct qkv_rows {
    int n, stream;
    mlxn_dtype dtype, cache_dtype;
    int64_t dim, pairs, offset; /* pairs 0: no rotation */
    const float *weight;
    const char *input[QKV_ROWS];
    char *output[QKV_ROWS], *cache[QKV_ROWS];
    const float *cosine[QKV_ROWS], *sine[QKV_ROWS];
} qkv_rows;

/* Whether a part can go this way, and its cache be written without reordering. */
static inline int qkv_blocks_fit(const qkv_params *p, const qkv_part_params *part, int cached)
{
    int64_t grain = p->dim;
    if (part->pairs == QKV_PAIRS_SPLIT)
        grain |= p->rotary_pairs | part->offset;
    if (cached && vf_block_is_split((mlxn_dtype)p->dtype) && part->cache_dtype != p->dtype)
        return 0;
    return grain % VF_BLOCK == 0 && part->pairs != QKV_PAIRS_INTERLEAVED &&
           p->rounding == MLXN_ROUND_EXACT;
}

/* The sums of squares, row i's in lane i. */
CPU_INLINE vf qkv_blocks_sums(mlxn_dtype dtype, const qkv_rows *g)
{
    vf_block sums[QKV_ROWS];
    for (int row = 0; row < QKV_ROWS; row++) {
        rms_lanes sum = rms_zero();
        const char *x = g->input[row];
        for (int64_t i = 0; row < g->n && i < g->dim; i += VF_BLOCK) {
            vf_block v = vf_block_load(dtype, x, i);
            rms_add(&sum, v.a, v.b);
        }
        sums[row] = (vf_block){sum.lanes_0_15, sum.lanes_16_31};
    }
    return vf_block_sums(dtype, sums);
}

/* Rows of one token as the loops below see them: one, or two that share the loads of weights,
 * cosines and sines. */
typedef struct qkv_token_rows {
    const char *x[2];
    char *y[2], *cache[2];
    vf r[2];
    const float *weight;
    mlxn_dtype cache_dtype;
} qkv_token_rows;

CPU_INLINE vf_block qkv_block_normed(mlxn_dtype dtype, const qkv_token_rows *t, int row, int64_t i,
                                     vf_block w)
{
    const vf_block v = vf_block_load(dtype, t->x[row], i);
    return (vf_block){vf_mul(vf_mul(v.a, t->r[row]), w.a), vf_mul(vf_mul(v.b, t->r[row]), w.b)};
}

CPU_INLINE void qkv_block_put(mlxn_dtype dtype, int stream, const qkv_token_rows *t, int row,
                              int64_t i, vf_block v)
{
    if (t->y[row])
        vf_block_store(dtype, stream, t->y[row], i, v);
    if (!t->cache[row])
        return;
    if (vf_block_is_split(dtype)) {
        vf_block_store(dtype, 0, t->cache[row], i, v);
    } else {
        vf_store_as(t->cache_dtype, t->cache[row], i, v.a);
        vf_store_as(t->cache_dtype, t->cache[row], i + VF_LANES, v.b);
    }
}

CPU_INLINE void qkv_blocks_pass(mlxn_dtype dtype, int stream, int rows, const qkv_token_rows *t,
                                int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i += VF_BLOCK) {
        const vf_block w = vf_block_load(MLXN_F32, t->weight, i);
        for (int row = 0; row < rows; row++)
            qkv_block_put(dtype, stream, t, row, i, qkv_block_normed(dtype, t, row, i, w));
    }
}

CPU_INLINE void qkv_blocks_rotate(mlxn_dtype dtype, int stream, int rows, const qkv_rows *g,
                                  const qkv_token_rows *shared, const float *cosine,
                                  const float *sine)
{
    const int64_t dim = g->dim, pairs = g->pairs, offset = g->offset;
    const qkv_token_rows copy = *shared, *t = &copy; /* which no store can change */
    for (int64_t i = 0; i < pairs; i += VF_BLOCK) {
        const vf_block w_lo = vf_block_load(MLXN_F32, t->weight, i);
        const vf_block w_hi = vf_block_load(MLXN_F32, t->weight, i + offset);
        const vf_block c = vf_block_load(MLXN_F32, cosine, i), s = vf_block_load(MLXN_F32, sine, i);
        for (int row = 0; row < rows; row++) {
            const vf_block lo = qkv_block_normed(dtype, t, row, i, w_lo);
            const vf_block hi = qkv_block_normed(dtype, t, row, i + offset, w_hi);
            const vf_block low = {vf_fma(lo.a, c.a, vf_neg(vf_mul(hi.a, s.a))),
                                  vf_fma(lo.b, c.b, vf_neg(vf_mul(hi.b, s.b)))};
            const vf_block high = {vf_fma(hi.a, c.a, vf_mul(lo.a, s.a)),
                                   vf_fma(hi.b, c.b, vf_mul(lo.b, s.b))};
            qkv_block_put(dtype, stream, t, row, i, low);
            qkv_block_put(dtype, stream, t, row, i + offset, high);
        }
    }
    qkv_blocks_pass(dtype, stream, rows, t, pairs, offset);
    qkv_blocks_pass(dtype, stream, rows, t, offset + pairs, dim);
}

/* scale[i]: r of row i. */
CPU_INLINE void qkv_blocks_apply(mlxn_dtype dtype, int stream, const qkv_rows *g,
                                 const float *scale)
{
    for (int i = 0; i < g->n; i++) {
        const int two = i + 1 < g->n && g->cosine[i] == g->cosine[i + 1], next = i + two;
        const qkv_token_rows t = {.x = {g->input[i], g->input[next]},
                                  .y = {g->output[i], g->output[next]},
                                  .cache = {g->cache[i], g->cache[next]},
                                  .r = {vf_set(scale[i]), vf_set(scale[next])},
                                  .weight = g->weight,
                                  .cache_dtype = g->cache_dtype};
        if (two)
            qkv_blocks_rotate(dtype, stream, 2, g, &t, g->cosine[i], g->sine[i]);
        else
            qkv_blocks_rotate(dtype, stream, 1, g, &t, g->cosine[i], g->sine[i]);
        i = next;
    }
}

/* The copies of the loops: for each dtype, and past the caches. */
static void qkv_blocks_store(const qkv_rows *g, const float *scale)
{
    if (g->dtype == MLXN_F32)
        g->stream ? qkv_blocks_apply(MLXN_F32, 1, g, scale)
                  : qkv_blocks_apply(MLXN_F32, 0, g, scale);
    else if (g->dtype == MLXN_F16)
        g->stream ? qkv_blocks_apply(MLXN_F16, 1, g, scale)
                  : qkv_blocks_apply(MLXN_F16, 0, g, scale);
    else
        g->stream ? qkv_blocks_apply(MLXN_BF16, 1, g, scale)
                  : qkv_blocks_apply(MLXN_BF16, 0, g, scale);
}

static vf qkv_blocks_sum(const qkv_rows *g)
{
    if (g->dtype == MLXN_F32)
        return qkv_blocks_sums(MLXN_F32, g);
    return g->dtype == MLXN_F16 ? qkv_blocks_sums(MLXN_F16, g) : qkv_blocks_sums(MLXN_BF16, g);
}

#endif
