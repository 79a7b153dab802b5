/* weight.h - a weight operand, checked and described for kernels. */
#ifndef MLXN_OPS_MATMUL_WEIGHT_H
#define MLXN_OPS_MATMUL_WEIGHT_H

#include "ops/check.h"
#include "ops/matmul/dispatch.h"

/* Rank 2, rows evenly spaced; plain or packed. */
mlxn_status mlxn_matmul_weight_of(const char *op, const char *name, const mlxn_buffer *b,
                                  matmul_weight *out);

#endif
