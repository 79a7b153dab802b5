/* simd_avx512.h - simd.h on AVX-512 F, BW, DQ, VL, VNNI. */
#ifndef MLXN_CPU_SIMD_AVX512_H
#define MLXN_CPU_SIMD_AVX512_H

#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef __m512i vb;
#define VB_DOT_BIAS 0

static inline __mmask16 vm_first(int n)
{
    return (__mmask16)((1u << n) - 1u);
}

static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline vf vf_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(vm_first(n), p);
}
static inline void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
static inline void vf_store_n(float *p, vf v, int n)
{
    _mm512_mask_storeu_ps(p, vm_first(n), v);
}
static inline void vf_stream(float *p, vf v) /* p 64-byte aligned; past the caches */
{
    _mm512_stream_ps(p, v);
}
static inline void vf_stream_end(void)
{
    _mm_sfence();
}
static inline vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf vf_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline vi vf_bits(vf a)
{
    return _mm512_castps_si512(a);
}
static inline vf vi_float_bits(vi a)
{
    return _mm512_castsi512_ps(a);
}
static inline vf vf_neg(vf a) /* which compilers see through: it costs nothing at an fma */
{
    return -a;
}
static inline vf vf_abs(vf a)
{
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MAX)));
}

static inline vi vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}
static inline vi vi_iota(void)
{
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
static inline vi vi_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}
static inline vi vi_load_n(const int32_t *p, int n)
{
    return _mm512_maskz_loadu_epi32(vm_first(n), p);
}
static inline void vi_store(int32_t *p, vi v)
{
    _mm512_storeu_si512(p, v);
}
static inline vi vi_load_u8(const uint8_t *p) /* 16 bytes, zero-extended */
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}
static inline vi vi_load_i8(const int8_t *p) /* 16 bytes, sign-extended */
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p));
}
static inline void vi_store_i8(int8_t *p, vi v) /* the low byte of each lane */
{
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(v));
}
static inline vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
static inline vi vi_mul(vi a, vi b) /* low 32 bits */
{
    return _mm512_mullo_epi32(a, b);
}
static inline vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
static inline vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}
#define vi_shl(a, n) _mm512_slli_epi32((a), (n)) /* n: a constant */
#define vi_shr(a, n) _mm512_srli_epi32((a), (n)) /* logical */
#define vi_sar(a, n) _mm512_srai_epi32((a), (n)) /* arithmetic */
static inline vf vi_to_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}
static inline vi vf_to_int(vf a)
{
    return _mm512_cvtps_epi32(a);
}

static inline vm vf_gt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
static inline vm vf_ge(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
static inline vm vf_eq(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
static inline vm vi_gt(vi a, vi b)
{
    return _mm512_cmpgt_epi32_mask(a, b);
}
static inline vm vi_eq(vi a, vi b)
{
    return _mm512_cmpeq_epi32_mask(a, b);
}
static inline vm vm_and(vm a, vm b)
{
    return (vm)(a & b);
}
static inline vm vm_or(vm a, vm b)
{
    return (vm)(a | b);
}
static inline vm vm_not(vm a)
{
    return (vm)~a;
}
static inline int vm_any(vm a)
{
    return a != 0;
}
static inline uint32_t vm_bits(vm a) /* bit i: lane i */
{
    return a;
}
static inline vf vf_select(vm m, vf yes, vf no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}
static inline vi vi_select(vm m, vi yes, vi no)
{
    return _mm512_mask_blend_epi32(m, no, yes);
}

static inline vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
static inline vf vf_load_f16_n(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
static inline void vf_store_f16(uint16_t *p, vf v)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_store_f16_n(uint16_t *p, vf v, int n)
{
    _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_load_bf16(const uint16_t *p)
{
    __m512i u = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}
static inline vf vf_load_bf16_n(const uint16_t *p, int n)
{
    __m512i u = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vm_first(n), p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}
static inline __m512i vf_bf16_bits(vf v) /* rounded to bf16, in the high half of each lane */
{
    const __m512i u = _mm512_castps_si512(v), table = _mm512_set1_epi32(0x22);
    const __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(0x10000));
    __m512i r = _mm512_add_epi32(u, _mm512_set1_epi32(0x7fff));
    r = _mm512_mask_add_epi32(r, odd, r, _mm512_set1_epi32(1));
    /* a NaN is v's own, made quiet (2), all else r (0) */
    return _mm512_castps_si512(_mm512_fixupimm_ps(_mm512_castsi512_ps(r), v, table, 0));
}
static inline __m256i vf_round_bf16(vf v)
{
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(vf_bf16_bits(v), 16));
}
static inline void vf_store_bf16(uint16_t *p, vf v)
{
    _mm256_storeu_si256((void *)p, vf_round_bf16(v));
}
static inline void vf_store_bf16_n(uint16_t *p, vf v, int n)
{
    _mm256_mask_storeu_epi16(p, vm_first(n), vf_round_bf16(v));
}
static inline void vf_stream_f16(uint16_t *p, vf v)
{
    _mm256_stream_si256((void *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_stream_bf16(uint16_t *p, vf v)
{
    _mm256_stream_si256((void *)p, vf_round_bf16(v));
}
static inline vf vf_swap_pairs(vf a)
{
    return _mm512_permute_ps(a, 0xb1);
}

static inline float vf_sum(vf v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float vf_max_all(vf v)
{
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

static inline vb vb_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
static inline void vb_store(void *p, vb v)
{
    _mm512_storeu_si512(p, v);
}
static inline vb vb_set(uint8_t x)
{
    return _mm512_set1_epi8((char)x);
}
static inline vb vb_and(vb a, vb b)
{
    return _mm512_and_si512(a, b);
}
static inline vb vb_or(vb a, vb b)
{
    return _mm512_or_si512(a, b);
}
static inline vb vb_add(vb a, vb b)
{
    return _mm512_add_epi8(a, b);
}
/* Each byte shifted by the constant n; bits that leave a byte do not enter its neighbour. */
#define vb_shr(a, n) \
    _mm512_and_si512(_mm512_srli_epi16((a), (n)), _mm512_set1_epi8((char)(0xff >> (n))))
#define vb_shl(a, n) \
    _mm512_and_si512(_mm512_slli_epi16((a), (n)), _mm512_set1_epi8((char)(0xff << (n))))
/* Byte i is `value` where bit i of `bits` is set, else 0. */
static inline vb vb_from_bits(uint64_t bits, uint8_t value)
{
    return _mm512_maskz_set1_epi8((__mmask64)bits, (char)value);
}
static inline vi vb_dot(vi acc, vb w, int32_t a)
{
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a));
}
/* Lane i: byte 4i + which, zero-extended. */
#define vb_lane_byte(v, which) \
    _mm512_and_si512(_mm512_srli_epi32((v), 8 * (which)), _mm512_set1_epi32(255))

#endif
