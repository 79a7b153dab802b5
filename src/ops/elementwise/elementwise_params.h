/* elementwise_params.h - what the host hands to the kernels behind gelu_mul, add, mul, softcap and
 * softmax: operand numbers and parameter structs, the same text for C and for kernel text. */
#ifndef MLXN_OPS_ELEMENTWISE_ELEMENTWISE_PARAMS_H
#define MLXN_OPS_ELEMENTWISE_ELEMENTWISE_PARAMS_H

#include "kernels/types.h"

/* Operands: a (gate, input), b (up; absent for one operand), output. */
enum { ELEMENTWISE_A, ELEMENTWISE_B, ELEMENTWISE_OUTPUT, ELEMENTWISE_OPERANDS };
/* softmax has input and output. */
enum { SOFTMAX_INPUT, SOFTMAX_OUTPUT, SOFTMAX_OPERANDS };

typedef enum elementwise_function {
    ELEMENTWISE_GELU_MUL,
    ELEMENTWISE_ADD,
    ELEMENTWISE_MUL,
    ELEMENTWISE_SOFTCAP, /* has no b */
} elementwise_function;

typedef struct elementwise_params {
    int64_t rows, dim;
    int64_t stride[ELEMENTWISE_OPERANDS]; /* between rows, elements */
    int32_t dtype;
    int32_t function; /* elementwise_function */
    float scalar;     /* softcap: cap */
} elementwise_params;

typedef struct softmax_params {
    int64_t rows, dim;
    int64_t input_stride, output_stride;
    int32_t input_dtype, output_dtype;
} softmax_params;

#endif
