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
    float *weight[QKV_PARTS], *ones, *staged; /* dim */
    float *freq_hi, *freq_lo;                 /* rotary_pairs */
    float *cosine, *sine;                     /* rotary_pairs */
    float *both_cosine, *signed_sine; /* 2 * rotary_pairs: cos, cos and -sin, sin, interleaved */
} scratch;

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
    s.ones = at;
    s.staged = s.ones + dim;
    s.freq_hi = s.staged + dim;
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
CPU_INLINE char *element(const mlxn_cpu_call *call, int operand, int64_t at, mlxn_dtype dtype)
{
    char *base = call->ptr[operand];
    return base ? base + at * (int64_t)cpu_dtype_bytes(dtype) : NULL;
}

/* The head's addresses for token t, head j. */
static void place_head(const mlxn_cpu_call *call, const qkv_part_params *part, int first, int64_t t,
                       int64_t j, int64_t slot, head *h)
{
    int64_t cached = slot * part->cache_slot + j * part->cache_head;
    h->input =
        element(call, first + QKV_INPUT, t * part->input_token + j * part->input_head, h->dtype);
    h->output =
        element(call, first + QKV_OUTPUT, t * part->output_token + j * part->output_head, h->dtype);
    h->cache = slot < 0 ? NULL : element(call, first + QKV_CACHE, cached, h->cache_dtype);
}

/* A token's heads of one part.  The sums of squares of a group of heads are made first: the chains
 * of additions of different heads then overlap, and one division and root serve them all. */
static void do_part(const mlxn_cpu_call *call, const qkv_params *p, const scratch *s, int k,
                    int64_t t, int64_t slot)
{
    const qkv_part_params *part = &p->part[k];
    const int first = k * QKV_PART_OPERANDS, interleaved = part->pairs == QKV_PAIRS_INTERLEAVED;
    const int64_t group = p->dim <= 512 ? VF_LANES : 1; /* which stays in the first level cache */
    const int staged = p->rounding != MLXN_ROUND_EXACT || call->ptr[first + QKV_CACHE];
    head h = {.weight = s->weight[k],
              .ones = s->ones,
              .cosine = interleaved ? s->both_cosine : s->cosine,
              .sine = interleaved ? s->signed_sine : s->sine,
              .staged = s->staged,
              .dim = p->dim,
              .pairs = p->rotary_pairs,
              .offset = part->offset,
              .dtype = (mlxn_dtype)p->dtype,
              .cache_dtype = (mlxn_dtype)part->cache_dtype,
              .layout = part->pairs,
              .rounded = p->rounding == MLXN_ROUND_MATCH_UNFUSED};
    const uintptr_t vector = VF_LANES * cpu_dtype_bytes(h.dtype);
    for (int64_t begin = 0; begin < part->heads; begin += group) {
        float r[VF_LANES] = {0};
        int64_t end = begin + group < part->heads ? begin + group : part->heads;
        vf scale = vf_set(1.0f);
        for (int64_t j = begin; j < end && part->norm != MLXN_NORM_NONE; j++) {
            place_head(call, part, first, t, j, slot, &h);
            r[j - begin] = head_sum(h.dtype, h.input, p->dim);
        }
        if (part->norm != MLXN_NORM_NONE)
            scale = rms_scale(vf_load(r), p->dim, p->eps);
        vf_store(r, scale);
        for (int64_t j = begin; j < end; j++) {
            place_head(call, part, first, t, j, slot, &h);
            h.r = vf_set(r[j - begin]);
            if (!staged)
                head_to_output(&h, p->stream && (uintptr_t)h.output % vector == 0);
            else if (h.output || h.cache)
                head_by_stages(&h);
        }
    }
}

static void do_tokens(const mlxn_cpu_call *call, int64_t begin, int64_t end)
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
                do_part(call, p, &s, k, t, slot);
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
