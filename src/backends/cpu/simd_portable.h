/* simd_portable.h - simd.h in plain C: arrays of 16 lanes, for machines without a path of their own
 * and as the reference of the others. */
#ifndef MLXN_CPU_SIMD_PORTABLE_H
#define MLXN_CPU_SIMD_PORTABLE_H

#include <math.h>

typedef struct vf {
    float x[16];
} vf;
typedef struct vi {
    int32_t x[16];
} vi;
typedef vi vm; /* a lane is 0 or -1 */
typedef struct vb {
    uint8_t x[64];
} vb;
#define VB_DOT_BIAS 0

/* r.x[i] = expr for each of n lanes */
#define LANES(type, n, expr)      \
    type r;                       \
    for (int i = 0; i < (n); i++) \
        r.x[i] = (expr);          \
    return r

static inline uint32_t vf_lane_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float vf_lane_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
/* IEEE half to single, exact. */
static inline float vf_lane_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 0x3ffu;
    if (e == 31)
        return vf_lane_float(sign | 0x7f800000u | (m ? m << 13 | 0x400000u : 0));
    if (e == 0) /* subnormal: m * 2^-24 */
        return vf_lane_float(sign | vf_lane_bits((float)m * 0x1p-24f));
    return vf_lane_float(sign | (e + 112) << 23 | m << 13);
}
/* Single to half, nearest even. */
static inline uint16_t vf_lane_to_f16(float f)
{
    uint32_t u = vf_lane_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x477ff000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) /* subnormal: adding 0.5 rounds at 2^-24 */
        return (uint16_t)(sign | (vf_lane_bits(vf_lane_float(a) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13));
}
static inline uint16_t vf_lane_to_bf16(float f)
{
    uint32_t u = vf_lane_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static inline vm vm_first(int n)
{
    LANES(vm, 16, i < n ? -1 : 0);
}
static inline vf vf_load(const float *p)
{
    LANES(vf, 16, p[i]);
}
static inline vf vf_load_n(const float *p, int n)
{
    LANES(vf, 16, i < n ? p[i] : 0);
}
static inline void vf_store(float *p, vf v)
{
    memcpy(p, v.x, sizeof v.x);
}
static inline void vf_store_n(float *p, vf v, int n)
{
    memcpy(p, v.x, (size_t)n * sizeof *p);
}
static inline void vf_stream(float *p, vf v)
{
    vf_store(p, v);
}
static inline void vf_stream_end(void)
{
}
static inline vf vf_set(float x)
{
    LANES(vf, 16, x);
}
static inline vf vf_add(vf a, vf b)
{
    LANES(vf, 16, a.x[i] + b.x[i]);
}
static inline vf vf_sub(vf a, vf b)
{
    LANES(vf, 16, a.x[i] - b.x[i]);
}
static inline vf vf_mul(vf a, vf b)
{
    LANES(vf, 16, a.x[i] * b.x[i]);
}
static inline vf vf_div(vf a, vf b)
{
    LANES(vf, 16, a.x[i] / b.x[i]);
}
static inline vf vf_sqrt(vf a)
{
    LANES(vf, 16, sqrtf(a.x[i]));
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    LANES(vf, 16, fmaf(a.x[i], b.x[i], c.x[i]));
}
static inline vf vf_max(vf a, vf b)
{
    LANES(vf, 16, a.x[i] > b.x[i] ? a.x[i] : b.x[i]);
}
static inline vf vf_min(vf a, vf b)
{
    LANES(vf, 16, a.x[i] < b.x[i] ? a.x[i] : b.x[i]);
}
static inline vi vf_bits(vf a)
{
    LANES(vi, 16, (int32_t)vf_lane_bits(a.x[i]));
}
static inline vf vi_float_bits(vi a)
{
    LANES(vf, 16, vf_lane_float((uint32_t)a.x[i]));
}
static inline vf vf_neg(vf a)
{
    LANES(vf, 16, -a.x[i]);
}
static inline vf vf_abs(vf a)
{
    LANES(vf, 16, vf_lane_float(vf_lane_bits(a.x[i]) & 0x7fffffffu));
}
static inline vi vi_set(int32_t x)
{
    LANES(vi, 16, x);
}
static inline vi vi_iota(void)
{
    LANES(vi, 16, i);
}
static inline vi vi_load(const int32_t *p)
{
    LANES(vi, 16, p[i]);
}
static inline vi vi_load_n(const int32_t *p, int n)
{
    LANES(vi, 16, i < n ? p[i] : 0);
}
static inline void vi_store(int32_t *p, vi v)
{
    memcpy(p, v.x, sizeof v.x);
}
static inline vi vi_load_u8(const uint8_t *p) /* 16 bytes, zero-extended */
{
    LANES(vi, 16, p[i]);
}
static inline vi vi_load_i8(const int8_t *p) /* 16 bytes, sign-extended */
{
    LANES(vi, 16, p[i]);
}
static inline void vi_store_i8(int8_t *p, vi v) /* the low byte of each lane */
{
    for (int i = 0; i < 16; i++)
        p[i] = (int8_t)v.x[i];
}
static inline vi vi_add(vi a, vi b)
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] + (uint32_t)b.x[i]));
}
static inline vi vi_sub(vi a, vi b)
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] - (uint32_t)b.x[i]));
}
static inline vi vi_mul(vi a, vi b) /* low 32 bits */
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] * (uint32_t)b.x[i]));
}
static inline vi vi_and(vi a, vi b)
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] & (uint32_t)b.x[i]));
}
static inline vi vi_or(vi a, vi b)
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] | (uint32_t)b.x[i]));
}
static inline vi vi_xor(vi a, vi b)
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] ^ (uint32_t)b.x[i]));
}
static inline vi vi_shl(vi a, int n)
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] << n));
}
static inline vi vi_shr(vi a, int n) /* logical */
{
    LANES(vi, 16, (int32_t)((uint32_t)a.x[i] >> n));
}
static inline vi vi_sar(vi a, int n) /* arithmetic */
{
    LANES(vi, 16, a.x[i] >> n);
}
static inline vf vi_to_float(vi a)
{
    LANES(vf, 16, (float)a.x[i]);
}
static inline vi vf_to_int(vf a)
{
    LANES(vi, 16, (int32_t)lrintf(a.x[i]));
}
static inline vm vf_gt(vf a, vf b)
{
    LANES(vm, 16, a.x[i] > b.x[i] ? -1 : 0);
}
static inline vm vf_ge(vf a, vf b)
{
    LANES(vm, 16, a.x[i] >= b.x[i] ? -1 : 0);
}
static inline vm vf_eq(vf a, vf b)
{
    LANES(vm, 16, a.x[i] == b.x[i] ? -1 : 0);
}
static inline vm vi_gt(vi a, vi b)
{
    LANES(vm, 16, a.x[i] > b.x[i] ? -1 : 0);
}
static inline vm vi_eq(vi a, vi b)
{
    LANES(vm, 16, a.x[i] == b.x[i] ? -1 : 0);
}
static inline vm vm_and(vm a, vm b)
{
    LANES(vm, 16, a.x[i] & b.x[i]);
}
static inline vm vm_or(vm a, vm b)
{
    LANES(vm, 16, a.x[i] | b.x[i]);
}
static inline vm vm_not(vm a)
{
    LANES(vm, 16, ~a.x[i]);
}
static inline uint32_t vm_bits(vm a) /* bit i: lane i */
{
    uint32_t bits = 0;
    for (int i = 0; i < 16; i++)
        bits |= (uint32_t)(a.x[i] & 1) << i;
    return bits;
}
static inline int vm_any(vm a)
{
    return vm_bits(a) != 0;
}
static inline vf vf_select(vm m, vf yes, vf no)
{
    LANES(vf, 16, m.x[i] ? yes.x[i] : no.x[i]);
}
static inline vi vi_select(vm m, vi yes, vi no)
{
    LANES(vi, 16, m.x[i] ? yes.x[i] : no.x[i]);
}
static inline vf vf_load_f16(const uint16_t *p)
{
    LANES(vf, 16, vf_lane_from_f16(p[i]));
}
static inline vf vf_load_f16_n(const uint16_t *p, int n)
{
    LANES(vf, 16, i < n ? vf_lane_from_f16(p[i]) : 0);
}
static inline void vf_store_f16_n(uint16_t *p, vf v, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = vf_lane_to_f16(v.x[i]);
}
static inline void vf_store_f16(uint16_t *p, vf v)
{
    vf_store_f16_n(p, v, 16);
}
static inline vf vf_load_bf16(const uint16_t *p)
{
    LANES(vf, 16, vf_lane_float((uint32_t)p[i] << 16));
}
static inline vf vf_load_bf16_n(const uint16_t *p, int n)
{
    LANES(vf, 16, i < n ? vf_lane_float((uint32_t)p[i] << 16) : 0);
}
static inline void vf_store_bf16_n(uint16_t *p, vf v, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = vf_lane_to_bf16(v.x[i]);
}
static inline void vf_store_bf16(uint16_t *p, vf v)
{
    vf_store_bf16_n(p, v, 16);
}
static inline void vf_stream_f16(uint16_t *p, vf v)
{
    vf_store_f16_n(p, v, 16);
}
static inline void vf_stream_bf16(uint16_t *p, vf v)
{
    vf_store_bf16_n(p, v, 16);
}
static inline vf vf_swap_pairs(vf a)
{
    LANES(vf, 16, a.x[i ^ 1]);
}
static inline float vf_sum(vf v)
{
    for (int d = 8; d; d /= 2)
        for (int i = 0; i < d; i++)
            v.x[i] = v.x[i] + v.x[i + d];
    return v.x[0];
}
static inline float vf_max_all(vf v)
{
    for (int d = 8; d; d /= 2)
        for (int i = 0; i < d; i++)
            v.x[i] = v.x[i] > v.x[i + d] ? v.x[i] : v.x[i + d];
    return v.x[0];
}
static inline vb vb_load(const void *p)
{
    vb r;
    memcpy(r.x, p, sizeof r.x);
    return r;
}
static inline void vb_store(void *p, vb v)
{
    memcpy(p, v.x, sizeof v.x);
}
static inline vb vb_set(uint8_t x)
{
    LANES(vb, 64, x);
}
static inline vb vb_and(vb a, vb b)
{
    LANES(vb, 64, a.x[i] & b.x[i]);
}
static inline vb vb_or(vb a, vb b)
{
    LANES(vb, 64, a.x[i] | b.x[i]);
}
static inline vb vb_add(vb a, vb b)
{
    LANES(vb, 64, (uint8_t)(a.x[i] + b.x[i]));
}
/* Each byte shifted by n; bits that leave a byte do not enter its neighbour. */
static inline vb vb_shr(vb a, int n)
{
    LANES(vb, 64, (uint8_t)(a.x[i] >> n));
}
static inline vb vb_shl(vb a, int n)
{
    LANES(vb, 64, (uint8_t)(a.x[i] << n));
}
/* Byte i is `value` where bit i of `bits` is set, else 0. */
static inline vb vb_from_bits(uint64_t bits, uint8_t value)
{
    LANES(vb, 64, bits >> i & 1 ? value : 0);
}
static inline vi vb_dot(vi acc, vb w, int32_t a)
{
    int8_t s[4];
    memcpy(s, &a, sizeof s);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 4; j++)
            acc.x[i] += w.x[4 * i + j] * s[j];
    return acc;
}
/* Lane i: byte 4i + which, zero-extended. */
static inline vi vb_lane_byte(vb v, int which)
{
    LANES(vi, 16, v.x[4 * i + which]);
}

#undef LANES
#endif
