/* math.h - exp, log, tanh, and sine and cosine of a range-reduced angle, on the vectors of simd.h.
 *
 * Made of fma, correctly rounded arithmetic and integer operations, so the bits are the same on
 * every path.  Largest errors, in ulp of the result against float64 (derived in docs/numerics.md,
 * tested over all floats):
 *   vf_exp   1     NaN -> NaN, -Inf -> 0, +Inf and x > 88.722839 -> +Inf; subnormal results are
 *                  kept, x < -103.972084 -> 0
 *   vf_log   1     NaN and x < 0 -> NaN, +-0 -> -Inf, +Inf -> +Inf; subnormal x is exact
 *   vf_tanh  2     NaN -> NaN, +-Inf -> +-1, -0 -> -0; odd
 *   vf_sincos      |error| <= 2^-24 for the angle that it is given
 * The polynomials are minimax fits whose coefficients were rounded to f32 one by one, the rest
 * fitted anew each time. */
#ifndef MLXN_CPU_MATH_H
#define MLXN_CPU_MATH_H

#include <math.h>
#include "backends/cpu/simd.h"

/* Adding it rounds |x| < 2^22 to an integer, nearest even, which then stands in the low bits. */
#define VF_ROUND 0x1.8p23f

/* y * 2^n with one rounding, for |y| in [0.5, 2], n (an integer) in [-160, 160], given as
 * n + VF_ROUND.  2^n itself may be out of range, so it is split in two. */
static inline vf vf_scale(vf y, vf n_round)
{
#if defined(MLXN_ISA_AVX512)
    return _mm512_scalef_ps(y, vf_sub(n_round, vf_set(VF_ROUND)));
#else
    vi n = vi_sub(vf_bits(n_round), vf_bits(vf_set(VF_ROUND)));
    vi half = vi_sar(n, 1), one = vi_set(127);
    vf a = vi_float_bits(vi_shl(vi_add(half, one), 23));
    vf b = vi_float_bits(vi_shl(vi_add(vi_sub(n, half), one), 23));
    return vf_mul(vf_mul(y, a), b);
#endif
}

/* e^x = 2^n e^r, n = round(x / ln 2), r = h + t: e^r = 1 + (h + (t + r^2 q(r))). */
static inline vf vf_exp(vf x)
{
    x = vf_min(vf_set(89.0f), vf_max(vf_set(-104.0f), x)); /* keeps NaN: it is the second one */
    vf n_round = vf_fma(x, vf_set(0x1.715476p+0f), vf_set(VF_ROUND));
    vf n = vf_sub(n_round, vf_set(VF_ROUND));
    vf h = vf_fma(n, vf_set(-0x1.62e430p-1f), x); /* exact: a multiple of 2^-24 below 1 */
    vf t = vf_mul(n, vf_set(0x1.05c610p-29f));
    vf r = vf_add(h, t);
    vf q = vf_set(0x1.6a4332p-10f);
    q = vf_fma(q, r, vf_set(0x1.1239b4p-7f));
    q = vf_fma(q, r, vf_set(0x1.5558bap-5f));
    q = vf_fma(q, r, vf_set(0x1.555492p-3f));
    q = vf_fma(q, r, vf_set(0x1.fffffcp-2f));
    vf y = vf_add(vf_set(1.0f), vf_add(h, vf_fma(vf_mul(r, r), q, t)));
    return vf_scale(y, n_round);
}

/* log x = e ln 2 + log(1 + f), sqrt(1/2) <= 1 + f < sqrt(2), log(1 + f) = f + f^2 q(f).  The head
 * of ln 2 has 14 bits, so its product with e is exact; e ln 2 + f is summed with its error. */
static inline vf vf_log(vf x)
{
    const vf tiny = vf_set(0x1p-126f), inf = vf_set(HUGE_VALF), zero = vf_set(0.0f);
    vm subnormal = vf_gt(tiny, x);
    vi u = vf_bits(vf_select(subnormal, vf_mul(x, vf_set(0x1p24f)), x));
    vi e = vi_sar(vi_sub(u, vi_set(0x3f3504f3)), 23);
    vf f = vf_sub(vi_float_bits(vi_sub(u, vi_shl(e, 23))), vf_set(1.0f));
    e = vi_select(subnormal, vi_sub(e, vi_set(24)), e);
    vf n = vi_to_float(e);
    vf q = vf_set(-0x1.38cb04p-4f);
    q = vf_fma(q, f, vf_set(0x1.056870p-3f));
    q = vf_fma(q, f, vf_set(-0x1.0d8664p-3f));
    q = vf_fma(q, f, vf_set(0x1.22d812p-3f));
    q = vf_fma(q, f, vf_set(-0x1.547204p-3f));
    q = vf_fma(q, f, vf_set(0x1.99a024p-3f));
    q = vf_fma(q, f, vf_set(-0x1.000228p-2f));
    q = vf_fma(q, f, vf_set(0x1.555554p-2f));
    q = vf_fma(q, f, vf_set(-0.5f));
    vf a = vf_mul(n, vf_set(0x1.62e000p-1f));
    vf head = vf_add(a, f);
    vf tail = vf_sub(f, vf_sub(head, a));
    tail = vf_fma(n, vf_set(0x1.0bfbe8p-15f), tail);
    vf y = vf_add(head, vf_fma(vf_mul(f, f), q, tail));
    y = vf_select(vf_eq(x, inf), inf, y);
    y = vf_select(vf_gt(zero, x), vf_set(NAN), y);
    y = vf_select(vf_eq(x, zero), vf_neg(inf), y);
    return vf_select(vf_eq(x, x), y, x);
}

/* tanh |x|: below 0.625 |x| + |x|^3 q(x^2), above 1 - 2 / (e^(2|x|) + 1), and the sign of x. */
static inline vf vf_tanh(vf x)
{
    vf a = vf_abs(x), z = vf_mul(x, x);
    vf q = vf_set(-0x1.767a14p-8f);
    q = vf_fma(q, z, vf_set(0x1.524c40p-6f));
    q = vf_fma(q, z, vf_set(-0x1.b842c4p-5f));
    q = vf_fma(q, z, vf_set(0x1.11075ep-3f));
    q = vf_fma(q, z, vf_set(-0x1.555534p-2f));
    vf small = vf_fma(vf_mul(a, z), q, a);
    vf e = vf_exp(vf_add(a, a));
    vf large = vf_sub(vf_set(1.0f), vf_div(vf_set(2.0f), vf_add(e, vf_set(1.0f))));
    vf y = vf_select(vf_gt(a, vf_set(0.625f)), large, small);
    return vi_float_bits(vi_or(vf_bits(y), vi_and(vf_bits(x), vi_set(INT32_MIN))));
}

/* An angle, or a frequency, as the unevaluated sum of two floats, |lo| small against |hi|. */
typedef struct vf2 {
    vf hi, lo;
} vf2;

/* The angle of a position, 0 to 2^31 - 1, at frequencies f: position = p_hi + p_lo, p_hi the
 * nearest float (p_lo is 0 below 2^24).  Relative error about 2^-47. */
static inline vf2 vf_angle(float p_hi, float p_lo, vf2 f)
{
    vf p = vf_set(p_hi);
    vf2 a = {.hi = vf_mul(p, f.hi)};
    a.lo = vf_fma(p, f.hi, vf_neg(a.hi));
    a.lo = vf_fma(p, f.lo, a.lo);
    a.lo = vf_fma(vf_set(p_lo), f.hi, a.lo);
    return a;
}

/* a - k pi/2, pi/2 in three parts.  With k a multiple of 2^j near a.hi / (pi/2), the high part is
 * exact: it is a multiple of 2^(j - 24) or coarser, and below 2^j. */
static inline vf2 vf_reduce(vf2 a, vf k)
{
    vf n = vf_neg(k);
    vf2 r = {.hi = vf_fma(n, vf_set(0x1.921fb6p+0f), a.hi)};
    r.lo = vf_fma(n, vf_set(-0x1.777a5cp-25f), a.lo);
    r.lo = vf_fma(n, vf_set(-0x1.ee59dap-50f), r.lo);
    return r;
}

/* Lanes of more than 2^10 quarter turns (up to 2^32): less a multiple of 2^10 of them. */
static inline vf2 vf_reduce_far(vf2 a, vf turns, vm far)
{
    const vf round = vf_set(VF_ROUND);
    vf k = vf_sub(vf_fma(turns, vf_set(0x1p-10f), round), round);
    vf2 r = vf_reduce(a, vf_mul(k, vf_set(0x1p10f)));
    vf sum = vf_add(r.hi, r.lo), part = vf_sub(sum, r.hi);
    vf rest = vf_add(vf_sub(r.hi, vf_sub(sum, part)), vf_sub(r.lo, part));
    return (vf2){vf_select(far, sum, a.hi), vf_select(far, rest, a.lo)};
}

/* Sine and cosine of a.hi + a.lo.  Quarter turns are taken off, a multiple of 2^10 first where
 * there are many, then to the nearest; the rest s + t, |s| < 0.79, goes through
 *   sin = s + (s^3 p(s^2) + t),  cos = 1 - (s^2 + e)/2 + s^4 q(s^2),  e = s^2's own rest + 2 s t.
 */
static inline void vf_sincos(vf2 a, vf *sine, vf *cosine)
{
    const vf round = vf_set(VF_ROUND), one = vf_set(1.0f), to_turns = vf_set(0x1.45f306p-1f);
    vf turns = vf_mul(a.hi, to_turns);
    vm far = vf_gt(vf_abs(turns), vf_set(0x1p10f));
    if (vm_any(far)) {
        a = vf_reduce_far(a, turns, far);
        turns = vf_mul(a.hi, to_turns);
    }
    vf quarter = vf_add(turns, round);
    a = vf_reduce(a, vf_sub(quarter, round));
    vf s = vf_add(a.hi, a.lo);
    vf t = vf_sub(a.lo, vf_sub(s, a.hi));

    vf z = vf_mul(s, s);
    vf p = vf_fma(vf_set(-0x1.9955b6p-13f), z, vf_set(0x1.11077cp-7f));
    p = vf_fma(p, z, vf_set(-0x1.555546p-3f));
    vf sn = vf_add(s, vf_fma(vf_mul(s, z), p, t));
    vf q = vf_fma(vf_set(0x1.99e0eep-16f), z, vf_set(-0x1.6c0c1ap-10f));
    q = vf_fma(q, z, vf_set(0x1.55554ap-5f));
    vf e = vf_fma(vf_add(s, s), t, vf_fma(s, s, vf_neg(z)));
    vf c = vf_fma(vf_mul(z, z), q, vf_mul(vf_set(-0.5f), e));
    vf cs = vf_add(one, vf_fma(vf_set(-0.5f), z, c));

    /* sin(x + n pi/2): n odd swaps the two, bit 1 of n, of n + 1 for the cosine, flips the sign */
    vi n = vf_bits(quarter), bit = vi_set(1), two = vi_set(2);
    vm odd = vi_eq(vi_and(n, bit), bit);
    vf y = vf_select(odd, cs, sn), x = vf_select(odd, sn, cs);
    *sine = vi_float_bits(vi_xor(vf_bits(y), vi_shl(vi_and(n, two), 30)));
    *cosine = vi_float_bits(vi_xor(vf_bits(x), vi_shl(vi_and(vi_add(n, bit), two), 30)));
}

#endif
