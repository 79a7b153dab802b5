/* qkv_units_text.h - schedule units of qkv_prepare.kernel, for head_dim 64, 128, 256 or 512 and
 * pairs half a head apart: a head is vectors of 16 bytes, L lanes have a column of them each, and
 * so both elements of their pairs; one or two heads of a part are a unit.  A group has units of one
 * token, all that it needs is loaded at once, and many groups hide the time that takes.  The sum
 * reads heads in the order of its virtual lanes, so they pass through group memory; so do turns
 * that are computed. */
#ifndef MLXN_OPS_ROPE_QKV_UNITS_TEXT_H
#define MLXN_OPS_ROPE_QKV_UNITS_TEXT_H

#include "ops/rope/qkv_text.h"

/* Words between the units in group memory, so that two lie in other banks. */
#define QKV_UNITS_GAP 16

/* The numbers of a shape: D a dtype, R rows of 32 elements a head, L lanes. */
template <class D, int R, int L> struct qkv_units_of {
    enum {
        BYTES = (int)sizeof(typename D::bits),
        V = 16 / BYTES,          /* elements of a vector */
        DIM = 32 * R,            /* of a head */
        N = DIM / (V * L),       /* vectors of a lane; n and n + N / 2 are half a head apart */
        U = N == 2 ? 2 : 1,      /* heads of a unit at most */
        K = 32 / L,              /* virtual lanes of a lane */
        WORDS = DIM * BYTES / 4, /* of a head */
        UNIT = U * WORDS + QKV_UNITS_GAP, /* words of a unit */
        THREADS = BYTES == 4 ? QKV_UNITS_THREADS_4 : QKV_UNITS_THREADS_2
    };
};

/* Group memory in vectors: cosines and sines, heads of every unit. */
#define QKV_UNITS_MEMORY(D, R, L) \
    (8 * R + qkv_units_of<D, R, L>::THREADS / L * qkv_units_of<D, R, L>::UNIT / 4)

/* Neighbouring heads of one part. */
struct qkv_unit {
    int k, first, count; /* count: 0 or less past the last */
};
FN int qkv_unit_heads(CONSTANT(qkv_params) a)
{
    return k_known(qkv_made_unit_heads, a->unit_heads);
}
FN qkv_unit qkv_unit_of(CONSTANT(qkv_params) a, int unit)
{
    const int k_first = a->part[0].units, v_first = k_first + a->part[1].units;
    const int heads = qkv_unit_heads(a);
    qkv_unit y;
    y.k = unit < k_first ? 0 : unit < v_first ? 1 : 2;
    y.first = (unit - (y.k == 0 ? 0 : y.k == 1 ? k_first : v_first)) * heads;
    const int left = (int)a->part[y.k].heads - y.first;
    y.count = left < heads ? left : heads;
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
    const int64_t next = a->part[unit.k].input_head / (16 / (int)sizeof(typename D::bits));
    const qkv_place place = {unit.k, unit.first};
    qkv_vector<U * N> y;
    if (unit.count > 0) {
        GLOBAL(const uint4) p = (GLOBAL(const uint4))qkv_input<D>(a, o, t, place);
        K_UNROLL
        for (int n = 0; n < N; n++)
            y.at[n] = k_load_once(p, n * L + (int)lane);
        if (U == 2 && unit.count == 2) {
            K_UNROLL
            for (int n = 0; n < N; n++)
                y.at[(U - 1) * N + n] = k_load_once(p + next, n * L + (int)lane);
        }
    }
    K_UNROLL
    for (int n = 0; n < U * N; n++)
        if (n / N >= unit.count)
            y.at[n] = k_uint4(0u, 0u, 0u, 0u);
    return y;
}

/* ---- the sum ---- */

/* K neighbouring elements of a head, from the i-th on. */
template <class D> FN k_floats<1> qkv_vector_row(D, k_width<1>, SHARED(const uint) head, int i)
{
    k_floats<1> y;
    y.v[0] = k_unpack(D(), ((SHARED(const typename D::bits))head)[i]);
    return y;
}
template <class D> FN k_floats<2> qkv_vector_row(D, k_width<2>, SHARED(const uint) head, int i)
{
    k_floats<2> y;
    y.v[0] = k_low(D(), head[i / 2]);
    y.v[1] = k_high(D(), head[i / 2]);
    return y;
}
template <class D> FN k_floats<4> qkv_vector_row(D, k_width<4>, SHARED(const uint) head, int i)
{
    const uint2 w = ((SHARED(const uint2))head)[i / 4];
    k_floats<4> y;
    y.v[0] = k_low(D(), w.x);
    y.v[1] = k_high(D(), w.x);
    y.v[2] = k_low(D(), w.y);
    y.v[3] = k_high(D(), w.y);
    return y;
}
template <class D> FN k_floats<8> qkv_vector_row(D, k_width<8>, SHARED(const uint) head, int i)
{
    return k_elements_of(D(), ((SHARED(const uint4))head)[i / 8]);
}
FN k_floats<2> qkv_vector_row(k_f32, k_width<2>, SHARED(const uint) head, int i)
{
    const uint2 w = ((SHARED(const uint2))head)[i / 2];
    k_floats<2> y;
    y.v[0] = k_float(w.x);
    y.v[1] = k_float(w.y);
    return y;
}
FN k_floats<4> qkv_vector_row(k_f32, k_width<4>, SHARED(const uint) head, int i)
{
    return k_floats_of(((SHARED(const uint4))head)[i / 4]);
}

/* A lane's K virtual lanes of the sum of squares of a head in group memory. */
template <class D, int R, int K>
FN k_floats<K> qkv_vector_squares(SHARED(const uint) head, uint lane)
{
    k_floats<K> sum;
    K_UNROLL
    for (int k = 0; k < K; k++)
        sum.v[k] = 0.0f;
    K_UNROLL
    for (int r = 0; r < R; r++) {
        const k_floats<K> v = qkv_vector_row(D(), k_width<K>(), head, r * 32 + (int)lane * K);
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

/* ---- cosines and sines ---- */

/* Those of a lane: of its vectors n and n + H, half a head apart. */
template <int V, int H> struct qkv_vector_turns {
    k_floats<V> cosine[H], sine[H];
};

/* From tables, not yet times attention_factor. */
template <int V, int H, int L>
FN qkv_vector_turns<V, H> qkv_vector_read(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t t,
                                          int pairs, uint lane)
{
    GLOBAL(const uchar) cosines = (GLOBAL(const uchar))(o.cosines + t * a->cos_stride);
    GLOBAL(const uchar) sines = (GLOBAL(const uchar))(o.sines + t * a->sin_stride);
    qkv_vector_turns<V, H> y;
    K_UNROLL
    for (int n = 0; n < H; n++) {
        const int e = (n * L + (int)lane) * V;
        if (e < pairs) {
            y.cosine[n] = k_load(k_f32(), k_width<V>(), cosines, e);
            y.sine[n] = k_load(k_f32(), k_width<V>(), sines, e);
        }
    }
    return y;
}

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

template <int V, int H>
FN qkv_vector_turns<V, H> qkv_vector_scaled(qkv_vector_turns<V, H> y, float factor)
{
    K_UNROLL
    for (int n = 0; n < H; n++) {
        K_UNROLL
        for (int k = 0; k < V; k++) {
            y.cosine[n].v[k] *= factor;
            y.sine[n].v[k] *= factor;
        }
    }
    return y;
}

/* Computed once for the group, to group memory, sines behind cosines. */
template <int V, int L, int DIM>
FN void qkv_vector_compute(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_token) t, k_two f,
                           SHARED(uint4) turns, int pairs, qkv_thread g)
{
    K_ROLLED
    for (int n = (int)g.tid; n < pairs; n += (int)g.threads) {
        if (n != (int)g.tid)
            f = qkv_frequency(a, o, n);
        const k_turn turn = qkv_turn(a, o, t, n, f);
        const uint at = qkv_vector_place<V, L>((uint)n / 4u) * 4u + (uint)n % 4u;
        SHARED(float) to = (SHARED(float))turns;
        to[at] = turn.cosine;
        to[at + DIM / 2] = turn.sine;
    }
}
template <int V, int H, int L>
FN qkv_vector_turns<V, H> qkv_vector_fetch(SHARED(const uint4) turns, int pairs, uint lane)
{
    qkv_vector_turns<V, H> y;
    K_UNROLL
    for (int n = 0; n < H; n++) {
        if ((n * L + (int)lane) * V < pairs) {
            y.cosine[n] = qkv_vector_shared<V, L>(turns, n, lane);
            y.sine[n] = qkv_vector_shared<V, L>(turns + H * L * V / 4, n, lane);
        }
    }
    return y;
}

/* ---- a unit ---- */

/* A lane's weights as they lie in memory. */
template <int V, int N> struct qkv_weights {
    k_raw<V> at[N];
};
template <int V, int N, int L>
FN qkv_weights<V, N> qkv_vector_weights(CONSTANT(qkv_params) a, REF(qkv_operands) o, int k,
                                        uint lane)
{
    GLOBAL(const uchar) p = k == 0 ? o.q.weight : k == 1 ? o.k.weight : o.v.weight;
    qkv_weights<V, N> y;
    if (qkv_is_weighted(a, k)) {
        K_UNROLL
        for (int n = 0; n < N; n++)
            y.at[n] = k_load_raw<V>(qkv_weight_dtype(a, k), p, (n * L + (int)lane) * V);
    }
    return y;
}
template <int V>
FN k_floats<V> qkv_vector_weight(CONSTANT(qkv_params) a, REF(qkv_head) h, k_raw<V> raw)
{
    k_floats<V> y = k_floats_of_raw<V>(h.weight_dtype, raw);
    K_UNROLL
    for (int k = 0; k < V; k++)
        y.v[k] += a->weight_bias;
    return y;
}

/* V elements times r, times the weight, if there is one. */
template <class D, int V>
FN k_floats<V> qkv_vector_normed(uint4 words, float r, bool weighted, k_floats<V> weight)
{
    k_floats<V> y = k_elements_of(D(), words);
    K_UNROLL
    for (int k = 0; k < V; k++)
        y.v[k] = y.v[k] * r * (weighted ? weight.v[k] : 1.0f);
    return y;
}

/* V elements to a cache, from its i-th on.  Those of two bytes go as outputs do: with plain stores
 * 32768 tokens take 6% longer. */
template <int V> FN void qkv_vector_keep(int dtype, k_floats<V> x, GLOBAL(uchar) p, int64_t i)
{
    k_store_as<V>(dtype, x, p, i);
}
FN void qkv_vector_keep(int dtype, k_floats<8> x, GLOBAL(uchar) p, int64_t i)
{
    GLOBAL(uint4) to = (GLOBAL(uint4))p;
    if (dtype == K_F32)
        k_store(k_f32(), x, p, i);
    else if (dtype == K_F16)
        k_store_once(to, i / 8, k_words_of(k_f16(), x));
    else
        k_store_once(to, i / 8, k_words_of(k_bf16(), x));
}

/* V elements from the i-th of a head on, which lies that many elements behind h. */
template <class D, int V>
FN void qkv_vector_put(REF(qkv_head) h, int64_t output, int64_t cache, int64_t i, k_floats<V> x)
{
    if (h.has_output)
        k_store_once((GLOBAL(uint4))h.at.output, (output + i) / V, k_words_of(D(), x));
    if (h.has_cache)
        qkv_vector_keep(h.cache_dtype, x, h.at.cache, cache + i);
}

/* r of the heads of a unit, which is in group memory. */
template <class D, int R, int L>
FN k_floats<2> qkv_unit_scales(CONSTANT(qkv_params) a, SHARED(const uint) heads, uint lane)
{
    typedef qkv_units_of<D, R, L> S;
    const int K = S::K;
    const k_floats<K> first = qkv_vector_squares<D, R, K>(heads, lane);
    k_floats<2> r;
    if (S::U == 2 && qkv_unit_heads(a) == 2)
        return qkv_vector_scales<K, L>(
            first, qkv_vector_squares<D, R, K>(heads + (S::U - 1) * S::WORDS, lane), (float)S::DIM,
            a->eps, lane);
    r.v[0] = r.v[1] = qkv_scale(qkv_vector_total<K, L>(first, L / 2), (float)S::DIM, a->eps);
    return r;
}

/* The heads of a unit: normed, turned and written. */
template <class D, int V, int H, int L, int M, class W, class T>
FN void qkv_unit_write(CONSTANT(qkv_params) a, REF(qkv_head) h, qkv_unit unit, REF(qkv_vector<M>) x,
                       k_floats<2> r, REF(W) weights, REF(T) turns, int pairs, uint lane)
{
    CONSTANT(qkv_part_params) part = &a->part[unit.k];
    const bool weighted = qkv_is_weighted(a, unit.k);
    K_UNROLL
    for (int n = 0; n < H; n++) {
        const int e = (n * L + (int)lane) * V, far = e + H * L * V;
        k_floats<V> w, w_far;
        if (weighted) {
            w = qkv_vector_weight<V>(a, h, weights.at[n]);
            w_far = qkv_vector_weight<V>(a, h, weights.at[n + H]);
        }
        K_UNROLL
        for (int u = 0; u < M / (2 * H); u++) {
            if (u >= unit.count)
                break;
            const int64_t output = u * part->output_head, cache = u * part->cache_head;
            const float scale = h.norm == QKV_NORM_NONE ? 1.0f : r.v[u];
            k_floats<V> low = qkv_vector_normed<D, V>(x.at[u * 2 * H + n], scale, weighted, w);
            k_floats<V> high =
                qkv_vector_normed<D, V>(x.at[(u * 2 + 1) * H + n], scale, weighted, w_far);
            if (e < pairs) {
                K_UNROLL
                for (int k = 0; k < V; k++) {
                    const float c = turns.cosine[n].v[k], s = turns.sine[n].v[k];
                    const float p = low.v[k], q = high.v[k];
                    low.v[k] = k_fma(p, c, -(q * s));
                    high.v[k] = k_fma(q, c, p * s);
                }
            }
            qkv_vector_put<D, V>(h, output, cache, e, low);
            qkv_vector_put<D, V>(h, output, cache, far, high);
        }
    }
}

/* Units of token group_x. */
template <class D, int R, int L>
FN void qkv_units(CONSTANT(qkv_params) a, REF(qkv_operands) o, SHARED(uint4) shared, qkv_thread g)
{
    typedef qkv_units_of<D, R, L> S;
    const int V = S::V, N = S::N, U = S::U, H = N / 2;
    const uint lane = g.lane % (uint)L, in_group = g.tid / (uint)L;
    const int angles = qkv_angles_of(a);
    const int pairs = angles == QKV_ANGLES_NONE ? 0 : (int)a->rotary_pairs;
    const qkv_unit unit = qkv_unit_of(a, (int)(g.group_y * (g.threads / (uint)L) + in_group));
    SHARED(uint4)
    heads = shared + S::DIM / 4 + (int)in_group * (S::UNIT / 4);
    const qkv_weights<V, N> weights = qkv_vector_weights<V, N, L>(a, o, unit.k, lane);
    k_two frequency = {1.0f, 0.0f};
    if (angles != QKV_ANGLES_TABLES && (int)g.tid < pairs)
        frequency = qkv_frequency(a, o, g.tid);
    k_wait();
    const int64_t i = g.group_x;
    const qkv_words words = qkv_look(a, o, i);
    const qkv_vector<U *N> x = qkv_vector_load<D, N, L, U>(a, o, i, unit, lane);
    qkv_vector_turns<V, H> turns;
    if (angles == QKV_ANGLES_TABLES)
        turns = qkv_vector_read<V, H, L>(a, o, i, pairs, lane);
    const qkv_token t = qkv_token_of(a, o, i, words, g.tid);
    if (angles != QKV_ANGLES_TABLES && t.valid)
        qkv_vector_compute<V, L, S::DIM>(a, o, t, frequency, shared, pairs, g);
    K_UNROLL
    for (int n = 0; n < U * N; n++)
        heads[n * L + (int)lane] = x.at[n];
    k_simd_barrier(); /* heads are whole */
    const k_floats<2> r = qkv_unit_scales<D, R, L>(a, (SHARED(const uint))heads, lane);
    if (angles != QKV_ANGLES_TABLES)
        k_barrier(); /* so are turns */
    if (!t.valid || unit.count <= 0)
        return;
    if (angles == QKV_ANGLES_TABLES)
        turns = qkv_vector_scaled<V, H>(turns, a->attention_factor);
    else
        turns = qkv_vector_fetch<V, H, L>(shared, pairs, lane);
    const qkv_place place = {unit.k, unit.first};
    const qkv_head h = qkv_locate<D>(a, o, t, place);
    qkv_unit_write<D, V, H, L>(a, h, unit, x, r, weights, turns,
                               h.pairs == QKV_PAIRS_NONE ? 0 : pairs, lane);
}

#endif
