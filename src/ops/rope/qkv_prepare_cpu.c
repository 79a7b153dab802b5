/* qkv_prepare_cpu.c - head norm, rotation and cache write of q, k and v on the CPU.
 *
 * Threads take tokens.  The sines and cosines of a token are made once and serve all its heads.  A
 * head is read twice, for its sum of squares and for its result; the second read is from the first
 * level cache.  All is f32 in between; formulas at the public header.
 *
 * To keep one loop for all cases a thread first lays out in its scratch, in f32: weights plus
 * weight_bias (ones where there is no weight: x * 1 is x), and frequencies by high and low part. */
#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"
#include "ops/norm/rms_cpu.h"
#include "ops/rope/qkv_prepare.h"
#include "ops/shared.h"

/* A thread's scratch; each array is padded to whole vectors. */
typedef struct scratch {
    float *weight[QKV_PARTS];         /* dim */
    float *freq_hi, *freq_lo;         /* rotary_pairs */
    float *cosine, *sine;             /* rotary_pairs */
    float *both_cosine, *signed_sine; /* 2 * rotary_pairs: cos, cos and -sin, sin, interleaved */
} scratch;

/* What one head needs. */
typedef struct head {
    const char *input;
    char *output, *cache; /* NULL: not wanted */
    const float *weight, *cosine, *sine;
    int64_t dim, pairs, offset;
    mlxn_dtype cache_dtype;
    int normed, rounded, stream;
    float eps;
    vf r;
} head;

static inline vf load(mlxn_dtype dtype, const void *base, int64_t i, int n)
{
    return n == VF_LANES ? vf_load_as(dtype, base, i) : vf_load_as_n(dtype, base, i, n);
}

static inline void store(mlxn_dtype dtype, void *base, int64_t i, vf v, int n)
{
    if (n == VF_LANES)
        vf_store_as(dtype, base, i, v);
    else
        vf_store_as_n(dtype, base, i, v, n);
}

static inline vf round_to(mlxn_dtype dtype, vf v)
{
    float t[VF_LANES];
    vf_store_as(dtype, t, 0, v);
    return vf_load_as(dtype, t, 0);
}

/* n_i: the normed elements i to i + n - 1. */
static inline vf normed(mlxn_dtype dtype, const head *h, int64_t i, int n)
{
    vf v = vf_mul(vf_mul(load(dtype, h->input, i, n), h->r), load(MLXN_F32, h->weight, i, n));
    return h->rounded ? round_to(dtype, v) : v;
}

static inline void put(mlxn_dtype dtype, const head *h, int64_t i, vf v, int n)
{
    if (h->rounded)
        v = round_to(dtype, v);
    if (h->output && h->stream && n == VF_LANES)
        vf_stream_as(dtype, h->output, i, v);
    else if (h->output)
        store(dtype, h->output, i, v, n);
    if (h->cache)
        store(h->cache_dtype, h->cache, i, v, n);
}

/* Pairs (i, i + offset), i to i + n - 1. */
static inline void rotate_split(mlxn_dtype dtype, const head *h, int64_t i, int n)
{
    vf lo = normed(dtype, h, i, n), hi = normed(dtype, h, i + h->offset, n);
    vf c = load(MLXN_F32, h->cosine, i, n), s = load(MLXN_F32, h->sine, i, n);
    put(dtype, h, i, vf_fma(lo, c, vf_neg(vf_mul(hi, s))), n);
    put(dtype, h, i + h->offset, vf_fma(hi, c, vf_mul(lo, s)), n);
}

/* Elements i to i + n - 1 with their neighbours; cosine and sine are laid out for it. */
static inline void rotate_interleaved(mlxn_dtype dtype, const head *h, int64_t i, int n)
{
    vf x = normed(dtype, h, i, n);
    vf c = load(MLXN_F32, h->cosine, i, n), s = load(MLXN_F32, h->sine, i, n);
    put(dtype, h, i, vf_fma(x, c, vf_mul(vf_swap_pairs(x), s)), n);
}

static inline void pass(mlxn_dtype dtype, const head *h, int64_t begin, int64_t end)
{
    int64_t i = begin;
    for (; i + VF_LANES <= end; i += VF_LANES)
        put(dtype, h, i, normed(dtype, h, i, VF_LANES), VF_LANES);
    if (i < end)
        put(dtype, h, i, normed(dtype, h, i, (int)(end - i)), (int)(end - i));
}

static inline vf head_scale(mlxn_dtype dtype, const head *h)
{
    rms_lanes sum = rms_zero();
    int64_t i = 0;
    if (!h->normed)
        return vf_set(1.0f);
    for (; i + 32 <= h->dim; i += 32)
        rms_add(&sum, vf_load_as(dtype, h->input, i), vf_load_as(dtype, h->input, i + VF_LANES));
    if (i < h->dim) {
        int left = (int)(h->dim - i);
        vf first = load(dtype, h->input, i, left < VF_LANES ? left : VF_LANES);
        vf second = vf_set(0.0f);
        if (left > VF_LANES)
            second = load(dtype, h->input, i + VF_LANES, left - VF_LANES);
        rms_add(&sum, first, second);
    }
    return rms_scale(sum, h->dim, h->eps);
}

static inline void do_head(mlxn_dtype dtype, head *h, qkv_pairs pairs)
{
    int64_t i = 0;
    h->r = head_scale(dtype, h);
    if (pairs == QKV_PAIRS_SPLIT) {
        for (; i + VF_LANES <= h->pairs; i += VF_LANES)
            rotate_split(dtype, h, i, VF_LANES);
        if (i < h->pairs)
            rotate_split(dtype, h, i, (int)(h->pairs - i));
        pass(dtype, h, h->pairs, h->offset);
        pass(dtype, h, h->offset + h->pairs, h->dim);
    } else if (pairs == QKV_PAIRS_INTERLEAVED) {
        for (; i + VF_LANES <= 2 * h->pairs; i += VF_LANES)
            rotate_interleaved(dtype, h, i, VF_LANES);
        if (i < 2 * h->pairs)
            rotate_interleaved(dtype, h, i, (int)(2 * h->pairs - i));
        pass(dtype, h, 2 * h->pairs, h->dim);
    } else {
        pass(dtype, h, 0, h->dim);
    }
}

/* ---- a thread's scratch ---- */

static int64_t padded(int64_t n)
{
    return (n + VF_LANES - 1) / VF_LANES * VF_LANES;
}

static scratch carve(const mlxn_cpu_call *call, const qkv_params *p)
{
    int64_t dim = padded(p->dim), pairs = padded(p->rotary_pairs),
            twice = padded(2 * p->rotary_pairs);
    float *at = (float *)call->shared +
                (size_t)call->thread * (mlxn_qkv_prepare_shared(p, 1) / sizeof(float));
    scratch s;
    for (int k = 0; k < QKV_PARTS; k++, at += dim)
        s.weight[k] = at;
    s.freq_hi = at;
    s.freq_lo = s.freq_hi + pairs;
    s.cosine = s.freq_lo + pairs;
    s.sine = s.cosine + pairs;
    s.both_cosine = s.sine + pairs;
    s.signed_sine = s.both_cosine + twice;
    return s;
}

static void lay_out_weights(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s)
{
    const vf bias = vf_set(p->weight_bias);
    for (int k = 0; k < QKV_PARTS; k++) {
        const qkv_part_params *part = &p->part[k];
        const void *w = call->ptr[k * QKV_PART_OPERANDS + QKV_WEIGHT];
        if (!part->heads)
            continue;
        for (int64_t i = 0; i < p->dim; i += VF_LANES) {
            int n = p->dim - i < VF_LANES ? (int)(p->dim - i) : VF_LANES;
            vf v = vf_set(1.0f);
            if (part->norm == MLXN_NORM_WEIGHTED)
                v = vf_add(load((mlxn_dtype)part->weight_dtype, w, i, n), bias);
            vf_store(s->weight[k] + i, v);
        }
    }
}

/* theta^(-2i/D) / factor in double, by the binary digits of i, as high and low part. */
static void lay_out_freqs(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s)
{
    const float *freqs = call->ptr[QKV_FREQS], *factors = call->ptr[QKV_FACTORS];
    const int64_t pairs = p->rotary_pairs;
    if (p->angles == QKV_ANGLES_FREQS)
        for (int64_t i = 0; i < pairs; i++) {
            s->freq_hi[i] = freqs[2 * i];
            s->freq_lo[i] = freqs[2 * i + 1];
        }
    if (p->angles == QKV_ANGLES_THETA)
        for (int64_t i = 0; i < pairs; i++) {
            double f = 1.0;
            for (int bit = 0; bit < 32 && i >> bit; bit++)
                if (i >> bit & 1)
                    f *= (double)p->theta_power[bit][0] + (double)p->theta_power[bit][1];
            if (factors)
                f /= (double)factors[i];
            s->freq_hi[i] = (float)f;
            s->freq_lo[i] = (float)(f - (double)s->freq_hi[i]);
        }
    for (int64_t i = pairs; i < padded(pairs); i++)
        s->freq_hi[i] = s->freq_lo[i] = 0.0f;
}

/* ---- a token ---- */

/* Element t of an i32, u32 or i64 operand. */
static int64_t integer_at(mlxn_dtype dtype, const void *base, int64_t t)
{
    if (dtype == MLXN_I64)
        return ((const int64_t *)base)[t];
    if (dtype == MLXN_U32)
        return ((const uint32_t *)base)[t];
    return ((const int32_t *)base)[t];
}

/* cos and sin of the token's angles, times attention_factor, into the scratch. */
static void lay_out_angles(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s,
                           int64_t t, int64_t position)
{
    const vf factor = vf_set(p->attention_factor);
    const float *cosines = call->ptr[QKV_COS], *sines = call->ptr[QKV_SIN];
    const float hi = (float)position, lo = (float)(position - (int64_t)hi);
    for (int64_t i = 0; i < p->rotary_pairs; i += VF_LANES) {
        vf c, sn;
        if (p->angles == QKV_ANGLES_TABLES) {
            int n = p->rotary_pairs - i < VF_LANES ? (int)(p->rotary_pairs - i) : VF_LANES;
            c = load(MLXN_F32, cosines + t * p->cos_stride, i, n);
            sn = load(MLXN_F32, sines + t * p->sin_stride, i, n);
        } else {
            vf2 f = {vf_load(s->freq_hi + i), vf_load(s->freq_lo + i)};
            vf_sincos(vf_angle(hi, lo, f), &sn, &c);
        }
        vf_store(s->cosine + i, vf_mul(c, factor));
        vf_store(s->sine + i, vf_mul(sn, factor));
    }
}

static void interleave_angles(const qkv_params *p, const scratch *s)
{
    for (int64_t i = 0; i < p->rotary_pairs; i++) {
        s->both_cosine[2 * i] = s->both_cosine[2 * i + 1] = s->cosine[i];
        s->signed_sine[2 * i] = -s->sine[i];
        s->signed_sine[2 * i + 1] = s->sine[i];
    }
}

/* The token's position and cache slot (-1: none); 0 after a fault. */
static int token_at(const mlxn_cpu_call *call, const qkv_params *p, int64_t t, int64_t *position,
                    int64_t *slot)
{
    int placed = p->angles == QKV_ANGLES_FREQS || p->angles == QKV_ANGLES_THETA;
    *position = p->position_start + t;
    *slot = -1;
    if (placed && p->position_dtype != MLXN_DTYPE_NONE)
        *position = integer_at((mlxn_dtype)p->position_dtype, call->ptr[QKV_POSITIONS], t);
    if (placed && (*position < 0 || *position > INT32_MAX)) {
        mlxn_cpu_fault(call, "position", *position, INT32_MAX);
        return 0;
    }
    if (!call->ptr[QKV_SLOTS])
        return 1;
    *slot = integer_at((mlxn_dtype)p->slot_dtype, call->ptr[QKV_SLOTS], t);
    for (int k = 0; k < QKV_PARTS; k++)
        if (call->ptr[k * QKV_PART_OPERANDS + QKV_CACHE] && *slot >= p->part[k].slots) {
            mlxn_cpu_fault(call, "slot", *slot, p->part[k].slots - 1);
            return 0;
        }
    return 1;
}

/* The address of element `at` of an operand, NULL if it is absent. */
static inline char *element(const mlxn_cpu_call *call, int operand, int64_t at, mlxn_dtype dtype)
{
    char *base = call->ptr[operand];
    return base ? base + at * (int64_t)cpu_dtype_bytes(dtype) : NULL;
}

static inline void do_part(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s,
                           mlxn_dtype dtype, int k, int64_t t, int64_t slot)
{
    const qkv_part_params *part = &p->part[k];
    const int first = k * QKV_PART_OPERANDS, interleaved = part->pairs == QKV_PAIRS_INTERLEAVED;
    head h = {.weight = s->weight[k],
              .cosine = interleaved ? s->both_cosine : s->cosine,
              .sine = interleaved ? s->signed_sine : s->sine,
              .dim = p->dim,
              .pairs = p->rotary_pairs,
              .offset = part->offset,
              .cache_dtype = (mlxn_dtype)part->cache_dtype,
              .normed = part->norm != MLXN_NORM_NONE,
              .rounded = p->rounding == MLXN_ROUND_MATCH_UNFUSED,
              .eps = p->eps};
    for (int64_t j = 0; j < part->heads; j++) {
        h.input =
            element(call, first + QKV_INPUT, t * part->input_token + j * part->input_head, dtype);
        h.output = element(call, first + QKV_OUTPUT, t * part->output_token + j * part->output_head,
                           dtype);
        h.stream = p->stream && (uintptr_t)h.output % (VF_LANES * cpu_dtype_bytes(dtype)) == 0;
        h.cache = slot < 0 ? NULL
                           : element(call, first + QKV_CACHE,
                                     slot * part->cache_slot + j * part->cache_head, h.cache_dtype);
        if (h.output || h.cache)
            do_head(dtype, &h, (qkv_pairs)part->pairs);
    }
}

static inline void do_tokens(const mlxn_cpu_call *call, mlxn_dtype dtype, int64_t begin,
                             int64_t end)
{
    const qkv_params *p = call->args;
    const scratch s = carve(call, p);
    int interleaved = 0;
    for (int k = 0; k < QKV_PARTS; k++)
        interleaved |= p->part[k].heads && p->part[k].pairs == QKV_PAIRS_INTERLEAVED;
    lay_out_weights(call, p, &s);
    lay_out_freqs(call, p, &s);
    for (int64_t t = begin; t < end; t++) {
        int64_t position, slot;
        if (!token_at(call, p, t, &position, &slot))
            continue;
        if (p->angles != QKV_ANGLES_NONE)
            lay_out_angles(call, p, &s, t, position);
        if (interleaved)
            interleave_angles(p, &s);
        for (int k = 0; k < QKV_PARTS; k++)
            if (p->part[k].heads)
                do_part(call, p, &s, dtype, k, t, slot);
    }
    if (p->stream)
        vf_stream_end();
}

CPU_KERNEL(qkv_prepare)
{
    const qkv_params *p = call->args;
    int64_t begin, end;
    cpu_split(call, p->tokens, &begin, &end);
    if (begin == end)
        return;
    switch (p->dtype) { /* a copy of the loops for each dtype */
    case MLXN_F32:
        do_tokens(call, MLXN_F32, begin, end);
        break;
    case MLXN_F16:
        do_tokens(call, MLXN_F16, begin, end);
        break;
    default:
        do_tokens(call, MLXN_BF16, begin, end);
        break;
    }
}
