/* weight_pack_plan.c - packing weights on a GPU: a thread for each tile of each row. */
#include "ops/matmul/planner.h"
#include "ops/matmul/weight_pack_plan.h"
#include "ops/plans.h"

enum { PACK_THREADS = 256 };

mlxn_status mlxn_matmul_plan_pack(mlxn_gpu_plan *plan, const matmul_weight *w, int from, int to,
                                  size_t offset, int64_t first, int64_t count)
{
    static const char *const entries[] = MM_ENTRIES("weight_pack_");
    const mm_pack_params p = {.to = mm_layout_of(w),
                              .rows = w->rows,
                              .cols = w->cols,
                              .row_bytes = w->row_bytes,
                              .first = first,
                              .count = count};
    const int64_t groups = (count * p.to.tiles * PACKED_ROWS + PACK_THREADS - 1) / PACK_THREADS;
    mlxn_gpu_launch *launch;
    if (groups > INT32_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "weight_pack: %lld x %lld passes the grid of a GPU",
                         (long long)w->rows, (long long)w->cols);
    MLXN_TRY(
        mlxn_gpu_add(plan, mlxn_kernel_text_weight_pack, entries[w->dtype], &p, sizeof p, &launch));
    launch->groups[0] = (uint32_t)groups;
    launch->threads = PACK_THREADS;
    mlxn_gpu_bind(launch, from, 0);
    mlxn_gpu_bind(launch, to, offset);
    return MLXN_OK;
}

mlxn_status mlxn_weight_pack_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                                  mlxn_gpu_plan *plan)
{
    (void)gpu;
    const weight_pack_params *p = node->args;
    return mlxn_matmul_plan_pack(plan, &p->weight, 0, 1, 0, p->first, p->count);
}
