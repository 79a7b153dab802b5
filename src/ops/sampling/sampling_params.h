/* sampling_params.h - what the host hands to the sampling kernels, the same text for C and for
 * kernel text: launch arguments, limits and operand numbers. */
#ifndef MLXN_OPS_SAMPLING_PARAMS_H
#define MLXN_OPS_SAMPLING_PARAMS_H

#include "kernels/types.h"

enum {
    SAMPLING_K_MAX = 1024, /* candidates that are kept as a list */
    SAMPLING_BLOCK = 1024, /* logits that are summed together */
    SAMPLING_BINS = 2048,  /* of a level of radix selection */
    SAMPLING_SPAN = 2048,  /* ids of a group that goes over all of a row */
};

/* Rows of logits.  GPU: the greatest key of each block of 2^block_shift ids is noted first. */
typedef struct logits_params {
    int64_t rows, vocab, stride, k;
    int32_t block_shift;
} logits_params;

typedef struct penalty_params {
    int64_t vocab, length, last_n;
    float penalty;
} penalty_params;

typedef struct sample_params {
    int64_t vocab;
    int64_t k; /* candidates: top_k, or vocab */
    uint64_t seed;
    int32_t block_shift;
    float temperature, top_p, min_p;
} sample_params;

/* GPU: a step of the selection of a filter's cut (sample_all.kernel). */
typedef struct sample_cut_params {
    sample_params sample;
    int32_t level;
    int32_t by_weight; /* top_p; else top_k */
    int32_t cuts;      /* made before */
} sample_cut_params;

typedef struct advance_params {
    int64_t length, capacity_a, capacity_b;
} advance_params;

enum {
    ADVANCE_TOKEN,
    ADVANCE_IDS,
    ADVANCE_POSITIONS,
    ADVANCE_COUNTER,
    ADVANCE_HISTORY,
    ADVANCE_SLOTS_A,
    ADVANCE_SLOTS_B,
    ADVANCE_OPERANDS
};

FN int64_t sampling_blocks(int64_t vocab)
{
    return (vocab + SAMPLING_BLOCK - 1) / SAMPLING_BLOCK;
}

#endif
