/* matmul_cpu.c - output = input * weight^T on the CPU, for one weight or several with one input;
 * the arithmetic is stated in mlxn/ops/matmul.h, the layouts in packed.h and plan.h.
 *
 * One row: each thread prepares the row for itself (no barrier) and takes runs of pairs of groups
 * of each product.  Several rows: the team prepares a slab of rows together, then each thread takes
 * pairs of groups, unpacks them once and runs them against many panels.  Plain weights are packed
 * group by group on the way, by the code that prepares weights.
 *
 * A gate makes the same pair of groups of both products and stores gelu of one times the other. */
#include "ops/elementwise/gelu_cpu.h"
#include "ops/matmul/activations.h"
#include "ops/matmul/matvec.h"
#include "ops/matmul/pack.h"

/* One product of a dispatch, seen by one thread. */
typedef struct product_job {
    matmul_params p;
    matmul_plan plan;
    const uint8_t *weight;
    uint8_t *activations; /* the slab's, or this thread's for a single row */
    int prepares;         /* the first product with these activations */
    uint8_t *unpacked, *packed;
    panel_output out;
    int64_t pairs;   /* of groups */
    cpu_share share; /* of the pairs, for a single row */
    int64_t parts;   /* runs of panels that a pair is split into, for several rows */
} product_job;

/* One dispatch, seen by one thread. */
typedef struct product_set {
    const mlxn_cpu_call *call;
    const void *input;
    product_job job[MATMUL_GROUP_MAX];
    int count;    /* products */
    int outputs;  /* a gate: 1, else count */
    float *gated; /* a gate of several rows: both products, [2][rows][32] */
} product_set;

static product_set start(const mlxn_cpu_call *call, const matmul_group_params *g)
{
    const group_plan plan = plan_group(g);
    uint8_t *shared = call->shared;
    uint8_t *own = shared + plan.shared_bytes + call->thread * plan.thread_bytes;
    product_set set = {.call = call,
                       .input = call->ptr[0],
                       .count = g->count,
                       .outputs = g->gate ? 1 : g->count,
                       .gated = (void *)(own + plan.gate_at)};
    for (int i = 0; i < g->count; i++) {
        product_job *job = &set.job[i];
        job->p = matmul_product_of(g, i);
        job->plan = plan.product[i];
        job->weight = call->ptr[1 + 2 * i];
        job->activations = (g->rows == 1 ? own : shared) + plan.activations_at[i];
        job->prepares = plan.prepares[i];
        job->unpacked = own + plan.unpacked_at;
        job->packed = own + plan.packed_at;
        job->out = (panel_output){.dtype = (mlxn_dtype)job->p.output_dtype,
                                  .base = call->ptr[2 + 2 * i],
                                  .stride = job->p.output_stride,
                                  .rows = g->rows,
                                  .columns = job->p.weight.rows};
        job->pairs = (job->plan.groups + 1) / 2;
    }
    return set;
}

/* The packed bytes of a group; a plain weight is packed into slot 0 or 1 of the scratch. */
static const uint8_t *packed_bytes(const product_job *job, int64_t group, int slot)
{
    const matmul_weight *w = &job->p.weight;
    if (w->packed)
        return job->weight + (size_t)group * job->plan.group_bytes;
    uint8_t *to = job->packed + (size_t)slot * job->plan.group_bytes;
    const int64_t row = group * PACKED_ROWS, left = w->rows - row;
    pack_group((mlxn_dtype)w->dtype, job->weight + row * w->row_bytes, w->row_bytes,
               left < PACKED_ROWS ? (int)left : PACKED_ROWS, w->cols, to);
    return to;
}

/* ---- one row ---- */

/* Both groups of a pair; the last one of an odd number is its own neighbour. */
CPU_INLINE void row_fast(const product_job *job, mlxn_dtype dtype, int64_t pair, vf acc[2])
{
    const int both = 2 * pair + 1 < job->plan.groups;
    for (int i = 0; i <= both; i++)
        acc[i] = matvec_fast(dtype, packed_bytes(job, 2 * pair + i, 0), job->activations,
                             job->plan.tiles);
}

CPU_INLINE void row_exact(const product_job *job, mlxn_dtype dtype, int64_t pair, vf acc[2])
{
    const float *x = (const void *)job->activations;
    const uint8_t *groups[2];
    groups[0] = groups[1] = packed_bytes(job, 2 * pair, 0);
    if (2 * pair + 1 < job->plan.groups)
        groups[1] = packed_bytes(job, 2 * pair + 1, 1);
    if (packed_format_of(dtype).kind == PACKED_FLOAT)
        matvec_float(dtype, groups, x, job->plan.tiles, acc);
    else
        matvec_exact(dtype, groups, x, job->plan.tiles, acc);
}

#define QUANTS(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q4_K) X(Q5_K) X(Q6_K)
#define FLOATS(X) X(F32) X(F16) X(BF16)

static void row_pair(const product_job *job, int64_t pair, vf acc[2])
{
    switch (job->p.weight.dtype * 2 + job->plan.quantised) {
#define FAST(name)                             \
    case MLXN_##name * 2 + 1:                  \
        row_fast(job, MLXN_##name, pair, acc); \
        return;
#define EXACT(name)                             \
    case MLXN_##name * 2:                       \
        row_exact(job, MLXN_##name, pair, acc); \
        return;
        QUANTS(FAST)
        QUANTS(EXACT)
        FLOATS(EXACT)
#undef FAST
#undef EXACT
    }
}

/* The pairs [begin, end) of output i. */
static void row_run(const product_set *set, int i, int64_t begin, int64_t end)
{
    const product_job *job = &set->job[i];
    for (int64_t pair = begin; pair < end; pair++) {
        vf acc[2] = {vf_set(0), vf_set(0)}, up[2] = {vf_set(0), vf_set(0)};
        row_pair(job, pair, acc);
        if (set->outputs < set->count)
            row_pair(&set->job[1], pair, up);
        for (int half = 0; half < 2 && 2 * pair + half < job->plan.groups; half++) {
            const int64_t column = (2 * pair + half) * PACKED_ROWS;
            const int64_t left = job->out.columns - column;
            const vf v =
                set->outputs == set->count ? acc[half] : vf_mul(vf_gelu(acc[half]), up[half]);
            vf_store_as_n(job->out.dtype, job->out.base, column, v, left < 16 ? (int)left : 16);
        }
    }
}

/* Prepares the row, and meanwhile asks for the first group that will be read. */
static void prepare_row(const product_set *set)
{
    const product_job *first = &set->job[0];
    const int64_t bytes = (int64_t)first->plan.group_bytes;
    const uint8_t *weight = first->weight;
    if (first->p.weight.packed)
        weight += 2 * first->share.fixed * set->call->thread * bytes;
    for (int i = 0; i < set->count; i++) {
        const product_job *job = &set->job[i];
        const int64_t tiles = job->plan.tiles;
        for (int64_t tile = 0; job->prepares && tile < tiles; tile++) {
            if (i == 0)
                cpu_prefetch(weight + tile * bytes / tiles, 512);
            act_prepare(&job->p, &job->plan, set->input, 0, tile, tile + 1, job->activations);
        }
    }
}

static void single_row(product_set *set)
{
    int64_t begin, end;
    for (int i = 0; i < set->outputs; i++)
        set->job[i].share = cpu_share_of(set->job[i].pairs, set->call->n_threads);
    prepare_row(set);
    for (int i = 0; i < set->outputs; i++) {
        cpu_share_fixed(&set->job[i].share, set->call->thread, &begin, &end);
        row_run(set, i, begin, end);
    }
    for (;;) {
        int64_t item = (int64_t)mlxn_cpu_next(set->call);
        int i = 0;
        for (; i < set->outputs && item >= set->job[i].share.rest; i++)
            item -= set->job[i].share.rest;
        if (i == set->outputs)
            return;
        cpu_share_rest(&set->job[i].share, item, &begin, &end);
        row_run(set, i, begin, end);
    }
}

/* ---- several rows ---- */

CPU_INLINE void unpack_quants_as(mlxn_dtype dtype, int quantised, const uint8_t *group,
                                 int64_t tiles, uint8_t *out)
{
    const packed_format f = packed_format_of(dtype);
    const unpack_group at = unpack_group_at(f, group, tiles);
    for (int64_t tile = 0; tile < tiles; tile++) {
        vb u[8];
        vf s, t;
        unpack_tile(dtype, at, tile, u, &s, &t);
        CPU_UNROLL
        for (int j = 0; j < 8; j++) {
            vf four[4];
            if (quantised) {
                vb_store(out + 64 * j, u[j]);
                continue;
            }
            unpack_floats(u[j], (float)f.zero_point, four);
            for (int i = 0; i < 4; i++)
                vf_store((float *)(void *)(out + 256 * j + 64 * i), four[i]);
        }
        out += quantised ? 512 : 2048;
        vf_store((float *)(void *)out, s);
        vf_store((float *)(void *)(out + 64), t);
        out += 128;
    }
}

CPU_INLINE void unpack_floats_as(mlxn_dtype dtype, const uint8_t *group, int64_t tiles,
                                 uint8_t *out)
{
    for (int64_t tile = 0; tile < tiles; tile++) {
        for (int k = 0; k < PACKED_K; k++, out += 64)
            vf_store((float *)(void *)out,
                     vf_load_as(dtype, group, (tile * PACKED_K + k) * PACKED_ROWS));
        vf_store((float *)(void *)out, vf_set(1));
        out += 128;
    }
}

static void unpack_weight(const product_job *job, const uint8_t *group, uint8_t *out)
{
    const int64_t tiles = job->plan.tiles;
    switch (job->p.weight.dtype * 2 + job->plan.quantised) {
#define UNPACK_QUANTS(name)                                  \
    case MLXN_##name * 2 + 1:                                \
        unpack_quants_as(MLXN_##name, 1, group, tiles, out); \
        return;                                              \
    case MLXN_##name * 2:                                    \
        unpack_quants_as(MLXN_##name, 0, group, tiles, out); \
        return;
#define UNPACK_FLOATS(name)                               \
    case MLXN_##name * 2:                                 \
        unpack_floats_as(MLXN_##name, group, tiles, out); \
        return;
        QUANTS(UNPACK_QUANTS)
        FLOATS(UNPACK_FLOATS)
#undef UNPACK_QUANTS
#undef UNPACK_FLOATS
    }
}

static void run_panel(const product_job *job, const uint8_t *const groups[], const uint8_t *act,
                      const panel_output *out)
{
    const int64_t tiles = job->plan.tiles;
    switch ((int)job->plan.format.kind * 2 + job->plan.quantised) {
    case PACKED_SCALE * 2 + 1:
        panel_rows(PACKED_SCALE, 1, groups, act, tiles, out);
        return;
    case PACKED_OFFSET * 2 + 1:
        panel_rows(PACKED_OFFSET, 1, groups, act, tiles, out);
        return;
    case PACKED_DUAL * 2 + 1:
        panel_rows(PACKED_DUAL, 1, groups, act, tiles, out);
        return;
    case PACKED_OFFSET * 2:
        panel_rows(PACKED_OFFSET, 0, groups, act, tiles, out);
        return;
    case PACKED_DUAL * 2:
        panel_rows(PACKED_DUAL, 0, groups, act, tiles, out);
        return;
    default: /* one scale a block; 1 for float weights */
        panel_rows(PACKED_SCALE, 0, groups, act, tiles, out);
    }
}

/* The pair of groups `pair` against the panels [begin, end) of the slab, into `out`: its row is
 * that of panel 0, its column is added to the pair's. */
static void run_pair(const product_job *job, int64_t pair, int unpack, int64_t begin, int64_t end,
                     panel_output out)
{
    const size_t bytes = job->plan.unpacked_bytes;
    const int64_t group = PLAN_GROUPS * pair, row = out.row, column = out.column;
    const int both = group + 1 < job->plan.groups;
    const uint8_t *groups[PLAN_GROUPS] = {job->unpacked, job->unpacked + (both ? bytes : 0)};
    for (int i = 0; unpack && i <= both; i++)
        unpack_weight(job, packed_bytes(job, group + i, 0), job->unpacked + (size_t)i * bytes);
    for (int64_t panel = begin; panel < end; panel++) {
        const uint8_t *act = job->activations + (size_t)panel * job->plan.panel_bytes;
        out.row = row + panel * PLAN_PANEL;
        for (int i = 0; i < PLAN_GROUPS; i += PANEL_G) {
            out.column = column + (group + i) * PACKED_ROWS;
            if (out.column < out.columns)
                run_panel(job, groups + i, act, &out);
        }
    }
}

/* The same pair of both products of a gate, and the output of the two. */
static void run_gate_pair(const product_set *set, int64_t pair, int64_t first, int64_t begin,
                          int64_t end)
{
    enum { WIDTH = PLAN_GROUPS * PACKED_ROWS };
    const product_job *job = &set->job[0];
    const panel_output *out = &job->out;
    const int64_t column = pair * WIDTH, row = first + begin * PLAN_PANEL;
    const int64_t most = (end - begin) * PLAN_PANEL, left = out->rows - row;
    const int64_t rows = left < most ? left : most;
    for (int i = 0; i < 2; i++) {
        const panel_output to = {.dtype = MLXN_F32,
                                 .base = set->gated + i * rows * WIDTH,
                                 .stride = WIDTH,
                                 .row = -begin * PLAN_PANEL,
                                 .rows = rows,
                                 .column = -column,
                                 .columns =
                                     out->columns - column < WIDTH ? out->columns - column : WIDTH};
        run_pair(&set->job[i], pair, 1, begin, end, to);
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < WIDTH && column + c < out->columns; c += 16) {
            const int64_t columns = out->columns - column - c;
            const int n = columns < 16 ? (int)columns : 16;
            const float *gate = set->gated + r * WIDTH + c, *up = gate + rows * WIDTH;
            vf_store_as_n(out->dtype, out->base, (row + r) * out->stride + column + c,
                          vf_mul(vf_gelu(vf_load_n(gate, n)), vf_load_n(up, n)), n);
        }
}

/* Each pair of groups is split into `parts` runs of panels where there are few pairs. */
static void split_pairs(product_set *set)
{
    const int64_t wanted = 6 * (int64_t)set->call->n_threads;
    for (int i = 0; i < set->outputs; i++) {
        product_job *job = &set->job[i];
        const int64_t parts = (wanted + job->pairs - 1) / job->pairs;
        job->parts = parts < job->plan.panels ? parts : job->plan.panels;
    }
}

/* Prepares the thread's share of a slab's activations, and waits for the others. */
static void prepare_slab(const product_set *set, int64_t first, int64_t panels)
{
    int64_t begin, end;
    if (first > 0) /* the slab before is still being read */
        mlxn_cpu_barrier(set->call);
    for (int i = 0; i < set->count; i++) {
        const product_job *job = &set->job[i];
        if (!job->prepares)
            continue;
        cpu_split(set->call, panels * job->plan.tiles, &begin, &end);
        act_prepare(&job->p, &job->plan, set->input, first, begin, end, job->activations);
    }
    mlxn_cpu_barrier(set->call);
}

static void many_rows(product_set *set)
{
    const matmul_plan *plan = &set->job[0].plan;
    int64_t item = -1, done = 0; /* item: taken and not yet run; done: items of earlier slabs */
    split_pairs(set);
    for (int64_t first = 0; first < set->job[0].p.rows; first += plan->slab_rows) {
        const int64_t left = set->job[0].p.rows - first;
        const int64_t rows = left < plan->slab_rows ? left : plan->slab_rows;
        const int64_t panels = (rows + PLAN_PANEL - 1) / PLAN_PANEL;
        int64_t items = 0, unpacked = -1, of = -1; /* which pair is, of which product */
        prepare_slab(set, first, panels);
        for (int i = 0; i < set->outputs; i++)
            items += set->job[i].pairs * set->job[i].parts;
        for (;; item = -1) {
            if (item < 0)
                item = (int64_t)mlxn_cpu_next(set->call);
            int64_t at = item - done;
            if (at >= items)
                break; /* it belongs to the next slab */
            int i = 0;
            for (; at >= set->job[i].pairs * set->job[i].parts; i++)
                at -= set->job[i].pairs * set->job[i].parts;
            const product_job *job = &set->job[i];
            const int64_t pair = at / job->parts, part = at % job->parts;
            const int64_t begin = panels * part / job->parts;
            const int64_t end = panels * (part + 1) / job->parts;
            panel_output out = job->out;
            out.row = first;
            if (set->outputs < set->count)
                run_gate_pair(set, pair, first, begin, end);
            else
                run_pair(job, pair, pair != unpacked || i != of, begin, end, out);
            unpacked = pair;
            of = i;
        }
        done += items;
    }
}

static void run(product_set set)
{
    if (set.job[0].p.rows == 1)
        single_row(&set);
    else
        many_rows(&set);
}

CPU_KERNEL(matmul)
{
    const matmul_group_params one = matmul_group_of(call->args);
    run(start(call, &one));
}

CPU_KERNEL(matmul_group)
{
    run(start(call, call->args));
}
