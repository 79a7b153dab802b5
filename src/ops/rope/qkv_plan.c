/* qkv_plan.c - schedule and grid of a launch of qkv_prepare on a GPU.
 *
 * Measured on an H200: half a simdgroup a head with 16-byte accesses and sines and cosines kept in
 * registers reaches 0.91 to 0.94 of copy speed on many tokens, a simdgroup a head 0.55 to 0.68; on
 * few tokens the latter is as fast or faster, and it takes every shape. */
#include "kernels/text.h"
#include "ops/plans.h"
#include "ops/rope/qkv_plan.h"

enum { ROWS_PAIRS = 256, ROWS_HEADS = 2048, GRID_X = 0x7fffffff, GRID_Y = 65535 };

static int64_t all_heads(const qkv_params *p)
{
    return p->part[0].heads + p->part[1].heads + p->part[2].heads;
}

/* Whether `part` can go 16 bytes at a time: element indices are multiples of `wide`. */
static int part_fits(const qkv_params *p, const qkv_part_params *part, int64_t wide)
{
    int64_t grain = part->input_token | part->input_head | part->output_token | part->output_head |
                    part->cache_slot | part->cache_head;
    if (part->pairs == QKV_PAIRS_SPLIT)
        grain |= part->offset | p->rotary_pairs;
    if (part->pairs == QKV_PAIRS_INTERLEAVED)
        grain |= 2 * p->rotary_pairs;
    return grain % wide == 0;
}

static int rows_fit(const qkv_params *p, const uint64_t addresses[QKV_OPERANDS])
{
    const int64_t wide = p->dtype == K_F32 ? 4 : 8;
    int pairs = QKV_PAIRS_NONE;
    uint64_t misaligned = 0;
    if (p->dim % wide || (p->angles != QKV_ANGLES_NONE && p->rotary_pairs > ROWS_PAIRS))
        return 0;
    for (int k = 0; k < QKV_PARTS; k++) {
        const qkv_part_params *part = &p->part[k];
        if (!part->heads)
            continue;
        if (!part_fits(p, part, wide))
            return 0;
        if (part->pairs != QKV_PAIRS_NONE) {
            if (pairs != QKV_PAIRS_NONE && pairs != part->pairs)
                return 0;
            pairs = part->pairs;
        }
        for (int i = 0; i < QKV_PART_OPERANDS; i++)
            misaligned |= addresses[QKV_AT(k, i)] % 16;
    }
    return !misaligned;
}

static const char *entry_of(const qkv_params *p, qkv_schedule schedule)
{
    static const char *const entries[2][3] = {
        {"qkv_prepare_lanes_f32", "qkv_prepare_lanes_f16", "qkv_prepare_lanes_bf16"},
        {"qkv_prepare_rows_f32", "qkv_prepare_rows_f16", "qkv_prepare_rows_bf16"}};
    int dtype = p->dtype == K_F32 ? 0 : p->dtype == K_F16 ? 1 : 2;
    return entries[schedule == QKV_SCHEDULE_ROWS][dtype];
}

static qkv_schedule choose(const mlxn_gpu_traits *gpu, const qkv_params *p,
                           const uint64_t addresses[QKV_OPERANDS])
{
    const int64_t heads = all_heads(p);
    int rows = gpu->schedule == QKV_SCHEDULE_ROWS;
    if (gpu->schedule == QKV_SCHEDULE_AUTO)
        rows = p->tokens >= (ROWS_HEADS + heads - 1) / heads;
    return rows && rows_fit(p, addresses) ? QKV_SCHEDULE_ROWS : QKV_SCHEDULE_LANES;
}

mlxn_status mlxn_qkv_plan(const mlxn_gpu_traits *gpu, const qkv_params *p,
                          const uint64_t addresses[QKV_OPERANDS], mlxn_gpu_plan *plan,
                          mlxn_gpu_launch **out, qkv_schedule *chosen)
{
    const qkv_schedule schedule = choose(gpu, p, addresses);
    mlxn_gpu_launch *launch;
    MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_qkv_prepare, entry_of(p, schedule), p, sizeof *p,
                          &launch));
    /* rows: a half simdgroup works on about four heads of its token */
    const int rows = schedule == QKV_SCHEDULE_ROWS;
    launch->early = 1;
    launch->threads = gpu->threads_wanted ? gpu->threads_wanted : rows ? 64 : 32;
    const int64_t a_group = rows ? (int64_t)launch->threads / 16 * 4 : launch->threads / 32;
    const int64_t y = (all_heads(p) + a_group - 1) / a_group;
    launch->groups[0] = (uint32_t)(p->tokens < GRID_X ? p->tokens : GRID_X);
    launch->groups[1] = (uint32_t)(y < GRID_Y ? y : GRID_Y);
    if (chosen)
        *chosen = schedule;
    *out = launch;
    return MLXN_OK;
}

const char *const mlxn_qkv_prepare_faults[] = {"position", "slot", NULL};

mlxn_status mlxn_qkv_prepare_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                                  mlxn_gpu_plan *plan)
{
    uint64_t addresses[QKV_OPERANDS];
    mlxn_gpu_launch *launch;
    for (int i = 0; i < QKV_OPERANDS; i++)
        addresses[i] = node->operands[i].storage ? node->operands[i].range.address : 0;
    MLXN_TRY(mlxn_qkv_plan(gpu, node->args, addresses, plan, &launch, NULL));
    mlxn_gpu_bind_operands(launch, QKV_OPERANDS);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    return MLXN_OK;
}
