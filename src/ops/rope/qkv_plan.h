/* qkv_plan.h - how a GPU runs a launch of qkv_prepare: which entry of the kernel text on what grid,
 * and the operators that are a launch of it with one part. */
#ifndef MLXN_OPS_ROPE_QKV_PLAN_H
#define MLXN_OPS_ROPE_QKV_PLAN_H

#include "core/internal.h"
#include "ops/norm/norm.h"
#include "ops/rope/qkv_params.h"

/* The schedules of qkv_prepare.kernel; they give the same bits. */
typedef enum qkv_schedule {
    QKV_SCHEDULE_AUTO, /* what the measurements favour */
    QKV_SCHEDULE_LANES,
    QKV_SCHEDULE_ROWS, /* where the shape allows it, else LANES */
} qkv_schedule;

typedef struct qkv_plan {
    const char *entry;
    qkv_schedule schedule;
    mlxn_grid grid;
} qkv_plan;

/* addresses: of the operands' first bytes, 0 where absent.  threads: a group, a multiple of 32; 0
 * for the default. */
qkv_plan mlxn_qkv_plan(const qkv_params *params, const uint64_t addresses[QKV_OPERANDS],
                       qkv_schedule wanted, uint32_t threads);

/* rms_norm as a launch of qkv_prepare: rows are tokens of one head.  operand[i]: which operand of
 * rms_norm is operand i, -1 for none. */
void mlxn_qkv_from_norm(const norm_params *norm, int has_weight, qkv_params *out,
                        int operand[QKV_OPERANDS]);

#endif
