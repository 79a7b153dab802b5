/* embedding_plan.c - the look-up on a GPU: a thread for each four elements of the output. */
#include "ops/matmul/planner.h"
#include "ops/plans.h"

enum { EMBEDDING_THREADS = 64, EMBEDDING_TABLE = 0, EMBEDDING_OUTPUT = 2, EMBEDDING_OPERANDS };

const char *const mlxn_embedding_faults[] = {"id", NULL};

mlxn_status mlxn_embedding_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                                mlxn_gpu_plan *plan)
{
    static const char *const packed[] = MM_ENTRIES("embedding_packed_");
    static const char *const plain[] = MM_ENTRIES("embedding_plain_");
    const embedding_params *e = node->args;
    const matmul_weight *w = &e->table;
    const size_t size = mlxn_dtype_block_bytes((mlxn_dtype)e->output_dtype);
    const uint64_t address = node->operands[EMBEDDING_OUTPUT].range.address;
    const int wide =
        w->cols % PACKED_K == 0 && address % 16 == 0 && (uint64_t)e->output_stride * size % 16 == 0;
    const mm_embedding_params p = {.table = mm_layout_of(w),
                                   .rows = w->rows,
                                   .cols = w->cols,
                                   .row_bytes = w->row_bytes,
                                   .ids = e->ids,
                                   .output_stride = e->output_stride,
                                   .output_dtype = e->output_dtype,
                                   .wide = wide,
                                   .scale = e->scale};
    const uint32_t threads = gpu->threads_wanted ? gpu->threads_wanted : EMBEDDING_THREADS;
    const int64_t groups = (e->ids * p.table.tiles * (PACKED_K / 4) + threads - 1) / threads;
    mlxn_gpu_launch *launch;
    if (groups > INT32_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "embedding: %lld ids pass the grid of a GPU",
                         (long long)e->ids);
    MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_embedding, (w->packed ? packed : plain)[w->dtype],
                          &p, sizeof p, &launch));
    launch->groups[0] = (uint32_t)groups;
    launch->threads = threads;
    launch->early = 1;
    mlxn_gpu_bind_operands(launch, EMBEDDING_OPERANDS);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    return MLXN_OK;
}
