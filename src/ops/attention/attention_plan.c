/* attention_plan.c - launches of attention on a GPU: a group over all keys of a few queries
 * (tiles), or, where those would be too few to fill the device, a group a part of the keys and a
 * second launch that merges (split: attention_decode.kernel).  For many tokens CUDA has another
 * text, if attention may be fast. */
#include "core/gpu.h"
#include "kernels/text.h"
#include "ops/attention/attention.h"
#include "ops/attention/attention_plan.h"
#include "ops/plans.h"

const char *const mlxn_attention_faults[] = {"position", "sequence", "entry of the table", NULL};

enum { LEAST_THREADS = 128, MOST_THREADS = 256 };
static const size_t most_scratch = (size_t)64 << 20;

/* By dtype of the cache. */
static const char *const tiles_entries[] = {
    [K_F32] = "attention_tiles_f32",
    [K_F16] = "attention_tiles_f16",
    [K_BF16] = "attention_tiles_bf16",
};
static const char *const decode_entries[] = {
    [K_F32] = "attention_decode_f32",
    [K_F16] = "attention_decode_f16",
    [K_BF16] = "attention_decode_bf16",
};

/* Whether eight elements of a key or a value can be loaded at once. */
static int is_wide(const attention_params *p, const mlxn_node *node)
{
    const int64_t grain = p->dim | p->k_slot | p->k_head | p->v_slot | p->v_head;
    return grain % 8 == 0 && node->operands[ATTENTION_K].range.address % 16 == 0 &&
           node->operands[ATTENTION_V].range.address % 16 == 0;
}

/* Most pieces of `keys` positions that one query can touch. */
static int64_t pieces(const attention_params *p, int64_t keys)
{
    return attention_min((attention_span(p) + keys - 2) / keys + 1,
                         (p->max_keys + keys - 1) / keys);
}

/* Records of a (query, head) at most, as decode_divide counts them. */
static int64_t records_of(const attention_params *p)
{
    const int64_t chunks = pieces(p, ATTENTION_KEYS);
    const int64_t spans = pieces(p, ATTENTION_KEYS * ATTENTION_SPAN);
    return chunks <= ATTENTION_MANY ? chunks : spans < ATTENTION_MANY ? ATTENTION_MANY : spans;
}

static attention_launch_params params_of(const attention_params *p, const mlxn_node *node, int rows)
{
    const int64_t shared = p->heads / p->kv_heads;
    attention_launch_params a = {.p = *p,
                                 .heads = (int32_t)attention_min(shared, rows),
                                 .sequences = node->operands[ATTENTION_SEQUENCES].storage != NULL,
                                 .wide = is_wide(p, node),
                                 .records = (int32_t)records_of(p),
                                 .record = (p->dim + 3 + 3) / 4 * 4};
    const int64_t size = p->kv_dtype == K_F32 ? 4 : 2;
    a.eight = (int32_t)(8 * size);
    a.k_step = (int32_t)(p->k_slot * size);
    a.v_step = (int32_t)(p->v_slot * size);
    a.k_head = (int32_t)(p->k_head * size);
    a.v_head = (int32_t)(p->v_head * size);
    a.queries = a.sequences || rows == ATTENTION_SPLIT_ROWS ? 1 : rows / a.heads;
    a.head_blocks = (int32_t)((shared + a.heads - 1) / a.heads);
    return a;
}

/* Bytes of all records; 0: too many. */
static size_t scratch_of(const attention_launch_params *a)
{
    size_t n;
    if (mlxn_mul_overflows((size_t)(a->p.tokens * a->p.heads), (size_t)a->records, &n) ||
        mlxn_mul_overflows(n, (size_t)a->record * sizeof(float), &n) || n > most_scratch)
        return 0;
    return n;
}

/* attention_decode.kernel: wide is of queries too; a record whose head may end within a four keeps
 * that four whole, before m, l and ok. */
static attention_launch_params split_params(const attention_params *p, const mlxn_node *node)
{
    attention_launch_params a = params_of(p, node, ATTENTION_SPLIT_ROWS);
    a.wide = a.wide && (p->q_token | p->q_head) % 8 == 0 &&
             node->operands[ATTENTION_Q].range.address % 16 == 0;
    a.record = (p->dim / 4 + (a.wide ? 1 : 2)) * 4;
    return a;
}

/* Slices of a head that groups of attention_decode.kernel share out. */
static int64_t slices(const attention_params *p)
{
    return (p->dim + ATTENTION_STAGED - 1) / ATTENTION_STAGED;
}

/* Whether attention_decode.kernel can do it. */
static int can_decode(const attention_launch_params *split)
{
    const attention_params *p = &split->p;
    return p->slots <= INT32_MAX && p->tokens <= UINT16_MAX &&
           p->dim <= (int64_t)ATTENTION_MERGED * UINT16_MAX &&
           p->kv_heads * split->head_blocks <= UINT16_MAX && p->k_slot <= INT32_MAX / 4 &&
           p->v_slot <= INT32_MAX / 4 && p->k_head <= INT32_MAX / 4 && p->v_head <= INT32_MAX / 4 &&
           scratch_of(split) != 0;
}

static int choose_split(const mlxn_gpu_traits *gpu, const attention_launch_params *tiles,
                        const attention_launch_params *split)
{
    const int64_t groups = (tiles->p.tokens + tiles->queries - 1) / tiles->queries *
                           tiles->p.kv_heads * tiles->head_blocks;
    if (gpu->schedule != ATTENTION_SCHEDULE_AUTO)
        return gpu->schedule != ATTENTION_SCHEDULE_TILES;
    return split->records > 1 && groups * 4 < gpu->processors;
}

static mlxn_status add_launch(const attention_launch_params *a, const char *text, const char *entry,
                              size_t records, int has_records, mlxn_gpu_plan *plan,
                              mlxn_gpu_launch **out)
{
    MLXN_TRY(mlxn_gpu_add(plan, text, entry, a, sizeof *a, out));
    mlxn_gpu_bind_operands(*out, ATTENTION_OPERANDS);
    mlxn_gpu_bind(*out, has_records ? MLXN_GPU_SCRATCH : MLXN_GPU_NONE, records);
    mlxn_gpu_bind(*out, MLXN_GPU_FAULT, 0);
    (*out)->early = 1;
    return MLXN_OK;
}

/* Two elements of the head a thread, as far as there are threads. */
static void set_threads(const mlxn_gpu_traits *gpu, const attention_params *p,
                        mlxn_gpu_launch *launch)
{
    int64_t threads = (p->dim + 63) / 64 * 32;
    threads = threads < LEAST_THREADS ? LEAST_THREADS : attention_min(threads, MOST_THREADS);
    launch->threads = gpu->threads_wanted ? gpu->threads_wanted : (uint32_t)threads;
    launch->groups[2] = mlxn_gpu_groups((p->dim + 2 * launch->threads - 1) / (2 * launch->threads));
}

static void add_constants(const attention_launch_params *split, mlxn_gpu_launch *launch)
{
    const attention_params *p = &split->p;
    mlxn_gpu_constant(launch, p->q_dtype);
    mlxn_gpu_constant(launch, p->slot_map == ATTENTION_BY_TABLE);
    mlxn_gpu_constant(launch, p->softcap > 0);
    mlxn_gpu_constant(launch, p->dim % ATTENTION_STAGED == 0);
    mlxn_gpu_constant(launch, pieces(p, ATTENTION_KEYS) <= ATTENTION_MANY);
    mlxn_gpu_constant(launch, slices(p) == 1);
    mlxn_gpu_constant(launch, split->wide);
}

static mlxn_status add_decode(attention_launch_params *split, const mlxn_node *node,
                              mlxn_gpu_plan *plan)
{
    const attention_params *p = &split->p;
    const size_t records = mlxn_gpu_scratch(plan, scratch_of(split));
    split->settled = mlxn_gpu_settled(plan, node, ATTENTION_POSITIONS) &&
                     mlxn_gpu_settled(plan, node, ATTENTION_SEQUENCES);
    mlxn_gpu_launch *launch;
    MLXN_TRY(add_launch(split, mlxn_kernel_text_attention_decode, decode_entries[p->kv_dtype],
                        records, 1, plan, &launch));
    add_constants(split, launch);
    launch->threads = ATTENTION_DECODE_THREADS;
    launch->groups[0] = (uint32_t)(split->records * slices(p));
    launch->groups[1] = (uint32_t)(p->kv_heads * split->head_blocks);
    launch->groups[2] = (uint32_t)p->tokens;
    MLXN_TRY(add_launch(split, mlxn_kernel_text_attention_decode, "attention_decode_merge", records,
                        1, plan, &launch));
    add_constants(split, launch);
    launch->after = 1;
    launch->threads = ATTENTION_DECODE_MERGERS;
    launch->groups[0] = (uint32_t)p->heads;
    launch->groups[1] = (uint32_t)((p->dim + ATTENTION_MERGED - 1) / ATTENTION_MERGED);
    launch->groups[2] = (uint32_t)p->tokens;
    return MLXN_OK;
}

/* Whether attention_cuda.kernel may and can do it. */
static int can_use_tensor_cores(const mlxn_gpu_traits *gpu, const attention_params *p,
                                const mlxn_node *node)
{
    enum { FEWEST_TOKENS = 16 };
    const int64_t grain = p->q_token | p->q_head | p->k_slot | p->k_head | p->v_slot | p->v_head |
                          p->o_token | p->o_head;
    if (!p->fast || gpu->dialect != MLXN_GPU_CUDA || !gpu->overrides || gpu->architecture < 80 ||
        gpu->schedule != ATTENTION_SCHEDULE_AUTO || p->tokens < FEWEST_TOKENS)
        return 0;
    for (int i = ATTENTION_Q; i <= ATTENTION_OUTPUT; i++)
        if (node->operands[i].range.address % 16 != 0)
            return 0;
    return p->kv_dtype == K_F16 && (p->dim == 128 || p->dim == 256) && !(p->softcap > 0) &&
           p->slot_map != ATTENTION_BY_TABLE && grain % 8 == 0;
}

static mlxn_status add_tensor_cores(const attention_params *p, const mlxn_node *node,
                                    mlxn_gpu_plan *plan)
{
    const attention_launch_params a = params_of(p, node, ATTENTION_CUDA_ROWS);
    mlxn_gpu_launch *launch;
    MLXN_TRY(add_launch(&a, mlxn_kernel_text_attention_cuda,
                        p->dim == 128 ? "attention_cuda_128" : "attention_cuda_256", 0, 0, plan,
                        &launch));
    launch->threads = ATTENTION_CUDA_THREADS;
    launch->groups[0] = mlxn_gpu_groups((p->tokens + a.queries - 1) / a.queries);
    launch->groups[1] = (uint32_t)(p->kv_heads * a.head_blocks);
    return MLXN_OK;
}

mlxn_status mlxn_attention_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                                mlxn_gpu_plan *plan)
{
    const attention_params *p = node->args;
    const attention_launch_params tiles = params_of(p, node, ATTENTION_TILES_ROWS);
    attention_launch_params split = split_params(p, node);
    mlxn_gpu_launch *launch;
    if (p->kv_heads * tiles.head_blocks > UINT16_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "attention: more than %d key heads on a GPU",
                         (int)UINT16_MAX);
    if (can_use_tensor_cores(gpu, p, node))
        return add_tensor_cores(p, node, plan);
    if (can_decode(&split) && choose_split(gpu, &tiles, &split))
        return add_decode(&split, node, plan);
    MLXN_TRY(add_launch(&tiles, mlxn_kernel_text_attention, tiles_entries[p->kv_dtype], 0, 0, plan,
                        &launch));
    launch->groups[0] = mlxn_gpu_groups((p->tokens + tiles.queries - 1) / tiles.queries);
    launch->groups[1] = (uint32_t)(p->kv_heads * tiles.head_blocks);
    set_threads(gpu, p, launch);
    return MLXN_OK;
}
