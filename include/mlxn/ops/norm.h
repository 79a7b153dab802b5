/* norm.h - RMS normalisation and its fusions with the residual stream.
 *
 * r(x) = 1 / sqrt(mean(x^2) + eps) over the last dimension; norm(x) = x * r(x) * (w + weight_bias),
 * without a weight x * r(x) (Zhang and Sennrich 2019; eps inside the root).  The sum of squares is
 * 32 virtual lanes: element i goes to lane i mod 32, ascending fma within a lane, then a butterfly
 * of distance 16, 8, 4, 2, 1.
 *
 * Data (input, residual, sum, output): f32, f16 or bf16, all of one dtype in a call.  Weights: f32,
 * f16 or bf16, [dim], may be NULL.  weight_bias is added to the weight in f32 (1 for Gemma
 * checkpoints that store w - 1; GGUF stores w: 0) and must be 0 without a weight.  eps >= 0. */
#ifndef MLXN_OPS_NORM_H
#define MLXN_OPS_NORM_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

/* output = norm(input), row by row.  In place: output may be input. */
typedef struct mlxn_rms_norm_args {
    size_t size;
    mlxn_buffer *input;  /* [..., dim] */
    mlxn_buffer *weight; /* [dim], may be NULL */
    mlxn_buffer *output; /* as input */
    float eps;
    float weight_bias;
} mlxn_rms_norm_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_rms_norm(mlxn_encoder *encoder,
                                                   const mlxn_rms_norm_args *args);

/* output = residual + norm(input): the end of a Gemma sub-layer.
 * With output_norm: also output_norm = norm2(output) from the unrounded sum, the next sub-layer's
 * input; norm2 uses weight2, eps and weight_bias.  In place: output may be residual; output_norm
 * may be input. */
typedef struct mlxn_norm_add_args {
    size_t size;
    mlxn_buffer *input;       /* [..., dim] */
    mlxn_buffer *weight;      /* [dim], may be NULL */
    mlxn_buffer *residual;    /* as input */
    mlxn_buffer *output;      /* as input */
    mlxn_buffer *weight2;     /* [dim], may be NULL; must be NULL without output_norm */
    mlxn_buffer *output_norm; /* as input, may be NULL */
    float eps;
    float weight_bias;
} mlxn_norm_add_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_norm_add(mlxn_encoder *encoder,
                                                   const mlxn_norm_add_args *args);

/* s = residual + input; output = norm(s) from the unrounded s; with sum: sum = s, rounded.  The
 * Llama form.  In place: sum may be residual or input; output may be input. */
typedef struct mlxn_residual_norm_args {
    size_t size;
    mlxn_buffer *input;    /* [..., dim] */
    mlxn_buffer *residual; /* as input */
    mlxn_buffer *weight;   /* [dim], may be NULL */
    mlxn_buffer *output;   /* as input */
    mlxn_buffer *sum;      /* as input, may be NULL */
    float eps;
    float weight_bias;
} mlxn_residual_norm_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_residual_norm(mlxn_encoder *encoder,
                                                        const mlxn_residual_norm_args *args);

MLXN_EXTERN_C_END
#endif
