/* qkv_prepare_cpu.c - head norm, rotation and cache write of q, k and v on the CPU.
 *
 * Threads take tokens, a few at a time, and of those the parts one after the other, up to 16 heads
 * together.  The sines and cosines of a token are made once and serve all its heads.
 *
 * To keep one loop for all cases a thread first lays out in its scratch, in f32: weights plus
 * weight_bias (ones where there is no weight: x * 1 is x), and frequencies by high and low part.
 * Where every part can go by whole blocks (qkv_blocks_cpu.h), all of it, cosines and sines too, is
 * in the block order of the data; else in natural order, and heads go one by one
 * (qkv_head_cpu.h). */
#include "backends/cpu/block.h"
#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"
#include "ops/norm/rms_cpu.h"
#include "ops/rope/qkv_blocks_cpu.h"
#include "ops/rope/qkv_head_cpu.h"
#include "ops/rope/qkv_prepare.h"
#include "ops/shared.h"

/* A thread's scratch; each array is padded to whole vectors. */
typedef struct scratch {
    float *weight[QKV_PARTS], *ones, *staged; /* dim */
    float *freq_hi, *freq_lo;                 /* rotary_pairs */
    /* a row for each of the tokens worked on at once: */
    float *cosine, *sine;             /* rotary_pairs */
    float *both_cosine, *signed_sine; /* 2 * rotary_pairs: cos, cos and -sin, sin, interleaved */
    int64_t row, both_row;
    int64_t tokens; /* at once */
    int blocks, interleaved;
    int own_tables; /* the caller's tables serve as they are */
} scratch;

/* ---- a thread's scratch ---- */

static int64_t padded(int64_t n)
{
    return (n + VF_LANES - 1) / VF_LANES * VF_LANES;
}

static scratch carve(const mlxn_cpu_call *call, const qkv_params *p)
{
    const int64_t dim = padded(p->dim), pairs = padded(p->rotary_pairs);
    float *at = (float *)call->shared +
                (size_t)call->thread * (mlxn_qkv_prepare_shared(p, 1) / sizeof(float));
    scratch s = {.row = pairs,
                 .both_row = padded(2 * p->rotary_pairs),
                 .tokens = mlxn_qkv_tokens_at_once(p),
                 .blocks = 1};
    for (int k = 0; k < QKV_PARTS; k++, at += dim)
        s.weight[k] = at;
    s.ones = at;
    s.staged = s.ones + dim;
    s.freq_hi = s.staged + dim;
    s.freq_lo = s.freq_hi + pairs;
    s.cosine = s.freq_lo + pairs;
    s.sine = s.cosine + s.tokens * s.row;
    s.both_cosine = s.sine + s.tokens * s.row;
    s.signed_sine = s.both_cosine + s.tokens * s.both_row;
    for (int k = 0; k < QKV_PARTS; k++) {
        const qkv_part_params *part = &p->part[k];
        if (!part->heads)
            continue;
        s.blocks &= qkv_blocks_fit(p, part, call->ptr[QKV_AT(k, QKV_CACHE)] != NULL);
        s.interleaved |= part->pairs == QKV_PAIRS_INTERLEAVED;
    }
    s.own_tables = p->attention_factor == 1.0f && !s.interleaved &&
                   !(s.blocks && vf_block_is_split((mlxn_dtype)p->dtype));
    return s;
}

/* n elements, natural order, into the order that the loops want. */
static void order(const qkv_params *p, const scratch *s, float *x, int64_t n)
{
    if (!s->blocks || !vf_block_is_split((mlxn_dtype)p->dtype))
        return;
    for (int64_t i = 0; i < n; i += VF_BLOCK) {
        vf_block v = vf_block_order((mlxn_dtype)p->dtype, vf_block_load(MLXN_F32, x, i));
        vf_block_store(MLXN_F32, 0, x, i, v);
    }
}

static void lay_out_weights(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s)
{
    const vf bias = vf_set(p->weight_bias);
    for (int64_t i = 0; i < p->dim && p->rounding != MLXN_ROUND_EXACT; i += VF_LANES)
        vf_store(s->ones + i, vf_set(1.0f));
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
        order(p, s, s->weight[k], p->dim);
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
    order(p, s, s->freq_hi, pairs);
    order(p, s, s->freq_lo, pairs);
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

/* Tokens worked on at once: those that are valid, with their cosines and sines. */
typedef struct tokens {
    int64_t n, at[QKV_ROWS], slot[QKV_ROWS];
    const float *cosine[QKV_ROWS], *sine[QKV_ROWS];             /* of split pairs */
    const float *both_cosine[QKV_ROWS], *signed_sine[QKV_ROWS]; /* of interleaved ones */
} tokens;

/* Computed ones follow the order of the frequencies. */
static void compute_angles(const qkv_params *p, const scratch *s, int64_t position, float *cosine,
                           float *sine)
{
    const vf factor = vf_set(p->attention_factor);
    const float hi = (float)position, lo = (float)(position - (int64_t)hi);
    for (int64_t i = 0; i < p->rotary_pairs; i += VF_LANES) {
        vf2 f = {vf_load(s->freq_hi + i), vf_load(s->freq_lo + i)};
        vf c, sn;
        vf_sincos(vf_angle(hi, lo, f), &sn, &c);
        vf_store(cosine + i, vf_mul(c, factor));
        vf_store(sine + i, vf_mul(sn, factor));
    }
}

static void scale_table(const qkv_params *p, const scratch *s, const float *table, float *out)
{
    const vf factor = vf_set(p->attention_factor);
    for (int64_t i = 0; i < p->rotary_pairs; i += VF_LANES) {
        int n = p->rotary_pairs - i < VF_LANES ? (int)(p->rotary_pairs - i) : VF_LANES;
        vf_store(out + i, vf_mul(load(MLXN_F32, table, i, n), factor));
    }
    order(p, s, out, p->rotary_pairs);
}

/* cos and sin of the angles of t->at[k], times attention_factor: in the scratch, or the caller's
 * own tables where these will do. */
static void lay_out_angles(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s,
                           tokens *t, int64_t k, int64_t position)
{
    const int64_t cos_at = t->at[k] * p->cos_stride, sin_at = t->at[k] * p->sin_stride;
    float *cosine = s->cosine + k * s->row, *sine = s->sine + k * s->row;
    float *both = s->both_cosine + k * s->both_row, *sign = s->signed_sine + k * s->both_row;
    t->cosine[k] = cosine;
    t->sine[k] = sine;
    t->both_cosine[k] = both;
    t->signed_sine[k] = sign;
    if (p->angles != QKV_ANGLES_TABLES) {
        compute_angles(p, s, position, cosine, sine);
    } else if (s->own_tables) {
        t->cosine[k] = (const float *)call->ptr[QKV_COS] + cos_at;
        t->sine[k] = (const float *)call->ptr[QKV_SIN] + sin_at;
    } else {
        scale_table(p, s, (const float *)call->ptr[QKV_COS] + cos_at, cosine);
        scale_table(p, s, (const float *)call->ptr[QKV_SIN] + sin_at, sine);
    }
    for (int64_t i = 0; i < p->rotary_pairs && s->interleaved; i++) {
        both[2 * i] = both[2 * i + 1] = cosine[i];
        sign[2 * i] = -sine[i];
        sign[2 * i + 1] = sine[i];
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

/* ---- heads ---- */

/* The address of element `at` of an operand, NULL if it is absent. */
static char *element(const mlxn_cpu_call *call, int operand, int64_t at, mlxn_dtype dtype)
{
    char *base = call->ptr[operand];
    return base ? base + at * (int64_t)cpu_dtype_bytes(dtype) : NULL;
}

/* Head `first` of part `which` of token k of t. */
static qkv_token token_of(const mlxn_cpu_call *call, const qkv_params *p, int which,
                          const tokens *t, int64_t k, int64_t first)
{
    const qkv_part_params *part = &p->part[which];
    const mlxn_dtype dtype = (mlxn_dtype)p->dtype;
    const int interleaved = part->pairs == QKV_PAIRS_INTERLEAVED;
    const int64_t at = t->at[k], slot = t->slot[k];
    const int64_t input = at * part->input_token + first * part->input_head;
    const int64_t output = at * part->output_token + first * part->output_head;
    const int64_t cache = slot * part->cache_slot + first * part->cache_head;
    return (qkv_token){.input = element(call, QKV_AT(which, QKV_INPUT), input, dtype),
                       .output = element(call, QKV_AT(which, QKV_OUTPUT), output, dtype),
                       .cache = slot < 0 ? NULL
                                         : element(call, QKV_AT(which, QKV_CACHE), cache,
                                                   (mlxn_dtype)part->cache_dtype),
                       .cosine = interleaved ? t->both_cosine[k] : t->cosine[k],
                       .sine = interleaved ? t->signed_sine[k] : t->sine[k]};
}

/* The rows one by one, for any shape. */
static void do_rows(const qkv_params *p, const scratch *s, const qkv_part_params *part,
                    const qkv_rows *g)
{
    const int staged = p->rounding != MLXN_ROUND_EXACT || g->cache_dtype != MLXN_DTYPE_NONE;
    const uintptr_t vector = VF_LANES * cpu_dtype_bytes(g->dtype);
    head h = {.weight = g->weight,
              .ones = s->ones,
              .staged = s->staged,
              .dim = p->dim,
              .pairs = p->rotary_pairs,
              .offset = part->offset,
              .dtype = g->dtype,
              .cache_dtype = g->cache_dtype,
              .layout = part->pairs,
              .rounded = p->rounding == MLXN_ROUND_MATCH_UNFUSED,
              .r = vf_set(1.0f)};
    for (int i = 0; i < g->tokens * g->heads; i++) {
        const qkv_token *token = &g->token[i / g->heads];
        const int64_t j = i % g->heads;
        h.input = token->input + j * g->input_step;
        h.output = token->output ? token->output + j * g->output_step : NULL;
        h.cache = token->cache ? token->cache + j * g->cache_step : NULL;
        h.cosine = token->cosine;
        h.sine = token->sine;
        if (part->norm != MLXN_NORM_NONE)
            h.r = rms_scale(vf_set(head_sum(g->dtype, h.input, g->dim)), p->dim, p->eps);
        if (!staged)
            head_to_output(&h, p->stream && (uintptr_t)h.output % vector == 0);
        else if (h.output || h.cache)
            head_by_stages(&h);
    }
}

static void do_blocks(const qkv_params *p, const qkv_part_params *part, qkv_rows *g)
{
    float scale[QKV_ROWS];
    vf r = vf_set(1.0f);
    if (part->norm != MLXN_NORM_NONE)
        r = rms_scale(qkv_blocks_sum(g), p->dim, p->eps);
    vf_store(scale, r);
    g->stream = p->stream && g->output_step % 64 == 0;
    for (int k = 0; k < g->tokens; k++)
        g->stream &= (uintptr_t)g->token[k].output % 64 == 0;
    if (g->cache_dtype != MLXN_DTYPE_NONE)
        qkv_blocks_cache(g, scale);
    if (g->token[0].output) /* last: it may be the input */
        qkv_blocks_store(g, scale);
}

/* One part of the tokens, as many heads together as stay in the first level cache. */
static void do_part(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s, int which,
                    const tokens *t)
{
    const qkv_part_params *part = &p->part[which];
    const int64_t fit = 8192 / p->dim, most = fit < 1 ? 1 : fit < QKV_ROWS ? fit : QKV_ROWS;
    const int64_t heads = part->heads < most ? part->heads : most, each = most / heads;
    const int64_t size = (int64_t)cpu_dtype_bytes((mlxn_dtype)p->dtype);
    const int64_t cache_size = (int64_t)cpu_dtype_bytes((mlxn_dtype)part->cache_dtype);
    qkv_rows g;
    g.dtype = (mlxn_dtype)p->dtype;
    g.cache_dtype = (mlxn_dtype)part->cache_dtype;
    g.input_step = part->input_head * size;
    g.output_step = part->output_head * size;
    g.cache_step = part->cache_head * cache_size;
    g.dim = p->dim;
    g.pairs = part->pairs == QKV_PAIRS_NONE ? 0 : p->rotary_pairs;
    g.offset = part->offset;
    g.weight = s->weight[which];
    for (int64_t first = 0; first < t->n; first += each)
        for (int64_t j = 0; j < part->heads; j += heads) {
            g.tokens = (int)(t->n - first < each ? t->n - first : each);
            g.heads = (int)(part->heads - j < heads ? part->heads - j : heads);
            for (int k = 0; k < g.tokens; k++)
                g.token[k] = token_of(call, p, which, t, first + k, j);
            if (s->blocks)
                do_blocks(p, part, &g);
            else
                do_rows(p, s, part, &g);
        }
}

static void do_tokens(const mlxn_cpu_call *call, int64_t begin, int64_t end)
{
    const qkv_params *p = call->args;
    const scratch s = carve(call, p);
    lay_out_weights(call, p, &s);
    lay_out_freqs(call, p, &s);
    while (begin < end) {
        tokens t;
        t.n = 0;
        for (; begin < end && t.n < s.tokens; begin++) {
            int64_t position;
            if (!token_at(call, p, begin, &position, &t.slot[t.n]))
                continue;
            t.at[t.n] = begin;
            if (p->angles != QKV_ANGLES_NONE)
                lay_out_angles(call, p, &s, &t, t.n, position);
            t.n++;
        }
        for (int k = 0; k < QKV_PARTS; k++)
            if (p->part[k].heads)
                do_part(call, p, &s, k, &t);
    }
    if (p->stream)
        vf_stream_end();
}

CPU_KERNEL(qkv_prepare)
{
    const qkv_params *p = call->args;
    int64_t begin, end;
    cpu_split(call, p->tokens, &begin, &end);
    if (begin < end)
        do_tokens(call, begin, end);
}
