/* qkv_units_text.h - schedule units of qkv_prepare.kernel, for head_dim 64, 128, 256 or 512 and
 * pairs half a head apart: a head is vectors of 16 bytes, L lanes have a column of them each, and
 * so both elements of their pairs.  What the next token needs is loaded before this one's
 * arithmetic. Heads pass through group memory, where the sum reads them in the order of its virtual
 * lanes. */
#ifndef MLXN_OPS_ROPE_QKV_UNITS_TEXT_H
#define MLXN_OPS_ROPE_QKV_UNITS_TEXT_H

#include "ops/rope/qkv_text.h"

/* The numbers of a shape: D a dtype, R rows of 32 elements a head, L lanes. */
template <class D, int R, int L> struct qkv_units_of {
    enum {
        BYTES = (int)sizeof(typename D::bits),
        V = 16 / BYTES,         /* elements of a vector */
        DIM = 32 * R,           /* of a head */
        N = DIM / (V * L),      /* vectors of a lane; n and n + N / 2 are half a head apart */
        U = N == 2 ? 2 : 1,     /* heads of a unit: a lane's at once */
        K = 32 / L,             /* virtual lanes of a lane */
        WORDS = DIM * BYTES / 4 /* of a head */
    };
};

/* Words between the units in group memory, so that two lie in other banks. */
#define QKV_UNITS_GAP 16
/* Group memory in vectors: two times cosines and sines, heads of every unit. */
#define QKV_UNITS_MEMORY(D, R, L) \
    (16 * R +                     \
     QKV_UNITS_THREADS / L * (qkv_units_of<D, R, L>::U * qkv_units_of<D, R, L>::WORDS / 4 + 4))

/* Up to U neighbouring heads of one part. */
struct qkv_unit {
    int k, first, count; /* count: 0 or less past the last */
    int64_t head;        /* of all heads of q, k and v */
};
FN qkv_unit qkv_unit_of(CONSTANT(qkv_params) a, int unit)
{
    const int k_first = a->part[0].units, v_first = k_first + a->part[1].units;
    qkv_unit y;
    y.k = unit < k_first ? 0 : unit < v_first ? 1 : 2;
    y.first = (unit - (y.k == 0 ? 0 : y.k == 1 ? k_first : v_first)) * a->unit_heads;
    const int left = (int)a->part[y.k].heads - y.first;
    y.count = left < a->unit_heads ? left : a->unit_heads;
    y.head = y.first + (y.k > 0 ? a->part[0].heads : 0) + (y.k > 1 ? a->part[1].heads : 0);
    return y;
}

/* A lane's vectors of a unit, zeros for heads that are not there. */
template <int M> struct qkv_vector {
    uint4 at[M];
};
template <class D, int N, int L, int U>
FN qkv_vector<U * N> qkv_vector_load(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t t,
                                     qkv_unit unit, uint lane)
{
    CONSTANT(qkv_part_params) part = &a->part[unit.k];
    GLOBAL(const uchar)
    base = unit.k == 0 ? o.q.input : unit.k == 1 ? o.k.input : o.v.input;
    const int64_t size = (int64_t)sizeof(typename D::bits), head = part->input_head * size;
    qkv_vector<U * N> y;
    base = base + t * part->input_token * size + unit.first * head;
    K_UNROLL
    for (int u = 0; u < U; u++) {
        if (u < unit.count) {
            K_UNROLL
            for (int n = 0; n < N; n++)
                y.at[u * N + n] = k_load_once((GLOBAL(const uint4))base, n * L + lane);
            base = base + head;
        } else {
            K_UNROLL
            for (int n = 0; n < N; n++)
                y.at[u * N + n] = k_uint4(0u, 0u, 0u, 0u);
        }
    }
    return y;
}

/* ---- the sum ---- */

/* K neighbouring elements. */
template <class D> FN k_floats<2> qkv_vector_row(D, k_width<2>, SHARED(const uint) p)
{
    k_floats<2> y;
    y.v[0] = k_low(D(), p[0]);
    y.v[1] = k_high(D(), p[0]);
    return y;
}
template <class D> FN k_floats<4> qkv_vector_row(D, k_width<4>, SHARED(const uint) p)
{
    const uint2 w = ((SHARED(const uint2))p)[0];
    k_floats<4> y;
    y.v[0] = k_low(D(), w.x);
    y.v[1] = k_high(D(), w.x);
    y.v[2] = k_low(D(), w.y);
    y.v[3] = k_high(D(), w.y);
    return y;
}
template <class D> FN k_floats<8> qkv_vector_row(D, k_width<8>, SHARED(const uint) p)
{
    return k_elements_of(D(), ((SHARED(const uint4))p)[0]);
}
FN k_floats<2> qkv_vector_row(k_f32, k_width<2>, SHARED(const uint) p)
{
    const uint2 w = ((SHARED(const uint2))p)[0];
    k_floats<2> y;
    y.v[0] = k_float(w.x);
    y.v[1] = k_float(w.y);
    return y;
}
FN k_floats<4> qkv_vector_row(k_f32, k_width<4>, SHARED(const uint) p)
{
    return k_floats_of(((SHARED(const uint4))p)[0]);
}

/* A lane's K virtual lanes of the sum of squares of a head in group memory. */
template <class D, int R, int L, int K>
FN k_floats<K> qkv_vector_squares(SHARED(const uint) head, uint lane)
{
    const int row = 8 * (int)sizeof(typename D::bits); /* words */
    k_floats<K> sum;
    K_UNROLL
    for (int k = 0; k < K; k++)
        sum.v[k] = 0.0f;
    K_UNROLL
    for (int r = 0; r < R; r++) {
        const k_floats<K> v =
            qkv_vector_row(D(), k_width<K>(), head + (r * row + (int)lane * (row / L)));
        K_UNROLL
        for (int k = 0; k < K; k++)
            sum.v[k] = k_fma(v.v[k], v.v[k], sum.v[k]);
    }
    return sum;
}

/* Adds the virtual lanes, distances 16 to 1: the K of this lane and those of L / d lanes on. */
template <int K, int L> FN float qkv_vector_total(k_floats<K> s, int d)
{
    for (; d > 0; d /= 2) {
        K_UNROLL
        for (int k = 0; k < K; k++)
            s.v[k] += k_xor(s.v[k], (uint)d);
    }
    K_UNROLL
    for (int h = K / 2; h > 0; h /= 2) {
        K_UNROLL
        for (int k = 0; k < h; k++)
            s.v[k] += s.v[k + h];
    }
    return s.v[0];
}

/* r of two heads: from the first distance on half of the lanes work on each. */
template <int K, int L>
FN k_floats<2> qkv_vector_scales(k_floats<K> first, k_floats<K> second, float dim, float eps,
                                 uint lane)
{
    const bool upper = (lane & (uint)(L / 2)) != 0u;
    K_UNROLL
    for (int k = 0; k < K; k++) {
        const float mine = upper ? second.v[k] : first.v[k];
        first.v[k] = mine + k_xor(upper ? first.v[k] : second.v[k], (uint)(L / 2));
    }
    const float r = qkv_scale(qkv_vector_total<K, L>(first, L / 4), dim, eps);
    const float other = k_xor(r, (uint)(L / 2));
    k_floats<2> y;
    y.v[0] = upper ? other : r;
    y.v[1] = upper ? r : other;
    return y;
}

/* ---- cosines, sines and weights ---- */

/* Where four floats of a head's stand in group memory: those that lanes read at once side by side.
 */
template <int V, int L> FN uint qkv_vector_place(uint chunk)
{
    const uint each = V / 4, all = L * each;
    return chunk / all * all + chunk % each * L + chunk % all / each;
}
/* A lane's V floats of its n-th vector. */
template <int V, int L> FN k_floats<V> qkv_vector_shared(SHARED(const uint4) p, int n, uint lane)
{
    k_floats<V> y;
    K_UNROLL
    for (int h = 0; h < V / 4; h++) {
        const k_floats<4> four = k_floats_of(p[(n * (V / 4) + h) * L + (int)lane]);
        K_UNROLL
        for (int k = 0; k < 4; k++)
            y.v[h * 4 + k] = four.v[k];
    }
    return y;
}

/* A lane's weights plus bias, ones where there are none. */
template <int N, int V, int L>
FN k_floats<N * V> qkv_vector_weights(CONSTANT(qkv_params) a, REF(qkv_operands) o, int k, uint lane)
{
    GLOBAL(const uchar) p = k == 0 ? o.q.weight : k == 1 ? o.k.weight : o.v.weight;
    const bool weighted = a->part[k].norm == QKV_NORM_WEIGHTED;
    k_floats<N * V> y;
    K_UNROLL
    for (int n = 0; n < N; n++) {
        k_floats<V> w;
        if (weighted)
            w = k_load_as<V>(a->part[k].weight_dtype, p, (n * L + (int)lane) * V);
        K_UNROLL
        for (int e = 0; e < V; e++)
            y.v[n * V + e] = weighted ? w.v[e] + a->weight_bias : 1.0f;
    }
    return y;
}

/* What a thread needs of a token besides heads: position and slot, of tables four cosines or
 * sines. */
struct qkv_ahead {
    qkv_words at;
    uint4 table;
};
FN qkv_ahead qkv_look_ahead(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t t, uint tid)
{
    const int64_t chunk = tid, chunks = a->rotary_pairs / 4;
    qkv_ahead y;
    y.at = qkv_look(a, o, t);
    y.table = k_uint4(0u, 0u, 0u, 0u);
    if (a->angles == QKV_ANGLES_TABLES && chunk < chunks)
        y.table = ((GLOBAL(const uint4))(o.cosines + t * a->cos_stride))[chunk];
    else if (a->angles == QKV_ANGLES_TABLES && chunk < 2 * chunks)
        y.table = ((GLOBAL(const uint4))(o.sines + t * a->sin_stride))[chunk - chunks];
    return y;
}

/* Four cosines or sines of tables, times attention_factor. */
FN uint4 qkv_vector_table(CONSTANT(qkv_params) a, uint4 words)
{
    k_floats<4> v = k_floats_of(words);
    K_UNROLL
    for (int e = 0; e < 4; e++)
        v.v[e] *= a->attention_factor;
    return k_words_of(k_f32(), v);
}

/* The cosines of a token to group memory, its sines behind them. */
template <int V, int L, int DIM>
FN void qkv_vector_turns(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_token) t,
                         REF(qkv_ahead) ahead, k_two frequency, SHARED(uint4) turns, uint pairs,
                         qkv_thread g)
{
    const uint chunks = pairs / 4u;
    if (a->angles == QKV_ANGLES_TABLES) {
        K_ROLLED
        for (uint c = g.tid; c < 2u * chunks; c += g.threads) {
            const bool sine = c >= chunks;
            const uint chunk = sine ? c - chunks : c;
            uint4 words = ahead.table;
            if (c != g.tid)
                words = ((GLOBAL(const uint4))(sine ? o.sines + t.at * a->sin_stride
                                                    : o.cosines + t.at * a->cos_stride))[chunk];
            turns[(sine ? (uint)DIM / 8u : 0u) + qkv_vector_place<V, L>(chunk)] =
                qkv_vector_table(a, words);
        }
        return;
    }
    K_ROLLED
    for (uint n = g.tid; n < pairs; n += g.threads) {
        const k_turn turn = qkv_turn(a, o, t, n, n == g.tid ? frequency : qkv_frequency(a, o, n));
        SHARED(float) to = (SHARED(float))turns + (qkv_vector_place<V, L>(n / 4u) * 4u + n % 4u);
        to[0] = turn.cosine;
        to[DIM / 2] = turn.sine;
    }
}

/* ---- a unit ---- */

/* Elements times r, times the weights from the n-th vector on. */
template <class D, int V, int M>
FN k_floats<V> qkv_vector_normed(uint4 words, float r, REF(k_floats<M>) weights, int n)
{
    k_floats<V> y = k_elements_of(D(), words);
    K_UNROLL
    for (int k = 0; k < V; k++)
        y.v[k] = y.v[k] * r * weights.v[n * V + k];
    return y;
}

template <class D, int V> FN void qkv_vector_put(REF(qkv_head) h, int64_t i, k_floats<V> x)
{
    if (h.has_output)
        k_store_once((GLOBAL(uint4))h.at.output, i / V, k_words_of(D(), x));
    if (h.has_cache)
        k_store_as<V>(h.cache_dtype, x, h.at.cache, i);
}

/* A head in group memory: normed, turned and written. */
template <class D, int R, int L, int M>
FN void qkv_vector_head(REF(qkv_head) h, SHARED(const uint4) x, SHARED(const uint4) turns,
                        REF(k_floats<M>) weights, int pairs, uint lane)
{
    typedef qkv_units_of<D, R, L> S;
    const int V = S::V, half_n = S::N / 2;
    K_UNROLL
    for (int n = 0; n < half_n; n++) {
        const int e = (n * L + (int)lane) * V;
        k_floats<V> low = qkv_vector_normed<D, V>(x[n * L + (int)lane], h.r, weights, n);
        k_floats<V> high =
            qkv_vector_normed<D, V>(x[(n + half_n) * L + (int)lane], h.r, weights, n + half_n);
        if (e < pairs) {
            const k_floats<V> c = qkv_vector_shared<V, L>(turns, n, lane);
            const k_floats<V> s = qkv_vector_shared<V, L>(turns + S::DIM / 8, n, lane);
            K_UNROLL
            for (int k = 0; k < V; k++) {
                const float u = low.v[k], v = high.v[k];
                low.v[k] = k_fma(u, c.v[k], -(v * s.v[k]));
                high.v[k] = k_fma(v, c.v[k], u * s.v[k]);
            }
        }
        qkv_vector_put<D, V>(h, e, low);
        qkv_vector_put<D, V>(h, e + S::DIM / 2, high);
    }
}

template <class D, int R, int L, int M>
FN void qkv_vector_unit(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_token) t,
                        qkv_unit unit, SHARED(const uint) heads, SHARED(const uint4) turns,
                        REF(k_floats<M>) weights, uint lane)
{
    typedef qkv_units_of<D, R, L> S;
    const int K = S::K;
    CONSTANT(qkv_part_params) part = &a->part[unit.k];
    const int pairs = part->pairs == QKV_PAIRS_NONE ? 0 : (int)a->rotary_pairs;
    const int64_t size = S::BYTES, wide = part->cache_dtype == K_F32 ? 4 : 2;
    const float dim = (float)S::DIM;
    const k_floats<K> sum = qkv_vector_squares<D, R, L, K>(heads, lane);
    k_floats<2> r;
    if (S::U == 2)
        r = qkv_vector_scales<K, L>(
            sum, qkv_vector_squares<D, R, L, K>(heads + (S::U - 1) * S::WORDS, lane), dim, a->eps,
            lane);
    else
        r.v[0] = r.v[1] = qkv_scale(qkv_vector_total<K, L>(sum, L / 2), dim, a->eps);
    if (unit.count <= 0)
        return;
    qkv_head h = qkv_locate<D>(a, o, t, unit.head);
    K_UNROLL
    for (int u = 0; u < S::U; u++) {
        if (u < unit.count) {
            h.r = h.norm == QKV_NORM_NONE ? 1.0f : r.v[u];
            qkv_vector_head<D, R, L>(h, (SHARED(const uint4))(heads + u * S::WORDS), turns, weights,
                                     pairs, lane);
            h.at.output = h.at.output + part->output_head * size;
            h.at.cache = h.at.cache + part->cache_head * wide;
        }
    }
}

/* The tokens of a group for one unit of each L lanes. */
template <class D, int R, int L, int M>
FN void qkv_units_tokens(CONSTANT(qkv_params) a, REF(qkv_operands) o, qkv_unit unit,
                         REF(k_floats<M>) weights, k_two frequency, SHARED(uint4) shared,
                         qkv_thread g)
{
    typedef qkv_units_of<D, R, L> S;
    const int N = S::N, U = S::U, unit_words = U * S::WORDS + QKV_UNITS_GAP;
    const uint lane = g.lane % (uint)L;
    const uint pairs = a->angles == QKV_ANGLES_NONE ? 0u : (uint)a->rotary_pairs;
    SHARED(uint) heads = (SHARED(uint))(shared + S::DIM / 2) + (int)(g.tid / (uint)L) * unit_words;
    int64_t i = g.group_x;
    if (i >= a->tokens)
        return;
    qkv_vector<U *N> x = qkv_vector_load<D, N, L, U>(a, o, i, unit, lane);
    qkv_ahead ahead = qkv_look_ahead(a, o, i, g.tid);
    for (int phase = 0; i < a->tokens; phase ^= 1) {
        SHARED(uint4) turns = shared + phase * (S::DIM / 4);
        const qkv_token t = qkv_token_of(a, o, i, ahead.at, g.tid);
        if (t.valid)
            qkv_vector_turns<S::V, L, S::DIM>(a, o, t, ahead, frequency, turns, pairs, g);
        k_simd_barrier(); /* the heads before are read */
        K_UNROLL
        for (int n = 0; n < U * N; n++)
            ((SHARED(uint4))heads)[n * L + (int)lane] = x.at[n];
        k_barrier(); /* turns and heads are whole, the turns before are read */
        i += g.groups_x;
        if (i < a->tokens) {
            x = qkv_vector_load<D, N, L, U>(a, o, i, unit, lane);
            ahead = qkv_look_ahead(a, o, i, g.tid);
        }
        if (t.valid)
            qkv_vector_unit<D, R, L>(a, o, t, unit, heads, turns, weights, lane);
    }
}

template <class D, int R, int L>
FN void qkv_units(CONSTANT(qkv_params) a, REF(qkv_operands) o, SHARED(uint4) shared, qkv_thread g)
{
    typedef qkv_units_of<D, R, L> S;
    const int step = (int)(g.threads / (uint)L), start = (int)g.group_y * step;
    const int units = a->part[0].units + a->part[1].units + a->part[2].units;
    k_two frequency = {1.0f, 0.0f};
    if (a->angles != QKV_ANGLES_NONE && (int64_t)g.tid < a->rotary_pairs)
        frequency = qkv_frequency(a, o, g.tid);
    for (int base = start; base < units; base += (int)g.groups_y * step) {
        const qkv_unit unit = qkv_unit_of(a, base + (int)(g.tid / (uint)L));
        const k_floats<S::N *S::V> weights =
            qkv_vector_weights<S::N, S::V, L>(a, o, unit.k, g.lane % (uint)L);
        if (base == start)
            k_wait();
        else
            k_barrier(); /* the turns and heads of the units before are read */
        qkv_units_tokens<D, R, L>(a, o, unit, weights, frequency, shared, g);
    }
}

#endif
