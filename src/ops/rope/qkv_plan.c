/* qkv_plan.c - schedule and grid of a launch of qkv_prepare on a GPU, and what its code is made
 * for.
 *
 * Units is the fastest where it fits; of other shapes a few tokens go by group and many by rows.
 * Lanes takes what these do not.  The borders are measured on an H200. */
#include "kernels/text.h"
#include "ops/plans.h"
#include "ops/rope/qkv_plan.h"

enum {
    ROWS_PAIRS = 256,
    MANY_HEADS = 512,
    UNIT_HEADS = 32, /* a processor: from here on two heads a unit */
    GROUP_DIM = 1024,
    GRID_X = 0x7fffffff,
    GRID_Y = 65535
};

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

/* Whether a lane can hold both halves of its pairs, and tables be read 16 bytes at a time;
 * rows_fit() holds. */
static int units_fit(const qkv_params *p, const uint64_t addresses[QKV_OPERANDS])
{
    if (p->angles == QKV_ANGLES_TABLES &&
        ((addresses[QKV_COS] | addresses[QKV_SIN]) % 16 || (p->cos_stride | p->sin_stride) % 4))
        return 0;
    for (int k = 0; k < QKV_PARTS; k++)
        if (p->part[k].heads && p->part[k].pairs != QKV_PAIRS_NONE &&
            (p->part[k].pairs != QKV_PAIRS_SPLIT || p->part[k].offset != p->dim / 2))
            return 0;
    return p->tokens <= GRID_X &&
           (p->dim == 64 || p->dim == 128 || p->dim == 256 || p->dim == 512) &&
           p->rounding == QKV_ROUND_EXACT;
}

static const char *entry_of(const qkv_params *p, qkv_schedule schedule)
{
#define ENTRIES(x)                                                                    \
    {                                                                                 \
        "qkv_prepare_" #x "_f32", "qkv_prepare_" #x "_f16", "qkv_prepare_" #x "_bf16" \
    }
#define UNITS(x, dim)                                                   \
    {                                                                   \
        "qkv_prepare_" #x "_f32_" #dim, "qkv_prepare_" #x "_f16_" #dim, \
            "qkv_prepare_" #x "_bf16_" #dim                             \
    }
    static const char *const entries[3][3] = {ENTRIES(lanes), ENTRIES(group), ENTRIES(rows)};
    static const char *const units[4][3] = {UNITS(units, 64), UNITS(units, 128), UNITS(units, 256),
                                            UNITS(units, 512)};
#undef ENTRIES
#undef UNITS
    const int dtype = p->dtype == K_F32 ? 0 : p->dtype == K_F16 ? 1 : 2;
    const int dim = p->dim < 128 ? 0 : p->dim < 256 ? 1 : p->dim < 512 ? 2 : 3;
    if (schedule == QKV_SCHEDULE_UNITS)
        return units[dim][dtype];
    return entries[schedule - QKV_SCHEDULE_LANES][dtype];
}

static qkv_schedule choose(const mlxn_gpu_traits *gpu, const qkv_params *p,
                           const uint64_t addresses[QKV_OPERANDS])
{
    const int64_t heads = all_heads(p);
    const int few = p->tokens < (MANY_HEADS + heads - 1) / heads;
    const int rows = rows_fit(p, addresses), units = rows && units_fit(p, addresses);
    qkv_schedule wanted = (qkv_schedule)gpu->schedule;
    if (wanted == QKV_SCHEDULE_AUTO)
        wanted = units ? QKV_SCHEDULE_UNITS : few ? QKV_SCHEDULE_GROUP : QKV_SCHEDULE_ROWS;
    if (wanted == QKV_SCHEDULE_GROUP && p->dim <= GROUP_DIM)
        return QKV_SCHEDULE_GROUP;
    if (wanted < QKV_SCHEDULE_ROWS || !rows)
        return QKV_SCHEDULE_LANES;
    return units ? wanted : QKV_SCHEDULE_ROWS;
}

/* Threads a group, and the grid: tokens in x, heads of a token in y. */
static void lay_out(const mlxn_gpu_traits *gpu, const qkv_params *p, qkv_schedule schedule,
                    mlxn_gpu_launch *launch)
{
    const int64_t heads = all_heads(p), x = p->tokens;
    int64_t threads = 32, a_group;
    if (schedule == QKV_SCHEDULE_GROUP) /* a pair a thread */
        threads = (p->dim / 2 + 31) / 32 * 32 + (p->dim < 2 ? 32 : 0);
    if (schedule == QKV_SCHEDULE_ROWS)
        threads = 64;
    if (gpu->threads_wanted)
        threads = (int64_t)gpu->threads_wanted;
    a_group = schedule == QKV_SCHEDULE_GROUP ? 1 : threads / 32;
    if (schedule == QKV_SCHEDULE_ROWS) /* half a simdgroup works on about four heads */
        a_group = threads / 16 * 4;
    const int64_t y = (heads + a_group - 1) / a_group;
    launch->threads = (uint32_t)threads;
    launch->groups[0] = (uint32_t)(x < GRID_X ? x : GRID_X);
    launch->groups[1] = (uint32_t)(y < GRID_Y ? y : GRID_Y);
}

/* Heads a unit, and how many units there are. */
static int64_t divide(const mlxn_gpu_traits *gpu, qkv_params *p, int64_t vectors, int64_t lanes)
{
    const int64_t many = (int64_t)UNIT_HEADS * gpu->processors;
    int64_t units = 0;
    p->unit_heads = vectors == 2 * lanes && p->tokens * all_heads(p) >= many ? 2 : 1;
    for (int k = 0; k < QKV_PARTS; k++) {
        p->part[k].units = (int32_t)((p->part[k].heads + p->unit_heads - 1) / p->unit_heads);
        units += p->part[k].units;
    }
    return units;
}

/* The same for units: a group a token, of as few groups in y as its threads allow. */
static void lay_out_units(const mlxn_gpu_traits *gpu, qkv_params *p, mlxn_gpu_launch *launch)
{
    const int64_t vectors = p->dtype == K_F32 ? p->dim / 4 : p->dim / 8; /* of a head */
    const int64_t lanes = vectors / 2 < QKV_UNITS_LANES ? vectors / 2 : QKV_UNITS_LANES;
    const int64_t most = p->dtype == K_F32 ? QKV_UNITS_THREADS_4 : QKV_UNITS_THREADS_2;
    const int64_t all = divide(gpu, p, vectors, lanes) * lanes;
    int64_t y = (all + most - 1) / most, threads = (all + 32 * y - 1) / (32 * y) * 32;
    if (gpu->threads_wanted && gpu->threads_wanted <= most)
        threads = (int64_t)gpu->threads_wanted;
    y = (all + threads - 1) / threads;
    launch->threads = (uint32_t)threads;
    launch->groups[0] = (uint32_t)p->tokens;
    launch->groups[1] = (uint32_t)y;
}

/* dtype of a role in all parts that have it: K_NONE if none has, K_OPEN if they differ. */
static int32_t common(const qkv_params *p, int role)
{
    int32_t found = K_NONE;
    for (int k = 0; k < QKV_PARTS; k++) {
        const qkv_part_params *part = &p->part[k];
        const int32_t dtype = role == QKV_WEIGHT ? part->weight_dtype : part->cache_dtype;
        if (!part->heads || !(p->present >> QKV_AT(k, role) & 1))
            continue;
        if (found != K_NONE && found != dtype)
            return K_OPEN;
        found = dtype;
    }
    return found;
}

static int32_t outputs(const qkv_params *p)
{
    int with = 0, without = 0;
    for (int k = 0; k < QKV_PARTS; k++)
        if (p->part[k].heads && p->present >> QKV_AT(k, QKV_OUTPUT) & 1)
            with = 1;
        else if (p->part[k].heads)
            without = 1;
    return with && without ? K_OPEN : with;
}

/* The constants of qkv_text.h, for units: the other schedules leave them open, so that odd shapes
 * do not make code of their own. */
static void specialise(const qkv_params *p, qkv_schedule schedule, mlxn_gpu_launch *launch)
{
    const int32_t constants[] = {
        p->angles,  p->position_dtype,    p->slot_dtype, common(p, QKV_WEIGHT),
        outputs(p), common(p, QKV_CACHE), p->unit_heads};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        mlxn_gpu_constant(launch, schedule == QKV_SCHEDULE_UNITS ? constants[i] : K_OPEN);
}

mlxn_status mlxn_qkv_plan(const mlxn_gpu_traits *gpu, const qkv_params *p,
                          const uint64_t addresses[QKV_OPERANDS], mlxn_gpu_plan *plan,
                          mlxn_gpu_launch **out, qkv_schedule *chosen)
{
    const qkv_schedule schedule = choose(gpu, p, addresses);
    qkv_params params = *p;
    mlxn_gpu_launch grid, *launch;
    if (schedule == QKV_SCHEDULE_UNITS)
        lay_out_units(gpu, &params, &grid);
    else
        lay_out(gpu, p, schedule, &grid);
    MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_qkv_prepare, entry_of(p, schedule), &params,
                          sizeof params, &launch));
    launch->early = 1;
    launch->threads = grid.threads;
    launch->groups[0] = grid.groups[0];
    launch->groups[1] = grid.groups[1];
    specialise(&params, schedule, launch);
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
    /* weights and frequencies are read before k_wait() */
    for (int k = 0; k < QKV_PARTS; k++)
        launch->early &= mlxn_gpu_settled(plan, node, QKV_AT(k, QKV_WEIGHT));
    launch->early &=
        mlxn_gpu_settled(plan, node, QKV_FREQS) && mlxn_gpu_settled(plan, node, QKV_FACTORS);
    mlxn_gpu_bind_operands(launch, QKV_OPERANDS);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    return MLXN_OK;
}
