/* rope.h - rotary position embedding, and the flagship: head norm, rotation and cache write of q,
 * k and v in one dispatch.
 *
 * Rotation of pair (lo, hi) by angle a: lo' = lo*cos a - hi*sin a, hi' = hi*cos a + lo*sin a,
 * computed as fma(lo, cos, -(hi*sin)) and fma(hi, cos, lo*sin).  (Su et al. 2021.)  */
#ifndef MLXN_OPS_ROPE_H
#define MLXN_OPS_ROPE_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

/* Which elements of a head form pair i, i < rotary_pairs (h), and the exponent's denominator. */
typedef enum mlxn_rope_pairing {
    MLXN_ROPE_NONE = 1,   /* no rotation */
    MLXN_ROPE_NEOX = 2,   /* (i, i + D/2), theta^(-2i/D), h = D/2: Gemma 3, Qwen3, Llama (HF) */
    MLXN_ROPE_PREFIX = 3, /* (i, i + h), theta^(-2i/2h): HF partial rotary */
    MLXN_ROPE_PROPORTIONAL = 4, /* (i, i + D/2), theta^(-2i/D), h <= D/2: Gemma 4 global layers */
    MLXN_ROPE_INTERLEAVED = 5,  /* (2i, 2i + 1), theta^(-2i/D), h = D/2: GPT-J, GGUF Llama */
    MLXN_ROPE_INTERLEAVED_PREFIX = 6,       /* (2i, 2i + 1), theta^(-2i/2h), h <= D/2 */
    MLXN_ROPE_INTERLEAVED_PROPORTIONAL = 7, /* (2i, 2i + 1), theta^(-2i/D), h <= D/2 */
} mlxn_rope_pairing;

/* Angular frequencies, prepared once on the host in float64 and stored as two-float values: output
 * is f32 [rotary_pairs, 2], high and low part, high + low accurate to 2^-48 relative.
 *   f_i = theta^(-2i / exponent_dim) * scale / freq_factors[i]
 * scale is the linear position scale (1/8 for a model stretched 8 times).  YaRN (Peng et al. 2023)
 * when yarn_original_context > 0: f_i blends between f_i and f_i / yarn_factor by the ramp from
 * yarn_beta_fast to yarn_beta_slow rotations over the original context.  Waits for the write. */
typedef struct mlxn_rope_freqs_args {
    size_t size;
    mlxn_buffer *output;       /* f32 [rotary_pairs, 2] */
    mlxn_buffer *freq_factors; /* f32 [rotary_pairs], may be NULL */
    int64_t exponent_dim;      /* D or 2*rotary_pairs, see the pairing */
    double theta;              /* > 0 */
    double scale;              /* > 0; 1 for none */
    double yarn_factor, yarn_beta_fast, yarn_beta_slow;
    int64_t yarn_original_context; /* 0: no YaRN */
} mlxn_rope_freqs_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_rope_freqs(mlxn_device *device,
                                                     const mlxn_rope_freqs_args *args);

typedef enum mlxn_norm_kind {
    MLXN_NORM_NONE = 1,       /* x */
    MLXN_NORM_WEIGHTLESS = 2, /* x * r(x) */
    MLXN_NORM_WEIGHTED = 3,   /* x * r(x) * (w + weight_bias) */
} mlxn_norm_kind;

typedef enum mlxn_rounding {
    MLXN_ROUND_EXACT = 0,         /* f32 from load to store; one rounding to each destination */
    MLXN_ROUND_MATCH_UNFUSED = 1, /* rounded to the data dtype after the norm and after the rope,
                                     as the chain of single operators does, bit for bit */
} mlxn_rounding;

/* One of q, k, v.  input NULL: the part is absent. */
typedef struct mlxn_qkv_part {
    mlxn_buffer *input;  /* [tokens, heads, D], last dimension contiguous, other strides free */
    mlxn_buffer *output; /* as input, its own strides; may be input (in place); NULL if a cache is
                            given and nothing else is wanted */
    mlxn_buffer *weight; /* [D], f32, f16 or bf16; required if and only if norm is WEIGHTED */
    mlxn_buffer *cache;  /* [slots, heads, D], f32, f16 or bf16, last dimension contiguous; may be
                            NULL; k and v only */
    mlxn_norm_kind norm;
    mlxn_rope_pairing rope; /* v: NONE */
} mlxn_qkv_part;

/* For each token t, head h and present part: n = norm(x); y = rope(n, angle of t); output = y;
 * cache[slots[t]] = y.  The sum of squares is as in norm.h.  One dispatch.
 * Angles: freqs with positions (angle = (positions[t]) * f_i, range-reduced; the error bound is in
 * docs/numerics.md), or tables cos and sin with a row a token.  Exactly one of the two is given if
 * any part has a rotation, neither otherwise. */
typedef struct mlxn_qkv_prepare_args {
    size_t size;
    mlxn_qkv_part q, k, v;  /* at least one; all of one dtype: f32, f16 or bf16 */
    int64_t rotary_pairs;   /* h; 0 only if no part has a rotation */
    mlxn_buffer *positions; /* i32, u32 or i64 [tokens]; NULL: position_start + t */
    int64_t position_start; /* 0 if positions is given; positions are 0 to 2^31 - 1 */
    mlxn_buffer *freqs;     /* f32 [rotary_pairs, 2] from mlxn_rope_freqs */
    mlxn_buffer *cos;       /* f32 [tokens, rotary_pairs], row stride free */
    mlxn_buffer *sin;       /* f32 [tokens, rotary_pairs], row stride free */
    float attention_factor; /* cos and sin are multiplied by it (YaRN's mscale); 1 for none */
    mlxn_buffer *slots;     /* i32 or i64 [tokens]; required with a cache; negative: skipped */
    float eps;
    float weight_bias;
    mlxn_rounding rounding;
} mlxn_qkv_prepare_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_qkv_prepare(mlxn_encoder *encoder,
                                                      const mlxn_qkv_prepare_args *args);

/* Rotation alone: output = rope(input).  Angles, and what is NULL when, as in mlxn_qkv_prepare. */
typedef struct mlxn_rope_args {
    size_t size;
    mlxn_buffer *input;        /* [tokens, heads, D], f32, f16 or bf16, strides free but the last */
    mlxn_buffer *output;       /* as input, its own strides; may be input (in place) */
    mlxn_rope_pairing pairing; /* not NONE */
    int64_t rotary_pairs;
    mlxn_buffer *positions; /* i32, u32 or i64 [tokens]; NULL: position_start + t */
    int64_t position_start;
    mlxn_buffer *freqs;     /* f32 [rotary_pairs, 2] from mlxn_rope_freqs */
    mlxn_buffer *cos;       /* f32 [tokens, rotary_pairs], row stride free */
    mlxn_buffer *sin;       /* f32 [tokens, rotary_pairs], row stride free */
    float attention_factor; /* > 0; 1 for none */
} mlxn_rope_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_rope(mlxn_encoder *encoder, const mlxn_rope_args *args);

/* Per-head RMS norm, then rotation of pairs (i, i + half_rope_dim) by the caller's tables; the rest
 * of each head is normed and passed through.  half_rope_dim 0: norm only.  One rounding, to bf16.
 */
typedef struct mlxn_fused_head_norm_rope_bf16_args {
    size_t size;
    mlxn_buffer *input;       /* bf16 [n_tokens * n_heads * head_dim] */
    mlxn_buffer *output;      /* bf16, as input; in place allowed */
    mlxn_buffer *norm_weight; /* bf16 [head_dim], may be NULL: plain norm */
    mlxn_buffer *cos_cache;   /* f32, row t at t * cos_row_stride, at least half_rope_dim long; may
                                 be NULL if half_rope_dim is 0 */
    mlxn_buffer *sin_cache;   /* f32, likewise with sin_row_stride */
    int64_t cos_row_stride;   /* elements; >= half_rope_dim if n_tokens > 1 */
    int64_t sin_row_stride;
    uint32_t n_tokens;
    uint32_t n_heads;
    uint32_t head_dim;
    uint32_t half_rope_dim; /* <= head_dim / 2 */
    float eps;
} mlxn_fused_head_norm_rope_bf16_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_fused_head_norm_rope_bf16(
    mlxn_encoder *encoder, const mlxn_fused_head_norm_rope_bf16_args *args);

/* The f32 form: pairs (i, i + head_dim/2), i < half_rope_dim, angle = positions[t] *
 * theta^(-2i/head_dim) / freq_factors[i].  freqs may be given in place of theta and freq_factors.
 */
typedef struct mlxn_fused_head_norm_rope_f32_args {
    size_t size;
    mlxn_buffer *input;         /* f32 [n_tokens * n_heads * head_dim] */
    mlxn_buffer *output;        /* f32, as input; in place allowed */
    mlxn_buffer *norm_weight;   /* f32 [head_dim], may be NULL */
    mlxn_buffer *positions_buf; /* u32 [n_tokens]; may be NULL if half_rope_dim is 0 */
    mlxn_buffer *freq_factors;  /* f32 [half_rope_dim], may be NULL */
    mlxn_buffer *freqs;         /* f32 [half_rope_dim, 2] from mlxn_rope_freqs, may be NULL */
    uint32_t n_tokens;
    uint32_t n_heads;
    uint32_t head_dim;
    uint32_t half_rope_dim;
    float eps;
    float theta; /* > 0 unless half_rope_dim is 0 or freqs is given */
} mlxn_fused_head_norm_rope_f32_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_fused_head_norm_rope_f32(
    mlxn_encoder *encoder, const mlxn_fused_head_norm_rope_f32_args *args);

MLXN_EXTERN_C_END
#endif
