/* gelu_cpu.h - the vector form of gelu, shared by gelu_mul and the gated product.  0.5 x (1 + tanh
 * u) is x / (1 + e^(-2u)), which does not cancel where tanh u is near -1. */
#ifndef MLXN_OPS_ELEMENTWISE_GELU_CPU_H
#define MLXN_OPS_ELEMENTWISE_GELU_CPU_H

#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"

/* u = sqrt(2/pi) (x + 0.044715 x^3) */
static inline vf vf_gelu(vf x)
{
    vf x2 = vf_mul(x, x);
    vf minus_2u = vf_mul(x, vf_fma(x2, vf_set(-0.0713548162726f), vf_set(-1.59576912160573f)));
    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(minus_2u)));
}

#endif
