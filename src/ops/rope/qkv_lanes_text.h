/* qkv_lanes_text.h - schedule lanes of qkv_prepare.kernel: a simdgroup a head, any shape and
 * stride; lane j has elements j, j + 32, ... */
#ifndef MLXN_OPS_ROPE_QKV_LANES_TEXT_H
#define MLXN_OPS_ROPE_QKV_LANES_TEXT_H

#include "ops/rope/qkv_text.h"

template <class D> FN float qkv_normed(REF(qkv_head) h, int64_t i)
{
    float v = qkv_load<D>(h.at.input, i) * h.r;
    if (h.norm == QKV_NORM_WEIGHTED)
        v *= qkv_weight(h.weight_dtype, h.at.weight, i, h.bias);
    return qkv_round<D>(h, v);
}

template <class D> FN void qkv_pass(REF(qkv_head) h, int64_t begin, int64_t end, uint lane)
{
    for (int64_t i = begin + lane; i < end; i += 32)
        qkv_put<D>(h, i, qkv_normed<D>(h, i));
}

template <class D>
FN void qkv_lanes_head(CONSTANT(qkv_params) a, REF(qkv_operands) o, REF(qkv_token) t, qkv_head h,
                       uint lane)
{
    const int64_t dim = a->dim, pairs = h.pairs == QKV_PAIRS_NONE ? 0 : a->rotary_pairs;
    const bool split = h.pairs == QKV_PAIRS_SPLIT;
    if (h.norm != QKV_NORM_NONE) {
        float sum = 0.0f;
        for (int64_t i = lane; i < dim; i += 32) {
            const float v = qkv_load<D>(h.at.input, i);
            sum = k_fma(v, v, sum);
        }
        h.r = qkv_scale(k_simd_sum(sum), (float)dim, a->eps);
    }
    k_simd_barrier(); /* in place: all lanes have read */
    for (int64_t i = lane; i < pairs; i += 32) {
        const k_turn turn = qkv_turn(a, o, t, i, qkv_frequency(a, o, i));
        const qkv_pair at = qkv_pair_at(h, i);
        const float x = qkv_normed<D>(h, at.low), y = qkv_normed<D>(h, at.high);
        qkv_put<D>(h, at.low, k_fma(x, turn.cosine, -(y * turn.sine)));
        qkv_put<D>(h, at.high, k_fma(y, turn.cosine, x * turn.sine));
    }
    if (split) {
        qkv_pass<D>(h, pairs, h.offset, lane);
        qkv_pass<D>(h, h.offset + pairs, dim, lane);
    } else {
        qkv_pass<D>(h, 2 * pairs, dim, lane);
    }
}

template <class D> FN void qkv_lanes(CONSTANT(qkv_params) a, REF(qkv_operands) o, qkv_thread g)
{
    const int64_t heads = a->part[0].heads + a->part[1].heads + a->part[2].heads;
    const int64_t simds = g.threads / 32u;
    for (int64_t i = g.group_x; i < a->tokens; i += g.groups_x) {
        const qkv_token t = qkv_find(a, o, i, g.lane);
        if (!t.valid)
            continue;
        for (int64_t j = g.group_y * simds + g.simd; j < heads; j += g.groups_y * simds)
            qkv_lanes_head<D>(a, o, t, qkv_locate<D>(a, o, t, qkv_place_of(a, j)), g.lane);
    }
}

#endif
