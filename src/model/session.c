/* session.c - a running generation: KV cache, position, and what is fed to it.
 *
 * A prompt is fed in chunks, each recorded and committed.  A sliding layer's cache is a ring of
 * window + chunk - 1 slots, since a chunk is written before it is attended to; a global layer's has
 * a slot a position. */
#include <stdlib.h>
#include <string.h>
#include "model/session.h"

enum { DEFAULT_CHUNK = 512 };

/* ---- creation ---- */

static mlxn_status create_caches(mlxn_session *s)
{
    const gemma3_config *c = &s->model->config;
    const mlxn_dtype dtype = s->pass.matmul == MLXN_MATMUL_EXACT ? MLXN_F32 : MLXN_F16;
    s->pass.caches = calloc((size_t)c->layers, sizeof *s->pass.caches);
    if (!s->pass.caches)
        return mlxn_fail(MLXN_ERR_MEMORY, "session_create: out of memory");
    for (int64_t i = 0; i < c->layers; i++) {
        const int64_t slots = mlxn_gemma3_is_global(c, i) ? s->context : s->pass.local_slots;
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
    MLXN_TRY(mlxn_gemma3_activations_create(s->model, s->chunk, &s->rows));
    MLXN_TRY(mlxn_gemma3_activations_slice(&s->rows, 0, 1, &s->one));
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
    mlxn_session_desc d;
    MLXN_TRY(mlxn_desc_copy("session_create", &d, sizeof d, desc));
    MLXN_TRY(check_desc(&d));
    mlxn_session *s = calloc(1, sizeof *s);
    if (!s)
        return mlxn_fail(MLXN_ERR_MEMORY, "session_create: out of memory");
    s->model = mlxn_model_retain(d.model);
    s->context = d.context;
    s->screen_top = d.screen_top;
    s->chunk = d.chunk ? d.chunk : DEFAULT_CHUNK;
    if (s->chunk > s->context)
        s->chunk = s->context;
    int64_t window = s->model->config.window;
    s->pass = (gemma3_pass){
        .model = s->model,
        .matmul = d.matmul,
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
    mlxn_gemma3_activations_release(&s->rows);
    mlxn_gemma3_activations_release(&s->one);
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

mlxn_status mlxn_session_check_feed(const mlxn_session *s, const char *who, const int32_t *ids,
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

mlxn_status mlxn_session_write_inputs(mlxn_session *s, const int32_t *ids, int64_t n)
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

mlxn_status mlxn_session_commit_and_wait(mlxn_session *s)
{
    MLXN_TRY(mlxn_encoder_commit(s->encoder));
    return mlxn_encoder_wait(s->encoder);
}

mlxn_status mlxn_session_read_rows(mlxn_session *s, mlxn_buffer *rows, const float **out)
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

mlxn_status mlxn_session_record_logits(mlxn_session *s, mlxn_buffer *normed)
{
    if (!session_is_screened(s))
        return mlxn_gemma3_record_logits(s->encoder, &s->pass, normed, s->logits);
    return mlxn_screened_matmul(s->encoder,
                                MLXN_DESC(mlxn_screened_matmul_args, .input = normed,
                                          .weight = s->model->output, .screen = s->model->screen,
                                          .output = s->logits, .rows_read = s->rows_read,
                                          .k = s->screen_top, .mode = s->pass.matmul));
}

mlxn_status mlxn_session_complete_logits(mlxn_session *s)
{
    mlxn_buffer *normed = NULL;
    if (!s->has_screened || session_is_screened(s))
        return MLXN_OK;
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(mlxn_buffer_slice(s->rows.normed, 0, s->last_row, 1, &normed));
    mlxn_status status = mlxn_gemma3_record_logits(s->encoder, &s->pass, normed, s->logits);
    mlxn_buffer_release(normed);
    MLXN_TRY(status);
    MLXN_TRY(mlxn_session_commit_and_wait(s));
    s->has_screened = 0;
    return MLXN_OK;
}

mlxn_status mlxn_session_feed_chunk(mlxn_session *s, const int32_t *ids, int64_t n, int64_t wanted,
                                    int with_logits)
{
    gemma3_activations a = {0}, tail = {0};
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(mlxn_session_write_inputs(s, ids, n));
    mlxn_status status = mlxn_gemma3_activations_slice(&s->rows, 0, n, &a);
    if (status == MLXN_OK && wanted)
        status = mlxn_gemma3_activations_slice(&s->rows, n - wanted, wanted, &tail);
    if (status == MLXN_OK)
        status = mlxn_gemma3_record(s->encoder, &s->pass, &a, wanted ? &tail : NULL);
    if (status == MLXN_OK && with_logits)
        status = mlxn_session_record_logits(s, tail.normed);
    if (status == MLXN_OK)
        status = mlxn_session_commit_and_wait(s);
    mlxn_gemma3_activations_release(&a);
    mlxn_gemma3_activations_release(&tail);
    if (status == MLXN_OK) {
        memcpy(s->tokens + s->position, ids, (size_t)n * sizeof *ids);
        s->position += n;
        s->last_row = n - 1;
        s->has_screened = with_logits && session_is_screened(s);
    }
    return status;
}

mlxn_status mlxn_session_feed(mlxn_session *s, const int32_t *ids, size_t count)
{
    MLXN_TRY(mlxn_session_check_feed(s, "session_feed", ids, count));
    if (count)
        s->has_logits = s->has_token = 0;
    for (size_t done = 0; done < count;) {
        size_t left = count - done, n = left < (size_t)s->chunk ? left : (size_t)s->chunk;
        int last = n == left;
        MLXN_TRY(mlxn_session_feed_chunk(s, ids + done, (int64_t)n, last, last));
        done += n;
    }
    s->has_logits |= count > 0;
    return MLXN_OK;
}

/* ---- what is known ---- */

mlxn_status mlxn_session_logits(mlxn_session *s, const float **out)
{
    if (!s || !out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_logits: %s is NULL", s ? "out" : "session");
    if (!s->has_logits)
        return mlxn_fail(MLXN_ERR_STATE, "session_logits: no token has been fed");
    MLXN_TRY(mlxn_session_complete_logits(s));
    return mlxn_session_read_rows(s, s->logits, out);
}

mlxn_status mlxn_session_get_stats(const mlxn_session *s, mlxn_session_stats *stats)
{
    if (!s)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_get_stats: session is NULL");
    MLXN_TRY(mlxn_info_check("session_get_stats", stats, sizeof *stats));
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
