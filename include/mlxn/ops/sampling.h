/* sampling.h - from logits to the next token, on the device.
 *
 * Logits are f32 [rows, V] (or [V]).  A NaN logit never wins; equal logits go to the lower id. */
#ifndef MLXN_OPS_SAMPLING_H
#define MLXN_OPS_SAMPLING_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

/* ids[r] = the id of the largest logit of row r, the lowest on ties (0 if all are NaN). */
typedef struct mlxn_argmax_args {
    size_t size;
    mlxn_buffer *logits; /* f32 [rows, V] or [V] */
    mlxn_buffer *ids;    /* i32 [rows] */
} mlxn_argmax_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_argmax(mlxn_encoder *encoder,
                                                 const mlxn_argmax_args *args);

/* The k largest logits of each row, descending, lower id first on ties. */
typedef struct mlxn_top_k_args {
    size_t size;
    mlxn_buffer *logits; /* f32 [rows, V] or [V] */
    mlxn_buffer *ids;    /* i32 [rows, k], 1 <= k <= min(V, 1024) */
    mlxn_buffer *values; /* f32 [rows, k] */
} mlxn_top_k_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_top_k(mlxn_encoder *encoder, const mlxn_top_k_args *args);

/* logprobs[r] = ln softmax(logits[r])[targets[r]].  A target outside [0, V) is a fault. */
typedef struct mlxn_logprob_args {
    size_t size;
    mlxn_buffer *logits;   /* f32 [rows, V] */
    mlxn_buffer *targets;  /* i32 [rows] */
    mlxn_buffer *logprobs; /* f32 [rows] */
} mlxn_logprob_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_logprob(mlxn_encoder *encoder,
                                                  const mlxn_logprob_args *args);

/* The repeat penalty of Keskar et al. 2019: output = logits, but the logit of every id among the
 * last min(counter, last_n) entries of `history` (a ring: entry i at i mod its length) is divided
 * by `penalty` if positive, else multiplied by it, once however often the id occurs. */
typedef struct mlxn_repeat_penalty_args {
    size_t size;
    mlxn_buffer *logits;  /* f32 [V] */
    mlxn_buffer *history; /* i32 [n], n >= last_n */
    mlxn_buffer *counter; /* i32 [1]: entries ever written to history */
    int64_t last_n;       /* > 0 */
    float penalty;        /* > 0; 1 for none */
    mlxn_buffer *output;  /* f32 [V]; NULL: in place */
} mlxn_repeat_penalty_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_repeat_penalty(mlxn_encoder *encoder,
                                                         const mlxn_repeat_penalty_args *args);

/* Draws one token: the top_k largest logits (0: all), of these the smallest set with probability
 * >= top_p, of these the ones with probability >= min_p * the largest; then softmax(logit /
 * temperature) and one draw with u = uniform(seed, counter[0]) in [0, 1).  The order of the filters
 * is llama.cpp's.  u is 24 bits of a Philox 4x32-10 block (Salmon et al. 2011) keyed by seed with
 * the counter as its first word.  A token of probability 0 is never drawn.  temperature 0: argmax.
 * The same logits, seed and counter give the same token on every device. */
typedef struct mlxn_sample_args {
    size_t size;
    mlxn_buffer *logits;  /* f32 [V] */
    mlxn_buffer *token;   /* i32 [1] */
    mlxn_buffer *counter; /* i32 [1]: the draw's number */
    uint64_t seed;
    int64_t top_k;     /* 0: no limit */
    float temperature; /* >= 0; 0: argmax */
    float top_p;       /* (0, 1]; 1: none */
    float min_p;       /* [0, 1]; 0: none */
} mlxn_sample_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_sample(mlxn_encoder *encoder,
                                                 const mlxn_sample_args *args);

/* The end of a decode step: history[counter mod n] = token, ids[0] = token, positions[0] += 1,
 * slots_x[0] = the new position mod capacity_x for each given slots buffer, counter[0] += 1. */
typedef struct mlxn_step_advance_args {
    size_t size;
    mlxn_buffer *token;     /* i32 [1]: what was sampled */
    mlxn_buffer *ids;       /* i32 [1]: the next step's input; may be token */
    mlxn_buffer *positions; /* i32 [1] */
    mlxn_buffer *counter;   /* i32 [1] */
    mlxn_buffer *history;   /* i32 [n], may be NULL */
    mlxn_buffer *slots_a;   /* i32 [1], may be NULL */
    mlxn_buffer *slots_b;   /* i32 [1], may be NULL */
    int64_t capacity_a;     /* > 0 with slots_a */
    int64_t capacity_b;     /* > 0 with slots_b */
} mlxn_step_advance_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_step_advance(mlxn_encoder *encoder,
                                                       const mlxn_step_advance_args *args);

MLXN_EXTERN_C_END
#endif
