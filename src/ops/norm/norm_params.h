/* norm_params.h - what the host side of the norm operators hands to their kernels: operand numbers
 * and parameter structs, the same text for C and for kernel text. */
#ifndef MLXN_OPS_NORM_NORM_PARAMS_H
#define MLXN_OPS_NORM_NORM_PARAMS_H

#include "kernels/types.h"

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
    int32_t residual_first; /* residual_norm: the sum is normed; else the norm is added */
    float eps, weight_bias;
} norm_params;

/* rms_norm, norm_add and residual_norm as one kernel text has them. */
enum {
    NORM_ROW_INPUT,
    NORM_ROW_RESIDUAL,
    NORM_ROW_WEIGHT,
    NORM_ROW_WEIGHT2,
    NORM_ROW_OUTPUT,
    NORM_ROW_SECOND, /* output_norm, sum */
    NORM_ROW_OPERANDS,
    NORM_ROW_RESIDUAL_FIRST = NORM_ROW_OPERANDS /* a bit of the form */
};
/* A row of at most NORM_ROW_HELD vectors of 4 elements a thread, NORM_ROW_LONGEST elements in all,
 * is kept in registers; others go by tiles. */
enum { NORM_ROW_HELD = 2, NORM_ROW_LONGEST = 4096, NORM_ROW_TILE = 1024 };

typedef struct norm_row_params {
    int64_t rows, dim;
    int64_t stride[NORM_ROW_OPERANDS];
    int32_t form; /* bit i: operand i is bound; the last: the residual comes first */
    int32_t weight_dtype, weight2_dtype;
    int32_t settled; /* the weights may be read before k_wait() */
    float eps, weight_bias;
} norm_row_params;

#endif
