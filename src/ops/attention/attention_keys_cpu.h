/* attention_keys_cpu.h - which keys a query of attention_cpu.c sees, and where they lie in the
 * cache.
 *
 * Query t at position p sees positions max(0, p - window + 1) .. p.  Queries that share a pass over
 * the cache are a run; the work on a run is done for one chunk of CHUNK absolute positions at a
 * time.  A query whose position or sequence is out of range, and a key without a slot, are reported
 * here and drop the query's row. */
#ifndef MLXN_OPS_ATTENTION_ATTENTION_KEYS_CPU_H
#define MLXN_OPS_ATTENTION_ATTENTION_KEYS_CPU_H

#include "backends/cpu/kernel.h"
#include "ops/attention/attention.h"

#define CHUNK ATTENTION_CHUNK
#define STEP  ATTENTION_STEP

/* One call of the kernel, on one thread. */
typedef struct job {
    const mlxn_cpu_call *call;
    const attention_params *p;
    attention_plan plan;
    int64_t group; /* heads that share a key head */
    const int32_t *positions, *sequences, *table;
    float *partials;
    /* this thread's own: */
    float *q;       /* [rows / 4][dim][4] */
    float *scores;  /* [rows][CHUNK] */
    float *keys;    /* [STEP / 16][dim][16] */
    float *partial; /* [rows] records: one chunk */
    float *state;   /* [rows] records: the chunks so far */
} job;

/* Queries of consecutive positions in one sequence, so that the keys they see are consecutive. */
typedef struct run {
    int64_t token, count, position, sequence;
    int64_t g; /* key head */
} run;

/* The keys of a chunk that a run sees, [first, last] within the chunk: elements from the start of
 * the cache.  `bad` marks positions without a valid slot. */
typedef struct key_set {
    int first, last, any_bad;
    int64_t k[CHUNK], v[CHUNK];
    uint8_t bad[CHUNK];
} key_set;

/* The oldest position that a query sees. */
static int64_t first_key(const attention_params *p, int64_t position)
{
    return p->window && position >= p->window ? position - p->window + 1 : 0;
}

static int64_t sequence_of(const job *j, int64_t t)
{
    return j->sequences ? j->sequences[t] : 0;
}

/* Whether query t takes part; a position or sequence out of range is reported. */
static int query_valid(const job *j, int64_t t)
{
    const attention_params *p = j->p;
    int64_t position = j->positions[t], sequence = sequence_of(j, t);
    int64_t seen = position + 1 - first_key(p, position);
    if (position < 0)
        return 0;
    const char *what = NULL;
    int64_t value = position, limit = 0;
    if (position >= p->max_keys)
        what = "attention: position against max_keys", limit = p->max_keys;
    else if (p->slot_map == ATTENTION_LINEAR && position >= p->slots)
        what = "attention: position against cache slots", limit = p->slots;
    else if (p->slot_map == ATTENTION_RING && seen > p->slots)
        what = "attention: keys seen against slots of the ring", value = seen, limit = p->slots;
    else if (p->slot_map == ATTENTION_BY_TABLE && position >= p->table_columns)
        what = "attention: position against table columns", limit = p->table_columns;
    else if (p->slot_map == ATTENTION_BY_TABLE && (sequence < 0 || sequence >= p->table_rows))
        what = "attention: sequence against table rows", value = sequence, limit = p->table_rows;
    if (what)
        mlxn_cpu_fault(j->call, what, value, limit);
    return !what;
}

/* The next run of [*t, end); moves *t behind it.  0: there is none. */
static int next_run(const job *j, int64_t *t, int64_t end, run *r)
{
    while (*t < end && !query_valid(j, *t))
        ++*t;
    if (*t >= end)
        return 0;
    r->token = *t;
    r->position = j->positions[*t];
    r->sequence = sequence_of(j, *t);
    for (r->count = 1, ++*t; *t < end; r->count++, ++*t)
        if (j->positions[*t] != r->position + r->count || sequence_of(j, *t) != r->sequence ||
            !query_valid(j, *t))
            break;
    return 1;
}

/* The keys of chunk c that query i of the run sees, within the chunk; none: *first > *last. */
static void query_keys(const job *j, const run *r, int64_t i, int64_t c, int *first, int *last)
{
    int64_t position = r->position + i, lo = first_key(j->p, position) - c * CHUNK;
    int64_t hi = position - c * CHUNK;
    *first = lo > 0 ? (int)attention_min(lo, CHUNK) : 0;
    *last = hi < CHUNK ? (int)(hi < -1 ? -1 : hi) : CHUNK - 1;
}

/* The keys of chunk c that some query of the run sees. */
static void find_keys(const job *j, const run *r, int64_t c, key_set *keys)
{
    const attention_params *p = j->p;
    int unused;
    query_keys(j, r, 0, c, &keys->first, &unused);
    query_keys(j, r, r->count - 1, c, &unused, &keys->last);
    keys->any_bad = 0;
    for (int i = keys->first; i <= keys->last; i++) {
        int64_t slot = c * CHUNK + i;
        if (p->slot_map == ATTENTION_RING)
            slot %= p->slots;
        else if (p->slot_map == ATTENTION_BY_TABLE)
            slot = j->table[r->sequence * p->table_columns + slot];
        keys->bad[i] = slot < 0 || slot >= p->slots;
        if (keys->bad[i]) {
            mlxn_cpu_fault(j->call, "attention: table entry against cache slots", slot, p->slots);
            keys->any_bad = 1;
            slot = 0; /* rows that see it are dropped */
        }
        keys->k[i] = slot * p->k_slot + r->g * p->k_head;
        keys->v[i] = slot * p->v_slot + r->g * p->v_head;
    }
}

/* The chunks that a query sees keys of. */
static void query_chunks(const job *j, int64_t position, int64_t *first, int64_t *last)
{
    *first = first_key(j->p, position) / CHUNK;
    *last = position / CHUNK;
}

/* How many of the four rows from `row` on the run has. */
static int quad_rows(const job *j, const run *r, int64_t row)
{
    return (int)attention_min(4, r->count * j->group - row);
}

/* The keys of chunk c that some of rows [row, row + n) sees. */
static void quad_keys(const job *j, const run *r, int64_t row, int n, int64_t c, int *first,
                      int *last)
{
    int unused;
    query_keys(j, r, row / j->group, c, first, &unused);
    query_keys(j, r, (row + n - 1) / j->group, c, &unused, last);
}

#endif
