/* weights.h - the weights that tokens are drawn by.
 *
 * A token's weight is exp((x - m) / T), m the largest logit, cut to a multiple of 2^-40 (of 2^-31
 * for more than 2^22 ids) and held as an integer.  Sums of integers are exact, so no order of
 * summing needs to be fixed, and comparing them with a share of their total is exact too.  The draw
 * itself has 24 bits, so the cut does not show.  NaN weighs 0; logits that equal m weigh 1,
 * infinite ones too. */
#ifndef MLXN_OPS_SAMPLING_WEIGHTS_H
#define MLXN_OPS_SAMPLING_WEIGHTS_H

#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"
#include "ops/sampling/philox.h"
#include "ops/sampling/sampling.h"

static inline float weight_unit(int64_t vocab)
{
    return vocab <= 1 << 22 ? 0x1p40f : 0x1p31f;
}

static inline vf weights_of(vf x, float m, float temperature)
{
    vf top = vf_set(m), w = vf_exp(vf_div(vf_sub(x, top), vf_set(temperature)));
    w = vf_select(vf_eq(x, top), vf_set(1), w);
    return vf_select(vf_eq(x, x), w, vf_set(0));
}

/* The weights to draw by, with the temperature; below min_p of the largest: 0. */
static inline vf drawn_weights_of(const sample_params *p, vf x, float m)
{
    vf plain = weights_of(x, m, 1);
    vf drawn = p->temperature == 1 ? plain : weights_of(x, m, p->temperature);
    return vf_select(vf_ge(plain, vf_set(p->min_p)), drawn, vf_set(0));
}

static inline void weight_units(const sample_params *p, vf w, uint64_t units[16])
{
    float x[16];
    vf_store(x, vf_mul(w, vf_set(weight_unit(p->vocab))));
    for (int i = 0; i < 16; i++)
        units[i] = (uint64_t)(int64_t)x[i];
}

static inline uint64_t weight_sum(const sample_params *p, vf w)
{
    uint64_t units[16], sum = 0;
    weight_units(p, w, units);
    for (int i = 0; i < 16; i++)
        sum += units[i];
    return sum;
}

/* The weight that a set must reach to hold the share top_p of `total`: at least 1. */
static inline uint64_t top_p_target(const sample_params *p, uint64_t total)
{
    double share = (double)p->top_p * (double)total;
    uint64_t target = (uint64_t)share;
    target += (double)target < share;
    return target < 1 ? 1 : target > total ? total : target;
}

/* Where the draw lands in [0, total): a token is drawn if its range in id order holds it. */
static inline uint64_t draw_point(const sample_params *p, int32_t counter, uint64_t total)
{
    return (uint64_t)((unsigned __int128)total * philox_draw(p->seed, (uint32_t)counter) >> 24);
}

#endif
