/* session_score.c - log-probabilities of given tokens: a chunk's final norms, SCORE_ROWS of them at
 * a time through the output matrix. */
#include <math.h>
#include <string.h>
#include "model/session.h"

enum { SCORE_ROWS = 32 };

typedef struct scorer {
    mlxn_session *session;
    mlxn_buffer *logits, *targets, *logprobs; /* of SCORE_ROWS rows */
    int (*row)(void *context, size_t index, const float *logits, float logprob_next);
    void *context;
} scorer;

/* Logits and log-probabilities of `n` rows whose final norm is in rows[start ..] of the chunk. */
static mlxn_status score_rows(scorer *sc, int64_t start, int64_t n, const int32_t *next,
                              size_t index, int is_end)
{
    mlxn_session *s = sc->session;
    mlxn_buffer *normed = NULL, *logits = NULL, *targets = NULL, *logprobs = NULL;
    int32_t ids[SCORE_ROWS] = {0};
    float values[SCORE_ROWS];
    const float *row = NULL;
    memcpy(ids, next, (size_t)(n - is_end) * sizeof *ids);
    mlxn_status status = mlxn_buffer_slice(s->rows.normed, 0, start, n, &normed);
    if (status == MLXN_OK)
        status = mlxn_buffer_slice(sc->logits, 0, 0, n, &logits);
    if (status == MLXN_OK)
        status = mlxn_buffer_slice(sc->targets, 0, 0, n, &targets);
    if (status == MLXN_OK)
        status = mlxn_buffer_slice(sc->logprobs, 0, 0, n, &logprobs);
    if (status == MLXN_OK)
        status = mlxn_encoder_reset(s->encoder);
    if (status == MLXN_OK)
        status = mlxn_buffer_write(targets, 0, ids, (size_t)n * sizeof *ids);
    if (status == MLXN_OK)
        status = mlxn_gemma3_record_logits(s->encoder, &s->pass, normed, logits);
    if (status == MLXN_OK)
        status = mlxn_logprob(s->encoder, MLXN_DESC(mlxn_logprob_args, .logits = logits,
                                                    .targets = targets, .logprobs = logprobs));
    if (status == MLXN_OK)
        status = mlxn_session_commit_and_wait(s);
    if (status == MLXN_OK)
        status = mlxn_buffer_read(logprobs, 0, values, (size_t)n * sizeof *values);
    if (status == MLXN_OK)
        status = mlxn_session_read_rows(s, logits, &row);
    for (int64_t i = 0; status == MLXN_OK && i < n; i++, row += s->model->config.vocab)
        if (sc->row(sc->context, index + (size_t)i, row, is_end && i == n - 1 ? NAN : values[i]))
            status = mlxn_fail(MLXN_ERR_CANCELLED, "scoring was cancelled");
    mlxn_buffer_release(normed);
    mlxn_buffer_release(logits);
    mlxn_buffer_release(targets);
    mlxn_buffer_release(logprobs);
    return status;
}

static mlxn_status score_all(scorer *sc, const int32_t *ids, size_t count)
{
    mlxn_session *s = sc->session;
    for (size_t done = 0; done < count;) {
        size_t left = count - done, n = left < (size_t)s->chunk ? left : (size_t)s->chunk;
        MLXN_TRY(mlxn_session_feed_chunk(s, ids + done, (int64_t)n, (int64_t)n, 0));
        for (size_t at = 0; at < n;) {
            size_t part = n - at < SCORE_ROWS ? n - at : SCORE_ROWS;
            size_t index = done + at;
            MLXN_TRY(score_rows(sc, (int64_t)at, (int64_t)part, ids + index + 1, index,
                                index + part == count));
            at += part;
        }
        done += n;
    }
    return MLXN_OK;
}

mlxn_status mlxn_session_score(mlxn_session *s, const int32_t *ids, size_t count,
                               int (*row)(void *context, size_t index, const float *logits,
                                          float logprob_next),
                               void *context)
{
    MLXN_TRY(mlxn_session_check_feed(s, "session_score", ids, count));
    if (!row)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_score: row is NULL");
    mlxn_device *device = s->model->device;
    const int64_t n = SCORE_ROWS, shape[] = {SCORE_ROWS, s->model->config.vocab};
    scorer sc = {.session = s, .row = row, .context = context};
    s->has_logits = s->has_token = 0;
    mlxn_status status = mlxn_buffer_create(device, MLXN_F32, 2, shape, &sc.logits);
    if (status == MLXN_OK)
        status = mlxn_buffer_create(device, MLXN_I32, 1, &n, &sc.targets);
    if (status == MLXN_OK)
        status = mlxn_buffer_create(device, MLXN_F32, 1, &n, &sc.logprobs);
    if (status == MLXN_OK)
        status = score_all(&sc, ids, count);
    mlxn_buffer_release(sc.logits);
    mlxn_buffer_release(sc.targets);
    mlxn_buffer_release(sc.logprobs);
    return status;
}
