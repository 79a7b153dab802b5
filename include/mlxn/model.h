/* model.h - whole models on the library: weights from a GGUF file, and sessions that generate.
 *
 * A model holds the prepared weights and is shared by sessions; a session holds a KV cache, a
 * position and the recorded graphs.  A model may be used by many threads, a session by one at a
 * time.  Architectures: gemma3. */
#ifndef MLXN_MODEL_H
#define MLXN_MODEL_H

#include <mlxn/gguf.h>
#include <mlxn/graph.h>
#include <mlxn/screen.h>
#include <mlxn/tokenizer.h>

MLXN_EXTERN_C_BEGIN

typedef struct mlxn_model mlxn_model;
typedef struct mlxn_session mlxn_session;

typedef struct mlxn_model_desc {
    size_t size;
    mlxn_device *device;
    mlxn_gguf *gguf;
    /* called while weights are prepared, with bytes done and in all; may be NULL.  Non-zero from it
     * stops the load with MLXN_ERR_CANCELLED. */
    int (*progress)(void *context, uint64_t done, uint64_t total);
    void *progress_context;
    /* A file for the screen (screen.h) of the output matrix, which must be q8_0: read if it is
     * there and its key is `screen_key`, else made and written.  The matrix is then used as it lies
     * in the file, so products of all logits are slower.  NULL: no screen. */
    const char *screen_path, *screen_key;
} mlxn_model_desc;

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_model_create(const mlxn_model_desc *desc,
                                                       mlxn_model **out);
MLXN_API mlxn_model *mlxn_model_retain(mlxn_model *model);
MLXN_API void mlxn_model_release(mlxn_model *model);

typedef struct mlxn_model_info {
    size_t size;              /* set by the caller */
    const char *architecture; /* "gemma3" */
    int32_t vocab_size;
    int32_t layers, embedding, heads, kv_heads, head_dim, feed_forward;
    int64_t context;       /* the longest context the model was trained for */
    uint64_t parameters;   /* elements of all tensors */
    uint64_t weight_bytes; /* bytes of all tensors in the file */
} mlxn_model_info;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_model_get_info(const mlxn_model *model,
                                                         mlxn_model_info *info);

typedef struct mlxn_session_desc {
    size_t size;
    mlxn_model *model;
    int64_t context;         /* positions; 1 to the model's context */
    int64_t chunk;           /* tokens of a prompt computed at once; 0: 512 */
    mlxn_matmul_mode matmul; /* EXACT: f32 cache; FAST: f16 cache */
    /* K from 1 to MLXN_SCREEN_TOP_MAX: while sampling is greedy or its top_k at most K, and no
     * penalty is set, only the K largest logits after a token are computed, through the model's
     * screen; the others are -INFINITY.  Tokens are the same.  0: all logits. */
    int64_t screen_top;
} mlxn_session_desc;

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_create(const mlxn_session_desc *desc,
                                                         mlxn_session **out);
MLXN_API void mlxn_session_release(mlxn_session *session);

/* Forgets everything: position 0. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_reset(mlxn_session *session);
/* The position of the next token, which is the number of tokens fed. */
MLXN_API int64_t mlxn_session_position(const mlxn_session *session);

/* Feeds tokens; afterwards the logits after the last one can be read, or sampled from.  Too many
 * for the context is MLXN_ERR_BOUNDS, naming both numbers, and feeds nothing. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_feed(mlxn_session *session, const int32_t *ids,
                                                       size_t count);

/* Feeds tokens and calls `row` for each with the logits after it (f32 [vocab], valid during the
 * call) and, for all but the last, the log-probability they gave the next id (else NaN).
 * Non-zero from it stops with MLXN_ERR_CANCELLED. */
MLXN_API MLXN_MUST_CHECK mlxn_status
mlxn_session_score(mlxn_session *session, const int32_t *ids, size_t count,
                   int (*row)(void *context, size_t index, const float *logits, float logprob_next),
                   void *context);

/* The logits after the last token fed: f32 [vocab], valid until the next call on the session.  See
 * screen_top. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_logits(mlxn_session *session, const float **out);

typedef struct mlxn_sampling {
    size_t size;
    float temperature;    /* 0: greedy */
    int64_t top_k;        /* 0: all */
    float top_p;          /* 1: all */
    float min_p;          /* 0: all */
    float repeat_penalty; /* 1: none */
    int64_t repeat_last;  /* ids of the history that are penalised; >= 1 with a penalty */
    uint64_t seed;
} mlxn_sampling;

/* How tokens are picked from here on.  The number of a draw is the position that its token gets, so
 * the same seed and the same tokens before give the same token again. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_set_sampling(mlxn_session *session,
                                                               const mlxn_sampling *sampling);
/* Picks the next token from the logits after the last one fed, without feeding it. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_sample(mlxn_session *session, int32_t *token);
/* Feeds the token picked last and picks the next one: one recorded graph, one commit, one wait. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_step(mlxn_session *session, int32_t *token);

typedef struct mlxn_session_stats {
    size_t size;              /* set by the caller */
    uint64_t step_dispatches; /* of one recorded decode step, sampling included */
    uint64_t step_barriers;
    uint64_t cache_bytes;
    double encode_seconds; /* mean time to reset, replay and commit the last steps */
    uint64_t steps;
    uint64_t screen_bytes;   /* read of the screen for each token; 0: no screen */
    uint64_t screened_steps; /* steps that used it */
    uint64_t screen_rows;    /* rows of the output matrix read in full by all of them */
} mlxn_session_stats;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_get_stats(const mlxn_session *session,
                                                            mlxn_session_stats *stats);

/* mlxn_graph_measure of the recorded decode step, from the current position on; a token must have
 * been picked, and 2 (repetitions + 1) positions be free.  A launch's bytes are 0 where they depend
 * on position or token (attention, embedding).  The session is reset. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_session_measure(mlxn_session *session, int repetitions,
                                                          mlxn_graph_costs *costs,
                                                          mlxn_launch_cost *launches,
                                                          size_t capacity);

MLXN_EXTERN_C_END
#endif
