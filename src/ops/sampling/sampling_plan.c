/* sampling_plan.c - launches of the sampling kernels on a GPU; see sampling.kernel and
 * sample_all.kernel. */
#include "kernels/text.h"
#include "ops/plans.h"
#include "ops/sampling/sampling_params.h"

enum {
    WIDE = 256,           /* threads of the groups of a launch over all of a row */
    LAST = 512,           /* of the group that ends it; 1024 would be too many for some GPUs */
    BLOCKS_MAX = 1 << 14, /* of a row, for groups that look at all of them */
    /* ids of a block: few where the members of k blocks are looked at */
    SHIFT_LIST = 6,
    SHIFT_LONG_LIST = 5,
    SHIFT_ARGMAX = 8,
    SHIFT_SUMS = 10,
    LONG_LIST = 256,
    SCHEDULE_STRIDES = 1, /* tests: fewer groups than rows */
    PENALTY_SPAN = 2048,  /* as SAMPLING_SPAN of the text */
    GRID_Y = 65535,
};

const char *const mlxn_logprob_faults[] = {"target", NULL};
const char *const mlxn_repeat_penalty_faults[] = {"counter", "id", NULL};
const char *const mlxn_sample_faults[] = {"counter", NULL};
const char *const mlxn_step_advance_faults[] = {"counter", "position", NULL};

static uint32_t threads_of(const mlxn_gpu_traits *gpu, uint32_t wish)
{
    return gpu->threads_wanted ? gpu->threads_wanted : wish;
}

static int64_t blocks_of(int64_t vocab, int shift)
{
    return (vocab + ((int64_t)1 << shift) - 1) >> shift;
}

static int block_shift(int64_t vocab, int shift)
{
    while (blocks_of(vocab, shift) > BLOCKS_MAX)
        shift++;
    return shift;
}

static mlxn_status add_of(mlxn_gpu_plan *plan, const char *text, const char *entry,
                          const void *args, size_t args_bytes, mlxn_gpu_launch **out)
{
    MLXN_TRY(mlxn_gpu_add(plan, text, entry, args, args_bytes, out));
    (*out)->early = 1;
    (*out)->after = plan->n_launches - 1;
    return MLXN_OK;
}

static mlxn_status add(mlxn_gpu_plan *plan, const char *entry, const void *args, size_t args_bytes,
                       mlxn_gpu_launch **out)
{
    return add_of(plan, mlxn_kernel_text_sampling, entry, args, args_bytes, out);
}

/* A group for each span of ids. */
static void spread_spans(const mlxn_gpu_traits *gpu, mlxn_gpu_launch *launch, int64_t vocab)
{
    launch->threads = threads_of(gpu, WIDE);
    launch->groups[0] = (uint32_t)((vocab + SAMPLING_SPAN - 1) / SAMPLING_SPAN);
}

static int list_shift(int64_t vocab, int64_t k)
{
    return block_shift(vocab, k > LONG_LIST ? SHIFT_LONG_LIST : SHIFT_LIST);
}

/* A simdgroup for each of `items` (x), rows along y. */
static void spread(const mlxn_gpu_traits *gpu, mlxn_gpu_launch *launch, int64_t items, int64_t rows)
{
    /* few items go to many groups */
    launch->threads = threads_of(gpu, items * rows < 8 * (int64_t)gpu->processors ? 64 : WIDE);
    const int64_t simds = launch->threads / 32;
    launch->groups[0] = (uint32_t)((items + simds - 1) / simds);
    launch->groups[1] = gpu->schedule == SCHEDULE_STRIDES ? 1 : mlxn_gpu_groups(rows);
}

/* The greatest key of each block of operand 0; where they are in the scratch. */
static mlxn_status add_maxima(const mlxn_gpu_traits *gpu, const logits_params *p,
                              mlxn_gpu_plan *plan, size_t *maxima)
{
    const int64_t blocks = blocks_of(p->vocab, p->block_shift);
    mlxn_gpu_launch *launch;
    MLXN_TRY(add(plan, "sampling_maxima", p, sizeof *p, &launch));
    *maxima = mlxn_gpu_scratch(plan, (size_t)(p->rows * blocks) * sizeof(uint32_t));
    mlxn_gpu_bind(launch, 0, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, *maxima);
    spread(gpu, launch, blocks, p->rows);
    return MLXN_OK;
}

/* The maxima, then a group a row that reads them and writes the other operands. */
static mlxn_status plan_rows(const mlxn_gpu_traits *gpu, const mlxn_node *node, const char *entry,
                             int shift, uint32_t threads, mlxn_gpu_plan *plan)
{
    logits_params p = *(const logits_params *)node->args;
    mlxn_gpu_launch *launch;
    size_t maxima;
    p.block_shift = shift;
    MLXN_TRY(add_maxima(gpu, &p, plan, &maxima));
    MLXN_TRY(add(plan, entry, &p, sizeof p, &launch));
    mlxn_gpu_bind(launch, 0, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, maxima);
    for (int i = 1; i < node->n_operands; i++)
        mlxn_gpu_bind(launch, i, 0);
    launch->groups[0] = (uint32_t)p.rows;
    launch->threads = threads_of(gpu, threads);
    return MLXN_OK;
}

MLXN_PLANNER(argmax)
{
    const logits_params *p = node->args;
    return plan_rows(gpu, node, "sampling_argmax", block_shift(p->vocab, SHIFT_ARGMAX), WIDE, plan);
}

MLXN_PLANNER(top_k)
{
    const logits_params *p = node->args;
    return plan_rows(gpu, node, "sampling_top_k", list_shift(p->vocab, p->k), LAST, plan);
}

MLXN_PLANNER(logprob)
{
    logits_params p = *(const logits_params *)node->args;
    const int64_t blocks = sampling_blocks(p.vocab);
    mlxn_gpu_launch *launch;
    size_t maxima;
    p.block_shift = block_shift(p.vocab, SHIFT_SUMS);
    MLXN_TRY(add_maxima(gpu, &p, plan, &maxima));
    const size_t sums = mlxn_gpu_scratch(plan, (size_t)(p.rows * (blocks + 1)) * sizeof(float));
    MLXN_TRY(add(plan, "sampling_sums", &p, sizeof p, &launch));
    mlxn_gpu_bind(launch, 0, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, maxima);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, sums);
    spread(gpu, launch, blocks, p.rows);
    MLXN_TRY(add(plan, "sampling_logprob", &p, sizeof p, &launch));
    mlxn_gpu_bind_operands(launch, 3);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, sums);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    spread(gpu, launch, p.rows, 1);
    return MLXN_OK;
}

MLXN_PLANNER(repeat_penalty)
{
    const penalty_params *p = node->args;
    mlxn_gpu_launch *launch;
    MLXN_TRY(add(plan, "sampling_penalty", p, sizeof *p, &launch));
    mlxn_gpu_bind_operands(launch, 3);
    mlxn_gpu_bind(launch, node->operands[3].storage ? 3 : 0, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    spread_spans(gpu, launch, p->vocab);
    return MLXN_OK;
}

MLXN_PLANNER(sample_list)
{
    sample_params p = *(const sample_params *)node->args;
    p.block_shift = list_shift(p.vocab, p.k);
    const logits_params row = {
        .rows = 1, .vocab = p.vocab, .stride = p.vocab, .block_shift = p.block_shift};
    mlxn_gpu_launch *launch;
    size_t maxima;
    MLXN_TRY(add_maxima(gpu, &row, plan, &maxima));
    MLXN_TRY(add(plan, "sampling_list", &p, sizeof p, &launch));
    mlxn_gpu_bind(launch, 0, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, maxima);
    mlxn_gpu_bind(launch, 1, 0);
    mlxn_gpu_bind(launch, 2, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    launch->threads = threads_of(gpu, LAST);
    return MLXN_OK;
}

/* ---- sample_all ---- */

/* Where things are in the scratch of sample_all. */
typedef struct all_scratch {
    size_t maxima, histograms, searches, cuts, sums;
} all_scratch;

static mlxn_status add_all(mlxn_gpu_plan *plan, const char *entry, const sample_cut_params *p,
                           mlxn_gpu_launch **out)
{
    return add_of(plan, mlxn_kernel_text_sample_all, entry, p, sizeof *p, out);
}

static mlxn_status add_begin(const mlxn_gpu_traits *gpu, const sample_cut_params *p,
                             mlxn_gpu_plan *plan, all_scratch *at)
{
    const int64_t vocab = p->sample.vocab, blocks = blocks_of(vocab, p->sample.block_shift);
    const size_t levels = 3 * (size_t)p->cuts;
    mlxn_gpu_launch *launch;
    at->maxima = mlxn_gpu_scratch(plan, (size_t)blocks * sizeof(uint32_t));
    at->histograms = mlxn_gpu_scratch(plan, levels * 2 * SAMPLING_BINS * sizeof(uint32_t));
    at->searches = mlxn_gpu_scratch(plan, levels * 2 * sizeof(uint64_t));
    at->cuts = mlxn_gpu_scratch(plan, (size_t)p->cuts * sizeof(uint64_t));
    at->sums = mlxn_gpu_scratch(plan, (size_t)sampling_blocks(vocab) * sizeof(uint64_t));
    MLXN_TRY(add_all(plan, "sample_all_begin", p, &launch));
    mlxn_gpu_bind(launch, 0, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->maxima);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->histograms);
    spread(gpu, launch, blocks, 1);
    return MLXN_OK;
}

/* The launches of a filter, three levels and the cut; p->cuts is its number. */
static mlxn_status add_filter(const mlxn_gpu_traits *gpu, sample_cut_params *p, mlxn_gpu_plan *plan,
                              const all_scratch *at)
{
    for (p->level = 0; p->level < 4; p->level++) {
        const int cut = p->level == 3;
        mlxn_gpu_launch *launch;
        MLXN_TRY(add_all(plan, cut ? "sample_all_cut" : "sample_all_level", p, &launch));
        mlxn_gpu_bind(launch, 0, 0);
        mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->maxima);
        mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->histograms);
        mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->searches);
        mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->cuts);
        if (cut)
            launch->threads = threads_of(gpu, LAST);
        else
            spread_spans(gpu, launch, p->sample.vocab);
    }
    p->cuts++;
    return MLXN_OK;
}

static mlxn_status add_draw(const mlxn_gpu_traits *gpu, const sample_cut_params *p,
                            mlxn_gpu_plan *plan, const all_scratch *at)
{
    mlxn_gpu_launch *launch;
    MLXN_TRY(add_all(plan, "sample_all_sums", p, &launch));
    mlxn_gpu_bind(launch, 0, 0);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->maxima);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->cuts);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->sums);
    spread(gpu, launch, sampling_blocks(p->sample.vocab), 1);
    MLXN_TRY(add_all(plan, "sample_all_draw", p, &launch));
    mlxn_gpu_bind_operands(launch, 3);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->maxima);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->cuts);
    mlxn_gpu_bind(launch, MLXN_GPU_SCRATCH, at->sums);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    launch->threads = threads_of(gpu, LAST);
    return MLXN_OK;
}

MLXN_PLANNER(sample_all)
{
    sample_cut_params p = {.sample = *(const sample_params *)node->args};
    const int top_k = p.sample.k < p.sample.vocab, top_p = p.sample.top_p < 1;
    all_scratch at;
    p.sample.block_shift = block_shift(p.sample.vocab, SHIFT_ARGMAX);
    p.cuts = top_k + top_p;
    MLXN_TRY(add_begin(gpu, &p, plan, &at));
    p.cuts = 0;
    if (top_k)
        MLXN_TRY(add_filter(gpu, &p, plan, &at));
    p.by_weight = 1;
    if (top_p)
        MLXN_TRY(add_filter(gpu, &p, plan, &at));
    return add_draw(gpu, &p, plan, &at);
}

MLXN_PLANNER(step_advance)
{
    mlxn_gpu_launch *launch;
    (void)gpu;
    MLXN_TRY(add(plan, "sampling_advance", node->args, node->args_bytes, &launch));
    mlxn_gpu_bind_operands(launch, ADVANCE_OPERANDS);
    mlxn_gpu_bind(launch, MLXN_GPU_FAULT, 0);
    return MLXN_OK;
}
