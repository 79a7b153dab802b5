/* qkv_plan.c - schedule and grid of a launch of qkv_prepare on a GPU.
 *
 * Measured on an H200: half a simdgroup a head with 16-byte accesses and sines and cosines kept in
 * registers reaches 0.91 to 0.94 of copy speed on many tokens, a simdgroup a head 0.55 to 0.68; on
 * few tokens the latter is as fast or faster, and it takes every shape. */
#include <string.h>
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

qkv_plan mlxn_qkv_plan(const qkv_params *p, const uint64_t addresses[QKV_OPERANDS],
                       qkv_schedule wanted, uint32_t threads)
{
    const int64_t heads = all_heads(p);
    qkv_plan plan = {.schedule = QKV_SCHEDULE_LANES};
    if (wanted == QKV_SCHEDULE_AUTO && p->tokens >= (ROWS_HEADS + heads - 1) / heads)
        wanted = QKV_SCHEDULE_ROWS;
    if (wanted == QKV_SCHEDULE_ROWS && rows_fit(p, addresses))
        plan.schedule = QKV_SCHEDULE_ROWS;
    /* rows: a half simdgroup works on about four heads of its token */
    const int rows = plan.schedule == QKV_SCHEDULE_ROWS;
    plan.grid.threads = threads ? threads : rows ? 64 : 32;
    int64_t a_group = rows ? (int64_t)plan.grid.threads / 16 * 4 : plan.grid.threads / 32;
    int64_t y = (heads + a_group - 1) / a_group;
    plan.grid.groups[0] = (uint32_t)(p->tokens < GRID_X ? p->tokens : GRID_X);
    plan.grid.groups[1] = (uint32_t)(y < GRID_Y ? y : GRID_Y);
    plan.grid.groups[2] = 1;
    plan.entry = entry_of(p, plan.schedule);
    return plan;
}

void mlxn_qkv_from_norm(const norm_params *norm, int has_weight, qkv_params *out,
                        int operand[QKV_OPERANDS])
{
    memset(out, 0, sizeof *out);
    out->part[0] = (qkv_part_params){
        .heads = 1,
        .input_token = norm->stride[RMS_NORM_INPUT],
        .output_token = norm->stride[RMS_NORM_OUTPUT],
        .norm = has_weight ? QKV_NORM_WEIGHTED : QKV_NORM_WEIGHTLESS,
        .weight_dtype = norm->weight_dtype,
    };
    out->tokens = norm->rows;
    out->dim = norm->dim;
    out->dtype = norm->dtype;
    out->eps = norm->eps;
    out->weight_bias = norm->weight_bias;
    out->attention_factor = 1.0f;
    out->present = 1 << QKV_INPUT | 1 << QKV_OUTPUT | has_weight << QKV_WEIGHT;
    for (int i = 0; i < QKV_OPERANDS; i++)
        operand[i] = -1;
    operand[QKV_INPUT] = RMS_NORM_INPUT;
    operand[QKV_OUTPUT] = RMS_NORM_OUTPUT;
    operand[QKV_WEIGHT] = has_weight ? RMS_NORM_WEIGHT : -1;
}
