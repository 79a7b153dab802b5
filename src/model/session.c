/* session.c - a running generation: KV cache, position, and the recorded decode step.
 *
 * A prompt is fed in chunks, each recorded and committed.  A decode step is recorded once: it reads
 * token, position and slot from device buffers, picks the next token on the device and advances
 * those buffers itself, so that a token costs one replay, one commit, one wait and the read of one
 * integer.  A sliding layer's cache is a ring of window + chunk - 1 slots, since a chunk is written
 * before it is attended to; a global layer's has a slot a position. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "model/gemma3.h"

enum { DEFAULT_CHUNK = 512, SCORE_ROWS = 32 };

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

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- creation ---- */

static mlxn_status create_caches(mlxn_session *s)
{
    const gemma3_config *c = &s->model->config;
    const mlxn_dtype dtype = s->pass.matmul == MLXN_MATMUL_EXACT ? MLXN_F32 : MLXN_F16;
    s->pass.caches = calloc((size_t)c->layers, sizeof *s->pass.caches);
    if (!s->pass.caches)
        return mlxn_fail(MLXN_ERR_MEMORY, "session_create: out of memory");
    for (int64_t i = 0; i < c->layers; i++) {
        const int64_t slots = gemma3_is_global(c, i) ? s->context : s->pass.local_slots;
        const int64_t shape[] = {slots, c->kv_heads, c->head_dim};
        MLXN_TRY(mlxn_buffer_create(s->model->device, dtype, 3, shape, &s->pass.caches[i].k));
        MLXN_TRY(mlxn_buffer_create(s->model->device, dtype, 3, shape, &s->pass.caches[i].v));
    }
    return MLXN_OK;
}

static mlxn_status create_buffers(mlxn_session *s)
{
    mlxn_device *device = s->model->device;
    const int64_t vocab = s->model->config.vocab, one[] = {1}, logits[] = {1, vocab};
    MLXN_TRY(gemma3_activations_create(s->model, s->chunk, &s->rows));
    MLXN_TRY(gemma3_activations_slice(&s->rows, 0, 1, &s->one));
    MLXN_TRY(mlxn_buffer_create(device, MLXN_F32, 2, logits, &s->logits));
    MLXN_TRY(mlxn_buffer_view(s->logits, MLXN_F32, 1, &vocab, NULL, 0, &s->logits_flat));
    MLXN_TRY(mlxn_buffer_create(device, MLXN_F32, 1, &vocab, &s->penalised));
    MLXN_TRY(mlxn_buffer_create(device, MLXN_I32, 1, one, &s->token));
    MLXN_TRY(mlxn_buffer_create(device, MLXN_I32, 1, one, &s->rows_read));
    MLXN_TRY(mlxn_buffer_create(device, MLXN_I32, 1, one, &s->counter));
    MLXN_TRY(mlxn_buffer_create(device, MLXN_I32, 1, &s->context, &s->history));
    return mlxn_encoder_create(device, &s->encoder);
}

static mlxn_status check_desc(const mlxn_session_desc *d)
{
    if (!d || d->size != sizeof *d)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_create: the descriptor is %s",
                         d ? "of another size" : "NULL");
    if (!d->model)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_create: model is NULL");
    if (d->context < 1 || d->context > d->model->config.context)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_create: context is %lld, needs 1 to %lld",
                         (long long)d->context, (long long)d->model->config.context);
    if (d->chunk < 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_create: chunk is %lld, needs >= 0",
                         (long long)d->chunk);
    const int64_t vocab = d->model->config.vocab;
    const int64_t most = vocab < MLXN_SCREEN_TOP_MAX ? vocab : MLXN_SCREEN_TOP_MAX;
    if (d->screen_top < 0 || d->screen_top > most)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_create: screen_top is %lld, needs 0 to %lld",
                         (long long)d->screen_top, (long long)most);
    if (d->screen_top && !d->model->screen)
        return mlxn_fail(MLXN_ERR_STATE, "session_create: the model was opened without a screen");
    if (d->matmul != MLXN_MATMUL_EXACT && d->matmul != MLXN_MATMUL_FAST)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_create: matmul mode %d is not known",
                         (int)d->matmul);
    return MLXN_OK;
}

mlxn_status mlxn_session_create(const mlxn_session_desc *desc, mlxn_session **out)
{
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_create: out is NULL");
    *out = NULL;
    MLXN_TRY(check_desc(desc));
    mlxn_session *s = calloc(1, sizeof *s);
    if (!s)
        return mlxn_fail(MLXN_ERR_MEMORY, "session_create: out of memory");
    s->model = mlxn_model_retain(desc->model);
    s->context = desc->context;
    s->screen_top = desc->screen_top;
    s->chunk = desc->chunk ? desc->chunk : DEFAULT_CHUNK;
    if (s->chunk > s->context)
        s->chunk = s->context;
    int64_t window = s->model->config.window;
    s->pass = (gemma3_pass){
        .model = s->model,
        .matmul = desc->matmul,
        .context = s->context,
        .local_slots = window + s->chunk - 1 < s->context ? window + s->chunk - 1 : s->context};
    s->sampling = (mlxn_sampling){
        .size = sizeof s->sampling, .top_p = 1, .repeat_penalty = 1, .repeat_last = 64};
    s->tokens = malloc(((size_t)s->context + 1) * sizeof *s->tokens);
    mlxn_status status =
        s->tokens ? create_caches(s) : mlxn_fail(MLXN_ERR_MEMORY, "session_create: out of memory");
    if (status == MLXN_OK)
        status = create_buffers(s);
    if (status != MLXN_OK) {
        mlxn_session_release(s);
        return status;
    }
    *out = s;
    return MLXN_OK;
}

void mlxn_session_release(mlxn_session *s)
{
    if (!s)
        return;
    mlxn_encoder_release(s->encoder);
    mlxn_graph_release(s->step);

    gemma3_activations_release(&s->rows);
    gemma3_activations_release(&s->one);
    for (int64_t i = 0; s->pass.caches && i < s->model->config.layers; i++) {
        mlxn_buffer_release(s->pass.caches[i].k);
        mlxn_buffer_release(s->pass.caches[i].v);
    }
    mlxn_buffer *all[] = {s->logits, s->logits_flat, s->penalised, s->rows_read,
                          s->token,  s->counter,     s->history};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
    free(s->pass.caches);
    free(s->tokens);
    free(s->copy);
    mlxn_model_release(s->model);
    free(s);
}

mlxn_status mlxn_session_reset(mlxn_session *s)
{
    if (!s)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_reset: session is NULL");
    s->position = 0;
    s->has_logits = s->has_token = 0;
    return MLXN_OK;
}

int64_t mlxn_session_position(const mlxn_session *s)
{
    return s ? s->position : 0;
}

/* ---- feeding ---- */

static mlxn_status check_feed(const mlxn_session *s, const char *who, const int32_t *ids,
                              size_t count)
{
    if (!s || (!ids && count))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is NULL", who, s ? "ids" : "session");
    if (count > (size_t)(s->context - s->position))
        return mlxn_fail(MLXN_ERR_BOUNDS,
                         "%s: %zu tokens at position %lld do not fit the context of %lld", who,
                         count, (long long)s->position, (long long)s->context);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= s->model->config.vocab)
            return mlxn_fail(MLXN_ERR_BOUNDS, "%s: id %d at %zu is outside the vocabulary of %lld",
                             who, ids[i], i, (long long)s->model->config.vocab);
    return MLXN_OK;
}

/* Ids, positions and ring slots of the next n tokens, into the device's buffers. */
static mlxn_status write_inputs(mlxn_session *s, const int32_t *ids, int64_t n)
{
    const size_t bytes = (size_t)n * sizeof(int32_t);
    int32_t *values = malloc(2 * bytes);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "session: out of memory");
    for (int64_t i = 0; i < n; i++) {
        values[i] = (int32_t)(s->position + i);
        values[n + i] = (int32_t)((s->position + i) % s->pass.local_slots);
    }
    mlxn_status status = mlxn_buffer_write(s->rows.ids, 0, ids, bytes);
    if (status == MLXN_OK)
        status = mlxn_buffer_write(s->rows.positions, 0, values, bytes);
    if (status == MLXN_OK)
        status = mlxn_buffer_write(s->rows.slots_local, 0, values + n, bytes);
    free(values);
    return status;
}

static mlxn_status commit_and_wait(mlxn_session *s)
{
    MLXN_TRY(mlxn_encoder_commit(s->encoder));
    return mlxn_encoder_wait(s->encoder);
}

/* A dense f32 buffer for the host to read: in place where it can, else the session's copy. */
static mlxn_status read_rows(mlxn_session *s, mlxn_buffer *rows, const float **out)
{
    const size_t bytes = mlxn_buffer_bytes(rows);
    void *host = NULL;
    mlxn_status status = mlxn_buffer_map(rows, &host);
    *out = host;
    if (status != MLXN_ERR_UNSUPPORTED)
        return status;
    if (bytes > s->copy_bytes) {
        float *copy = realloc(s->copy, bytes);
        if (!copy)
            return mlxn_fail(MLXN_ERR_MEMORY, "session: out of memory");
        s->copy = copy;
        s->copy_bytes = bytes;
    }
    *out = s->copy;
    return mlxn_buffer_read(rows, 0, s->copy, bytes);
}

static int penalises(const mlxn_session *s)
{
    const mlxn_sampling *p = &s->sampling;
    return p->repeat_last > 0 && (p->repeat_penalty < 1 || p->repeat_penalty > 1);
}

/* Whether the sampling looks at no more than the screen_top largest logits. */
static int is_screened(const mlxn_session *s)
{
    const int64_t seen = s->sampling.temperature > 0 ? s->sampling.top_k : 1;
    return seen > 0 && seen <= s->screen_top && !penalises(s);
}

static mlxn_status record_logits(mlxn_session *s, mlxn_buffer *normed)
{
    if (!is_screened(s))
        return gemma3_record_logits(s->encoder, &s->pass, normed, s->logits);
    return mlxn_screened_matmul(s->encoder,
                                MLXN_DESC(mlxn_screened_matmul_args, .input = normed,
                                          .weight = s->model->output, .screen = s->model->screen,
                                          .output = s->logits, .rows_read = s->rows_read,
                                          .k = s->screen_top, .mode = s->pass.matmul));
}

/* Logits that were screened under another sampling are not enough: all of them. */
static mlxn_status complete_logits(mlxn_session *s)
{
    mlxn_buffer *normed = NULL;
    if (!s->has_screened || is_screened(s))
        return MLXN_OK;
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(mlxn_buffer_slice(s->rows.normed, 0, s->last_row, 1, &normed));
    mlxn_status status = gemma3_record_logits(s->encoder, &s->pass, normed, s->logits);
    mlxn_buffer_release(normed);
    MLXN_TRY(status);
    MLXN_TRY(commit_and_wait(s));
    s->has_screened = 0;
    return MLXN_OK;
}

/* Computes one chunk; the last `wanted` of its tokens get their final norm. */
static mlxn_status feed_chunk(mlxn_session *s, const int32_t *ids, int64_t n, int64_t wanted,
                              int with_logits)
{
    gemma3_activations a = {0}, tail = {0};
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(write_inputs(s, ids, n));
    mlxn_status status = gemma3_activations_slice(&s->rows, 0, n, &a);
    if (status == MLXN_OK && wanted)
        status = gemma3_activations_slice(&s->rows, n - wanted, wanted, &tail);
    if (status == MLXN_OK)
        status = gemma3_record(s->encoder, &s->pass, &a, wanted ? &tail : NULL);
    if (status == MLXN_OK && with_logits)
        status = record_logits(s, tail.normed);
    if (status == MLXN_OK)
        status = commit_and_wait(s);
    gemma3_activations_release(&a);
    gemma3_activations_release(&tail);
    if (status == MLXN_OK) {
        memcpy(s->tokens + s->position, ids, (size_t)n * sizeof *ids);
        s->position += n;
        s->last_row = n - 1;
        s->has_screened = with_logits && is_screened(s);
    }
    return status;
}

mlxn_status mlxn_session_feed(mlxn_session *s, const int32_t *ids, size_t count)
{
    MLXN_TRY(check_feed(s, "session_feed", ids, count));
    if (count)
        s->has_logits = s->has_token = 0;
    for (size_t done = 0; done < count;) {
        size_t left = count - done, n = left < (size_t)s->chunk ? left : (size_t)s->chunk;
        int last = n == left;
        MLXN_TRY(feed_chunk(s, ids + done, (int64_t)n, last, last));
        done += n;
    }
    s->has_logits |= count > 0;
    return MLXN_OK;
}

/* ---- scoring ---- */

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
        status = gemma3_record_logits(s->encoder, &s->pass, normed, logits);
    if (status == MLXN_OK)
        status = mlxn_logprob(s->encoder, MLXN_DESC(mlxn_logprob_args, .logits = logits,
                                                    .targets = targets, .logprobs = logprobs));
    if (status == MLXN_OK)
        status = commit_and_wait(s);
    if (status == MLXN_OK)
        status = mlxn_buffer_read(logprobs, 0, values, (size_t)n * sizeof *values);
    if (status == MLXN_OK)
        status = read_rows(s, logits, &row);
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
        MLXN_TRY(feed_chunk(s, ids + done, (int64_t)n, (int64_t)n, 0));
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
    MLXN_TRY(check_feed(s, "session_score", ids, count));
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

mlxn_status mlxn_session_logits(mlxn_session *s, const float **out)
{
    if (!s || !out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_logits: %s is NULL", s ? "out" : "session");
    if (!s->has_logits)
        return mlxn_fail(MLXN_ERR_STATE, "session_logits: no token has been fed");
    MLXN_TRY(complete_logits(s));
    return read_rows(s, s->logits, out);
}

/* ---- sampling and the decode step ---- */

static mlxn_status check_sampling(const mlxn_sampling *p)
{
    if (!p || p->size != sizeof *p)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_set_sampling: the struct is %s",
                         p ? "of another size" : "NULL");
    if (!(p->temperature >= 0) || !isfinite(p->temperature))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_set_sampling: temperature is %g, needs >= 0",
                         (double)p->temperature);
    if (p->top_k < 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_set_sampling: top_k is %lld, needs >= 0",
                         (long long)p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_set_sampling: top_p is %g, needs (0, 1]",
                         (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_set_sampling: min_p is %g, needs [0, 1]",
                         (double)p->min_p);
    if (!(p->repeat_penalty > 0) || !isfinite(p->repeat_penalty) || p->repeat_last < 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "session_set_sampling: repeat_penalty is %g over %lld, needs > 0, >= 0",
                         (double)p->repeat_penalty, (long long)p->repeat_last);
    return MLXN_OK;
}

static void drop_graphs(mlxn_session *s)
{
    mlxn_graph_release(s->step);

    s->step = NULL;
}

mlxn_status mlxn_session_set_sampling(mlxn_session *s, const mlxn_sampling *sampling)
{
    if (!s)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_set_sampling: session is NULL");
    MLXN_TRY(check_sampling(sampling));
    s->sampling = *sampling;
    drop_graphs(s);
    return MLXN_OK;
}

/* Penalty, then argmax or a draw, into `token`. */
static mlxn_status record_pick(mlxn_session *s)
{
    const mlxn_sampling *p = &s->sampling;
    const int64_t last = p->repeat_last < s->context ? p->repeat_last : s->context;
    const int penalise = penalises(s);
    mlxn_buffer *logits = penalise ? s->penalised : s->logits_flat;
    if (penalise)
        MLXN_TRY(mlxn_repeat_penalty(
            s->encoder, MLXN_DESC(mlxn_repeat_penalty_args, .logits = s->logits_flat,
                                  .history = s->history, .counter = s->counter, .last_n = last,
                                  .penalty = p->repeat_penalty, .output = s->penalised)));
    if (!(p->temperature > 0))
        return mlxn_argmax(s->encoder,
                           MLXN_DESC(mlxn_argmax_args, .logits = logits, .ids = s->token));
    return mlxn_sample(s->encoder, MLXN_DESC(mlxn_sample_args, .logits = logits, .token = s->token,
                                             .counter = s->counter, .seed = p->seed,
                                             .top_k = p->top_k, .temperature = p->temperature,
                                             .top_p = p->top_p, .min_p = p->min_p));
}

static mlxn_status record_step(mlxn_session *s)
{
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(gemma3_record(s->encoder, &s->pass, &s->one, &s->one));
    MLXN_TRY(record_logits(s, s->one.normed));
    MLXN_TRY(record_pick(s));
    MLXN_TRY(mlxn_step_advance(
        s->encoder,
        MLXN_DESC(mlxn_step_advance_args, .token = s->token, .ids = s->one.ids,
                  .positions = s->one.positions, .counter = s->counter, .history = s->history,
                  .slots_a = s->one.slots_local, .capacity_a = s->pass.local_slots)));
    return mlxn_graph_capture(s->encoder, &s->step);
}

/* Brings the device's buffers to the state that a step expects: the picked token as the next
 * input, and all tokens with it in the history. */
static mlxn_status write_step_inputs(mlxn_session *s)
{
    const int32_t n = (int32_t)(s->position + 1);
    const size_t kept = (size_t)(n < s->context ? n : s->context);
    MLXN_TRY(write_inputs(s, &s->tokens[s->position], 1));
    MLXN_TRY(mlxn_buffer_write(s->history, 0, s->tokens, kept * sizeof *s->tokens));
    return mlxn_buffer_write(s->counter, 0, &n, sizeof n);
}

mlxn_status mlxn_session_sample(mlxn_session *s, int32_t *token)
{
    if (!s || !token)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_sample: %s is NULL", s ? "token" : "session");
    if (!s->has_logits)
        return mlxn_fail(MLXN_ERR_STATE, "session_sample: no token has been fed");
    const int32_t n = (int32_t)s->position;
    MLXN_TRY(complete_logits(s));
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(mlxn_buffer_write(s->history, 0, s->tokens, (size_t)n * sizeof *s->tokens));
    MLXN_TRY(mlxn_buffer_write(s->counter, 0, &n, sizeof n));
    MLXN_TRY(record_pick(s));
    MLXN_TRY(commit_and_wait(s));
    MLXN_TRY(mlxn_buffer_read(s->token, 0, token, sizeof *token));
    s->tokens[s->position] = *token;
    s->has_token = 1;
    return write_step_inputs(s);
}

/* After a step: what was read, if it was screened. */
static mlxn_status count_rows(mlxn_session *s)
{
    int32_t rows;
    s->last_row = 0;
    s->has_screened = is_screened(s);
    if (!s->has_screened)
        return MLXN_OK;
    MLXN_TRY(mlxn_buffer_read(s->rows_read, 0, &rows, sizeof rows));
    s->screen_rows += (uint64_t)rows;
    s->screened_steps++;
    return MLXN_OK;
}

mlxn_status mlxn_session_step(mlxn_session *s, int32_t *token)
{
    if (!s || !token)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_step: %s is NULL", s ? "token" : "session");
    if (!s->has_token)
        return mlxn_fail(MLXN_ERR_STATE, "session_step: no token has been picked");
    if (s->position >= s->context)
        return mlxn_fail(MLXN_ERR_BOUNDS, "session_step: the context of %lld is full",
                         (long long)s->context);
    if (!s->step)
        MLXN_TRY(record_step(s));
    double start = now();
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(mlxn_graph_replay(s->encoder, s->step));
    MLXN_TRY(mlxn_encoder_commit(s->encoder));
    s->encode_seconds += now() - start;
    s->steps++;
    MLXN_TRY(mlxn_encoder_wait(s->encoder));
    MLXN_TRY(mlxn_buffer_read(s->token, 0, token, sizeof *token));
    s->position++;
    s->tokens[s->position] = *token;
    return count_rows(s);
}

mlxn_status mlxn_session_measure(mlxn_session *s, int repetitions, mlxn_graph_costs *costs,
                                 mlxn_launch_cost *launches, size_t capacity)
{
    if (!s)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_measure: session is NULL");
    if (!s->has_token)
        return mlxn_fail(MLXN_ERR_STATE, "session_measure: no token has been picked");
    if ((int64_t)repetitions * 2 + 2 > s->context - s->position)
        return mlxn_fail(MLXN_ERR_BOUNDS,
                         "session_measure: %d repetitions at position %lld do not fit the context "
                         "of %lld",
                         repetitions, (long long)s->position, (long long)s->context);
    if (!s->step)
        MLXN_TRY(record_step(s));
    MLXN_TRY(mlxn_graph_measure(s->step, repetitions, costs, launches, capacity));
    for (size_t i = 0; i < capacity && i < costs->n_launches; i++)
        if (!strcmp(launches[i].kernel, "attention") || !strcmp(launches[i].kernel, "embedding"))
            launches[i].bytes = 0;
    return mlxn_session_reset(s);
}

mlxn_status mlxn_session_get_stats(const mlxn_session *s, mlxn_session_stats *stats)
{
    if (!s || !stats || stats->size != sizeof *stats)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_get_stats: %s",
                         !s       ? "session is NULL"
                         : !stats ? "stats is NULL"
                                  : "the struct has another size");
    *stats = (mlxn_session_stats){.size = sizeof *stats,
                                  .step_dispatches = mlxn_graph_dispatches(s->step),
                                  .step_barriers = mlxn_graph_barriers(s->step),
                                  .steps = s->steps,
                                  .screen_bytes = mlxn_screen_bytes(s->model->screen),
                                  .screened_steps = s->screened_steps,
                                  .screen_rows = s->screen_rows};
    for (int64_t i = 0; i < s->model->config.layers; i++)
        stats->cache_bytes +=
            mlxn_buffer_bytes(s->pass.caches[i].k) + mlxn_buffer_bytes(s->pass.caches[i].v);
    if (s->steps)
        stats->encode_seconds = s->encode_seconds / (double)s->steps;
    return MLXN_OK;
}
