/* attention_cpu.c - attention on the CPU.
 *
 * A row is one (query, head).  For each row and chunk of 256 absolute positions
 *   s_j = scale * (q . k_j), one ascending fma chain over the head; s_j = c * tanh(s_j / c)
 *   m = max s_j (at least -FLT_MAX), e_j = exp(s_j - m)
 *   l = sum e_j in 16 lanes, lane = position mod 16, each ascending, then the butterfly of vf_sum
 *   o = ascending fma chain of e_j * v_j
 * over the visible keys alone, and chunks are folded in ascending order: m' = max(m, m_c),
 * a = exp(m - m'), b = exp(m_c - m'), l = fma(l, a, l_c * b), o = fma(o, a, o_c * b) (Milakov and
 * Gimelshein 2018).  The output is o / l.  Nothing of this depends on how the work is cut.
 *
 * What a row sees is found by attention_keys_cpu.h, a chunk is computed by attention_chunk_cpu.h;
 * here chunks are folded and the work is divided.  An item of work is a tile (queries of one key
 * head) over all its chunks, or, when there are few queries, a tile and one chunk, merged at the
 * end. */
#include "ops/attention/attention_chunk_cpu.h"

static float first_lane(vf v)
{
    float x[16];
    vf_store(x, v);
    return x[0];
}

/* Adds the chunk of record b to the chunks before it in record a. */
static void fold(const attention_plan *plan, float *a, const float *b)
{
    float *at = a + plan->padded_dim;
    const float *bt = b + plan->padded_dim;
    float m = at[ATTENTION_M] > bt[ATTENTION_M] ? at[ATTENTION_M] : bt[ATTENTION_M];
    vf wa = vf_set(first_lane(vf_exp(vf_set(at[ATTENTION_M] - m))));
    vf wb = vf_set(first_lane(vf_exp(vf_set(bt[ATTENTION_M] - m))));
    vf l = vf_fma(vf_set(at[ATTENTION_L]), wa, vf_mul(vf_set(bt[ATTENTION_L]), wb));
    at[ATTENTION_M] = m;
    at[ATTENTION_L] = first_lane(l);
    at[ATTENTION_OK] *= bt[ATTENTION_OK];
    for (int64_t d = 0; d < plan->padded_dim; d += 16)
        vf_store(a + d, vf_fma(vf_load(a + d), wa, vf_mul(vf_load(b + d), wb)));
}

/* Writes o / l, unless a key of the row had no slot. */
static void finish(const job *j, const float *record, int64_t token, int64_t head)
{
    const attention_params *p = j->p;
    const float *tail = record + j->plan.padded_dim;
    void *output = j->call->ptr[ATTENTION_OUTPUT];
    int64_t at = token * p->o_token + head * p->o_head;
    const vf l = vf_set(tail[ATTENTION_L]);
    if (tail[ATTENTION_OK] == 0)
        return;
    for (int64_t d = 0; d < p->dim; d += 16) {
        vf y = vf_div(vf_load(record + d), l);
        int n = (int)attention_min(16, p->dim - d);
        vf_store_as_n((mlxn_dtype)p->q_dtype, output, at + d, y, n);
    }
}

/* All chunks of a run, from the first to the output. */
static void attend_run(const job *j, const run *r)
{
    int64_t rows = r->count * j->group, record = j->plan.record, begin, end, first, last;
    size_t bytes = (size_t)record * sizeof(float);
    query_chunks(j, r->position, &begin, &last);
    query_chunks(j, r->position + r->count - 1, &first, &end);
    pack_queries(j, r);
    for (int64_t c = begin; c <= end; c++) {
        attend_chunk(j, r, c);
        for (int64_t row = 0; row < rows; row++) {
            query_chunks(j, r->position + row / j->group, &first, &last);
            if (c == first)
                memcpy(j->state + row * record, j->partial + row * record, bytes);
            else if (c > first && c <= last)
                fold(&j->plan, j->state + row * record, j->partial + row * record);
        }
    }
    for (int64_t row = 0; row < rows; row++)
        finish(j, j->state + row * record, r->token + row / j->group,
               r->g * j->group + row % j->group);
}

/* ---- work ---- */

/* Items are tiles, each over all its chunks. */
static void attend_tiles(job *j)
{
    int64_t items = j->plan.tiles * j->p->kv_heads;
    for (;;) {
        int64_t item = (int64_t)mlxn_cpu_next(j->call);
        if (item >= items)
            return;
        item = items - 1 - item; /* later positions see more keys: they go first */
        run r = {.g = item % j->p->kv_heads};
        int64_t t = item / j->p->kv_heads * j->plan.tile;
        int64_t end = attention_min(t + j->plan.tile, j->p->tokens);
        while (next_run(j, &t, end, &r))
            attend_run(j, &r);
    }
}

/* The record of chunk number i of those that a row sees. */
static float *chunk_record(const job *j, int64_t token, int64_t head, int64_t i)
{
    return j->partials + ((token * j->p->heads + head) * j->plan.chunks + i) * j->plan.record;
}

/* Chunk c of a run, into the records that all threads see. */
static void split_run(const job *j, const run *r, int64_t c)
{
    size_t bytes = (size_t)j->plan.record * sizeof(float);
    int64_t begin, end, first, last;
    query_chunks(j, r->position, &begin, &last);
    query_chunks(j, r->position + r->count - 1, &first, &end);
    if (c < begin || c > end)
        return;
    pack_queries(j, r);
    attend_chunk(j, r, c);
    for (int64_t row = 0; row < r->count * j->group; row++) {
        int64_t i = row / j->group;
        query_chunks(j, r->position + i, &first, &last);
        if (c >= first && c <= last)
            memcpy(chunk_record(j, r->token + i, r->g * j->group + row % j->group, c - first),
                   j->partial + row * j->plan.record, bytes);
    }
}

/* Folds this thread's share of the rows, once all chunks are there. */
static void merge_rows(const job *j)
{
    int64_t begin, end, first, last;
    cpu_split(j->call, j->p->tokens * j->p->heads, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        int64_t t = row / j->p->heads, head = row % j->p->heads;
        if (!query_valid(j, t))
            continue;
        float *state = chunk_record(j, t, head, 0);
        query_chunks(j, j->positions[t], &first, &last);
        for (int64_t c = first + 1; c <= last; c++)
            fold(&j->plan, state, chunk_record(j, t, head, c - first));
        finish(j, state, t, head);
    }
}

/* Items are a chunk of a tile, for the chunks that some query of the call sees. */
static void attend_split(job *j)
{
    int64_t per_chunk = j->plan.tiles * j->p->kv_heads, lowest = INT64_MAX, highest = -1;
    for (int64_t t = 0; t < j->p->tokens; t++) {
        int64_t first, last;
        if (!query_valid(j, t))
            continue;
        query_chunks(j, j->positions[t], &first, &last);
        lowest = attention_min(lowest, first);
        highest = last > highest ? last : highest;
    }
    for (;;) {
        int64_t item = (int64_t)mlxn_cpu_next(j->call), c = lowest + item / per_chunk;
        if (highest < 0 || c > highest)
            break;
        run r = {.g = item % j->p->kv_heads};
        int64_t t = item % per_chunk / j->p->kv_heads * j->plan.tile;
        int64_t end = attention_min(t + j->plan.tile, j->p->tokens);
        while (next_run(j, &t, end, &r))
            split_run(j, &r, c);
    }
    mlxn_cpu_barrier(j->call);
    merge_rows(j);
}

CPU_KERNEL(attention)
{
    const attention_params *p = call->args;
    job j = {
        .call = call,
        .p = p,
        .plan = attention_make_plan(p, call->n_threads),
        .group = p->heads / p->kv_heads,
        .positions = call->ptr[ATTENTION_POSITIONS],
        .sequences = call->ptr[ATTENTION_SEQUENCES],
        .table = call->ptr[ATTENTION_TABLE],
    };
    int64_t rows = j.plan.rows;
    j.state = (float *)call->shared + j.plan.thread_floats * call->thread;
    j.partial = j.state + rows * j.plan.record;
    j.keys = j.partial + rows * j.plan.record;
    j.scores = j.keys + STEP * p->dim;
    j.q = j.scores + rows * CHUNK;
    j.partials = (float *)call->shared + j.plan.thread_floats * call->n_threads;
    if (j.plan.split)
        attend_split(&j);
    else
        attend_tiles(&j);
}
