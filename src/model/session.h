/* session.h - a session, to the files that feed it (session.c), score with it (session_score.c) and
 * step it (session_step.c). */
#ifndef MLXN_MODEL_SESSION_H
#define MLXN_MODEL_SESSION_H

#include "model/gemma3.h"

struct mlxn_session {
    mlxn_model *model;
    int64_t context, chunk, position;
    gemma3_pass pass;
    gemma3_activations rows;  /* of a chunk */
    gemma3_activations one;   /* its first row: the decode step's */
    mlxn_buffer *logits;      /* f32 [1, vocab] */
    mlxn_buffer *logits_flat; /* the same as [vocab] */
    mlxn_buffer *penalised;   /* [vocab]: logits after the repeat penalty */
    int64_t screen_top;       /* 0: none */
    mlxn_buffer *rows_read;   /* i32 [1]: of the output matrix, by a screened product */
    float *copy; /* logits read back, where the host cannot reach the device's memory */
    size_t copy_bytes;
    mlxn_buffer *token, *counter, *history;
    mlxn_encoder *encoder;
    mlxn_graph *step; /* NULL: not recorded with this sampling */
    mlxn_sampling sampling;
    int has_logits, has_token; /* of the current position */
    int has_screened;          /* the logits are the largest alone */
    int64_t last_row;          /* of rows.normed: what the logits are of */
    int32_t *tokens;           /* all tokens up to `position`, and the one picked */
    double encode_seconds;
    uint64_t steps, screened_steps, screen_rows;
};

/* Whether `count` tokens may be fed: ids in the vocabulary, room in the context. */
mlxn_status mlxn_session_check_feed(const mlxn_session *s, const char *who, const int32_t *ids,
                                    size_t count);
/* Ids, positions and ring slots of the next n tokens, into the device's buffers. */
mlxn_status mlxn_session_write_inputs(mlxn_session *s, const int32_t *ids, int64_t n);
/* Computes one chunk; the last `wanted` of its tokens get their final norm. */
mlxn_status mlxn_session_feed_chunk(mlxn_session *s, const int32_t *ids, int64_t n, int64_t wanted,
                                    int with_logits);
mlxn_status mlxn_session_commit_and_wait(mlxn_session *s);
/* A dense f32 buffer for the host to read: in place where it can, else the session's copy. */
mlxn_status mlxn_session_read_rows(mlxn_session *s, mlxn_buffer *rows, const float **out);

/* Records the logits of a row, screened where the sampling allows it. */
mlxn_status mlxn_session_record_logits(mlxn_session *s, mlxn_buffer *normed);
/* Logits that were screened under another sampling are not enough: all of them. */
mlxn_status mlxn_session_complete_logits(mlxn_session *s);

static inline int session_penalises(const mlxn_session *s)
{
    const mlxn_sampling *p = &s->sampling;
    return p->repeat_last > 0 && (p->repeat_penalty < 1 || p->repeat_penalty > 1);
}

/* Whether the sampling looks at no more than the screen_top largest logits. */
static inline int session_is_screened(const mlxn_session *s)
{
    const int64_t seen = s->sampling.temperature > 0 ? s->sampling.top_k : 1;
    return seen > 0 && seen <= s->screen_top && !session_penalises(s);
}

#endif
