/* math_probe.h - see math_probe.c; one pair of functions for each SIMD path of the build. */
#ifndef MLXN_TESTS_ISA_MATH_PROBE_H
#define MLXN_TESTS_ISA_MATH_PROBE_H

#include <stdint.h>

typedef enum math_function { MATH_EXP, MATH_LOG, MATH_TANH, MATH_FUNCTIONS } math_function;

#define MATH_PROBE(isa)                                                                 \
    void mlxn_cpu_math_probe_##isa(math_function f, const float *x, float *y, int n);   \
    void mlxn_cpu_angle_probe_##isa(int64_t position, const float *hi, const float *lo, \
                                    float *sine, float *cosine);
MATH_PROBE(portable)
MATH_PROBE(avx2)
MATH_PROBE(avx512)
MATH_PROBE(neon)
MATH_PROBE(dotprod)
#undef MATH_PROBE

#endif
