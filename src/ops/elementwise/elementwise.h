/* elementwise.h - what the host side of the elementwise operators hands to their CPU kernels. */
#ifndef MLXN_OPS_ELEMENTWISE_ELEMENTWISE_H
#define MLXN_OPS_ELEMENTWISE_ELEMENTWISE_H

#include <mlxn/dtype.h>

/* Operands: a (gate, input), b (up; absent for one operand), output. */
enum { ELEMENTWISE_A, ELEMENTWISE_B, ELEMENTWISE_OUTPUT, ELEMENTWISE_OPERANDS };
/* softmax has input and output. */
enum { SOFTMAX_INPUT, SOFTMAX_OUTPUT, SOFTMAX_OPERANDS };

typedef struct elementwise_params {
    int64_t rows, dim;
    int64_t stride[ELEMENTWISE_OPERANDS]; /* between rows, elements */
    int32_t dtype;
    float scalar; /* softcap: cap */
} elementwise_params;

typedef struct softmax_params {
    int64_t rows, dim;
    int64_t input_stride, output_stride;
    int32_t input_dtype, output_dtype;
} softmax_params;

#endif
