/* weight_pack_plan.h - packing a weight on a GPU, as one launch of a plan. */
#ifndef MLXN_OPS_MATMUL_WEIGHT_PACK_PLAN_H
#define MLXN_OPS_MATMUL_WEIGHT_PACK_PLAN_H

#include "core/gpu.h"
#include "ops/matmul/dispatch.h"

/* Adds the launch that packs the groups [first, first + count) of a plain weight, operand `from`,
 * to `to` (an operand, or MLXN_GPU_SCRATCH) at `offset`. */
mlxn_status mlxn_matmul_plan_pack(mlxn_gpu_plan *plan, const matmul_weight *w, int from, int to,
                                  size_t offset, int64_t first, int64_t count);

#endif
