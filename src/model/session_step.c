/* session_step.c - picking a token, and the recorded decode step.
 *
 * A step is recorded once: it reads token, position and slot from device buffers, picks the next
 * token on the device and advances those buffers itself, so that a token costs one replay, one
 * commit, one wait and the read of one integer. */
#include <math.h>
#include <string.h>
#include <time.h>
#include "model/session.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static mlxn_status check_sampling(const mlxn_sampling *p)
{
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

mlxn_status mlxn_session_set_sampling(mlxn_session *s, const mlxn_sampling *sampling)
{
    if (!s)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "session_set_sampling: session is NULL");
    mlxn_sampling p;
    MLXN_TRY(mlxn_desc_copy("session_set_sampling", &p, sizeof p, sampling));
    MLXN_TRY(check_sampling(&p));
    s->sampling = p;
    mlxn_graph_release(s->step);
    s->step = NULL;
    return MLXN_OK;
}

/* Penalty, then argmax or a draw, into `token`. */
static mlxn_status record_pick(mlxn_session *s)
{
    const mlxn_sampling *p = &s->sampling;
    const int64_t last = p->repeat_last < s->context ? p->repeat_last : s->context;
    const int penalise = session_penalises(s);
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
    MLXN_TRY(mlxn_gemma3_record(s->encoder, &s->pass, &s->one, &s->one));
    MLXN_TRY(mlxn_session_record_logits(s, s->one.normed));
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
    MLXN_TRY(mlxn_session_write_inputs(s, &s->tokens[s->position], 1));
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
    MLXN_TRY(mlxn_session_complete_logits(s));
    MLXN_TRY(mlxn_encoder_reset(s->encoder));
    MLXN_TRY(mlxn_buffer_write(s->history, 0, s->tokens, (size_t)n * sizeof *s->tokens));
    MLXN_TRY(mlxn_buffer_write(s->counter, 0, &n, sizeof n));
    MLXN_TRY(record_pick(s));
    MLXN_TRY(mlxn_session_commit_and_wait(s));
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
    s->has_screened = session_is_screened(s);
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
