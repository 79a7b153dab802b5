/* qkv_head_cpu.h - a head of any shape on the CPU: norm, rotation, rounding, cache write.
 *
 * A head is read twice, for its sum of squares and for its result; the second read is from the
 * first level cache.  All is f32 in between; formulas at the public header.  For the shapes that
 * models have, qkv_blocks_cpu.h gives the same bits in less time. */
#ifndef MLXN_OPS_ROPE_QKV_HEAD_CPU_H
#define MLXN_OPS_ROPE_QKV_HEAD_CPU_H

#include "ops/norm/rms_cpu.h"
#include "ops/rope/qkv_prepare.h"

/* What one head needs. */
typedef struct head {
    const char *input;
    char *output, *cache; /* NULL: not wanted */
    const float *weight, *ones, *cosine, *sine;
    float *staged; /* dim elements of scratch */
    int64_t dim, pairs, offset;
    mlxn_dtype dtype, cache_dtype;
    int32_t layout; /* qkv_pairs */
    int rounded;
    vf r;
} head;

CPU_INLINE vf load(mlxn_dtype dtype, const void *base, int64_t i, int n)
{
    return n == VF_LANES ? vf_load_as(dtype, base, i) : vf_load_as_n(dtype, base, i, n);
}

CPU_INLINE void store(mlxn_dtype dtype, int stream, void *base, int64_t i, vf v, int n)
{
    if (n != VF_LANES)
        vf_store_as_n(dtype, base, i, v, n);
    else if (stream)
        vf_stream_as(dtype, base, i, v);
    else
        vf_store_as(dtype, base, i, v);
}

/* n_i: the normed elements i to i + n - 1. */
CPU_INLINE vf normed(mlxn_dtype dtype, const head *h, int64_t i, int n)
{
    return vf_mul(vf_mul(load(dtype, h->input, i, n), h->r), load(MLXN_F32, h->weight, i, n));
}

/* Pairs (i, i + offset), i to i + n - 1. */
CPU_INLINE void rotate_split(mlxn_dtype dtype, int stream, const head *h, char *y, int64_t i, int n)
{
    vf lo = normed(dtype, h, i, n), hi = normed(dtype, h, i + h->offset, n);
    vf c = load(MLXN_F32, h->cosine, i, n), s = load(MLXN_F32, h->sine, i, n);
    store(dtype, stream, y, i, vf_fma(lo, c, vf_neg(vf_mul(hi, s))), n);
    store(dtype, stream, y, i + h->offset, vf_fma(hi, c, vf_mul(lo, s)), n);
}

/* Elements i to i + n - 1 with their neighbours; cosine and sine are laid out for it. */
CPU_INLINE void rotate_interleaved(mlxn_dtype dtype, int stream, const head *h, char *y, int64_t i,
                                   int n)
{
    vf x = normed(dtype, h, i, n);
    vf c = load(MLXN_F32, h->cosine, i, n), s = load(MLXN_F32, h->sine, i, n);
    store(dtype, stream, y, i, vf_fma(x, c, vf_mul(vf_swap_pairs(x), s)), n);
}

/* x of a head, of a dtype, to y of the same dtype. */
CPU_INLINE void do_head(mlxn_dtype dtype, int stream, const head *shared, char *y)
{
    const head copy = *shared, *h = &copy;             /* which no store can change */
    int64_t i = 0, rest[2][2] = {{0, h->dim}, {0, 0}}; /* what no pair covers */
    if (h->layout == QKV_PAIRS_SPLIT) {
        for (; i + VF_LANES <= h->pairs; i += VF_LANES)
            rotate_split(dtype, stream, h, y, i, VF_LANES);
        if (i < h->pairs)
            rotate_split(dtype, stream, h, y, i, (int)(h->pairs - i));
        rest[0][0] = h->pairs;
        rest[0][1] = h->offset;
        rest[1][0] = h->offset + h->pairs;
        rest[1][1] = h->dim;
    } else if (h->layout == QKV_PAIRS_INTERLEAVED) {
        for (; i + VF_LANES <= 2 * h->pairs; i += VF_LANES)
            rotate_interleaved(dtype, stream, h, y, i, VF_LANES);
        if (i < 2 * h->pairs)
            rotate_interleaved(dtype, stream, h, y, i, (int)(2 * h->pairs - i));
        rest[0][0] = 2 * h->pairs;
    }
    for (int k = 0; k < 2; k++) {
        for (i = rest[k][0]; i + VF_LANES <= rest[k][1]; i += VF_LANES)
            store(dtype, stream, y, i, normed(dtype, h, i, VF_LANES), VF_LANES);
        if (i < rest[k][1])
            store(dtype, stream, y, i, normed(dtype, h, i, (int)(rest[k][1] - i)),
                  (int)(rest[k][1] - i));
    }
}

CPU_INLINE float sum_of_squares(mlxn_dtype dtype, const char *input, int64_t dim)
{
    rms_lanes sum = rms_zero();
    int64_t i = 0;
    for (; i + 32 <= dim; i += 32)
        rms_add(&sum, vf_load_as(dtype, input, i), vf_load_as(dtype, input, i + VF_LANES));
    if (i < dim) {
        int left = (int)(dim - i);
        vf first = load(dtype, input, i, left < VF_LANES ? left : VF_LANES);
        vf second = vf_set(0.0f);
        if (left > VF_LANES)
            second = load(dtype, input, i + VF_LANES, left - VF_LANES);
        rms_add(&sum, first, second);
    }
    return rms_total(sum);
}

/* The copies of the loops: for each dtype, and past the caches. */
static float head_sum(mlxn_dtype dtype, const char *input, int64_t dim)
{
    if (dtype == MLXN_F32)
        return sum_of_squares(MLXN_F32, input, dim);
    return dtype == MLXN_F16 ? sum_of_squares(MLXN_F16, input, dim)
                             : sum_of_squares(MLXN_BF16, input, dim);
}

static void head_to_output(const head *h, int stream)
{
    if (h->dtype == MLXN_F32)
        stream ? do_head(MLXN_F32, 1, h, h->output) : do_head(MLXN_F32, 0, h, h->output);
    else if (h->dtype == MLXN_F16)
        stream ? do_head(MLXN_F16, 1, h, h->output) : do_head(MLXN_F16, 0, h, h->output);
    else
        stream ? do_head(MLXN_BF16, 1, h, h->output) : do_head(MLXN_BF16, 0, h, h->output);
}

/* n elements from one dtype to another, with a rounding to `through` on the way. */
static void convert(mlxn_dtype from, const void *x, mlxn_dtype through, mlxn_dtype to, void *y,
                    int64_t n)
{
    float t[VF_LANES];
    for (int64_t i = 0; i < n; i += VF_LANES) {
        int some = n - i < VF_LANES ? (int)(n - i) : VF_LANES;
        vf_store_as(through, t, 0, load(from, x, i, some));
        store(to, 0, y, i, vf_load_as(through, t, 0), some);
    }
}

/* A head with a cache, or rounded as the chain of single operators rounds: by way of f32 scratch,
 * in which the head is worked on in place. */
static void head_by_stages(const head *h)
{
    const mlxn_dtype through = h->rounded ? h->dtype : MLXN_F32;
    head f = *h;
    f.dtype = MLXN_F32;
    f.input = f.output = (char *)h->staged;
    convert(h->dtype, h->input, MLXN_F32, MLXN_F32, h->staged, h->dim);
    if (h->rounded) { /* the norm alone; then, on its rounded result, the rotation alone */
        f.layout = QKV_PAIRS_NONE;
        head_to_output(&f, 0);
        convert(MLXN_F32, h->staged, through, MLXN_F32, h->staged, h->dim);
        f.layout = h->layout;
        f.weight = h->ones;
        f.r = vf_set(1.0f);
    }
    head_to_output(&f, 0);
    if (h->output)
        convert(MLXN_F32, h->staged, through, h->dtype, h->output, h->dim);
    if (h->cache)
        convert(MLXN_F32, h->staged, through, h->cache_dtype, h->cache, h->dim);
}

#endif
