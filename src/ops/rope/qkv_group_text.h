/* qkv_group_text.h - schedule group of qkv_prepare.kernel: a group a head of up to 1024 elements,
 * about a pair a thread.  The shortest chain of dependent steps, for a few tokens: weights and
 * frequencies are read before earlier dispatches have ended, the head, position and slot at once.
 */
#ifndef MLXN_OPS_ROPE_QKV_GROUP_TEXT_H
#define MLXN_OPS_ROPE_QKV_GROUP_TEXT_H

#include "ops/rope/qkv_text.h"

#define QKV_GROUP_DIM 1024

/* What a group shares: a head, its weights (ones where there are none), its token's turns. */
struct qkv_group_memory {
    SHARED(float) x;
    SHARED(float) weight;
    SHARED(float) cosine;
    SHARED(float) sine;
};

/* Element i: normed, from group memory. */
template <class D> FN float qkv_group_normed(REF(qkv_head) h, REF(qkv_group_memory) m, int64_t i)
{
    return qkv_round<D>(h, m.x[i] * h.r * m.weight[i]);
}

template <class D>
FN void qkv_group_pass(REF(qkv_head) h, REF(qkv_group_memory) m, int64_t begin, int64_t end,
                       qkv_thread g)
{
    for (int64_t i = begin + g.tid; i < end; i += g.threads)
        qkv_put<D>(h, i, qkv_group_normed<D>(h, m, i));
}

template <class D>
FN void qkv_group_head(CONSTANT(qkv_params) a, qkv_head h, REF(qkv_group_memory) m, qkv_thread g)
{
    const int64_t dim = a->dim, pairs = h.pairs == QKV_PAIRS_NONE ? 0 : a->rotary_pairs;
    const bool split = h.pairs == QKV_PAIRS_SPLIT;
    if (h.norm != QKV_NORM_NONE) { /* every simdgroup sums for itself */
        const float sum = k_simd_sum(k_add_squares(m.x, (int)dim, g.lane, 0.0f));
        h.r = qkv_scale(sum, (float)dim, a->eps);
    }
    for (int64_t i = g.tid; i < pairs; i += g.threads) {
        const qkv_pair at = qkv_pair_at(h, i);
        const float x = qkv_group_normed<D>(h, m, at.low), y = qkv_group_normed<D>(h, m, at.high);
        qkv_put<D>(h, at.low, k_fma(x, m.cosine[i], -(y * m.sine[i])));
        qkv_put<D>(h, at.high, k_fma(y, m.cosine[i], x * m.sine[i]));
    }
    if (split) {
        qkv_group_pass<D>(h, m, pairs, h.offset, g);
        qkv_group_pass<D>(h, m, h.offset + pairs, dim, g);
    } else {
        qkv_group_pass<D>(h, m, 2 * pairs, dim, g);
    }
}

/* Token i of head j.  The loads that the others wait for come first. */
template <class D>
FN void qkv_group_token(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_group_memory) m,
                        int64_t i, int64_t j, k_two frequency, qkv_thread g)
{
    const int64_t pairs = qkv_angles_of(a) == QKV_ANGLES_NONE ? 0 : a->rotary_pairs;
    GLOBAL(const uchar) input = qkv_input<D>(a, o, i, qkv_place_of(a, j));
    const int64_t e = g.tid, next = e + g.threads;
    const float first = e < a->dim ? qkv_load<D>(input, e) : 0.0f;
    const float second = next < a->dim ? qkv_load<D>(input, next) : 0.0f;
    const qkv_token t = qkv_find(a, o, i, g.tid);
    if (!t.valid)
        return;
    for (int64_t n = e; n < pairs; n += g.threads) {
        const k_turn turn = qkv_turn(a, o, t, n, n == e ? frequency : qkv_frequency(a, o, n));
        m.cosine[n] = turn.cosine;
        m.sine[n] = turn.sine;
    }
    if (e < a->dim)
        m.x[e] = first;
    if (next < a->dim)
        m.x[next] = second;
    for (int64_t n = next + g.threads; n < a->dim; n += g.threads)
        m.x[n] = qkv_load<D>(input, n);
    k_barrier(); /* group memory is whole */
    qkv_group_head<D>(a, qkv_locate<D>(a, o, t, qkv_place_of(a, j)), m, g);
    k_barrier(); /* all are done with it before the next token's */
}

template <class D>
FN void qkv_group(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_group_memory) m,
                  qkv_thread g)
{
    const int64_t heads = a->part[0].heads + a->part[1].heads + a->part[2].heads;
    const bool rotates = qkv_angles_of(a) != QKV_ANGLES_NONE && (int64_t)g.tid < a->rotary_pairs;
    k_two frequency = {1.0f, 0.0f};
    if (rotates)
        frequency = qkv_frequency(a, o, g.tid);
    for (int64_t j = g.group_y; j < heads; j += g.groups_y) {
        const int k = qkv_place_of(a, j).k;
        GLOBAL(const uchar) weight = k == 0 ? o.q.weight : k == 1 ? o.k.weight : o.v.weight;
        const bool weighted = qkv_is_weighted(a, k);
        for (int64_t n = g.tid; n < a->dim; n += g.threads)
            m.weight[n] =
                weighted ? qkv_weight(qkv_weight_dtype(a, k), weight, n, a->weight_bias) : 1.0f;
        if (j == g.group_y)
            k_wait();
        for (int64_t i = g.group_x; i < a->tokens; i += g.groups_x)
            qkv_group_token<D>(a, o, m, i, j, frequency, g);
    }
}

#endif
