/* weigh.h - the weights that tokens are drawn by, in kernel text: as in weights.h, see draw.h. */
#ifndef MLXN_OPS_SAMPLING_WEIGH_H
#define MLXN_OPS_SAMPLING_WEIGH_H

#include "kernels/math.h"
#include "ops/sampling/draw.h"
#include "ops/sampling/sampling_params.h"

FN float weigh_logit(float x, float top, float temperature)
{
    if (x == top)
        return 1.0f;
    return x == x ? k_exp(k_div(x - top, temperature)) : 0.0f;
}

FN uint64_t weigh_units(CONSTANT(sample_params) a, float weight)
{
    return (uint64_t)(int64_t)(weight * draw_unit(a->vocab));
}

/* What top_p looks at. */
FN uint64_t weigh_plain(CONSTANT(sample_params) a, float x, float top)
{
    return weigh_units(a, weigh_logit(x, top, 1.0f));
}

/* What is drawn by: with the temperature; below min_p of the largest: 0. */
FN uint64_t weigh_drawn(CONSTANT(sample_params) a, float x, float top)
{
    const float plain = weigh_logit(x, top, 1.0f);
    if (!(plain >= a->min_p))
        return 0;
    return weigh_units(a, a->temperature == 1.0f ? plain : weigh_logit(x, top, a->temperature));
}

#endif
