/* attention.h - the plan of attention on the CPU, a function of shapes and capacities only, as the
 * parameters are. */
#ifndef MLXN_OPS_ATTENTION_ATTENTION_H
#define MLXN_OPS_ATTENTION_ATTENTION_H

#include "core/internal.h"
#include "ops/attention/attention_params.h"

#define ATTENTION_CHUNK     256 /* keys; part of the operator's contract */
#define ATTENTION_TILE_ROWS 64  /* rows (query, head) that share one pass over the cache */
#define ATTENTION_STEP      32  /* keys transposed at a time */

/* The softmax of some keys and its weighted sum of values: o[0..dim), then m, l and a flag at
 * o[padded dim].  One record is `record` floats. */
enum { ATTENTION_M, ATTENTION_L, ATTENTION_OK, ATTENTION_RECORD_TAIL = 16 };

typedef struct attention_plan {
    int split;             /* chunks are items of their own, merged after a barrier */
    int64_t tile, tiles;   /* queries that share a pass over the cache; number of such tiles */
    int64_t rows;          /* of a tile: tile * heads / kv_heads, rounded up to 4 */
    int64_t chunks;        /* most chunks that one query sees */
    int64_t padded_dim;    /* of a record: dim rounded up to a vector */
    int64_t record;        /* floats */
    size_t thread_floats;  /* scratch of a thread */
    size_t partial_floats; /* scratch of all chunk records, split only */
} attention_plan;

static inline int64_t attention_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Most keys that a query can see: what the caller allows, or what the cache can hold. */
static inline int64_t attention_span(const attention_params *p)
{
    int64_t span = p->max_keys;
    if (p->window)
        span = attention_min(span, p->window);
    return attention_min(span, p->slot_map == ATTENTION_BY_TABLE ? p->table_columns : p->slots);
}

/* Few queries over many keys are split by chunk, as long as the partial results stay small. */
#define ATTENTION_PARTIAL_MAX (((size_t)64 << 20) / sizeof(float))

/* Scratch of a thread: at most about 1.3 KiB a head element of a tile: 350 KiB for 4 heads of 256
 * over one key head.  Partial results: 1 record a (query, head, chunk): 1 MiB for 4 heads of 256
 * and 65536 keys. */
static inline attention_plan attention_make_plan(const attention_params *p, uint32_t n_threads)
{
    attention_plan plan = {0};
    int64_t group = p->heads / p->kv_heads, span = attention_span(p);
    int64_t largest = group < ATTENTION_TILE_ROWS ? ATTENTION_TILE_ROWS / group : 1;
    plan.padded_dim = (p->dim + 15) / 16 * 16;
    plan.record = plan.padded_dim + ATTENTION_RECORD_TAIL;
    plan.chunks = attention_min((span + ATTENTION_CHUNK - 2) / ATTENTION_CHUNK + 1,
                                (p->max_keys + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK);

    size_t partial;
    int fits = !mlxn_mul_overflows((size_t)(p->tokens * p->heads), (size_t)plan.chunks, &partial) &&
               !mlxn_mul_overflows(partial, (size_t)plan.record, &partial) &&
               partial <= ATTENTION_PARTIAL_MAX;
    int64_t wanted = 4 * (int64_t)n_threads; /* items that keep all threads busy */
    if (n_threads > 1 && plan.chunks > 1 && p->tokens * p->kv_heads < wanted && fits) {
        plan.split = 1;
        plan.partial_floats = partial;
        plan.tile = attention_min(p->tokens, largest);
    } else {
        plan.tile = attention_min(p->tokens * p->kv_heads / wanted, largest);
        plan.tile = plan.tile < 1 ? 1 : plan.tile;
    }
    plan.tiles = (p->tokens + plan.tile - 1) / plan.tile;
    plan.rows = (plan.tile * group + 3) / 4 * 4;
    plan.thread_floats = (size_t)(plan.rows * (p->dim + ATTENTION_CHUNK + 2 * plan.record) +
                                  ATTENTION_STEP * p->dim + 15) /
                         16 * 16;
    return plan;
}

#endif
