/* heads.h - a model of qkv_prepare for the tests: a case, its random operands, the run on a device
 * and the float64 reference. */
#ifndef MLXN_TESTS_OPS_HEADS_H
#define MLXN_TESTS_OPS_HEADS_H

#include "rig.h"

enum { PART_Q, PART_K, PART_V, PARTS };

typedef enum heads_layout {
    HEADS_DENSE,  /* [tokens, heads, D], the parts one after another */
    HEADS_PACKED, /* [tokens, all heads of all parts, D] */
    HEADS_PADDED, /* gaps after each head and token */
    HEADS_MAJOR,  /* [heads, tokens, D] */
    HEADS_LAYOUTS
} heads_layout;

typedef struct heads_case {
    mlxn_dtype dtype, weight_dtype, cache_dtype; /* cache MLXN_DTYPE_NONE: no cache */
    mlxn_dtype position_dtype, slot_dtype;       /* position MLXN_DTYPE_NONE: position_start */
    int64_t dim, tokens, heads[PARTS];           /* heads 0: the part is absent */
    mlxn_norm_kind norm[PARTS];
    mlxn_rope_pairing rope[PARTS];
    int64_t pairs, slots;
    int tables, in_place, no_output; /* no_output: k and v to the cache only */
    heads_layout layout;
    mlxn_rounding rounding;
    double theta;
    float eps, bias, attention_factor;
} heads_case;

/* Host images.  All parts live in one base; the caches in one each. */
typedef struct heads_data {
    int64_t first[PARTS], token[PARTS], head[PARTS]; /* of the base, elements */
    int64_t elements, cache_elements[PARTS];
    void *base, *weight[PARTS], *cache[PARTS];
    int64_t *positions, *slots;
    float *cosine, *sine; /* tables, rows table_stride apart */
    int64_t table_stride;
} heads_data;

typedef struct heads_result {
    void *base, *cache[PARTS]; /* whole images; without in_place untouched elements are 0 */
} heads_result;

/* A case with everything else chosen at random. */
heads_case heads_random(mlxn_dtype dtype, mlxn_rope_pairing rope, mlxn_dtype weight, int64_t dim,
                        uint64_t *seed);
/* The matrix of cases: dtypes of data and weights, pairings and sizes of a head by the digits of
 * i, the rest at random.  The long tier has tokens, layout and cache dtype by digits too, so that
 * it runs each combination of the seven once; the other a fixed quarter of the first round, in
 * which all pairs of values of the four occur.
 *   for (int64_t i = 0; heads_next(&i); i++) c = heads_of_matrix(i, &seed);  */
int heads_next(int64_t *i); /* the case at or after *i, into *i; 0: none is left */
heads_case heads_of_matrix(int64_t i, uint64_t *seed);
heads_data heads_make(const heads_case *c, uint64_t *seed);
void heads_free(heads_data *d);
heads_result heads_result_make(const heads_case *c, const heads_data *d);
void heads_result_free(heads_result *r);
int heads_result_equal(const heads_case *c, const heads_data *d, const heads_result *a,
                       const heads_result *b);
/* Whether token t of a dense case has the same outputs in both. */
int heads_token_equal(const heads_case *c, const heads_data *d, int64_t t, const heads_result *a,
                      const heads_result *b);
/* Token t of a case alone: the case, and its data, which is d's. */
heads_case heads_alone(const heads_case *c, const heads_data *d, int64_t t, heads_data *one);
/* Runs the case; 0 after a failure, which is recorded. */
int heads_run(const rig_device *on, const heads_case *c, const heads_data *d, heads_result *r,
              mlxn_status want);
/* What heads_check has seen: cases, values of each dtype, and their largest errors in ulp of the
 * rotated pair. */
typedef struct heads_tally {
    long cases, values[RIG_FLOATS];
    rig_worst worst[RIG_FLOATS];
} heads_tally;

/* Checks outputs and caches against float64, and that all else is untouched. */
void heads_check(const heads_case *c, const heads_data *d, const heads_result *r,
                 heads_tally *tally);
void heads_note(const heads_tally *tally); /* printed with -v */
/* The two elements of pair i. */
void heads_pair(const heads_case *c, mlxn_rope_pairing rope, int64_t i, int64_t *lo, int64_t *hi);

#endif
