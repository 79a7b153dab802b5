/* elementwise.h - activations, element by element arithmetic, softmax.
 *
 * Data: f32, f16 or bf16, all of one dtype in a call (softmax: any mix); all of one shape, any
 * rank, in rows as ops.h has them. */
#ifndef MLXN_OPS_ELEMENTWISE_H
#define MLXN_OPS_ELEMENTWISE_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

/* output = gelu(gate) * up, gelu(x) = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh
 * form of Hendrycks and Gimpel 2016.  In place: output may be gate or up. */
typedef struct mlxn_gelu_mul_args {
    size_t size;
    mlxn_buffer *gate;   /* [..., dim] */
    mlxn_buffer *up;     /* as gate */
    mlxn_buffer *output; /* as gate */
} mlxn_gelu_mul_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gelu_mul(mlxn_encoder *encoder,
                                                   const mlxn_gelu_mul_args *args);

/* output = a + b (mlxn_add) or a * b (mlxn_mul).  In place: output may be a or b. */
typedef struct mlxn_binary_args {
    size_t size;
    mlxn_buffer *a;      /* [..., dim] */
    mlxn_buffer *b;      /* as a: nothing is broadcast */
    mlxn_buffer *output; /* as a */
} mlxn_binary_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_add(mlxn_encoder *encoder, const mlxn_binary_args *args);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_mul(mlxn_encoder *encoder, const mlxn_binary_args *args);

/* output = cap * tanh(input / cap).  In place allowed. */
typedef struct mlxn_softcap_args {
    size_t size;
    mlxn_buffer *input;  /* [..., dim] */
    mlxn_buffer *output; /* as input */
    float cap;           /* > 0 */
} mlxn_softcap_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_softcap(mlxn_encoder *encoder,
                                                  const mlxn_softcap_args *args);

/* output = softmax(input) over the last dimension: max, exp(x - max), sum (32 virtual lanes as in
 * norm.h), one division.  In place allowed for equal dtypes. */
typedef struct mlxn_softmax_args {
    size_t size;
    mlxn_buffer *input;  /* [..., dim] */
    mlxn_buffer *output; /* the shape of input */
} mlxn_softmax_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_softmax(mlxn_encoder *encoder,
                                                  const mlxn_softmax_args *args);

MLXN_EXTERN_C_END
#endif
