/* qkv_text.h - what the schedules of qkv_prepare.kernel share, kernel text: operands, the
 * position, slot and angles of a token, where a head is, and single elements of it. */
#ifndef MLXN_OPS_ROPE_QKV_TEXT_H
#define MLXN_OPS_ROPE_QKV_TEXT_H

#include "kernels/dialect.h"
#include "kernels/math.h"
#include "kernels/vector.h"
#include "ops/rope/qkv_params.h"

#if defined(QKV_HEAD_DIM) /* compiled for one head_dim */
#define QKV_DIM(a) ((int64_t)QKV_HEAD_DIM)
#else
#define QKV_DIM(a) ((a)->dim)
#endif

/* The operands in the order of qkv_params.h, then the word of faults. */
#define QKV_OPERAND_LIST                                                             \
    INOUT(uchar, q_input, 0), INOUT(uchar, q_output, 1), IN(uchar, q_weight, 2),     \
        OUT(uchar, q_cache, 3), INOUT(uchar, k_input, 4), INOUT(uchar, k_output, 5), \
        IN(uchar, k_weight, 6), OUT(uchar, k_cache, 7), INOUT(uchar, v_input, 8),    \
        INOUT(uchar, v_output, 9), IN(uchar, v_weight, 10), OUT(uchar, v_cache, 11), \
        IN(uchar, positions, 12), IN(float, freqs, 13), IN(float, factors, 14),      \
        IN(float, cosines, 15), IN(float, sines, 16), IN(uchar, slots, 17), OUT(uint, fault, 18)

struct qkv_part_operands {
    GLOBAL(const uchar) input;
    GLOBAL(uchar) output;
    GLOBAL(const uchar) weight;
    GLOBAL(uchar) cache;
};
struct qkv_operands {
    qkv_part_operands q, k, v;
    GLOBAL(const uchar) positions;
    GLOBAL(const float) freqs;
    GLOBAL(const float) factors;
    GLOBAL(const float) cosines;
    GLOBAL(const float) sines;
    GLOBAL(const uchar) slots;
    GLOBAL(uint) fault;
};
#define QKV_GATHER                                                                             \
    {                                                                                          \
        {q_input, q_output, q_weight, q_cache}, {k_input, k_output, k_weight, k_cache},        \
            {v_input, v_output, v_weight, v_cache}, positions, freqs, factors, cosines, sines, \
            slots, fault                                                                       \
    }

/* Where a thread stands; grid and group extents as far as they are used. */
struct qkv_thread {
    uint group_x, group_y, groups_x, groups_y, tid, threads, lane, simd;
};
#define QKV_THREAD                                                                           \
    {                                                                                        \
        k_group3.x, k_group3.y, k_groups3.x, k_groups3.y, k_thread3.x, k_threads3.x, k_lane, \
            k_simd                                                                           \
    }

/* ---- a token ---- */

enum { QKV_FAULT_POSITION = 1, QKV_FAULT_SLOT = 2 };

struct qkv_token {
    int64_t at, position, slot; /* slot < 0: none */
    bool valid;
};

/* The words of element t of an i32, u32 or i64 operand, and its value: apart, so that nothing waits
 * between two loads. */
FN uint2 qkv_integer_words(int dtype, GLOBAL(const uchar) p, int64_t t)
{
    GLOBAL(const uint) words = (GLOBAL(const uint))p;
    const bool wide = dtype == K_I64;
    return k_uint2(words[wide ? 2 * t : t], wide ? words[2 * t + 1] : 0u);
}
FN int64_t qkv_integer(int dtype, uint2 words)
{
    if (dtype == K_I64)
        return (int64_t)((uint64_t)words.y << 32 | (uint64_t)words.x);
    return dtype == K_U32 ? (int64_t)words.x : (int64_t)(int)words.x;
}

FN bool qkv_has(CONSTANT(qkv_params) a, int operand)
{
    return (a->present >> operand & 1) != 0;
}

FN bool qkv_placed(CONSTANT(qkv_params) a)
{
    return a->angles == QKV_ANGLES_FREQS || a->angles == QKV_ANGLES_THETA;
}

/* The words of a token's position and slot, where they are in buffers. */
struct qkv_words {
    uint2 position, slot;
};
FN qkv_words qkv_look(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t t)
{
    qkv_words y;
    y.position = y.slot = k_uint2(0u, 0u);
    if (qkv_placed(a) && a->position_dtype != K_NONE)
        y.position = qkv_integer_words(a->position_dtype, o.positions, t);
    if (qkv_has(a, QKV_SLOTS))
        y.slot = qkv_integer_words(a->slot_dtype, o.slots, t);
    return y;
}

/* Position and slot of token t; one out of range makes the token invalid and is noted. */
FN qkv_token qkv_token_of(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t t,
                          REF(qkv_words) words, uint lane)
{
    qkv_token y;
    uint fault = 0u;
    y.at = t;
    y.position = a->position_start + t;
    y.slot = -1;
    if (qkv_placed(a) && a->position_dtype != K_NONE)
        y.position = qkv_integer(a->position_dtype, words.position);
    if (qkv_placed(a) && (y.position < 0 || y.position > 0x7fffffff))
        fault = (uint)QKV_FAULT_POSITION;
    if (qkv_has(a, QKV_SLOTS))
        y.slot = qkv_integer(a->slot_dtype, words.slot);
    for (int k = 0; k < QKV_PARTS; k++)
        if (qkv_has(a, QKV_AT(k, QKV_CACHE)) && y.slot >= a->part[k].slots)
            fault |= (uint)QKV_FAULT_SLOT;
    y.valid = fault == 0u;
    if (!y.valid && lane == 0u)
        k_atomic_or(o.fault, fault);
    return y;
}
FN qkv_token qkv_find(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t t, uint lane)
{
    const qkv_words words = qkv_look(a, o, t);
    return qkv_token_of(a, o, t, words, lane);
}

/* The frequency of pair i; of no use with tables. */
FN k_two qkv_frequency(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t i)
{
    k_two f = {1.0f, 0.0f};
    if (a->angles == QKV_ANGLES_TABLES)
        return f;
    if (a->angles == QKV_ANGLES_FREQS) {
        f.hi = o.freqs[2 * i];
        f.lo = o.freqs[2 * i + 1];
        return f;
    }
    K_ROLLED
    for (int bit = 0; bit < 32 && i >> bit != 0; bit++)
        if ((i >> bit & 1) != 0) {
            const k_two power = {a->theta_power[bit][0], a->theta_power[bit][1]};
            f = k_two_mul(f, power);
        }
    return qkv_has(a, QKV_FACTORS) ? k_two_div(f, o.factors[i]) : f;
}

/* cos and sin of pair i, which has frequency f, times attention_factor. */
FN k_turn qkv_turn(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_token) t, int64_t i,
                   k_two f)
{
    k_turn y;
    if (a->angles == QKV_ANGLES_TABLES) {
        y.cosine = o.cosines[t.at * a->cos_stride + i];
        y.sine = o.sines[t.at * a->sin_stride + i];
    } else {
        y = k_sincos(k_angle(t.position, f));
    }
    y.cosine *= a->attention_factor;
    y.sine *= a->attention_factor;
    return y;
}

/* ---- a head ---- */

struct qkv_head {
    qkv_part_operands at; /* input, output and cache from the head's first element */
    int norm, pairs, weight_dtype, cache_dtype;
    int64_t offset;
    bool has_output, has_cache, rounded;
    float bias, r;
};

/* Part and number in it of a head of all the heads of q, k and v. */
struct qkv_place {
    int k;
    int64_t j;
};
FN qkv_place qkv_place_of(CONSTANT(qkv_params) a, int64_t head)
{
    const int64_t k_first = a->part[0].heads, v_first = k_first + a->part[1].heads;
    qkv_place y;
    y.k = head < k_first ? 0 : head < v_first ? 1 : 2;
    y.j = head - (y.k == 0 ? 0 : y.k == 1 ? k_first : v_first);
    return y;
}

/* The input of a head of token `at`. */
template <class D>
FN GLOBAL(const uchar)
    qkv_input(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t at, qkv_place p)
{
    GLOBAL(const uchar) base = p.k == 0 ? o.q.input : p.k == 1 ? o.k.input : o.v.input;
    CONSTANT(qkv_part_params) part = &a->part[p.k];
    return base +
           (at * part->input_token + p.j * part->input_head) * (int64_t)sizeof(typename D::bits);
}

template <class D>
FN qkv_head qkv_locate(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_token) t, int64_t head)
{
    const qkv_place place = qkv_place_of(a, head);
    const int k = place.k;
    const int64_t j = place.j, size = (int64_t)sizeof(typename D::bits);
    CONSTANT(qkv_part_params) part = &a->part[k];
    qkv_head h;
    h.at = k == 0 ? o.q : k == 1 ? o.k : o.v;
    h.norm = part->norm;
    h.pairs = part->pairs;
    h.offset = part->offset;
    h.weight_dtype = part->weight_dtype;
    h.cache_dtype = part->cache_dtype;
    h.has_output = qkv_has(a, QKV_AT(k, QKV_OUTPUT));
    h.has_cache = qkv_has(a, QKV_AT(k, QKV_CACHE)) && t.slot >= 0;
    h.rounded = a->rounding == QKV_ROUND_MATCH_UNFUSED;
    h.bias = a->weight_bias;
    h.r = 1.0f;
    h.at.input = qkv_input<D>(a, o, t.at, place);
    if (h.has_output)
        h.at.output = h.at.output + (t.at * part->output_token + j * part->output_head) * size;
    if (h.has_cache)
        h.at.cache = h.at.cache + (t.slot * part->cache_slot + j * part->cache_head) *
                                      (h.cache_dtype == K_F32 ? 4 : 2);
    return h;
}

/* The elements of pair i. */
struct qkv_pair {
    int64_t low, high;
};
FN qkv_pair qkv_pair_at(REF(qkv_head) h, int64_t i)
{
    const bool split = h.pairs == QKV_PAIRS_SPLIT;
    qkv_pair y;
    y.low = split ? i : 2 * i;
    y.high = split ? i + h.offset : 2 * i + 1;
    return y;
}

/* 1 / sqrt(sum / dim + eps). */
FN float qkv_scale(float sum, float dim, float eps)
{
    return k_div(1.0f, k_sqrt(k_div(sum, dim) + eps));
}

template <class D> FN float qkv_round(REF(qkv_head) h, float v)
{
    return h.rounded ? k_unpack(D(), k_pack(D(), v)) : v;
}

/* ---- elements ---- */

template <class D> FN float qkv_load(GLOBAL(const uchar) p, int64_t i)
{
    return k_unpack(D(), ((GLOBAL(const typename D::bits))p)[i]);
}
template <class D> FN void qkv_store(GLOBAL(uchar) p, int64_t i, float v)
{
    ((GLOBAL(typename D::bits))p)[i] = k_pack(D(), v);
}

FN float qkv_weight(int dtype, GLOBAL(const uchar) p, int64_t i, float bias)
{
    if (dtype == K_F32)
        return qkv_load<k_f32>(p, i) + bias;
    if (dtype == K_F16)
        return qkv_load<k_f16>(p, i) + bias;
    return qkv_load<k_bf16>(p, i) + bias;
}

template <class D> FN void qkv_put(REF(qkv_head) h, int64_t i, float v)
{
    v = qkv_round<D>(h, v);
    if (h.has_output)
        qkv_store<D>(h.at.output, i, v);
    if (!h.has_cache)
        return;
    if (h.cache_dtype == K_F32)
        qkv_store<k_f32>(h.at.cache, i, v);
    else if (h.cache_dtype == K_F16)
        qkv_store<k_f16>(h.at.cache, i, v);
    else
        qkv_store<k_bf16>(h.at.cache, i, v);
}

#endif
