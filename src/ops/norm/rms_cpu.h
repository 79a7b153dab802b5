/* rms_cpu.h - the root mean square of a row, the one way in which every CPU kernel computes it.
 *
 * Sum of squares in 32 virtual lanes: element i goes to lane i mod 32, ascending fma within a
 * lane, then the butterfly of vf_sum32.  r = 1 / sqrt(sum / dim + eps), each step rounded once. */
#ifndef MLXN_OPS_NORM_RMS_CPU_H
#define MLXN_OPS_NORM_RMS_CPU_H

#include "backends/cpu/kernel.h"

typedef struct rms_lanes {
    vf lanes_0_15, lanes_16_31;
} rms_lanes;

static inline rms_lanes rms_zero(void)
{
    return (rms_lanes){vf_set(0.0f), vf_set(0.0f)};
}

/* Adds elements i to i + 31 of a row, i a multiple of 32; absent ones are 0. */
static inline void rms_add(rms_lanes *sum, vf first, vf second)
{
    sum->lanes_0_15 = vf_fma(first, first, sum->lanes_0_15);
    sum->lanes_16_31 = vf_fma(second, second, sum->lanes_16_31);
}

static inline float rms_total(rms_lanes sum)
{
    return vf_sum32(sum.lanes_0_15, sum.lanes_16_31);
}

/* r of up to 16 rows from their sums. */
static inline vf rms_scale(vf total, int64_t dim, float eps)
{
    vf mean = vf_div(total, vf_set((float)dim));
    return vf_div(vf_set(1.0f), vf_sqrt(vf_add(mean, vf_set(eps))));
}

#endif
