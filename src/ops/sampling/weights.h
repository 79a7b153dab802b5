/* weights.h - the weights that tokens are drawn by, 16 at a time; see draw.h.  The draw itself has
 * 24 bits, so the cut of a weight does not show.  NaN weighs 0; logits that equal m weigh 1,
 * infinite ones too. */
#ifndef MLXN_OPS_SAMPLING_WEIGHTS_H
#define MLXN_OPS_SAMPLING_WEIGHTS_H

#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"
#include "ops/sampling/draw.h"
#include "ops/sampling/sampling.h"

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
    vf_store(x, vf_mul(w, vf_set(draw_unit(p->vocab))));
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

/* The weight that a set must reach to hold the share top_p of `total`. */
static inline uint64_t top_p_target(const sample_params *p, uint64_t total)
{
    return draw_share(cpu_float_bits(p->top_p), total);
}

#endif
