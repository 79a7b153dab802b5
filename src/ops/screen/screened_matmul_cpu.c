/* screened_matmul_cpu.c - the k largest products of a row with a screened matrix (mlxn/screen.h).
 *
 *   1  every row's upper bound from the screen, into the output
 *   2  each thread multiplies the rows of its part with the largest bounds; the k-th largest of all
 *      these products is the first threshold
 *   3  each thread multiplies the rows of its part whose bound reaches the threshold, which rises
 *      as products come, and writes -infinity for the others
 *   4  what is under the k-th largest product of all becomes -infinity too
 *
 * The products are those of mlxn_matmul: 16 rows at a time are packed into a group for matvec.h. */
#include <math.h>
#include "ops/matmul/activations.h"
#include "ops/matmul/matvec.h"
#include "ops/matmul/pack.h"
#include "ops/sampling/order.h"
#include "ops/screen/screen.h"

typedef struct screen_job {
    const mlxn_cpu_call *call;
    const screened_matmul_params *p;
    screened_plan plan;
    const uint8_t *weight, *groups;
    float *output;
    uint8_t *coarse; /* activations of the coarse product, 48 bytes a tile: see narrow_tile */
    uint8_t *activations, *rows;
    float wide[SCREEN_WIDE];
    float narrow_norm, constant; /* of the bound */
    int64_t begin, end;          /* the thread's part of the rows */
    order_heap first, best;      /* ranks of products: of step 2, of step 3 */
    int32_t read;
} screen_job;

/* ---- activations ---- */

/* A block as act_prepare makes it, with the wide columns taken out; then half the sum of its quants
 * in place of the sum, and the start of a byte dot product with the codes less 8.  Gives the sum of
 * squares of the quants that are left. */
static int32_t narrow_tile(screen_job *job, int64_t tile, uint8_t *block, int *next)
{
    int8_t *q = (int8_t *)block;
    const float scale = panel_float(block + 32);
    int32_t sum = 0, squares = 0;
    for (; *next < SCREEN_WIDE && job->p->wide[*next] < PACKED_K * (tile + 1); ++*next) {
        int8_t *at = q + job->p->wide[*next] - PACKED_K * tile;
        job->wide[*next] = scale * *at;
        *at = 0;
    }
    for (int i = 0; i < PACKED_K; i++) {
        sum += q[i];
        squares += q[i] * q[i];
    }
    const float half = 0.5f * (float)sum;
    const int32_t start = (VB_DOT_BIAS - 8) * sum;
    memcpy(block + 36, &half, sizeof half);
    memcpy(block + 40, &start, sizeof start);
    return squares;
}

/* Sums of squares over the row. */
typedef struct row_sums {
    double all;        /* of what the mode multiplies, or of the rounded row if that is more */
    double difference; /* of the two, over narrow columns */
    double wide;
} row_sums;

/* In exact mode: the wide columns unrounded, and how far the others are from the rounded row. */
static void add_exact(screen_job *job, const float *rounded, row_sums *sums)
{
    const float *x = (const void *)job->activations;
    double all = 0;
    int next = 0;
    for (int64_t k = 0; k < job->p->matmul.weight.cols; k++) {
        const float value = x[k / PACKED_K * (PACKED_K + 1) + k % PACKED_K];
        all += (double)value * (double)value;
        if (next < SCREEN_WIDE && job->p->wide[next] == k) {
            job->wide[next++] = value;
            continue;
        }
        const double d = (double)value - (double)rounded[k];
        sums->difference += d * d;
    }
    sums->all = all > sums->all ? all : sums->all;
}

static void prepare_bound(screen_job *job, double narrow, const row_sums *sums)
{
    const double up = 1 + 1e-6; /* more than all roundings of the sums */
    const double tiles = (double)job->plan.fast.tiles;
    const double slack = (3 * tiles + 128) * 0x1p-23;
    const double constant =
        (double)job->p->wide_error * sqrt(sums->wide) +
        (double)job->p->row_norm * (sqrt(sums->difference) + slack * sqrt(sums->all));
    job->narrow_norm = (float)(up * sqrt(narrow)) + 1e-30f;
    job->constant = (float)(up * constant) + 1e-30f; /* more than all underflow */
    if (!(narrow <= 1e30 && constant <= 1e30))       /* not finite: nothing is ruled out */
        job->constant = HUGE_VALF;
}

static void prepare(screen_job *job)
{
    const matmul_params *p = &job->p->matmul;
    const void *input = job->call->ptr[0];
    float *rounded = (float *)(void *)job->rows; /* a group holds more than a row of floats */
    row_sums sums = {0, 0, 0};
    double narrow = 0, all = 0;
    int next = 0;
    act_prepare(p, &job->plan.fast, input, 0, 0, job->plan.fast.tiles, job->coarse);
    act_prepare(p, &job->plan.mode, input, 0, 0, job->plan.mode.tiles, job->activations);
    for (int64_t tile = 0; tile < job->plan.fast.tiles; tile++) {
        uint8_t *block = job->coarse + 48 * tile;
        const double a = (double)panel_float(block + 32);
        for (int i = 0; i < PACKED_K; i++)
            rounded[PACKED_K * tile + i] = panel_float(block + 32) * ((int8_t *)block)[i];
        narrow += a * a * narrow_tile(job, tile, block, &next);
    }
    for (int i = 0; i < SCREEN_WIDE; i++)
        all += (double)job->wide[i] * (double)job->wide[i];
    sums.all = narrow + all;
    if (!p->fast)
        add_exact(job, rounded, &sums);
    for (int i = 0; i < SCREEN_WIDE; i++)
        sums.wide += (double)job->wide[i] * (double)job->wide[i];
    prepare_bound(job, narrow, &sums);
}

/* ---- the bounds ---- */

static void bound_group(const screen_job *job, int64_t g)
{
    const int64_t tiles = job->plan.fast.tiles, left = job->p->matmul.weight.rows - g * PACKED_ROWS;
    const size_t bytes = screen_group_bytes(tiles);
    const uint8_t *group = job->groups + (size_t)g * bytes, *act = job->coarse;
    const uint8_t *multipliers = group + screen_multipliers_at(tiles);
    const int8_t *wide = (const int8_t *)group + screen_wide_at(tiles);
    const float *floats = (const void *)(group + screen_floats_at(tiles));
    vf narrow = vf_set(0), columns = vf_set(0);
    const uint8_t zero[4] = {0};
    for (int64_t tile = 0; tile < tiles; tile++, act += 48) {
        vb u[8];
        matvec_prefetch(group + tile * (SCREEN_TILE + 64), SCREEN_TILE + 64);
        unpack_nibbles(group + tile * SCREEN_TILE, u);
        const vi dot = vi_add(matvec_dot(u, act, act + 40), matvec_dot(u + 4, act + 16, zero));
        const vf sum = vf_add(vi_to_float(dot), vf_set(panel_float(act + 36)));
        const vf m = unpack_bytes(multipliers + PACKED_ROWS * tile);
        narrow = vf_fma(sum, vf_mul(m, vf_set(panel_float(act + 32))), narrow);
    }
    for (int i = 0; i < SCREEN_WIDE; i++)
        columns =
            vf_fma(vi_to_float(vi_load_i8(wide + PACKED_ROWS * i)), vf_set(job->wide[i]), columns);
    const vf product = vf_fma(vf_load(floats), narrow, vf_mul(vf_load(floats + 16), columns));
    const vf bound = vf_add(vf_fma(vf_load(floats + 32), vf_set(job->narrow_norm), product),
                            vf_set(job->constant));
    vf_store_n(job->output + g * PACKED_ROWS, bound, left < PACKED_ROWS ? (int)left : PACKED_ROWS);
}

static void bound_all(const screen_job *job)
{
    const cpu_share share =
        cpu_share_of(packed_groups(job->p->matmul.weight.rows), job->call->n_threads);
    int64_t begin, end, item;
    cpu_share_fixed(&share, job->call->thread, &begin, &end);
    for (;;) {
        for (int64_t g = begin; g < end; g++)
            bound_group(job, g);
        item = (int64_t)mlxn_cpu_next(job->call);
        if (item >= share.rest)
            return;
        cpu_share_rest(&share, item, &begin, &end);
    }
}

/* ---- products ---- */

/* Up to 16 rows on their way to being multiplied. */
typedef struct row_batch {
    int32_t ids[PACKED_ROWS];
    int n;
} row_batch;

static void multiply(screen_job *job, row_batch *batch, order_heap *heap, int keep)
{
    const int64_t tiles = job->plan.fast.tiles;
    const uint8_t *const groups[2] = {job->rows, job->rows};
    float values[PACKED_ROWS];
    int32_t keys[PACKED_ROWS];
    vf acc[2];
    for (int i = 0; i < batch->n; i++)
        pack_row(MLXN_Q8_0, job->weight + batch->ids[i] * job->p->matmul.weight.row_bytes,
                 job->p->matmul.weight.cols, job->rows, i);
    if (job->p->matmul.fast)
        acc[0] = matvec_fast(MLXN_Q8_0, job->rows, job->activations, tiles);
    else
        matvec_exact(MLXN_Q8_0, groups, (const void *)job->activations, tiles, acc);
    vf_store(values, acc[0]);
    vi_store(keys, order_keys(acc[0]));
    for (int i = 0; i < batch->n; i++) {
        order_push(heap, order_rank(keys[i], batch->ids[i]));
        if (keep)
            job->output[batch->ids[i]] = values[i];
    }
    job->read += batch->n;
    batch->n = 0;
}

static void add_row(const screen_job *job, row_batch *batch, int64_t id)
{
    const uint8_t *row = job->weight + id * job->p->matmul.weight.row_bytes;
    for (int64_t i = 0; i < job->p->matmul.weight.row_bytes; i += 64)
        __builtin_prefetch(row + i, 0, 3);
    batch->ids[batch->n++] = (int32_t)id;
}

/* Step 2: the rows of the part with the largest bounds. */
static void multiply_first(screen_job *job, uint64_t *ranks)
{
    order_heap heap = {ranks, 0, job->plan.candidates};
    row_batch batch = {.n = 0};
    order_scan(&heap, job->output, job->begin, job->end);
    for (int64_t i = 0; i < heap.count; i++) {
        add_row(job, &batch, order_id(heap.ranks[i]));
        if (batch.n == PACKED_ROWS || i + 1 == heap.count)
            multiply(job, &batch, &job->first, 0);
    }
    while (job->first.count < job->p->k) /* a part shorter than k: ranks that lose to all */
        job->first.ranks[job->first.count++] = 0;
}

/* The key of the k-th largest product in all threads' lists at `offset` of their scratch; below all
 * keys of numbers if there are fewer. */
static int32_t threshold_of(const screen_job *job, size_t offset, uint64_t *ranks)
{
    order_heap heap = {ranks, 0, job->p->k};
    for (uint32_t t = 0; t < job->call->n_threads; t++) {
        const uint8_t *scratch = (const uint8_t *)job->call->shared + t * job->plan.thread_bytes;
        const uint64_t *list = (const void *)(scratch + offset);
        for (int64_t i = 0; i < job->p->k; i++)
            order_push(&heap, list[i]);
    }
    return (int32_t)((uint32_t)(heap.ranks[0] >> 32) ^ 0x80000000u);
}

/* Step 3.  A bound that is no number rules nothing out. */
static void multiply_rest(screen_job *job, int32_t threshold)
{
    row_batch batch = {.n = 0};
    for (int64_t i = job->begin; i < job->end; i += 16) {
        const int n = job->end - i < 16 ? (int)(job->end - i) : 16;
        const vf bound = vf_load_n(job->output + i, n);
        const vm out = vm_and(vf_eq(bound, bound), vi_gt(vi_set(threshold), order_keys(bound)));
        uint32_t wanted = ~vm_bits(out) & ((1u << n) - 1);
        vf_store_n(job->output + i, vf_set(-HUGE_VALF), n);
        for (int lane = 0; wanted; lane++, wanted >>= 1) {
            if (wanted & 1)
                add_row(job, &batch, i + lane);
            if (batch.n < PACKED_ROWS)
                continue;
            multiply(job, &batch, &job->best, 1);
            const int32_t least = (int32_t)((uint32_t)(job->best.ranks[0] >> 32) ^ 0x80000000u);
            if (job->best.count == job->p->k && least > threshold)
                threshold = least;
        }
    }
    if (batch.n)
        multiply(job, &batch, &job->best, 1);
    while (job->best.count < job->p->k)
        job->best.ranks[job->best.count++] = 0;
}

/* Step 4. */
static void drop_below(const screen_job *job, int32_t threshold)
{
    for (int64_t i = job->begin; i < job->end; i += 16) {
        const int n = job->end - i < 16 ? (int)(job->end - i) : 16;
        const vf x = vf_load_n(job->output + i, n);
        const vm in = vm_and(vf_eq(x, x), vm_not(vi_gt(vi_set(threshold), order_keys(x))));
        vf_store_n(job->output + i, vf_select(in, x, vf_set(-HUGE_VALF)), n);
    }
}

static void count_rows(const screen_job *job)
{
    int32_t *total = job->call->ptr[4];
    if (!total || job->call->thread)
        return;
    *total = 0;
    for (uint32_t t = 0; t < job->call->n_threads; t++) {
        const uint8_t *scratch = (const uint8_t *)job->call->shared + t * job->plan.thread_bytes;
        int32_t read;
        memcpy(&read, scratch + job->plan.rows_at, sizeof read);
        *total += read;
    }
}

CPU_KERNEL(screened_matmul)
{
    screen_job job = {.call = call, .p = call->args, .plan = screened_plan_of(call->args)};
    uint8_t *own = (uint8_t *)call->shared + call->thread * job.plan.thread_bytes;
    uint64_t *ranks = (void *)(own + job.plan.lists_at), *first = ranks + job.plan.candidates;
    const int64_t k = job.p->k, rows = job.p->matmul.weight.rows;
    job.weight = call->ptr[1];
    job.groups = call->ptr[2];
    job.output = call->ptr[3];
    job.coarse = own;
    job.activations = own + job.plan.mode_at;
    job.rows = own + job.plan.rows_at;
    job.first = (order_heap){first, 0, k};
    job.best = (order_heap){first + k, 0, k};
    const size_t first_at = (size_t)((uint8_t *)first - own), best_at = first_at + 8 * (size_t)k;
    cpu_split(call, packed_groups(rows), &job.begin, &job.end);
    job.begin *= PACKED_ROWS;
    job.end = job.end * PACKED_ROWS < rows ? job.end * PACKED_ROWS : rows;

    prepare(&job);
    bound_all(&job);
    mlxn_cpu_barrier(call);
    multiply_first(&job, ranks);
    mlxn_cpu_barrier(call);
    multiply_rest(&job, threshold_of(&job, first_at, ranks));
    memcpy(job.rows, &job.read, sizeof job.read);
    mlxn_cpu_barrier(call);
    drop_below(&job, threshold_of(&job, best_at, ranks));
    count_rows(&job);
}
