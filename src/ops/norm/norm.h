/* norm.h - what the host side of the norm operators hands to their CPU kernels. */
#ifndef MLXN_OPS_NORM_NORM_H
#define MLXN_OPS_NORM_NORM_H

#include <mlxn/dtype.h>

/* Operands of each kernel, in the order of the launch. */
enum { RMS_NORM_INPUT, RMS_NORM_WEIGHT, RMS_NORM_OUTPUT, RMS_NORM_OPERANDS };
enum {
    NORM_ADD_INPUT,
    NORM_ADD_WEIGHT,
    NORM_ADD_RESIDUAL,
    NORM_ADD_OUTPUT,
    NORM_ADD_WEIGHT2,
    NORM_ADD_OUTPUT_NORM,
    NORM_ADD_OPERANDS
};
enum {
    RESIDUAL_NORM_INPUT,
    RESIDUAL_NORM_RESIDUAL,
    RESIDUAL_NORM_WEIGHT,
    RESIDUAL_NORM_OUTPUT,
    RESIDUAL_NORM_SUM,
    RESIDUAL_NORM_OPERANDS
};

typedef struct norm_params {
    int64_t rows, dim;
    int64_t stride[NORM_ADD_OPERANDS]; /* between rows, elements, by operand */
    int32_t dtype, weight_dtype, weight2_dtype;
    float eps, weight_bias;
} norm_params;

#endif
