/* planner.h - what the planners of the matmul family share. */
#ifndef MLXN_OPS_MATMUL_PLANNER_H
#define MLXN_OPS_MATMUL_PLANNER_H

#include "core/gpu.h"
#include "kernels/text.h"
#include "ops/matmul/dispatch.h"
#include "ops/matmul/matmul_params.h"
#include "ops/matmul/packed.h"

/* Entry names by dtype: a static table of MM_ENTRY(prefix) rows. */
#define MM_ENTRIES(prefix)                                                                     \
    {                                                                                          \
        [MLXN_F32] = prefix "f32", [MLXN_F16] = prefix "f16", [MLXN_BF16] = prefix "bf16",     \
        [MLXN_Q4_0] = prefix "q4_0", [MLXN_Q4_1] = prefix "q4_1", [MLXN_Q5_0] = prefix "q5_0", \
        [MLXN_Q5_1] = prefix "q5_1", [MLXN_Q8_0] = prefix "q8_0", [MLXN_Q4_K] = prefix "q4_k", \
        [MLXN_Q5_K] = prefix "q5_k", [MLXN_Q6_K] = prefix "q6_k",                              \
    }

static inline mm_layout mm_layout_of(const matmul_weight *w)
{
    const packed_format f = packed_format_of((mlxn_dtype)w->dtype);
    const int64_t tiles = packed_tiles(w->cols);
    return (mm_layout){.tiles = tiles,
                       .group_bytes = (int64_t)packed_group_bytes(f, tiles),
                       .super_offset = (int64_t)packed_super_offset(f, tiles),
                       .scale_offset = (int64_t)packed_scale_offset(f, tiles)};
}

/* The schedules of a matmul; gpu->schedule is one of them.  The last two are for the fast mode and
 * have bits of their own (docs/numerics.md). */
typedef enum mm_schedule {
    MM_SCHEDULE_AUTO,
    MM_SCHEDULE_SHORT,     /* matvec.kernel, two rows of the weight a simdgroup */
    MM_SCHEDULE_WIDE,      /* matvec.kernel, up to a group a simdgroup */
    MM_SCHEDULE_MATRIX,    /* matmul.kernel */
    MM_SCHEDULE_SIMDGROUP, /* matmul_metal.kernel, where rows and weight are for it */
    MM_SCHEDULE_TENSOR,    /* matmul_cuda.kernel; never forced */
} mm_schedule;

#endif
