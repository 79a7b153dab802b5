/* attention_problem.h - what the tests of attention share: problems with random data, a run on a
 * device, a float64 reference and the bound on what it may be off by. */
#ifndef MLXN_TESTS_OPS_ATTENTION_PROBLEM_H
#define MLXN_TESTS_OPS_ATTENTION_PROBLEM_H

#include "rig.h"

/* Short names for rows of attention_spec. */
#define F32  MLXN_F32
#define F16  MLXN_F16
#define BF16 MLXN_BF16
#define LIN  MLXN_SLOTS_LINEAR
#define RING MLXN_SLOTS_RING
#define TAB  MLXN_SLOTS_TABLE

typedef struct attention_spec {
    const char *name;
    int64_t tokens, heads, kv_heads, dim;
    int64_t start; /* position of the first query */
    int64_t slots; /* 0: just enough */
    int64_t window;
    float scale, softcap;
    mlxn_dtype q_dtype, kv_dtype;
    mlxn_slot_map map;
} attention_spec;

/* A spec with data: keys and values by position, slot of each position. */
typedef struct problem {
    attention_spec s;
    int64_t keys, slots, max_keys;
    double *q, *k, *v; /* [tokens, heads, dim], [keys, kv_heads, dim] */
    int32_t *positions, *table;
    mlxn_attention_precision precision; /* EXACT if not set */
} problem;

void problem_make(problem *p, const attention_spec *s, uint64_t seed);
void problem_free(problem *p);
/* Runs queries [from, from + count) in one call; writes their output bytes.  The output starts as
 * the bytes that are in `out`; what no query of the call sees is NaN. */
mlxn_status problem_run_part(mlxn_device *device, const problem *p, int64_t from, int64_t count,
                             uint8_t *out);
/* The whole problem in calls of `piece` queries (0: all in one); rows that are not written have
 * bytes of 0x77. */
uint8_t *problem_run(mlxn_device *device, const problem *p, int64_t piece);
size_t problem_bytes(const problem *p); /* of the output */
/* The largest error over its bound. */
double problem_worst(const problem *p, const uint8_t *out);
/* Makes each spec, with data of seed + i, and runs it on every device: the first must be within the
 * bound, the others must have its bits. */
void problem_check_all(const attention_spec *specs, size_t count, uint64_t seed);
/* A cache with gaps between slots; every element that is not the key of a position from lowest to
 * highest, gaps included, is NaN. */
mlxn_buffer *problem_cache(mlxn_device *device, const problem *p, const double *data,
                           int64_t lowest, int64_t highest);
/* Commits, waits, and gives the result of the wait; releases the encoder. */
mlxn_status problem_finish(mlxn_encoder *encoder);

#endif
