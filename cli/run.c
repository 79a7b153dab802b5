/* run.c - `mlxn run`: continues a prompt.
 *
 * The prompt is echoed to stdout, the continuation follows as whole characters, flushed token by
 * token; the summary goes to stderr.  With --output jsonl stdout gets an object a token and the
 * summary as an object.  Ctrl-C ends the generation, not the command: the summary still comes; a
 * second one kills. */
#include <float.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cache.h"
#include "commands.h"
#include "generate.h"
#include "json.h"
#include "progress.h"
#include "support.h"
#include "topk.h"

#define AT(field) offsetof(run_values, field)
static const option options[] = {
    COMMON_MODEL,
    {'p', "prompt", OPTION_TEXT, "TEXT", AT(prompt), 0, 0,
     "The prompt. Special tokens in it are parsed. Without -p and -f: stdin, unless that is a "
     "terminal. An empty prompt is the BOS token alone."},
    {'f', "file", OPTION_TEXT, "FILE", AT(file), 0, 0, "Take the prompt from a file, as it is."},
    {'n', "predict", OPTION_INT, "N", AT(predict), -1, 1e9,
     "Tokens to generate at most. Default -1: until the model ends, or the context."},
    {'c', "ctx-size", OPTION_INT, "N", AT(context), 0, 1e9,
     "Positions of the context. 0: the model's own. Default: 2048."},
    COMMON_THREADS,
    COMMON_DEVICE,
    COMMON_MATMUL,
    COMMON_SCREEN,
    {0, "chunk", OPTION_INT, "N", AT(chunk), 0, 65536,
     "Tokens of the prompt computed at once. Default 0: 512."},
    {'s', "seed", OPTION_INT, "N", AT(seed), -1, 9007199254740992.0,
     "Seed of the draws. Default -1: a random one, printed in the summary."},
    {0, "temp", OPTION_REAL, "T", AT(temperature), 0, 1e6,
     "Temperature; 0 is greedy. Default: 0.8."},
    {0, "top-k", OPTION_INT, "K", AT(top_k), 0, 1e9,
     "Draw from the K most likely tokens; 0: all. Default: 40."},
    {0, "top-p", OPTION_REAL, "P", AT(top_p), 0, 1,
     "Of these, from the smallest set of probability P; 1: all. Default: 0.95."},
    {0, "min-p", OPTION_REAL, "P", AT(min_p), 0, 1,
     "Of these, from those at least P times as likely as the best; 0: all. Default: 0.05."},
    {0, "repeat-penalty", OPTION_REAL, "X", AT(repeat_penalty), 1e-6, 1e6,
     "Make tokens that came lately less likely; 1: no. Default: 1."},
    {0, "repeat-last-n", OPTION_INT, "N", AT(repeat_last), -1, 1e9,
     "How many tokens are lately; 0: none, -1: the context. Default: 64."},
    {0, "ignore-eos", OPTION_FLAG, NULL, AT(ignore_eos), 0, 0,
     "Go on after the model's end tokens."},
    {0, "no-display-prompt", OPTION_FLAG, NULL, AT(no_display_prompt), 0, 0,
     "Do not echo the prompt."},
    COMMON_OUTPUT,
    {0, "top-logits", OPTION_INT, "K", AT(top_logits), 0, 1e9,
     "With --output jsonl: the K largest logits of each step. Default: 0."},
    COMMON_VERBOSE,
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* What a run in progress needs. */
typedef struct runner {
    const run_values *v;
    loaded *l;
    mlxn_session *session;
    mlxn_detokenizer *detokenizer;
    scored_id *top;
    int64_t context;
    generation g;
} runner;

static mlxn_status read_prompt(const run_values *v, char **text, size_t *bytes)
{
    if (v->prompt) {
        *bytes = strlen(v->prompt);
        *text = strdup(v->prompt);
        return *text ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "no memory for the prompt");
    }
    if (v->file)
        return cli_read_file(v->file, text, bytes);
    if (!isatty(STDIN_FILENO))
        return cli_read_file("-", text, bytes);
    *bytes = 0;
    *text = strdup("");
    return *text ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "no memory for the prompt");
}

/* Feeds the prompt in pieces, which changes no bit, so that Ctrl-C and the bar get their turn. */
static mlxn_status feed_prompt(runner *r, const int32_t *ids, size_t count)
{
    progress bar = {.label = "reading prompt"};
    size_t piece = r->v->chunk ? (size_t)r->v->chunk : 512;
    mlxn_status status = MLXN_OK;
    for (size_t at = 0; at < count && status == MLXN_OK && !interrupted; at += piece) {
        size_t n = count - at < piece ? count - at : piece;
        status = mlxn_session_feed(r->session, ids + at, n);
        if (count > piece)
            progress_update(&bar, at + n, count);
    }
    progress_clear(&bar);
    return status;
}

static int has_penalty(const run_values *v)
{
    return v->repeat_last != 0 && v->repeat_penalty != 1.0;
}

static mlxn_status set_sampling(runner *r)
{
    const run_values *v = r->v;
    const int penalty = has_penalty(v);
    r->g.seed = v->seed < 0 ? cli_random_seed() : (uint64_t)v->seed;
    return mlxn_session_set_sampling(
        r->session,
        MLXN_DESC(mlxn_sampling, .temperature = (float)v->temperature, .top_k = v->top_k,
                  /* 0 keeps the best token alone, and so does the smallest number there is */
                  .top_p = v->top_p > (double)FLT_MIN ? (float)v->top_p : FLT_MIN,
                  .min_p = (float)v->min_p,
                  .repeat_penalty = penalty ? (float)v->repeat_penalty : 1.0f,
                  .repeat_last = !penalty             ? 0
                                 : v->repeat_last > 0 ? v->repeat_last
                                                      : r->context,
                  .seed = r->g.seed));
}

static mlxn_status emit(runner *r, int32_t token)
{
    const char *text;
    size_t bytes;
    MLXN_TRY(mlxn_detokenizer_next(r->detokenizer, token, &text, &bytes));
    if (r->v->common.output == OUTPUT_TEXT_WORD) {
        fwrite(text, 1, bytes, stdout);
        return cli_flush();
    }
    const float *logits;
    size_t vocab = (size_t)r->l->info.vocab_size;
    MLXN_TRY(mlxn_session_logits(r->session, &logits));
    size_t n = topk_select(logits, vocab, (size_t)r->v->top_logits, r->top);
    printf("{\"id\":%d,\"text\":", (int)token);
    json_string(stdout, text, bytes);
    fputs(",\"logit\":", stdout);
    json_float(stdout, logits[token]);
    fputs(",\"top\":", stdout);
    topk_json(stdout, r->top, n);
    fputs("}\n", stdout);
    return cli_flush();
}

/* Whether the generation ends before `token` is put out. */
static int ends_before(runner *r, int32_t token)
{
    if (interrupted) {
        r->g.reason = END_INTERRUPTED;
        return 1;
    }
    if (!r->v->ignore_eos && mlxn_tokenizer_is_end(r->l->tokenizer, token)) {
        r->g.reason = END_TOKEN;
        r->g.end_token = token;
        return 1;
    }
    return 0;
}

static mlxn_status generate(runner *r, double started)
{
    double start = cli_seconds();
    int32_t token;
    if (interrupted || r->v->predict == 0) {
        r->g.reason = interrupted ? END_INTERRUPTED : END_LENGTH;
        return MLXN_OK;
    }
    MLXN_TRY(mlxn_session_sample(r->session, &token));
    while (!ends_before(r, token)) {
        MLXN_TRY(emit(r, token));
        r->g.seconds = cli_seconds() - start;
        if (r->g.generated++ == 0)
            r->g.first_token_seconds = cli_seconds() - started;
        if ((int64_t)r->g.generated == r->v->predict) {
            r->g.reason = END_LENGTH;
            break;
        }
        if (mlxn_session_position(r->session) >= r->context) {
            r->g.reason = END_CONTEXT;
            break;
        }
        MLXN_TRY(mlxn_session_step(r->session, &token));
    }
    return MLXN_OK;
}

/* The rest of an unfinished character, and the summary. */
static mlxn_status finish(runner *r)
{
    const char *text;
    size_t bytes;
    mlxn_session_stats stats = {.size = sizeof stats};
    MLXN_TRY(mlxn_detokenizer_finish(r->detokenizer, &text, &bytes));
    MLXN_TRY(mlxn_session_get_stats(r->session, &stats));
    r->g.dispatches = stats.step_dispatches;
    r->g.barriers = stats.step_barriers;
    if (r->v->common.output == OUTPUT_JSONL_WORD) {
        snprintf(r->g.tail, sizeof r->g.tail, "%s", text);
        generation_json(&r->g, r->l, r->v, stdout);
        return cli_flush();
    }
    fwrite(text, 1, bytes, stdout);
    fputc('\n', stdout);
    MLXN_TRY(cli_flush());
    generation_text(&r->g, r->l, stderr);
    if (r->v->common.verbose)
        fprintf(stderr, "mlxn: cache %.1f MiB, a step encoded in %.1f us\n",
                (double)stats.cache_bytes / (1 << 20), stats.encode_seconds * 1e6);
    return MLXN_OK;
}

/* How many of the largest logits are looked at; 0: all, or more than a screen gives. */
static int64_t logits_needed(const run_values *v)
{
    const int64_t drawn = v->temperature > 0 ? v->top_k : 1;
    const int64_t needed = drawn > v->top_logits ? drawn : v->top_logits;
    return drawn && needed <= MLXN_SCREEN_TOP_MAX && !has_penalty(v) ? needed : 0;
}

/* Opens the session and puts the prompt's ids in. */
static mlxn_status read_ids(runner *r, const char *text, size_t bytes, const int32_t *ids,
                            size_t count, double started)
{
    const float *logits;
    if ((int64_t)count > r->context)
        return mlxn_fail(MLXN_ERR_BOUNDS, "the prompt has %zu tokens, the context %lld: see -c",
                         count, (long long)r->context);
    MLXN_TRY(mlxn_session_create(
        MLXN_DESC(mlxn_session_desc, .model = r->l->model, .context = r->context,
                  .chunk = r->v->chunk, .matmul = load_matmul(&r->v->common),
                  .screen_top = r->v->common.screen ? logits_needed(r->v) : 0),
        &r->session));
    MLXN_TRY(set_sampling(r));
    if (r->v->common.output == OUTPUT_TEXT_WORD && !r->v->no_display_prompt)
        fwrite(text, 1, bytes, stdout);
    MLXN_TRY(cli_flush());
    r->g.load_seconds = cli_seconds() - started;
    MLXN_TRY(feed_prompt(r, ids, count));
    if (!interrupted) /* work runs when its result is asked for: now the prompt's time is known */
        MLXN_TRY(mlxn_session_logits(r->session, &logits));
    r->g.prompt_tokens = (size_t)mlxn_session_position(r->session);
    r->g.prompt_seconds = cli_seconds() - started - r->g.load_seconds;
    return MLXN_OK;
}

static mlxn_status start(runner *r, const char *text, size_t bytes, double started)
{
    int32_t *ids;
    size_t count;
    MLXN_TRY(load_encode(r->l->tokenizer, text, bytes, MLXN_TOKENS_BOS | MLXN_TOKENS_SPECIAL, &ids,
                         &count));
    mlxn_status status = read_ids(r, text, bytes, ids, count, started);
    free(ids);
    return status;
}

static mlxn_status run(const run_values *v, double started)
{
    loaded l;
    runner r = {.v = v, .l = &l, .g = {.end_token = -1}};
    char *text = NULL;
    size_t bytes;
    MLXN_TRY(read_prompt(v, &text, &bytes));
    mlxn_status status = load_open(&v->common, LOAD_TOKENIZER | LOAD_MODEL, &l);
    /* Restart: a write to a slow reader that Ctrl-C breaks off is not a failed one. */
    struct sigaction action = {.sa_handler = on_interrupt,
                               .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
    sigaction(SIGINT, &action, NULL);
    if (status == MLXN_OK) {
        size_t vocab = (size_t)l.info.vocab_size, k = (size_t)v->top_logits;
        r.context = v->context ? v->context : l.info.context;
        r.top = malloc(((k < vocab ? k : vocab) + 1) * sizeof *r.top);
        status = r.top ? mlxn_detokenizer_create(l.tokenizer, 0, &r.detokenizer)
                       : mlxn_fail(MLXN_ERR_MEMORY, "no memory for the top logits");
    }
    if (status == MLXN_OK)
        status = start(&r, text, bytes, started);
    if (status == MLXN_OK)
        status = generate(&r, started);
    if (status == MLXN_OK)
        status = finish(&r);
    mlxn_detokenizer_release(r.detokenizer);
    mlxn_session_release(r.session);
    load_release(&l);
    free(r.top);
    free(text);
    return status;
}

static int run_main(const command *self, int argc, char **argv)
{
    double started = cli_seconds();
    run_values v = {.common = COMMON_DEFAULTS,
                    .predict = -1,
                    .context = 2048,
                    .seed = -1,
                    .temperature = 0.8,
                    .top_k = 40,
                    .top_p = 0.95,
                    .min_p = 0.05,
                    .repeat_penalty = 1,
                    .repeat_last = 64};
    int code = args_parse(self, argc, argv, &v, NULL, NULL);
    if (code != ARGS_GO_ON)
        return code;
    if (v.prompt && v.file)
        return args_usage(self, "-p and -f exclude each other");
    if (v.top_logits && v.common.output != OUTPUT_JSONL_WORD)
        return args_usage(self, "--top-logits needs --output jsonl");
    if (v.common.screen && !logits_needed(&v))
        return args_usage(self,
                          "--screen needs --temp 0 or --top-k from 1 to %d, --top-logits up to "
                          "that, and no repeat penalty",
                          MLXN_SCREEN_TOP_MAX);
    return cli_exit(run(&v, started));
}

const command command_run = {.name = "run",
                             .summary = "Continue a prompt.",
                             .operands = "",
                             .words = "",
                             .options = options,
                             .n_options = OPTION_COUNT(options),
                             .main = run_main};
