/* simd_avx2.h - simd.h on AVX2, FMA, F16C: every vector is a pair of registers. */
#ifndef MLXN_CPU_SIMD_AVX2_H
#define MLXN_CPU_SIMD_AVX2_H

#include <immintrin.h>

typedef struct vf {
    __m256 a, b;
} vf;
typedef struct vi {
    __m256i a, b;
} vi;
typedef vi vm;
typedef vi vb;
#define VB_DOT_BIAS             128

#define VF_PAIR(expr_a, expr_b) ((vf){(expr_a), (expr_b)})
#define VI_PAIR(expr_a, expr_b) ((vi){(expr_a), (expr_b)})

static inline vm vm_first(int n)
{
    const __m256i iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return VI_PAIR(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), iota),
                   _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), iota));
}
static inline vf vf_load(const float *p)
{
    return VF_PAIR(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
static inline vf vf_load_n(const float *p, int n)
{
    vm m = vm_first(n);
    return VF_PAIR(_mm256_maskload_ps(p, m.a), _mm256_maskload_ps(p + 8, m.b));
}
static inline void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static inline void vf_store_n(float *p, vf v, int n)
{
    vm m = vm_first(n);
    _mm256_maskstore_ps(p, m.a, v.a);
    _mm256_maskstore_ps(p + 8, m.b, v.b);
}
static inline void vf_stream(float *p, vf v) /* p 64-byte aligned; past the caches */
{
    _mm256_stream_ps(p, v.a);
    _mm256_stream_ps(p + 8, v.b);
}
static inline void vf_stream_end(void)
{
    _mm_sfence();
}
static inline vf vf_set(float x)
{
    return VF_PAIR(_mm256_set1_ps(x), _mm256_set1_ps(x));
}
static inline vf vf_add(vf x, vf y)
{
    return VF_PAIR(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}
static inline vf vf_sub(vf x, vf y)
{
    return VF_PAIR(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}
static inline vf vf_mul(vf x, vf y)
{
    return VF_PAIR(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}
static inline vf vf_div(vf x, vf y)
{
    return VF_PAIR(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b));
}
static inline vf vf_sqrt(vf x)
{
    return VF_PAIR(_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b));
}
static inline vf vf_fma(vf x, vf y, vf z)
{
    return VF_PAIR(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
static inline vf vf_max(vf x, vf y)
{
    return VF_PAIR(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}
static inline vf vf_min(vf x, vf y)
{
    return VF_PAIR(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b));
}
static inline vi vf_bits(vf x)
{
    return VI_PAIR(_mm256_castps_si256(x.a), _mm256_castps_si256(x.b));
}
static inline vf vi_float_bits(vi x)
{
    return VF_PAIR(_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b));
}

static inline vi vi_set(int32_t x)
{
    return VI_PAIR(_mm256_set1_epi32(x), _mm256_set1_epi32(x));
}
static inline vi vi_iota(void)
{
    return VI_PAIR(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                   _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
}
static inline vi vi_load(const int32_t *p)
{
    return VI_PAIR(_mm256_loadu_si256((const void *)p), _mm256_loadu_si256((const void *)(p + 8)));
}
static inline vi vi_load_n(const int32_t *p, int n)
{
    vm m = vm_first(n);
    return VI_PAIR(_mm256_maskload_epi32(p, m.a), _mm256_maskload_epi32(p + 8, m.b));
}
static inline void vi_store(int32_t *p, vi v)
{
    _mm256_storeu_si256((void *)p, v.a);
    _mm256_storeu_si256((void *)(p + 8), v.b);
}
static inline vi vi_load_u8(const uint8_t *p) /* 16 bytes, zero-extended */
{
    __m128i x = _mm_loadu_si128((const void *)p);
    return VI_PAIR(_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8)));
}
static inline vi vi_load_i8(const int8_t *p) /* 16 bytes, sign-extended */
{
    __m128i x = _mm_loadu_si128((const void *)p);
    return VI_PAIR(_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)));
}
static inline void vi_store_i8(int8_t *p, vi v) /* the low byte of each lane */
{
    int32_t t[16];
    vi_store(t, v);
    for (int i = 0; i < 16; i++)
        p[i] = (int8_t)t[i];
}
static inline vi vi_add(vi x, vi y)
{
    return VI_PAIR(_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b));
}
static inline vi vi_sub(vi x, vi y)
{
    return VI_PAIR(_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b));
}
static inline vi vi_mul(vi x, vi y) /* low 32 bits */
{
    return VI_PAIR(_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b));
}
static inline vi vi_and(vi x, vi y)
{
    return VI_PAIR(_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b));
}
static inline vi vi_or(vi x, vi y)
{
    return VI_PAIR(_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b));
}
static inline vi vi_xor(vi x, vi y)
{
    return VI_PAIR(_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b));
}
#define vi_shl(x, n) /* n: a constant */ \
    VI_PAIR(_mm256_slli_epi32((x).a, (n)), _mm256_slli_epi32((x).b, (n)))
#define vi_shr(x, n) /* logical */ \
    VI_PAIR(_mm256_srli_epi32((x).a, (n)), _mm256_srli_epi32((x).b, (n)))
#define vi_sar(x, n) /* arithmetic */ \
    VI_PAIR(_mm256_srai_epi32((x).a, (n)), _mm256_srai_epi32((x).b, (n)))
static inline vf vi_to_float(vi x)
{
    return VF_PAIR(_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b));
}
static inline vi vf_to_int(vf x)
{
    return VI_PAIR(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
}
static inline vf vf_neg(vf x) /* which compilers see through: it costs nothing at an fma */
{
    return VF_PAIR(-x.a, -x.b);
}
static inline vf vf_abs(vf x)
{
    return vi_float_bits(vi_and(vf_bits(x), vi_set(INT32_MAX)));
}

#define VF_COMPARE(x, y, how)                                        \
    VI_PAIR(_mm256_castps_si256(_mm256_cmp_ps((x).a, (y).a, (how))), \
            _mm256_castps_si256(_mm256_cmp_ps((x).b, (y).b, (how))))
static inline vm vf_gt(vf x, vf y)
{
    return VF_COMPARE(x, y, _CMP_GT_OQ);
}
static inline vm vf_ge(vf x, vf y)
{
    return VF_COMPARE(x, y, _CMP_GE_OQ);
}
static inline vm vf_eq(vf x, vf y)
{
    return VF_COMPARE(x, y, _CMP_EQ_OQ);
}
static inline vm vi_gt(vi x, vi y)
{
    return VI_PAIR(_mm256_cmpgt_epi32(x.a, y.a), _mm256_cmpgt_epi32(x.b, y.b));
}
static inline vm vi_eq(vi x, vi y)
{
    return VI_PAIR(_mm256_cmpeq_epi32(x.a, y.a), _mm256_cmpeq_epi32(x.b, y.b));
}
static inline vm vm_and(vm x, vm y)
{
    return vi_and(x, y);
}
static inline vm vm_or(vm x, vm y)
{
    return vi_or(x, y);
}
static inline vm vm_not(vm x)
{
    return vi_xor(x, vi_set(-1));
}
static inline uint32_t vm_bits(vm x) /* bit i: lane i */
{
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(x.a)) |
           (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(x.b)) << 8;
}
static inline int vm_any(vm x)
{
    return vm_bits(x) != 0;
}
static inline vf vf_select(vm m, vf yes, vf no)
{
    return VF_PAIR(_mm256_blendv_ps(no.a, yes.a, _mm256_castsi256_ps(m.a)),
                   _mm256_blendv_ps(no.b, yes.b, _mm256_castsi256_ps(m.b)));
}
static inline vi vi_select(vm m, vi yes, vi no)
{
    return VI_PAIR(_mm256_blendv_epi8(no.a, yes.a, m.a), _mm256_blendv_epi8(no.b, yes.b, m.b));
}

static inline vf vf_load_f16(const uint16_t *p)
{
    return VF_PAIR(_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)),
                   _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8))));
}
static inline vf vf_load_f16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, (size_t)n * 2);
    return vf_load_f16(t);
}
static inline void vf_store_f16(uint16_t *p, vf v)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((void *)(p + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_store_f16_n(uint16_t *p, vf v, int n)
{
    uint16_t t[16];
    vf_store_f16(t, v);
    memcpy(p, t, (size_t)n * 2);
}
static inline vf vf_load_bf16(const uint16_t *p)
{
    __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p + 8)));
    return VF_PAIR(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                   _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)));
}
static inline vf vf_load_bf16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, (size_t)n * 2);
    return vf_load_bf16(t);
}
static inline __m256i vf_round_bf16_half(__m256 x)
{
    __m256i u = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
    return _mm256_srli_epi32(r, 16);
}
static inline __m256i vf_round_bf16(vf v)
{
    __m256i packed = _mm256_packus_epi32(vf_round_bf16_half(v.a), vf_round_bf16_half(v.b));
    return _mm256_permute4x64_epi64(packed, 0xd8);
}
static inline void vf_store_bf16(uint16_t *p, vf v)
{
    _mm256_storeu_si256((void *)p, vf_round_bf16(v));
}
static inline void vf_stream_bf16(uint16_t *p, vf v)
{
    _mm256_stream_si256((void *)p, vf_round_bf16(v));
}
static inline void vf_stream_f16(uint16_t *p, vf v)
{
    _mm_stream_si128((void *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_stream_si128((void *)(p + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_swap_pairs(vf x)
{
    return VF_PAIR(_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1));
}
static inline void vf_store_bf16_n(uint16_t *p, vf v, int n)
{
    uint16_t t[16];
    vf_store_bf16(t, v);
    memcpy(p, t, (size_t)n * 2);
}

static inline float vf_sum(vf v)
{
    __m256 s = _mm256_add_ps(v.a, v.b);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
static inline float vf_max_all(vf v)
{
    __m256 s = _mm256_max_ps(v.a, v.b);
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

static inline vb vb_load(const void *p)
{
    return VI_PAIR(_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1));
}
static inline void vb_store(void *p, vb v)
{
    _mm256_storeu_si256(p, v.a);
    _mm256_storeu_si256((__m256i *)p + 1, v.b);
}
static inline vb vb_set(uint8_t x)
{
    return VI_PAIR(_mm256_set1_epi8((char)x), _mm256_set1_epi8((char)x));
}
static inline vb vb_and(vb x, vb y)
{
    return vi_and(x, y);
}
static inline vb vb_or(vb x, vb y)
{
    return vi_or(x, y);
}
static inline vb vb_add(vb x, vb y)
{
    return VI_PAIR(_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b));
}
/* Each byte shifted by the constant n; bits that leave a byte do not enter its neighbour. */
#define vb_shr(x, n)                                                              \
    vb_and(VI_PAIR(_mm256_srli_epi16((x).a, (n)), _mm256_srli_epi16((x).b, (n))), \
           vb_set((uint8_t)(0xff >> (n))))
#define vb_shl(x, n)                                                              \
    vb_and(VI_PAIR(_mm256_slli_epi16((x).a, (n)), _mm256_slli_epi16((x).b, (n))), \
           vb_set((uint8_t)(0xff << (n))))
static inline __m256i vb_half_from_bits(uint32_t bits, uint8_t value)
{
    const __m256i spread =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i pick = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), spread);
    x = _mm256_cmpeq_epi8(_mm256_and_si256(x, pick), pick);
    return _mm256_and_si256(x, _mm256_set1_epi8((char)value));
}
/* Byte i is `value` where bit i of `bits` is set, else 0. */
static inline vb vb_from_bits(uint64_t bits, uint8_t value)
{
    return VI_PAIR(vb_half_from_bits((uint32_t)bits, value),
                   vb_half_from_bits((uint32_t)(bits >> 32), value));
}
/* |w - 128| is at most 128 and |a| at most 127, so pairs of products fit 16 bits. */
static inline __m256i vb_half_dot(__m256i acc, __m256i w, __m256i a)
{
    w = _mm256_xor_si256(w, _mm256_set1_epi8((char)128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static inline vi vb_dot(vi acc, vb w, int32_t a)
{
    __m256i x = _mm256_set1_epi32(a);
    return VI_PAIR(vb_half_dot(acc.a, w.a, x), vb_half_dot(acc.b, w.b, x));
}
/* Lane i: byte 4i + which, zero-extended. */
#define vb_lane_byte(v, which) vi_and(vi_shr((v), 8 * (which)), vi_set(255))

#endif
