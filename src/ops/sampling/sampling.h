/* sampling.h - what the sampling operators and their CPU kernels share: launch arguments, limits
 * and operand numbers. */
#ifndef MLXN_OPS_SAMPLING_PARAMS_H
#define MLXN_OPS_SAMPLING_PARAMS_H

#include <mlxn/ops/sampling.h>
#include "core/internal.h"

#define SAMPLING_K_MAX 1024 /* candidates that are kept as a sorted list */
#define SAMPLING_BLOCK 1024 /* logits of a block: one sum each */
#define SAMPLING_BINS  2048 /* of a histogram level */

/* argmax, top_k, logprob: rows of logits. */
typedef struct logits_params {
    int64_t rows, vocab, stride, k;
} logits_params;

typedef struct penalty_params {
    int64_t vocab, length, last_n;
    float penalty;
} penalty_params;

typedef struct sample_params {
    int64_t vocab;
    int64_t k; /* candidates: top_k, or vocab */
    uint64_t seed;
    float temperature, top_p, min_p;
} sample_params;

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

static inline int64_t sampling_blocks(int64_t vocab)
{
    return (vocab + SAMPLING_BLOCK - 1) / SAMPLING_BLOCK;
}

/* f32 [rows, V] or [V] with V that fits an id; fills rows, vocab and stride. */
mlxn_status mlxn_check_logits(const char *op, const mlxn_encoder *enc, const mlxn_buffer *logits,
                              logits_params *params);
/* A dense i32 or f32 buffer of n elements that does not overlap the logits. */
mlxn_status mlxn_check_result(const char *op, const char *name, const mlxn_encoder *enc,
                              const mlxn_buffer *b, uint32_t dtype, int64_t n,
                              const mlxn_buffer *logits);
/* A flat f32 [V] and an i32 [1]. */
mlxn_status mlxn_check_flat_logits(const char *op, const mlxn_encoder *enc,
                                   const mlxn_buffer *logits);
mlxn_status mlxn_check_cell(const char *op, const char *name, const mlxn_encoder *enc,
                            const mlxn_buffer *b, uint32_t flags);

#endif
