/* matmul.h - products with weights, and the embedding look-up.
 *
 * Weights are [N, K], a row an output, as GGUF stores them: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1,
 * q8_0, q4_k, q5_k, q6_k; plain or prepared (weights.h), with the same bits as result. */
#ifndef MLXN_OPS_MATMUL_H
#define MLXN_OPS_MATMUL_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

typedef enum mlxn_matmul_mode {
    MLXN_MATMUL_EXACT = 1, /* activations stay f32 */
    MLXN_MATMUL_FAST = 2,  /* activations rounded to int8 in blocks of 32 (scale = max|x| / 127) for
                              block-quantised weights; f32, f16 and bf16 weights as in exact */
} mlxn_matmul_mode;

/* output[m, n] = sum over k of weight[n, k] * input[m, k].
 *
 * Per output, blocks b of 32 elements of k ascending, acc = 0; with s, t the block's scale and
 * offset (weight = s*u + t, u an integer; q6_k has two scales a block, taken in turn):
 *   exact: p = ascending fma of u*x from 0, q = ascending sum of x; acc = fma(p, s, acc); formats
 *          with an offset: acc = fma(q, t, acc).
 *   fast:  integer dot i of u and the rounded x (scale a), integer sum j of the rounded x:
 *          acc = fma((float)i, s*a, acc); formats with an offset: acc = fma((float)j * a, t, acc).
 * Float weights: as exact with s = 1.
 * On GPUs block b goes to accumulator b mod 16, each as above; their sum is a butterfly of distance
 * 8, 4, 2, 1; and fast keeps the activations, too, but for batches on tensor cores (CUDA) and
 * simdgroup matrices (Metal, with the CPU's bits): docs/numerics.md. */
typedef struct mlxn_matmul_args {
    size_t size;
    mlxn_buffer *input;  /* [..., K], f32 or bf16 or f16 */
    mlxn_buffer *weight; /* [N, K] */
    mlxn_buffer *output; /* [..., N], f32, bf16 or f16 */
    mlxn_matmul_mode mode;
} mlxn_matmul_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_matmul(mlxn_encoder *encoder,
                                                 const mlxn_matmul_args *args);

/* Several products with one input, as one dispatch: product[i].output = input * product[i].weight^T
 * for i < count, each with the bits that mlxn_matmul gives it.
 *
 * With `gate` there are two products of equal shape and one output: product[0].output =
 * gelu(p0) * p1, gelu as in mlxn_gelu_mul, with the bits of mlxn_matmul into f32 twice and
 * mlxn_gelu_mul of the two, rounded once to the output's dtype; product[1].output is NULL. */
enum { MLXN_MATMUL_GROUP_MAX = 4 };
typedef struct mlxn_matmul_product {
    mlxn_buffer *weight; /* [N, K]; N and the dtype may differ from product to product */
    mlxn_buffer *output; /* [..., N], f32, bf16 or f16; outputs do not overlap */
} mlxn_matmul_product;
typedef struct mlxn_matmul_group_args {
    size_t size;
    mlxn_buffer *input; /* [..., K], f32 or bf16 or f16 */
    mlxn_matmul_product product[MLXN_MATMUL_GROUP_MAX];
    int count; /* 1 to 4 */
    int gate;
    mlxn_matmul_mode mode;
} mlxn_matmul_group_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_matmul_group(mlxn_encoder *encoder,
                                                       const mlxn_matmul_group_args *args);

/* output[i] = scale * table[ids[i]], dequantised in f32.  An id outside [0, V) is a fault and
 * leaves its row unwritten. */
typedef struct mlxn_embedding_args {
    size_t size;
    mlxn_buffer *table;  /* [V, E], any weight dtype, plain or prepared */
    mlxn_buffer *ids;    /* i32 or u32 [n] */
    mlxn_buffer *output; /* [n, E], f32, f16 or bf16 */
    float scale;         /* not 0; 1 for none */
} mlxn_embedding_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_embedding(mlxn_encoder *encoder,
                                                    const mlxn_embedding_args *args);

MLXN_EXTERN_C_END
#endif
