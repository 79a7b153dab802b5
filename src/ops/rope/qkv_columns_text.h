/* qkv_columns_text.h - schedule columns of qkv_prepare.kernel, for head_dim 64, 128, 256 or 512 and
 * pairs half a head apart: a head is rows of 32 elements, and a lane has 16 bytes of every row:
 * whole virtual lanes of the sum, and both elements of its pairs.  A head is read once; what its
 * token or its part shares is in group memory. */
#ifndef MLXN_OPS_ROPE_QKV_COLUMNS_TEXT_H
#define MLXN_OPS_ROPE_QKV_COLUMNS_TEXT_H

#include "ops/rope/qkv_text.h"

/* A lane's 16 bytes of each of R rows of 32 elements. */
template <int R> struct qkv_column {
    uint4 row[R];
};

/* Head `head` of token `at`; zeros past the last. */
template <class D, int R>
FN qkv_column<R> qkv_column_load(CONSTANT(qkv_params) a, REF(qkv_operands) o, int64_t at,
                                 int64_t head, int64_t heads, uint lane)
{
    const int lanes = 2 * (int)sizeof(typename D::bits);
    qkv_column<R> y;
    if (head < heads) {
        GLOBAL(const uint4) p = (GLOBAL(const uint4))qkv_input<D>(a, o, at, qkv_place_of(a, head));
        K_UNROLL
        for (int r = 0; r < R; r++)
            y.row[r] = k_load_once(p, r * lanes + lane);
    } else {
        K_UNROLL
        for (int r = 0; r < R; r++)
            y.row[r] = k_uint4(0u, 0u, 0u, 0u);
    }
    return y;
}

/* The sum of squares of a head: V virtual lanes in this lane, the others in its neighbours. */
template <class D, int V, int R> FN float qkv_column_sum(REF(qkv_column<R>) x)
{
    k_floats<V> sum;
    K_UNROLL
    for (int k = 0; k < V; k++)
        sum.v[k] = 0.0f;
    K_UNROLL
    for (int r = 0; r < R; r++) {
        const k_floats<V> v = k_elements_of(D(), x.row[r]);
        K_UNROLL
        for (int k = 0; k < V; k++)
            sum.v[k] = k_fma(v.v[k], v.v[k], sum.v[k]);
    }
    K_UNROLL
    for (int d = 16 / V; d > 0; d /= 2) {
        K_UNROLL
        for (int k = 0; k < V; k++)
            sum.v[k] += k_xor(sum.v[k], (uint)d);
    }
    K_UNROLL
    for (int d = V / 2; d > 0; d /= 2) {
        K_UNROLL
        for (int k = 0; k < d; k++)
            sum.v[k] += sum.v[k + d];
    }
    return sum.v[0];
}

/* V floats of group memory from i on. */
template <int V> FN k_floats<V> qkv_column_shared(SHARED(const float) p, int64_t i)
{
    k_floats<V> y;
    K_UNROLL
    for (int k = 0; k < V; k += 4) {
        const k_floats<4> four = k_floats_of(((SHARED(const uint4))p)[(i + k) / 4]);
        K_UNROLL
        for (int n = 0; n < 4; n++)
            y.v[k + n] = four.v[n];
    }
    return y;
}

/* Elements from i on, times r, times the weight. */
template <class D, int V>
FN k_floats<V> qkv_column_normed(uint4 words, float r, SHARED(const float) weight, int64_t i)
{
    k_floats<V> y = k_elements_of(D(), words);
    const k_floats<V> w = qkv_column_shared<V>(weight, i);
    K_UNROLL
    for (int k = 0; k < V; k++)
        y.v[k] = y.v[k] * r * w.v[k];
    return y;
}

template <class D, int V> FN void qkv_column_put(REF(qkv_head) h, int64_t i, k_floats<V> x)
{
    if (h.has_output)
        k_store_once((GLOBAL(uint4))h.at.output, i / V, k_words_of(D(), x));
    if (h.has_cache)
        k_store_as<V>(h.cache_dtype, x, h.at.cache, i);
}

/* Rows r and r + R / 2 are half a head apart. */
template <class D, int V, int R>
FN void qkv_column_rotate(REF(qkv_head) h, REF(qkv_column<R>) x, int64_t pairs,
                          SHARED(const float) cosines, SHARED(const float) sines,
                          SHARED(const float) weight, uint lane)
{
    K_UNROLL
    for (int r = 0; r < R / 2; r++) {
        const int64_t i = r * 32 + lane * V, far = i + R * 16;
        k_floats<V> low = qkv_column_normed<D, V>(x.row[r], h.r, weight, i);
        k_floats<V> high = qkv_column_normed<D, V>(x.row[r + R / 2], h.r, weight, far);
        if (i < pairs) {
            const k_floats<V> c = qkv_column_shared<V>(cosines, i);
            const k_floats<V> s = qkv_column_shared<V>(sines, i);
            K_UNROLL
            for (int k = 0; k < V; k++) {
                const float u = low.v[k], v = high.v[k];
                low.v[k] = k_fma(u, c.v[k], -(v * s.v[k]));
                high.v[k] = k_fma(v, c.v[k], u * s.v[k]);
            }
        }
        qkv_column_put<D, V>(h, i, low);
        qkv_column_put<D, V>(h, far, high);
    }
}

FN void qkv_columns_share(SHARED(float) p, int64_t i, k_floats<4> x)
{
    ((SHARED(uint4))p)[i / 4] = k_words_of(k_f32(), x);
}

/* Weights plus bias of the three parts, ones where there are none; four a thread at a time. */
FN void qkv_columns_weights(CONSTANT(qkv_params) a, REF(qkv_operands) o, SHARED(float) weights,
                            int dim, qkv_thread g)
{
    for (int n = (int)g.tid * 4; n < QKV_PARTS * dim; n += (int)g.threads * 4) {
        const int k = n / dim, i = n % dim;
        GLOBAL(const uchar) p = k == 0 ? o.q.weight : k == 1 ? o.k.weight : o.v.weight;
        k_floats<4> w = {{1.0f, 1.0f, 1.0f, 1.0f}};
        if (a->part[k].heads == 0)
            continue;
        if (a->part[k].norm == QKV_NORM_WEIGHTED) {
            w = k_load_as<4>(a->part[k].weight_dtype, p, i);
            for (int e = 0; e < 4; e++)
                w.v[e] += a->weight_bias;
        }
        qkv_columns_share(weights, n, w);
    }
}

/* The cosines and sines of a token.  Those of tables are read at once, four a thread: they must not
 * take longer than the head. */
FN void qkv_columns_turns(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_token) t,
                          SHARED(float) cosines, SHARED(float) sines, int64_t pairs, qkv_thread g)
{
    if (a->angles == QKV_ANGLES_TABLES) {
        for (int64_t n = (int64_t)g.tid * 4; n < 2 * pairs; n += (int64_t)g.threads * 4) {
            const bool sine = n >= pairs;
            const int64_t i = sine ? n - pairs : n;
            GLOBAL(const float)
            table = sine ? o.sines + t.at * a->sin_stride : o.cosines + t.at * a->cos_stride;
            k_floats<4> v = k_floats_of(((GLOBAL(const uint4))table)[i / 4]);
            for (int e = 0; e < 4; e++)
                v.v[e] *= a->attention_factor;
            qkv_columns_share(sine ? sines : cosines, i, v);
        }
        return;
    }
    for (int64_t n = g.tid; n < pairs; n += g.threads) {
        const k_turn turn = qkv_turn(a, o, t, n, qkv_frequency(a, o, n));
        cosines[n] = turn.cosine;
        sines[n] = turn.sine;
    }
}

/* In `shared`: cosines and sines of the token, then weights. */
template <class D, int R>
FN void qkv_columns(CONSTANT(qkv_params) a, REF(qkv_operands) o, SHARED(float) shared, qkv_thread g)
{
    const int V = 16 / (int)sizeof(typename D::bits), lanes = 32 / V, dim = 32 * R;
    const uint lane = g.lane % (uint)lanes;
    const int64_t heads = a->part[0].heads + a->part[1].heads + a->part[2].heads;
    const int64_t in_group = g.threads / (uint)lanes, step = g.groups_y * in_group;
    const int64_t start = g.group_y * in_group + g.simd * (uint)V;
    const int64_t pairs = a->angles == QKV_ANGLES_NONE ? 0 : a->rotary_pairs;
    SHARED(float) sines = shared + dim / 2;
    SHARED(float) weights = shared + dim;
    qkv_columns_weights(a, o, weights, dim, g);
    k_wait();
    for (int64_t i = g.group_x; i < a->tokens; i += g.groups_x) {
        int64_t j = start + g.lane / (uint)lanes;
        qkv_column<R> x = qkv_column_load<D, R>(a, o, i, j, heads, lane);
        const qkv_token t = qkv_find(a, o, i, g.lane);
        if (!t.valid)
            continue;
        qkv_columns_turns(a, o, t, shared, sines, pairs, g);
        k_barrier(); /* the tables are whole */
        for (int64_t first = start; first < heads; first += step) {
            if (first != start)
                x = qkv_column_load<D, R>(a, o, i, j, heads, lane);
            const float sum = qkv_column_sum<D, V, R>(x);
            if (j < heads) {
                qkv_head h = qkv_locate<D>(a, o, t, j);
                if (h.norm != QKV_NORM_NONE)
                    h.r = qkv_scale(sum, (float)dim, a->eps);
                qkv_column_rotate<D, V, R>(h, x, h.pairs == QKV_PAIRS_NONE ? 0 : pairs, shared,
                                           sines, weights + qkv_place_of(a, j).k * dim, lane);
            }
            j += step;
        }
        k_barrier(); /* all are done with them before the next token's */
    }
}

#endif
