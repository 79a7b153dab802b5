/* qkv_rows_text.h - schedule rows of qkv_prepare.kernel: half a simdgroup a head, 16 bytes a lane
 * at a time; sines and cosines of the token are made once by the group, then kept in registers over
 * all heads that a lane works on. */
#ifndef MLXN_OPS_ROPE_QKV_ROWS_TEXT_H
#define MLXN_OPS_ROPE_QKV_ROWS_TEXT_H

#include "ops/rope/qkv_text.h"

/* Pairs a head at most: 16 sines and cosines a lane. */
#define QKV_ROWS_PAIRS 256

/* The 32 virtual lanes stand two to a lane, first and second; a lane's neighbours at the distances
 * given hold those that differ in bit 4, 3, 2, 1. */
FN float qkv_rows_butterfly(float first, float second, uint d4, uint d3, uint d2, uint d1)
{
    first += k_xor(first, d4);
    second += k_xor(second, d4);
    first += k_xor(first, d3);
    second += k_xor(second, d3);
    first += k_xor(first, d2);
    second += k_xor(second, d2);
    first += k_xor(first, d1);
    second += k_xor(second, d1);
    return first + second;
}

/* Words in the order q, q xor 1, q xor 2, q xor 3; its own inverse. */
FN uint4 qkv_rows_permute(uint4 w, uint q)
{
    uint4 y = w;
    if ((q & 1u) != 0u)
        y = k_uint4(w.y, w.x, w.w, w.z);
    if ((q & 2u) != 0u)
        y = k_uint4(y.z, y.w, y.x, y.y);
    return y;
}

/* The sums of two virtual lanes. */
struct qkv_sums {
    float first, second;
};

/* Adds the squares of 16 bytes of each of 16 lanes.  Elements of two bytes: lanes j, j + 4, j + 8
 * and j + 12 hold the same 8 virtual lanes of successive rows of 32; they exchange words so that
 * each gets two virtual lanes of all four rows. */
template <class D> FN qkv_sums qkv_rows_add(D, qkv_sums s, uint4 w, uint j)
{
    const uint q = j >> 2;
    w = qkv_rows_permute(w, q);
    w.y = k_xor(w.y, 4u);
    w.z = k_xor(w.z, 8u);
    w.w = k_xor(w.w, 12u);
    w = qkv_rows_permute(w, q);
    s.first = k_fma(k_low(D(), w.x), k_low(D(), w.x), s.first);
    s.second = k_fma(k_high(D(), w.x), k_high(D(), w.x), s.second);
    s.first = k_fma(k_low(D(), w.y), k_low(D(), w.y), s.first);
    s.second = k_fma(k_high(D(), w.y), k_high(D(), w.y), s.second);
    s.first = k_fma(k_low(D(), w.z), k_low(D(), w.z), s.first);
    s.second = k_fma(k_high(D(), w.z), k_high(D(), w.z), s.second);
    s.first = k_fma(k_low(D(), w.w), k_low(D(), w.w), s.first);
    s.second = k_fma(k_high(D(), w.w), k_high(D(), w.w), s.second);
    return s;
}
/* Elements of four bytes: lanes j and j + 8 share four virtual lanes of two rows. */
FN qkv_sums qkv_rows_add(k_f32, qkv_sums s, uint4 w, uint j)
{
    const bool upper = j >= 8u;
    const float theirs_x = k_float(k_xor(upper ? w.x : w.z, 8u));
    const float theirs_y = k_float(k_xor(upper ? w.y : w.w, 8u));
    const float mine_x = k_float(upper ? w.z : w.x), mine_y = k_float(upper ? w.w : w.y);
    const float x0 = upper ? theirs_x : mine_x, x1 = upper ? mine_x : theirs_x;
    const float y0 = upper ? theirs_y : mine_y, y1 = upper ? mine_y : theirs_y;
    s.first = k_fma(x1, x1, k_fma(x0, x0, s.first));
    s.second = k_fma(y1, y1, k_fma(y0, y0, s.second));
    return s;
}

template <class D> FN float qkv_rows_total(D, qkv_sums s)
{
    return qkv_rows_butterfly(s.first, s.second, 2u, 1u, 8u, 4u);
}
FN float qkv_rows_total(k_f32, qkv_sums s)
{
    return qkv_rows_butterfly(s.first, s.second, 4u, 2u, 1u, 8u);
}

/* Sum of squares of `vectors` times 16 bytes over 16 lanes (of zeros if not active). */
template <class D>
FN float qkv_rows_sum(D, GLOBAL(const uchar) p, int64_t vectors, bool active, uint j)
{
    qkv_sums s = {0.0f, 0.0f};
    for (int64_t base = 0; base < vectors; base += 16) {
        uint4 w = k_uint4(0u, 0u, 0u, 0u);
        if (active && base + j < vectors)
            w = ((GLOBAL(const uint4))p)[base + j];
        s = qkv_rows_add(D(), s, w, j);
    }
    return qkv_rows_total(D(), s);
}

/* V elements from i on: normed. */
template <class D, int V> FN k_floats<V> qkv_rows_normed(REF(qkv_head) h, int64_t i)
{
    k_floats<V> y = k_load(D(), k_width<V>(), h.at.input, i);
    for (int j = 0; j < V; j++)
        y.v[j] *= h.r;
    if (h.norm == QKV_NORM_WEIGHTED) {
        const k_floats<V> w = k_load_as<V>(h.weight_dtype, h.at.weight, i);
        for (int j = 0; j < V; j++)
            y.v[j] *= w.v[j] + h.bias;
    }
    for (int j = 0; j < V; j++)
        y.v[j] = qkv_round<D>(h, y.v[j]);
    return y;
}

template <class D, int V> FN void qkv_rows_put(REF(qkv_head) h, int64_t i, k_floats<V> x)
{
    for (int j = 0; j < V; j++)
        x.v[j] = qkv_round<D>(h, x.v[j]);
    if (h.has_output)
        k_store(D(), x, h.at.output, i);
    if (h.has_cache)
        k_store_as<V>(h.cache_dtype, x, h.at.cache, i);
}

template <class D, int V>
FN void qkv_rows_pass(REF(qkv_head) h, int64_t begin, int64_t end, uint lane)
{
    for (int64_t i = begin + lane * V; i < end; i += 16 * V)
        qkv_rows_put<D, V>(h, i, qkv_rows_normed<D, V>(h, i));
}

/* The cosines (or sines) of a lane: of the V pairs that its n-th vector starts, or of the V / 2
 * interleaved pairs that are in it. */
template <int V>
FN k_floats<16> qkv_rows_own(SHARED(const float) table, int pairing, int64_t pairs, uint lane)
{
    k_floats<16> y;
    for (int n = 0; n < 16; n++) {
        const int64_t split = (lane + n / V * 16) * V + n % V;
        const int64_t interleaved = (lane + n / (V / 2) * 16) * (V / 2) + n % (V / 2);
        const int64_t i = pairing == QKV_PAIRS_SPLIT ? split : interleaved;
        y.v[n] = i < pairs ? table[i] : 0.0f;
    }
    return y;
}

template <class D, int V>
FN void qkv_rows_rotate_split(REF(qkv_head) h, int64_t pairs, REF(k_floats<16>) cosine,
                              REF(k_floats<16>) sine, uint lane)
{
    for (int n = 0; n < 16; n += V) {
        const int64_t i = (lane + n / V * 16) * V;
        if (i >= pairs)
            break;
        const k_floats<V> x = qkv_rows_normed<D, V>(h, i);
        const k_floats<V> y = qkv_rows_normed<D, V>(h, i + h.offset);
        k_floats<V> low, high;
        for (int j = 0; j < V; j++) {
            low.v[j] = k_fma(x.v[j], cosine.v[n + j], -(y.v[j] * sine.v[n + j]));
            high.v[j] = k_fma(y.v[j], cosine.v[n + j], x.v[j] * sine.v[n + j]);
        }
        qkv_rows_put<D, V>(h, i, low);
        qkv_rows_put<D, V>(h, i + h.offset, high);
    }
}

template <class D, int V>
FN void qkv_rows_rotate_interleaved(REF(qkv_head) h, int64_t pairs, REF(k_floats<16>) cosine,
                                    REF(k_floats<16>) sine, uint lane)
{
    for (int n = 0; n < 16; n += V / 2) {
        const int64_t i = (lane + n / (V / 2) * 16) * V;
        if (i >= 2 * pairs)
            break;
        const k_floats<V> x = qkv_rows_normed<D, V>(h, i);
        k_floats<V> y;
        for (int j = 0; j < V / 2; j++) {
            const float low = x.v[2 * j], high = x.v[2 * j + 1];
            y.v[2 * j] = k_fma(low, cosine.v[n + j], -(high * sine.v[n + j]));
            y.v[2 * j + 1] = k_fma(high, cosine.v[n + j], low * sine.v[n + j]);
        }
        qkv_rows_put<D, V>(h, i, y);
    }
}

/* One head a half, the same number of rounds for both; `active`: this half has a head. */
template <class D, int V>
FN void qkv_rows_head(CONSTANT(qkv_params) a, qkv_head h, bool active, REF(k_floats<16>) cosine,
                      REF(k_floats<16>) sine, uint lane)
{
    const int64_t dim = a->dim, pairs = h.pairs == QKV_PAIRS_NONE ? 0 : a->rotary_pairs;
    const float sum = qkv_rows_sum(D(), h.at.input, dim / V, active, lane);
    if (h.norm != QKV_NORM_NONE)
        h.r = qkv_scale(sum, (float)dim, a->eps);
    k_simd_barrier(); /* in place: all lanes have read */
    if (!active)
        return;
    if (h.pairs == QKV_PAIRS_SPLIT) {
        qkv_rows_rotate_split<D, V>(h, pairs, cosine, sine, lane);
        qkv_rows_pass<D, V>(h, pairs, h.offset, lane);
        qkv_rows_pass<D, V>(h, h.offset + pairs, dim, lane);
    } else {
        qkv_rows_rotate_interleaved<D, V>(h, pairs, cosine, sine, lane);
        qkv_rows_pass<D, V>(h, 2 * pairs, dim, lane);
    }
}

template <class D>
FN void qkv_rows(CONSTANT(qkv_params) a, REF(qkv_operands) o, SHARED(float) cosines,
                 SHARED(float) sines, qkv_thread g)
{
    const int V = 16 / (int)sizeof(typename D::bits);
    const uint lane = g.lane & 15u, half_lane = g.lane >> 4;
    const int64_t heads = a->part[0].heads + a->part[1].heads + a->part[2].heads;
    const int64_t step = g.threads / 16u;
    const int64_t pairs = qkv_angles_of(a) == QKV_ANGLES_NONE ? 0 : a->rotary_pairs;
    /* all parts that rotate have one kind of pairs */
    const int pairing = a->part[0].pairs == QKV_PAIRS_NONE ? a->part[1].pairs : a->part[0].pairs;
    for (int64_t i = g.group_x; i < a->tokens; i += g.groups_x) {
        const qkv_token t = qkv_find(a, o, i, g.lane);
        if (!t.valid)
            continue;
        for (int64_t n = g.tid; n < pairs; n += g.threads) {
            const k_turn turn = qkv_turn(a, o, t, n, qkv_frequency(a, o, n));
            cosines[n] = turn.cosine;
            sines[n] = turn.sine;
        }
        k_barrier();
        const k_floats<16> cosine = qkv_rows_own<V>(cosines, pairing, pairs, lane);
        const k_floats<16> sine = qkv_rows_own<V>(sines, pairing, pairs, lane);
        k_barrier(); /* before the next token's */
        for (int64_t j = g.group_y * step + g.simd * 2u; j < heads; j += g.groups_y * step) {
            const bool active = j + half_lane < heads;
            const qkv_head h = qkv_locate<D>(a, o, t, qkv_place_of(a, active ? j + half_lane : j));
            qkv_rows_head<D, V>(a, h, active, cosine, sine, lane);
        }
    }
}

#endif
