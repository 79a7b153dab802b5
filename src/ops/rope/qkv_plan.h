/* qkv_plan.h - how a GPU runs a launch of qkv_prepare: which entry of the kernel text on what grid.
 */
#ifndef MLXN_OPS_ROPE_QKV_PLAN_H
#define MLXN_OPS_ROPE_QKV_PLAN_H

#include "core/gpu.h"
#include "ops/rope/qkv_params.h"

/* The schedules of qkv_prepare.kernel; they give the same bits. */
typedef enum qkv_schedule {
    QKV_SCHEDULE_AUTO, /* what the measurements favour */
    QKV_SCHEDULE_LANES,
    QKV_SCHEDULE_GROUP,   /* where the head is not too large, else LANES */
    QKV_SCHEDULE_ROWS,    /* where the shape allows it, else LANES */
    QKV_SCHEDULE_COLUMNS, /* where the shape allows it, else as ROWS */
    QKV_SCHEDULE_UNITS,   /* likewise */
} qkv_schedule;

/* The launch, its parameters not bound yet.  addresses: of the operands' first bytes, 0 where
 * absent; gpu->schedule is a qkv_schedule.  *chosen may be NULL. */
mlxn_status mlxn_qkv_plan(const mlxn_gpu_traits *gpu, const qkv_params *params,
                          const uint64_t addresses[QKV_OPERANDS], mlxn_gpu_plan *plan,
                          mlxn_gpu_launch **launch, qkv_schedule *chosen);

#endif
