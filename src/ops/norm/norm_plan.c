/* norm_plan.c - launches of rms_norm, norm_add and residual_norm on a GPU. */
#include "kernels/text.h"
#include "ops/norm/norm_params.h"
#include "ops/plans.h"

enum { NORM_ADD, RESIDUAL_NORM, RMS_NORM };
enum { HELD_THREADS = 512, TILES_THREADS = 256 };

/* The text's operands as those of each operator; -1: it has none. */
static const int8_t operands_of[3][NORM_ROW_OPERANDS] = {
    {NORM_ADD_INPUT, NORM_ADD_RESIDUAL, NORM_ADD_WEIGHT, NORM_ADD_WEIGHT2, NORM_ADD_OUTPUT,
     NORM_ADD_OUTPUT_NORM},
    {RESIDUAL_NORM_INPUT, RESIDUAL_NORM_RESIDUAL, RESIDUAL_NORM_WEIGHT, -1, RESIDUAL_NORM_OUTPUT,
     RESIDUAL_NORM_SUM},
    {RMS_NORM_INPUT, -1, RMS_NORM_WEIGHT, -1, RMS_NORM_OUTPUT, -1},
};

/* Whether all rows can go 16 bytes (8 for dtypes of two bytes) at a time, and how many threads
 * hold one. */
static int held(const norm_row_params *p, uint64_t addresses, uint32_t *threads)
{
    int64_t grain = p->dim;
    for (int i = 0; i < NORM_ROW_OPERANDS; i++)
        grain |= p->stride[i];
    const int64_t least = (p->dim + 4 * NORM_ROW_HELD - 1) / (4 * NORM_ROW_HELD);
    if (grain % 4 || addresses % 16 || p->dim > NORM_ROW_LONGEST)
        return 0;
    if (*threads < least)
        *threads = (uint32_t)(least + 31) / 32 * 32;
    return 1;
}

static uint32_t held_threads(int64_t dim) /* a vector a thread, or two */
{
    const int64_t each = dim <= 4 * HELD_THREADS ? 4 : 4 * NORM_ROW_HELD;
    return (uint32_t)((dim + 32 * each - 1) / (32 * each) * 32);
}

static mlxn_status plan_rows(const mlxn_gpu_traits *gpu, const mlxn_node *node, int kind,
                             mlxn_gpu_plan *plan)
{
    static const char *const entries[2][3] = {
        {"norm_tiles_f32", "norm_tiles_f16", "norm_tiles_bf16"},
        {"norm_held_f32", "norm_held_f16", "norm_held_bf16"}};
    const norm_params *norm = node->args;
    const int dtype = norm->dtype == K_F32 ? 0 : norm->dtype == K_F16 ? 1 : 2;
    uint64_t addresses = 0;
    norm_row_params p = {.rows = norm->rows,
                         .dim = norm->dim,
                         .form = (kind != NORM_ADD) << NORM_ROW_RESIDUAL_FIRST,
                         .weight_dtype = norm->weight_dtype,
                         .weight2_dtype = norm->weight2_dtype,
                         .eps = norm->eps,
                         .weight_bias = norm->weight_bias};
    int bound[NORM_ROW_OPERANDS];
    p.settled = mlxn_gpu_settled(plan, node, operands_of[kind][NORM_ROW_WEIGHT]) &&
                mlxn_gpu_settled(plan, node, operands_of[kind][NORM_ROW_WEIGHT2]);
    for (int i = 0; i < NORM_ROW_OPERANDS; i++) {
        const int at = operands_of[kind][i];
        bound[i] = at >= 0 && node->operands[at].storage ? at : MLXN_GPU_NONE;
        if (bound[i] < 0)
            continue;
        p.form |= 1 << i;
        p.stride[i] = norm->stride[at];
        addresses |= node->operands[at].range.address;
    }
    uint32_t threads = gpu->threads_wanted ? gpu->threads_wanted : held_threads(p.dim);
    const int is_held = held(&p, addresses, &threads);
    if (!is_held && !gpu->threads_wanted)
        threads = TILES_THREADS;
    mlxn_gpu_launch *launch;
    MLXN_TRY(
        mlxn_gpu_add(plan, mlxn_kernel_text_norm, entries[is_held][dtype], &p, sizeof p, &launch));
    for (int i = 0; i < NORM_ROW_OPERANDS; i++)
        mlxn_gpu_bind(launch, bound[i], 0);
    /* as norm.kernel has them; what is long need not have code of its own */
    mlxn_gpu_constant(launch, is_held ? p.form : K_OPEN);
    mlxn_gpu_constant(launch, is_held ? (int32_t)p.dim : K_OPEN);
    mlxn_gpu_constant(launch, is_held ? p.weight_dtype : K_OPEN);
    mlxn_gpu_constant(launch, is_held ? p.weight2_dtype : K_OPEN);
    launch->early = 1;
    launch->threads = threads;
    launch->groups[0] = mlxn_gpu_groups(p.rows);
    return MLXN_OK;
}

mlxn_status mlxn_norm_row_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                               mlxn_gpu_plan *plan)
{
    const norm_params *norm = node->args;
    return plan_rows(gpu, node, norm->residual_first ? RESIDUAL_NORM : NORM_ADD, plan);
}

mlxn_status mlxn_rms_norm_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                               mlxn_gpu_plan *plan)
{
    return plan_rows(gpu, node, RMS_NORM, plan);
}
