/* math.h - exp, gelu, log, tanh, and sine and cosine of a range-reduced angle, for kernel text.
 *
 * The algorithms, coefficients, domains and bounds are those of src/backends/cpu/math.h, one lane
 * at a time: exp and log 1 ulp, tanh 2 ulp, sincos |error| <= 2^-24 for the angle it is given. */
#ifndef MLXN_KERNELS_MATH_H
#define MLXN_KERNELS_MATH_H

#include "kernels/dialect.h"

/* Adding it rounds |x| < 2^22 to an integer, nearest even, which then stands in the low bits. */
#define K_ROUND      0x1.8p23f
#define K_ROUND_BITS 0x4b400000u
#define K_INFINITY   k_float(0x7f800000u)
#define K_NAN        k_float(0x7fc00000u)

/* y 2^n with one rounding, |y| in [0.5, 2], n in [-160, 160], given as n + K_ROUND. */
FN float k_scale(float y, float n_round)
{
    const int n = (int)(k_bits(n_round) - K_ROUND_BITS), half_n = n >> 1;
    return y * k_float((uint)(half_n + 127) << 23) * k_float((uint)(n - half_n + 127) << 23);
}

/* e^x = 2^n e^r, n = round(x / ln 2), r = h + t: e^r = 1 + (h + (t + r^2 q(r))). */
FN float k_exp(float x)
{
    x = x < -104.0f ? -104.0f : x; /* keeps NaN */
    x = x > 89.0f ? 89.0f : x;
    const float n_round = k_fma(x, 0x1.715476p+0f, K_ROUND), n = n_round - K_ROUND;
    const float h = k_fma(n, -0x1.62e430p-1f, x), t = n * 0x1.05c610p-29f, r = h + t;
    float q = 0x1.6a4332p-10f;
    q = k_fma(q, r, 0x1.1239b4p-7f);
    q = k_fma(q, r, 0x1.5558bap-5f);
    q = k_fma(q, r, 0x1.555492p-3f);
    q = k_fma(q, r, 0x1.fffffcp-2f);
    const float y = 1.0f + (h + k_fma(r * r, q, t));
    return k_scale(y, n_round);
}

/* 0.5 x (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3), as x / (1 + e^(-2u)). */
FN float k_gelu(float x)
{
    const float minus_2u = x * k_fma(x * x, -0.0713548162726f, -1.59576912160573f);
    return k_div(x, 1.0f + k_exp(minus_2u));
}

/* log x = e ln 2 + log(1 + f), sqrt(1/2) <= 1 + f < sqrt(2), log(1 + f) = f + f^2 q(f). */
FN float k_log(float x)
{
    if (!(x > 0.0f))
        return x == 0.0f ? -K_INFINITY : x < 0.0f ? K_NAN : x;
    if (x == K_INFINITY)
        return x;
    const bool subnormal = x < 0x1p-126f;
    const uint u = k_bits(subnormal ? x * 0x1p24f : x);
    const int e = (int)(u - 0x3f3504f3u) >> 23;
    const float f = k_float(u - ((uint)e << 23)) - 1.0f;
    const float n = (float)(subnormal ? e - 24 : e);
    float q = -0x1.38cb04p-4f;
    q = k_fma(q, f, 0x1.056870p-3f);
    q = k_fma(q, f, -0x1.0d8664p-3f);
    q = k_fma(q, f, 0x1.22d812p-3f);
    q = k_fma(q, f, -0x1.547204p-3f);
    q = k_fma(q, f, 0x1.99a024p-3f);
    q = k_fma(q, f, -0x1.000228p-2f);
    q = k_fma(q, f, 0x1.555554p-2f);
    q = k_fma(q, f, -0.5f);
    const float a = n * 0x1.62e000p-1f, head = a + f;
    const float tail = k_fma(n, 0x1.0bfbe8p-15f, f - (head - a));
    return head + k_fma(f * f, q, tail);
}

/* tanh |x|: below 0.625 |x| + |x|^3 q(x^2), above 1 - 2 / (e^(2|x|) + 1), and the sign of x. */
FN float k_tanh(float x)
{
    const float a = k_float(k_bits(x) & 0x7fffffffu), z = x * x;
    float y;
    if (a > 0.625f) {
        y = 1.0f - k_div(2.0f, k_exp(a + a) + 1.0f);
    } else {
        float q = -0x1.767a14p-8f;
        q = k_fma(q, z, 0x1.524c40p-6f);
        q = k_fma(q, z, -0x1.b842c4p-5f);
        q = k_fma(q, z, 0x1.11075ep-3f);
        q = k_fma(q, z, -0x1.555534p-2f);
        y = k_fma(a * z, q, a);
    }
    return k_float(k_bits(y) | (k_bits(x) & 0x80000000u));
}

/* ---- two-float values ---- */

/* An unevaluated sum, |lo| small against |hi|. */
struct k_two {
    float hi, lo;
};

/* a b, relative error below 2^-45. */
FN k_two k_two_mul(k_two a, k_two b)
{
    const float hi = a.hi * b.hi;
    const float lo = k_fma(a.lo, b.hi, k_fma(a.hi, b.lo, k_fma(a.hi, b.hi, -hi)));
    k_two y;
    y.hi = hi + lo;
    y.lo = lo - (y.hi - hi);
    return y;
}

/* a / b, relative error below 2^-45. */
FN k_two k_two_div(k_two a, float b)
{
    k_two y;
    y.hi = k_div(a.hi, b);
    y.lo = k_div(k_fma(-y.hi, b, a.hi) + a.lo, b);
    return y;
}

/* ---- angles ---- */

/* The angle of a position, 0 to 2^31 - 1, at frequency f.  Relative error about 2^-47. */
FN k_two k_angle(int64_t position, k_two f)
{
    const float p_hi = (float)position, p_lo = (float)(position - (int64_t)p_hi);
    k_two a;
    a.hi = p_hi * f.hi;
    a.lo = k_fma(p_lo, f.hi, k_fma(p_hi, f.lo, k_fma(p_hi, f.hi, -a.hi)));
    return a;
}

/* a - k pi/2, pi/2 in three parts; k is a multiple of 2^j near a.hi / (pi/2): the high part is
 * exact. */
FN k_two k_reduce(k_two a, float k)
{
    k_two r;
    r.hi = k_fma(-k, 0x1.921fb6p+0f, a.hi);
    r.lo = k_fma(-k, -0x1.777a5cp-25f, a.lo);
    r.lo = k_fma(-k, -0x1.ee59dap-50f, r.lo);
    return r;
}

struct k_turn {
    float sine, cosine;
};

/* Sine and cosine of a.hi + a.lo.  Quarter turns are taken off, a multiple of 2^10 first where
 * there are many, then to the nearest; the rest s + t, |s| < 0.79, goes through
 *   sin = s + (s^3 p(s^2) + t),  cos = 1 - (s^2 + e)/2 + s^4 q(s^2),  e = s^2's own rest + 2 s t */
FN k_turn k_sincos(k_two a)
{
    float turns = a.hi * 0x1.45f306p-1f;
    if (turns > 0x1p10f || turns < -0x1p10f) {
        const float k = k_fma(turns, 0x1p-10f, K_ROUND) - K_ROUND;
        const k_two r = k_reduce(a, k * 0x1p10f);
        const float sum = r.hi + r.lo, part = sum - r.hi;
        a.hi = sum;
        a.lo = (r.hi - (sum - part)) + (r.lo - part);
        turns = a.hi * 0x1.45f306p-1f;
    }
    const float quarter = turns + K_ROUND;
    a = k_reduce(a, quarter - K_ROUND);
    const float s = a.hi + a.lo, t = a.lo - (s - a.hi), z = s * s;
    float p = k_fma(-0x1.9955b6p-13f, z, 0x1.11077cp-7f);
    p = k_fma(p, z, -0x1.555546p-3f);
    const float sn = s + k_fma(s * z, p, t);
    float q = k_fma(0x1.99e0eep-16f, z, -0x1.6c0c1ap-10f);
    q = k_fma(q, z, 0x1.55554ap-5f);
    const float e = k_fma(s + s, t, k_fma(s, s, -z));
    const float cs = 1.0f + k_fma(-0.5f, z, k_fma(z * z, q, -0.5f * e));

    /* sin(x + n pi/2): n odd swaps the two; bit 1 of n, of n + 1 for the cosine, flips the sign */
    const uint n = k_bits(quarter);
    const bool odd = (n & 1u) != 0u;
    k_turn y;
    y.sine = k_float(k_bits(odd ? cs : sn) ^ (n & 2u) << 30);
    y.cosine = k_float(k_bits(odd ? sn : cs) ^ ((n + 1u) & 2u) << 30);
    return y;
}

#endif
