/* matmul_cpu.c - output = input * weight^T on the CPU; the arithmetic is stated in
 * mlxn/ops/matmul.h, the layouts in packed.h and plan.h.
 *
 * One row: each thread prepares the row for itself (no barrier) and takes runs of groups.  Several
 * rows: the team prepares a slab of rows together, then each thread takes pairs of groups, unpacks
 * them once and runs them against many panels.  Plain weights are packed group by group on the way,
 * by the code that prepares weights. */
#include "ops/matmul/activations.h"
#include "ops/matmul/matvec.h"
#include "ops/matmul/pack.h"

/* What the functions below share: one dispatch, seen by one thread. */
typedef struct mm_job {
    const mlxn_cpu_call *call;
    const matmul_params *p;
    matmul_plan plan;
    const void *input;
    const uint8_t *weight;
    uint8_t *activations; /* the slab's, or this thread's for a single row */
    uint8_t *unpacked, *packed;
    panel_output out;
} mm_job;

static mm_job mm_start(const mlxn_cpu_call *call)
{
    mm_job job = {.call = call, .p = call->args};
    job.plan = plan_of(job.p);
    job.input = call->ptr[0];
    job.weight = call->ptr[1];
    uint8_t *own = (uint8_t *)call->shared + job.plan.shared_activations +
                   call->thread * job.plan.thread_bytes;
    job.activations = job.p->rows == 1 ? own : call->shared;
    job.unpacked = own;
    job.packed = own + job.plan.thread_bytes - PLAN_GROUPS * job.plan.group_bytes;
    job.out = (panel_output){.dtype = (mlxn_dtype)job.p->output_dtype,
                             .base = call->ptr[2],
                             .stride = job.p->output_stride,
                             .rows = job.p->rows,
                             .columns = job.p->weight.rows};
    return job;
}

/* The packed bytes of a group; a plain weight is packed into slot 0 or 1 of the scratch. */
static const uint8_t *mm_group(const mm_job *job, int64_t group, int slot)
{
    const matmul_weight *w = &job->p->weight;
    if (w->packed)
        return job->weight + (size_t)group * job->plan.group_bytes;
    uint8_t *to = job->packed + (size_t)slot * job->plan.group_bytes;
    const int64_t row = group * PACKED_ROWS, left = w->rows - row;
    pack_group((mlxn_dtype)w->dtype, job->weight + row * w->row_bytes, w->row_bytes,
               left < PACKED_ROWS ? (int)left : PACKED_ROWS, w->cols, to);
    return to;
}

/* ---- one row ---- */

static void mm_store_row(const mm_job *job, int64_t group, vf v)
{
    const int64_t column = group * PACKED_ROWS, left = job->out.columns - column;
    vf_store_as_n(job->out.dtype, job->out.base, column, v, left < 16 ? (int)left : 16);
}

CPU_INLINE void mm_row_fast(const mm_job *job, mlxn_dtype dtype, int64_t begin, int64_t end)
{
    for (int64_t g = begin; g < end; g++)
        mm_store_row(job, g,
                     matvec_fast(dtype, mm_group(job, g, 0), job->activations, job->plan.tiles));
}

/* Two groups at a time; the last one of an odd number is its own neighbour. */
CPU_INLINE void mm_row_exact(const mm_job *job, mlxn_dtype dtype, int64_t begin, int64_t end)
{
    const float *x = (const void *)job->activations;
    for (int64_t g = begin; g < end; g += 2) {
        const uint8_t *groups[2];
        vf acc[2];
        groups[0] = groups[1] = mm_group(job, g, 0);
        if (g + 1 < end)
            groups[1] = mm_group(job, g + 1, 1);
        if (packed_format_of(dtype).kind == PACKED_FLOAT)
            matvec_float(dtype, groups, x, job->plan.tiles, acc);
        else
            matvec_exact(dtype, groups, x, job->plan.tiles, acc);
        mm_store_row(job, g, acc[0]);
        if (g + 1 < end)
            mm_store_row(job, g + 1, acc[1]);
    }
}

#define MM_QUANTS(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q4_K) X(Q5_K) X(Q6_K)
#define MM_FLOATS(X) X(F32) X(F16) X(BF16)

static void mm_row_groups(const mm_job *job, int64_t begin, int64_t end)
{
    switch (job->p->weight.dtype * 2 + job->plan.quantised) {
#define MM_FAST(name)                              \
    case MLXN_##name * 2 + 1:                      \
        mm_row_fast(job, MLXN_##name, begin, end); \
        return;
#define MM_EXACT(name)                              \
    case MLXN_##name * 2:                           \
        mm_row_exact(job, MLXN_##name, begin, end); \
        return;
        MM_QUANTS(MM_FAST)
        MM_QUANTS(MM_EXACT)
        MM_FLOATS(MM_EXACT)
#undef MM_FAST
#undef MM_EXACT
    }
}

/* Memory is read fastest as one long run by each thread, so seven eighths are divided beforehand;
 * the rest goes in smaller runs to whoever is free. */
static void mm_single_row(const mm_job *job)
{
    const int64_t groups = job->plan.groups, threads = job->call->n_threads;
    const int64_t fixed = groups * 7 / 8 / threads & ~(int64_t)1;
    int64_t run = (groups - fixed * threads) / (4 * threads) & ~(int64_t)1;
    if (run < 2)
        run = 2;
    act_prepare(job->p, &job->plan, job->input, 0, 0, job->plan.tiles, job->activations);
    mm_row_groups(job, fixed * job->call->thread, fixed * (job->call->thread + 1));
    for (;;) {
        const int64_t begin = fixed * threads + (int64_t)mlxn_cpu_next(job->call) * run;
        if (begin >= groups)
            return;
        mm_row_groups(job, begin, begin + run < groups ? begin + run : groups);
    }
}

/* ---- several rows ---- */

CPU_INLINE void mm_unpack_as(mlxn_dtype dtype, int quantised, const uint8_t *group, int64_t tiles,
                             uint8_t *out)
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

CPU_INLINE void mm_unpack_floats(mlxn_dtype dtype, const uint8_t *group, int64_t tiles,
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

static void mm_unpack(const mm_job *job, const uint8_t *group, uint8_t *out)
{
    const int64_t tiles = job->plan.tiles;
    switch (job->p->weight.dtype * 2 + job->plan.quantised) {
#define MM_UNPACK(name)                                  \
    case MLXN_##name * 2 + 1:                            \
        mm_unpack_as(MLXN_##name, 1, group, tiles, out); \
        return;                                          \
    case MLXN_##name * 2:                                \
        mm_unpack_as(MLXN_##name, 0, group, tiles, out); \
        return;
#define MM_UNPACK_FLOATS(name)                            \
    case MLXN_##name * 2:                                 \
        mm_unpack_floats(MLXN_##name, group, tiles, out); \
        return;
        MM_QUANTS(MM_UNPACK)
        MM_FLOATS(MM_UNPACK_FLOATS)
#undef MM_UNPACK
#undef MM_UNPACK_FLOATS
    }
}

static void mm_panel(const mm_job *job, const uint8_t *const groups[], const uint8_t *act,
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

/* The pair of groups `pair` against the panels [begin, end) of the slab that starts at `first`. */
static void mm_pair(const mm_job *job, int64_t pair, int unpack, int64_t first, int64_t begin,
                    int64_t end)
{
    const size_t bytes = job->plan.unpacked_bytes;
    const int64_t group = PLAN_GROUPS * pair;
    const int both = group + 1 < job->plan.groups;
    const uint8_t *groups[PLAN_GROUPS] = {job->unpacked, job->unpacked + (both ? bytes : 0)};
    panel_output out = job->out;
    for (int i = 0; unpack && i <= both; i++)
        mm_unpack(job, mm_group(job, group + i, 0), job->unpacked + (size_t)i * bytes);
    for (int64_t panel = begin; panel < end; panel++) {
        const uint8_t *act = job->activations + (size_t)panel * job->plan.panel_bytes;
        out.row = first + panel * PLAN_PANEL;
        for (int i = 0; i < PLAN_GROUPS; i += PANEL_G) {
            out.column = (group + i) * PACKED_ROWS;
            if (out.column < out.columns)
                mm_panel(job, groups + i, act, &out);
        }
    }
}

/* Each pair of groups is split into `parts` runs of panels where there are few pairs. */
static void mm_many_rows(const mm_job *job)
{
    const mlxn_cpu_call *call = job->call;
    const int64_t pairs = (job->plan.groups + 1) / 2, wanted = 6 * (int64_t)call->n_threads;
    int64_t parts = (wanted + pairs - 1) / pairs;
    if (parts > job->plan.panels)
        parts = job->plan.panels;
    int64_t item = -1, done = 0; /* item: taken and not yet run; done: items of earlier slabs */
    for (int64_t first = 0; first < job->p->rows; first += job->plan.slab_rows) {
        const int64_t left = job->p->rows - first;
        const int64_t rows = left < job->plan.slab_rows ? left : job->plan.slab_rows;
        const int64_t panels = (rows + PLAN_PANEL - 1) / PLAN_PANEL;
        int64_t begin, end, unpacked = -1;
        if (first > 0) /* the slab before is still being read */
            mlxn_cpu_barrier(call);
        cpu_split(call, panels * job->plan.tiles, &begin, &end);
        act_prepare(job->p, &job->plan, job->input, first, begin, end, job->activations);
        mlxn_cpu_barrier(call);
        for (;; item = -1) {
            if (item < 0)
                item = (int64_t)mlxn_cpu_next(call);
            const int64_t pair = (item - done) / parts, part = (item - done) % parts;
            if (pair >= pairs)
                break; /* it belongs to the next slab */
            mm_pair(job, pair, pair != unpacked, first, panels * part / parts,
                    panels * (part + 1) / parts);
            unpacked = pair;
        }
        done += pairs * parts;
    }
}

CPU_KERNEL(matmul)
{
    const mm_job job = mm_start(call);
    if (job.p->rows == 1)
        mm_single_row(&job);
    else
        mm_many_rows(&job);
}
