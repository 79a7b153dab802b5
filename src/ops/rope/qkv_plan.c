/* qkv_plan.c - schedule and grid of a launch of qkv_prepare on a GPU.
 *
 * Many tokens are a matter of memory speed, which on an H200 leaves some 25 instructions an
 * element: columns has the fewest, but waits for tables, which units loads ahead.  Few tokens are a
 * matter of latency: units is the shortest where it fits, else group.  Rows and lanes take the
 * shapes that these do not.  The borders are measured on an H200. */
#include "kernels/text.h"
#include "ops/plans.h"
#include "ops/rope/qkv_plan.h"

enum {
    ROWS_PAIRS = 256,
    MANY_HEADS = 512,
    SOME_TOKENS = 4096,
    FEW_UNIT_TOKENS = 512,    /* up to here units is faster than columns */
    MANY_UNIT_TOKENS = 16384, /* with tables or a cache from here on, too */
    UNIT_HEADS = 32,          /* a processor: from here on two heads a lane */
    UNIT_TOKENS = 8,          /* a group at most */
    UNIT_GROUPS = 4,          /* a processor at least */
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
static int columns_fit(const qkv_params *p, const uint64_t addresses[QKV_OPERANDS])
{
    if (p->angles == QKV_ANGLES_TABLES &&
        ((addresses[QKV_COS] | addresses[QKV_SIN]) % 16 || (p->cos_stride | p->sin_stride) % 4))
        return 0;
    for (int k = 0; k < QKV_PARTS; k++)
        if (p->part[k].heads && p->part[k].pairs != QKV_PAIRS_NONE &&
            (p->part[k].pairs != QKV_PAIRS_SPLIT || p->part[k].offset != p->dim / 2))
            return 0;
    return (p->dim == 64 || p->dim == 128 || p->dim == 256 || p->dim == 512) &&
           p->rounding == QKV_ROUND_EXACT;
}

static const char *entry_of(const qkv_params *p, qkv_schedule schedule)
{
#define ENTRIES(x)                                                                    \
    {                                                                                 \
        "qkv_prepare_" #x "_f32", "qkv_prepare_" #x "_f16", "qkv_prepare_" #x "_bf16" \
    }
#define COLUMNS(x, dim)                                                 \
    {                                                                   \
        "qkv_prepare_" #x "_f32_" #dim, "qkv_prepare_" #x "_f16_" #dim, \
            "qkv_prepare_" #x "_bf16_" #dim                             \
    }
    static const char *const entries[3][3] = {ENTRIES(lanes), ENTRIES(group), ENTRIES(rows)};
    static const char *const columns[4][3] = {COLUMNS(columns, 64), COLUMNS(columns, 128),
                                              COLUMNS(columns, 256), COLUMNS(columns, 512)};
    static const char *const units[4][3] = {COLUMNS(units, 64), COLUMNS(units, 128),
                                            COLUMNS(units, 256), COLUMNS(units, 512)};
#undef ENTRIES
#undef COLUMNS
    const int dtype = p->dtype == K_F32 ? 0 : p->dtype == K_F16 ? 1 : 2;
    const int dim = p->dim < 128 ? 0 : p->dim < 256 ? 1 : p->dim < 512 ? 2 : 3;
    if (schedule == QKV_SCHEDULE_COLUMNS)
        return columns[dim][dtype];
    if (schedule == QKV_SCHEDULE_UNITS)
        return units[dim][dtype];
    return entries[schedule - QKV_SCHEDULE_LANES][dtype];
}

/* Of a shape that fits both: as measured on an H200. */
static qkv_schedule units_or_columns(const qkv_params *p)
{
    const int cached = p->slot_dtype != K_NONE, tables = p->angles == QKV_ANGLES_TABLES;
    const int many = p->tokens >= MANY_UNIT_TOKENS;
    return p->tokens <= FEW_UNIT_TOKENS || (many && (tables || (cached && p->dim <= 256)))
               ? QKV_SCHEDULE_UNITS
               : QKV_SCHEDULE_COLUMNS;
}

static qkv_schedule choose(const mlxn_gpu_traits *gpu, const qkv_params *p,
                           const uint64_t addresses[QKV_OPERANDS])
{
    const int64_t heads = all_heads(p);
    const int few = p->tokens < (MANY_HEADS + heads - 1) / heads;
    const int rows = rows_fit(p, addresses), columns = rows && columns_fit(p, addresses);
    qkv_schedule wanted = (qkv_schedule)gpu->schedule;
    if (wanted == QKV_SCHEDULE_AUTO && columns)
        wanted = units_or_columns(p);
    else if (wanted == QKV_SCHEDULE_AUTO)
        wanted = few ? QKV_SCHEDULE_GROUP : QKV_SCHEDULE_ROWS;
    if (wanted == QKV_SCHEDULE_GROUP && p->dim <= GROUP_DIM)
        return QKV_SCHEDULE_GROUP;
    if (wanted < QKV_SCHEDULE_ROWS || !rows)
        return QKV_SCHEDULE_LANES;
    return columns ? wanted : QKV_SCHEDULE_ROWS;
}

/* Threads a group, and the grid: tokens in x, heads of a token in y. */
static void lay_out(const mlxn_gpu_traits *gpu, const qkv_params *p, qkv_schedule schedule,
                    mlxn_gpu_launch *launch)
{
    const int64_t heads = all_heads(p), a_simd = p->dtype == K_F32 ? 4 : 8;
    int64_t threads = 32, x = p->tokens, a_group;
    if (schedule == QKV_SCHEDULE_GROUP) /* a pair a thread */
        threads = (p->dim / 2 + 31) / 32 * 32 + (p->dim < 2 ? 32 : 0);
    if (schedule == QKV_SCHEDULE_ROWS)
        threads = 64;
    if (schedule == QKV_SCHEDULE_COLUMNS) /* all heads of a token, of several */
        threads = heads < 4 * a_simd ? (heads + a_simd - 1) / a_simd * 32 : 128;
    if (gpu->threads_wanted)
        threads = (int64_t)gpu->threads_wanted;
    a_group = schedule == QKV_SCHEDULE_GROUP ? 1 : threads / 32;
    if (schedule == QKV_SCHEDULE_ROWS) /* half a simdgroup works on about four heads */
        a_group = threads / 16 * 4;
    if (schedule == QKV_SCHEDULE_COLUMNS) {
        a_group = heads;
        x /= x < SOME_TOKENS ? 1 : x < 4 * SOME_TOKENS ? 2 : 4; /* tokens a group */
    }
    const int64_t y = (heads + a_group - 1) / a_group;
    launch->threads = (uint32_t)threads;
    launch->groups[0] = (uint32_t)(x < GRID_X ? x : GRID_X);
    launch->groups[1] = (uint32_t)(y < GRID_Y ? y : GRID_Y);
}

/* The same for units, and how many there are: a group works on several tokens where that leaves
 * enough groups for the device. */
static void lay_out_units(const mlxn_gpu_traits *gpu, qkv_params *p, mlxn_gpu_launch *launch)
{
    const int64_t vectors = p->dtype == K_F32 ? p->dim / 4 : p->dim / 8; /* of a head */
    const int64_t lanes = vectors / 2 < 16 ? vectors / 2 : 16;
    int64_t units = 0, threads = QKV_UNITS_THREADS, tokens;
    const int64_t many = (int64_t)UNIT_HEADS * gpu->processors;
    p->unit_heads = vectors == 2 * lanes && p->tokens * all_heads(p) >= many ? 2 : 1;
    for (int k = 0; k < QKV_PARTS; k++) {
        p->part[k].units = (int32_t)((p->part[k].heads + p->unit_heads - 1) / p->unit_heads);
        units += p->part[k].units;
    }
    if (units * lanes < threads)
        threads = (units * lanes + 31) / 32 * 32;
    if (gpu->threads_wanted && gpu->threads_wanted <= QKV_UNITS_THREADS)
        threads = (int64_t)gpu->threads_wanted;
    const int64_t y = (units * lanes + threads - 1) / threads;
    tokens = p->tokens * y / ((int64_t)gpu->processors * UNIT_GROUPS + 1);
    tokens = tokens < 1 ? 1 : tokens < UNIT_TOKENS ? tokens : UNIT_TOKENS;
    const int64_t x = (p->tokens + tokens - 1) / tokens;
    launch->threads = (uint32_t)threads;
    launch->groups[0] = (uint32_t)(x < GRID_X ? x : GRID_X);
    launch->groups[1] = (uint32_t)(y < GRID_Y ? y : GRID_Y);
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
