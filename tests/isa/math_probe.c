/* math_probe.c - the functions of math.h behind plain C, compiled once for every SIMD path. */
#include "backends/cpu/math.h"
#include "isa/math_probe.h"

/* n a multiple of 16. */
void CPU_NAME(math_probe)(math_function f, const float *x, float *y, int n)
{
    for (int i = 0; i < n; i += VF_LANES) {
        vf v = vf_load(x + i);
        vf_store(y + i, f == MATH_EXP ? vf_exp(v) : f == MATH_LOG ? vf_log(v) : vf_tanh(v));
    }
}

/* Sixteen frequencies at one position, as the rope kernel calls it. */
void CPU_NAME(angle_probe)(int64_t position, const float *hi, const float *lo, float *sine,
                           float *cosine)
{
    float p = (float)position, rest = (float)(position - (int64_t)p);
    vf s, c;
    vf_sincos(vf_angle(p, rest, (vf2){vf_load(hi), vf_load(lo)}), &s, &c);
    vf_store(sine, s);
    vf_store(cosine, c);
}
