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

/* The weights before the temperature (for top_p and min_p) and those to draw by of 16 logits. */
typedef struct weights {
    uint64_t plain[16], drawn[16];
} weights;

static inline void weigh_logits(const sample_params *p, vf x, float m, weights *w)
{
    const float unit = weight_unit(p->vocab);
    float plain[16], drawn[16];
    vf e = weights_of(x, m, 1);
    vf d = p->temperature == 1 ? e : weights_of(x, m, p->temperature);
    vf_store(plain, e);
    vf_store(drawn, vf_select(vf_ge(e, vf_set(p->min_p)), d, vf_set(0)));
    for (int i = 0; i < 16; i++) {
        w->plain[i] = (uint64_t)(plain[i] * unit);
        w->drawn[i] = (uint64_t)(drawn[i] * unit);
    }
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
