/* simd_neon.h - simd.h on arm64 Advanced SIMD: every vector is four registers.  With
 * MLXN_ISA_DOTPROD the byte dot product is one instruction. */
#ifndef MLXN_CPU_SIMD_NEON_H
#define MLXN_CPU_SIMD_NEON_H

#include <arm_neon.h>

typedef struct vf {
    float32x4_t x[4];
} vf;
typedef struct vi {
    int32x4_t x[4];
} vi;
typedef struct vm { /* a lane is all zeros or all ones */
    uint32x4_t x[4];
} vm;
typedef struct vb {
    uint8x16_t x[4];
} vb;
#define VB_DOT_BIAS 128

/* r.x[i] = expr for the four registers */
#define QUADS(type, expr)       \
    type r;                     \
    for (int i = 0; i < 4; i++) \
        r.x[i] = (expr);        \
    return r

static inline vf vf_load(const float *p)
{
    QUADS(vf, vld1q_f32(p + 4 * i));
}
static inline vf vf_load_n(const float *p, int n)
{
    float t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return vf_load(t);
}
static inline void vf_store(float *p, vf v)
{
    for (int i = 0; i < 4; i++)
        vst1q_f32(p + 4 * i, v.x[i]);
}
static inline void vf_store_n(float *p, vf v, int n)
{
    float t[16];
    vf_store(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}
static inline void vf_stream(float *p, vf v) /* no such store here */
{
    vf_store(p, v);
}
static inline void vf_stream_end(void)
{
}
static inline vf vf_set(float x)
{
    QUADS(vf, vdupq_n_f32(x));
}
static inline vf vf_add(vf a, vf b)
{
    QUADS(vf, vaddq_f32(a.x[i], b.x[i]));
}
static inline vf vf_sub(vf a, vf b)
{
    QUADS(vf, vsubq_f32(a.x[i], b.x[i]));
}
static inline vf vf_mul(vf a, vf b)
{
    QUADS(vf, vmulq_f32(a.x[i], b.x[i]));
}
static inline vf vf_div(vf a, vf b)
{
    QUADS(vf, vdivq_f32(a.x[i], b.x[i]));
}
static inline vf vf_sqrt(vf a)
{
    QUADS(vf, vsqrtq_f32(a.x[i]));
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    QUADS(vf, vfmaq_f32(c.x[i], a.x[i], b.x[i]));
}
static inline vf vf_max(vf a, vf b)
{
    QUADS(vf, vbslq_f32(vcgtq_f32(a.x[i], b.x[i]), a.x[i], b.x[i]));
}
static inline vf vf_min(vf a, vf b)
{
    QUADS(vf, vbslq_f32(vcltq_f32(a.x[i], b.x[i]), a.x[i], b.x[i]));
}
static inline vi vf_bits(vf a)
{
    QUADS(vi, vreinterpretq_s32_f32(a.x[i]));
}
static inline vf vi_float_bits(vi a)
{
    QUADS(vf, vreinterpretq_f32_s32(a.x[i]));
}
static inline vf vf_neg(vf a)
{
    QUADS(vf, vnegq_f32(a.x[i]));
}
static inline vf vf_abs(vf a)
{
    QUADS(vf, vabsq_f32(a.x[i]));
}
static inline vi vi_set(int32_t x)
{
    QUADS(vi, vdupq_n_s32(x));
}
static inline vi vi_load(const int32_t *p)
{
    QUADS(vi, vld1q_s32(p + 4 * i));
}
static inline vi vi_load_n(const int32_t *p, int n)
{
    int32_t t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return vi_load(t);
}
static inline void vi_store(int32_t *p, vi v)
{
    for (int i = 0; i < 4; i++)
        vst1q_s32(p + 4 * i, v.x[i]);
}
static inline vi vi_iota(void)
{
    static const int32_t iota[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return vi_load(iota);
}
static inline vi vi_load_u8(const uint8_t *p) /* 16 bytes, zero-extended */
{
    uint8x16_t v = vld1q_u8(p);
    uint16x8_t lo = vmovl_u8(vget_low_u8(v)), hi = vmovl_high_u8(v);
    return (vi){{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(lo))),
                 vreinterpretq_s32_u32(vmovl_high_u16(lo)),
                 vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(hi))),
                 vreinterpretq_s32_u32(vmovl_high_u16(hi))}};
}
static inline vi vi_load_i8(const int8_t *p) /* 16 bytes, sign-extended */
{
    int8x16_t v = vld1q_s8(p);
    int16x8_t lo = vmovl_s8(vget_low_s8(v)), hi = vmovl_high_s8(v);
    return (vi){{vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo), vmovl_s16(vget_low_s16(hi)),
                 vmovl_high_s16(hi)}};
}
static inline void vi_store_i8(int8_t *p, vi v) /* the low byte of each lane */
{
    int16x8_t lo = vcombine_s16(vmovn_s32(v.x[0]), vmovn_s32(v.x[1]));
    int16x8_t hi = vcombine_s16(vmovn_s32(v.x[2]), vmovn_s32(v.x[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}
static inline vi vi_add(vi a, vi b)
{
    QUADS(vi, vaddq_s32(a.x[i], b.x[i]));
}
static inline vi vi_sub(vi a, vi b)
{
    QUADS(vi, vsubq_s32(a.x[i], b.x[i]));
}
static inline vi vi_mul(vi a, vi b)
{
    QUADS(vi, vmulq_s32(a.x[i], b.x[i]));
}
static inline vi vi_and(vi a, vi b)
{
    QUADS(vi, vandq_s32(a.x[i], b.x[i]));
}
static inline vi vi_or(vi a, vi b)
{
    QUADS(vi, vorrq_s32(a.x[i], b.x[i]));
}
static inline vi vi_xor(vi a, vi b)
{
    QUADS(vi, veorq_s32(a.x[i], b.x[i]));
}
static inline vi vi_shl(vi a, int n)
{
    QUADS(vi, vshlq_s32(a.x[i], vdupq_n_s32(n)));
}
static inline vi vi_shr(vi a, int n) /* logical */
{
    QUADS(vi, vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a.x[i]), vdupq_n_s32(-n))));
}
static inline vi vi_sar(vi a, int n) /* arithmetic */
{
    QUADS(vi, vshlq_s32(a.x[i], vdupq_n_s32(-n)));
}
static inline vf vi_to_float(vi a)
{
    QUADS(vf, vcvtq_f32_s32(a.x[i]));
}
static inline vi vf_to_int(vf a)
{
    QUADS(vi, vcvtnq_s32_f32(a.x[i]));
}
static inline vm vf_gt(vf a, vf b)
{
    QUADS(vm, vcgtq_f32(a.x[i], b.x[i]));
}
static inline vm vf_ge(vf a, vf b)
{
    QUADS(vm, vcgeq_f32(a.x[i], b.x[i]));
}
static inline vm vf_eq(vf a, vf b)
{
    QUADS(vm, vceqq_f32(a.x[i], b.x[i]));
}
static inline vm vi_gt(vi a, vi b)
{
    QUADS(vm, vcgtq_s32(a.x[i], b.x[i]));
}
static inline vm vi_eq(vi a, vi b)
{
    QUADS(vm, vceqq_s32(a.x[i], b.x[i]));
}
static inline vm vm_first(int n)
{
    return vi_gt(vi_set(n), vi_iota());
}
static inline vm vm_and(vm a, vm b)
{
    QUADS(vm, vandq_u32(a.x[i], b.x[i]));
}
static inline vm vm_or(vm a, vm b)
{
    QUADS(vm, vorrq_u32(a.x[i], b.x[i]));
}
static inline vm vm_not(vm a)
{
    QUADS(vm, vmvnq_u32(a.x[i]));
}
static inline uint32_t vm_bits(vm a) /* bit i: lane i */
{
    static const uint32_t weight[4] = {1, 2, 4, 8};
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++)
        bits |= vaddvq_u32(vandq_u32(a.x[i], vld1q_u32(weight))) << 4 * i;
    return bits;
}
static inline int vm_any(vm a)
{
    return vm_bits(a) != 0;
}
static inline vf vf_select(vm m, vf yes, vf no)
{
    QUADS(vf, vbslq_f32(m.x[i], yes.x[i], no.x[i]));
}
static inline vi vi_select(vm m, vi yes, vi no)
{
    QUADS(vi, vbslq_s32(m.x[i], yes.x[i], no.x[i]));
}
static inline vf vf_load_f16(const uint16_t *p)
{
    QUADS(vf, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}
static inline void vf_store_f16(uint16_t *p, vf v)
{
    for (int i = 0; i < 4; i++)
        vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v.x[i])));
}
static inline vf vf_load_bf16(const uint16_t *p)
{
    QUADS(vf, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}
static inline void vf_store_bf16(uint16_t *p, vf v)
{
    for (int i = 0; i < 4; i++) {
        uint32x4_t u = vreinterpretq_u32_f32(v.x[i]);
        uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
        uint32x4_t r = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        uint32x4_t number = vceqq_f32(v.x[i], v.x[i]);
        r = vbslq_u32(number, r, vorrq_u32(u, vdupq_n_u32(0x400000)));
        vst1_u16(p + 4 * i, vshrn_n_u32(r, 16));
    }
}
static inline vf vf_load_f16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return vf_load_f16(t);
}
static inline void vf_store_f16_n(uint16_t *p, vf v, int n)
{
    uint16_t t[16];
    vf_store_f16(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}
static inline vf vf_load_bf16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return vf_load_bf16(t);
}
static inline void vf_store_bf16_n(uint16_t *p, vf v, int n)
{
    uint16_t t[16];
    vf_store_bf16(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}
static inline void vf_stream_f16(uint16_t *p, vf v)
{
    vf_store_f16(p, v);
}
static inline void vf_stream_bf16(uint16_t *p, vf v)
{
    vf_store_bf16(p, v);
}
static inline vf vf_swap_pairs(vf a)
{
    QUADS(vf, vrev64q_f32(a.x[i]));
}
static inline float vf_sum(vf v)
{
    float32x4_t s = vaddq_f32(vaddq_f32(v.x[0], v.x[2]), vaddq_f32(v.x[1], v.x[3]));
    float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(t, 0) + vget_lane_f32(t, 1);
}
static inline float vf_max_all(vf v)
{
    float t[16];
    vf_store(t, v);
    for (int d = 8; d; d /= 2)
        for (int i = 0; i < d; i++)
            t[i] = t[i] > t[i + d] ? t[i] : t[i + d];
    return t[0];
}

static inline void vb_store(void *p, vb v)
{
    for (int i = 0; i < 4; i++)
        vst1q_u8((uint8_t *)p + 16 * i, v.x[i]);
}
static inline vb vb_load(const void *p)
{
    QUADS(vb, vld1q_u8((const uint8_t *)p + 16 * i));
}
static inline vb vb_set(uint8_t x)
{
    QUADS(vb, vdupq_n_u8(x));
}
static inline vb vb_and(vb a, vb b)
{
    QUADS(vb, vandq_u8(a.x[i], b.x[i]));
}
static inline vb vb_or(vb a, vb b)
{
    QUADS(vb, vorrq_u8(a.x[i], b.x[i]));
}
static inline vb vb_add(vb a, vb b)
{
    QUADS(vb, vaddq_u8(a.x[i], b.x[i]));
}
/* Each byte shifted by n; bits that leave a byte do not enter its neighbour. */
static inline vb vb_shr(vb a, int n)
{
    QUADS(vb, vshlq_u8(a.x[i], vdupq_n_s8((int8_t)-n)));
}
static inline vb vb_shl(vb a, int n)
{
    QUADS(vb, vshlq_u8(a.x[i], vdupq_n_s8((int8_t)n)));
}
/* Byte i is `value` where bit i of `bits` is set, else 0. */
static inline vb vb_from_bits(uint64_t bits, uint8_t value)
{
    const uint8x16_t pick = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    vb r;
    for (int i = 0; i < 4; i++) {
        uint8x16_t x = vcombine_u8(vdup_n_u8((uint8_t)(bits >> 16 * i)),
                                   vdup_n_u8((uint8_t)(bits >> (16 * i + 8))));
        r.x[i] = vandq_u8(vtstq_u8(x, pick), vdupq_n_u8(value));
    }
    return r;
}
static inline vi vb_dot(vi acc, vb w, int32_t a)
{
    int8x16_t s = vreinterpretq_s8_s32(vdupq_n_s32(a));
    for (int i = 0; i < 4; i++) {
        int8x16_t x = vreinterpretq_s8_u8(veorq_u8(w.x[i], vdupq_n_u8(128)));
#if defined(MLXN_ISA_DOTPROD)
        acc.x[i] = vdotq_s32(acc.x[i], x, s);
#else
        int16x8_t lo = vmull_s8(vget_low_s8(x), vget_low_s8(s)), hi = vmull_high_s8(x, s);
        acc.x[i] = vaddq_s32(acc.x[i], vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
#endif
    }
    return acc;
}
/* Lane i: byte 4i + which, zero-extended. */
static inline vi vb_lane_byte(vb v, int which)
{
    QUADS(vi,
          vreinterpretq_s32_u32(vandq_u32(
              vshlq_u32(vreinterpretq_u32_u8(v.x[i]), vdupq_n_s32(-8 * which)), vdupq_n_u32(255))));
}

#undef QUADS
#endif
