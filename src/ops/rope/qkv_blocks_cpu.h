/* qkv_blocks_cpu.h - heads in whole blocks of 32 elements: the shapes that models have.
 *
 * Several heads of a part go together: their sums of squares are reduced across the heads, and one
 * division and root serve them all.  A second pass, from the first level cache, makes the results.
 * Weights, cosines and sines are in the block order of the data dtype.  The bits are those of
 * qkv_head_cpu.h. */
#ifndef MLXN_OPS_ROPE_QKV_BLOCKS_CPU_H
#define MLXN_OPS_ROPE_QKV_BLOCKS_CPU_H

#include "backends/cpu/block.h"
#include "ops/norm/rms_cpu.h"
#include "ops/rope/qkv_prepare.h"

enum { QKV_ROWS = 16, QKV_AHEAD = 4096 };

/* The first of a token's heads, and its angles. */
typedef struct qkv_token {
    const char *input;
    char *output, *cache; /* NULL: not wanted */
    const float *cosine, *sine;
} qkv_token;

/* Heads of one part: as many of each token, QKV_ROWS together at most. */
typedef struct qkv_rows {
    qkv_token token[QKV_ROWS];
    int tokens, heads, stream;
    mlxn_dtype dtype, cache_dtype;
    int64_t input_step, output_step, cache_step; /* bytes from head to head */
    int64_t dim, pairs, offset;                  /* pairs 0: no rotation */
    const float *weight;
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

/* The sum of squares of a head, in lanes; fetches what follows it in memory. */
CPU_INLINE vf_block qkv_block_squares(mlxn_dtype dtype, const char *x, int64_t dim)
{
    const int size = (int)cpu_dtype_bytes(dtype);
    rms_lanes sum = rms_zero();
    for (int64_t i = 0; i < dim; i += VF_BLOCK) {
        const vf_block v = vf_block_load(dtype, x, i);
        cpu_prefetch(x + i * size + QKV_AHEAD, VF_BLOCK * size);
        rms_add(&sum, v.a, v.b);
    }
    return (vf_block){sum.lanes_0_15, sum.lanes_16_31};
}

/* The sums of squares, row i's in lane i. */
CPU_INLINE vf qkv_blocks_sums(mlxn_dtype dtype, const qkv_rows *g)
{
    const vf_block none = {vf_set(0.0f), vf_set(0.0f)};
    vf_block sums[QKV_ROWS];
    int n = 0;
    for (int k = 0; k < g->tokens; k++)
        for (int j = 0; j < g->heads; j++)
            sums[n++] = qkv_block_squares(dtype, g->token[k].input + j * g->input_step, g->dim);
    while (n < QKV_ROWS)
        sums[n++] = none;
    return vf_block_sums(dtype, sums);
}

/* Heads of one token as the loops below see them: one, or two that share the loads of weights,
 * cosines and sines. */
typedef struct qkv_pair {
    const char *x[2];
    char *y[2];
    vf r[2];
} qkv_pair;

/* The normed block i of a head. */
CPU_INLINE vf_block qkv_block_normed(mlxn_dtype dtype, const char *x, int64_t i, vf r, vf_block w)
{
    const vf_block v = vf_block_load(dtype, x, i);
    return (vf_block){vf_mul(vf_mul(v.a, r), w.a), vf_mul(vf_mul(v.b, r), w.b)};
}

/* To a dtype of another order only in natural order. */
CPU_INLINE void qkv_block_put(mlxn_dtype dtype, mlxn_dtype to, int stream, char *y, int64_t i,
                              vf_block v)
{
    if (to == dtype) {
        vf_block_store(dtype, stream, y, i, v);
    } else {
        vf_store_as(to, y, i, v.a);
        vf_store_as(to, y, i + VF_LANES, v.b);
    }
}

CPU_INLINE void qkv_blocks_pass(mlxn_dtype dtype, mlxn_dtype to, int stream, int rows,
                                const qkv_rows *g, const qkv_pair *t, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i += VF_BLOCK) {
        const vf_block w = vf_block_load(MLXN_F32, g->weight, i);
        for (int k = 0; k < rows; k++)
            qkv_block_put(dtype, to, stream, t->y[k], i,
                          qkv_block_normed(dtype, t->x[k], i, t->r[k], w));
    }
}

CPU_INLINE void qkv_blocks_rotate(mlxn_dtype dtype, mlxn_dtype to, int stream, int rows,
                                  const qkv_rows *g, const qkv_pair *t, const float *cosine,
                                  const float *sine)
{
    const int64_t pairs = g->pairs, offset = g->offset;
    for (int64_t i = 0; i < pairs; i += VF_BLOCK) {
        const vf_block w_lo = vf_block_load(MLXN_F32, g->weight, i);
        const vf_block w_hi = vf_block_load(MLXN_F32, g->weight, i + offset);
        const vf_block c = vf_block_load(MLXN_F32, cosine, i), s = vf_block_load(MLXN_F32, sine, i);
        for (int k = 0; k < rows; k++) {
            const vf_block lo = qkv_block_normed(dtype, t->x[k], i, t->r[k], w_lo);
            const vf_block hi = qkv_block_normed(dtype, t->x[k], i + offset, t->r[k], w_hi);
            const vf_block low = {vf_fma(lo.a, c.a, vf_neg(vf_mul(hi.a, s.a))),
                                  vf_fma(lo.b, c.b, vf_neg(vf_mul(hi.b, s.b)))};
            const vf_block high = {vf_fma(hi.a, c.a, vf_mul(lo.a, s.a)),
                                   vf_fma(hi.b, c.b, vf_mul(lo.b, s.b))};
            qkv_block_put(dtype, to, stream, t->y[k], i, low);
            qkv_block_put(dtype, to, stream, t->y[k], i + offset, high);
        }
    }
    qkv_blocks_pass(dtype, to, stream, rows, g, t, pairs, offset);
    qkv_blocks_pass(dtype, to, stream, rows, g, t, offset + pairs, g->dim);
}

/* The rows to their outputs or caches; scale[i]: r of row i. */
CPU_INLINE void qkv_blocks_write(mlxn_dtype dtype, mlxn_dtype to, int stream, int cached,
                                 const qkv_rows *g, const float *scale)
{
    const int64_t x_step = g->input_step, y_step = cached ? g->cache_step : g->output_step;
    for (int k = 0; k < g->tokens; k++, scale += g->heads) {
        const qkv_token *token = &g->token[k];
        const char *x = token->input;
        char *y = cached ? token->cache : token->output;
        for (int j = 0; y && j < g->heads; j += 2, x += 2 * x_step, y += 2 * y_step) {
            const int two = j + 1 < g->heads;
            const qkv_pair t = {.x = {x, x + x_step},
                                .y = {y, y + y_step},
                                .r = {vf_set(scale[j]), vf_set(scale[j + two])}};
            if (two)
                qkv_blocks_rotate(dtype, to, stream, 2, g, &t, token->cosine, token->sine);
            else
                qkv_blocks_rotate(dtype, to, stream, 1, g, &t, token->cosine, token->sine);
        }
    }
}

/* The copies of the loops: for each dtype, past the caches, and for a cache of another dtype. */
static void qkv_blocks_store(const qkv_rows *g, const float *scale)
{
    if (g->dtype == MLXN_F32)
        g->stream ? qkv_blocks_write(MLXN_F32, MLXN_F32, 1, 0, g, scale)
                  : qkv_blocks_write(MLXN_F32, MLXN_F32, 0, 0, g, scale);
    else if (g->dtype == MLXN_F16)
        g->stream ? qkv_blocks_write(MLXN_F16, MLXN_F16, 1, 0, g, scale)
                  : qkv_blocks_write(MLXN_F16, MLXN_F16, 0, 0, g, scale);
    else
        g->stream ? qkv_blocks_write(MLXN_BF16, MLXN_BF16, 1, 0, g, scale)
                  : qkv_blocks_write(MLXN_BF16, MLXN_BF16, 0, 0, g, scale);
}

CPU_INLINE void qkv_blocks_cache_from(mlxn_dtype dtype, const qkv_rows *g, const float *scale)
{
    if (g->cache_dtype == MLXN_F32)
        qkv_blocks_write(dtype, MLXN_F32, 0, 1, g, scale);
    else if (g->cache_dtype == MLXN_F16)
        qkv_blocks_write(dtype, MLXN_F16, 0, 1, g, scale);
    else
        qkv_blocks_write(dtype, MLXN_BF16, 0, 1, g, scale);
}

static void qkv_blocks_cache(const qkv_rows *g, const float *scale)
{
    if (g->dtype == MLXN_F32)
        qkv_blocks_cache_from(MLXN_F32, g, scale);
    else if (g->dtype == MLXN_F16)
        qkv_blocks_cache_from(MLXN_F16, g, scale);
    else
        qkv_blocks_cache_from(MLXN_BF16, g, scale);
}

static vf qkv_blocks_sum(const qkv_rows *g)
{
    if (g->dtype == MLXN_F32)
        return qkv_blocks_sums(MLXN_F32, g);
    return g->dtype == MLXN_F16 ? qkv_blocks_sums(MLXN_F16, g) : qkv_blocks_sums(MLXN_BF16, g);
}

#endif
