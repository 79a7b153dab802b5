/* score.c - `mlxn score`: the likelihood that a model gives a text, token by token.
 *
 * Every token after the first is scored with all before it as context: logprob = ln softmax of the
 * logits at its predecessor.  mean_nll = -(sum of logprob) / tokens scored, in nats; perplexity is
 * its exp.  A text without such a token has neither. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cache.h"
#include "commands.h"
#include "json.h"
#include "load.h"
#include "progress.h"
#include "support.h"
#include "topk.h"

typedef struct score_values {
    common_values common;
    const char *file, *ids;
    int64_t context, chunk, top_logits;
} score_values;

#define AT(field) offsetof(score_values, field)
static const option options[] = {
    COMMON_MODEL,
    {'f', "file", OPTION_TEXT, "FILE", AT(file), 0, 0,
     "The text, as it is; BOS is put in front, special tokens in it are text. -: stdin, which is "
     "also the default."},
    {0, "ids", OPTION_TEXT, "FILE", AT(ids), 0, 0,
     "Token ids in place of a text: a JSON array, taken as it is. -: stdin."},
    {'c', "ctx-size", OPTION_INT, "N", AT(context), 0, 1e9,
     "Positions of the context. Default 0: as many as the text has tokens."},
    COMMON_THREADS,
    COMMON_DEVICE,
    COMMON_MATMUL,
    {0, "chunk", OPTION_INT, "N", AT(chunk), 0, 65536, "Tokens computed at once. Default 0: 512."},
    COMMON_OUTPUT,
    {0, "top-logits", OPTION_INT, "K", AT(top_logits), 0, 1e9,
     "With --output jsonl: the K largest logits at each position. Default: 0."},
    COMMON_VERBOSE,
};

typedef struct scorer {
    const score_values *v;
    const int32_t *ids;
    size_t count, vocab;
    scored_id *top;
    progress bar;
    double nll;
    mlxn_status status;
} scorer;

/* The logits after ids[index] are about ids[index + 1], which is the position reported. */
static int score_row(void *context, size_t index, const float *logits, float logprob)
{
    scorer *s = context;
    if (index + 1 >= s->count)
        return 0;
    s->nll -= (double)logprob;
    if (s->v->common.output == OUTPUT_TEXT_WORD) {
        progress_update(&s->bar, index + 1, s->count);
        return 0;
    }
    size_t n = topk_select(logits, s->vocab, (size_t)s->v->top_logits, s->top);
    printf("{\"pos\":%zu,\"id\":%d,\"logprob\":", index + 1, (int)s->ids[index + 1]);
    json_float(stdout, logprob);
    fputs(",\"top\":", stdout);
    topk_json(stdout, s->top, n);
    fputs("}\n", stdout);
    s->status = ferror(stdout) ? cli_flush() : MLXN_OK;
    return s->status != MLXN_OK;
}

static mlxn_status get_ids(const score_values *v, const loaded *l, int32_t **ids, size_t *count)
{
    const char *name = v->ids ? v->ids : v->file ? v->file : "-";
    char *text;
    size_t bytes;
    mlxn_status status;
    MLXN_TRY(cli_read_file(name, &text, &bytes));
    if (v->ids)
        status = json_read_ids(name, text, bytes, ids, count);
    else
        status = load_encode(l->tokenizer, text, bytes, MLXN_TOKENS_BOS, ids, count);
    free(text);
    return status;
}

static mlxn_status check_ids(const score_values *v, const loaded *l, const int32_t *ids,
                             size_t count)
{
    int64_t context = v->context ? v->context : l->info.context;
    if ((int64_t)count > context)
        return mlxn_fail(MLXN_ERR_BOUNDS, "the text has %zu tokens, the context %lld", count,
                         (long long)context);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= l->info.vocab_size)
            return mlxn_fail(MLXN_ERR_BOUNDS, "id %zu is %d, the vocabulary has %d tokens", i,
                             (int)ids[i], (int)l->info.vocab_size);
    return MLXN_OK;
}

static mlxn_status score_ids(scorer *s, const loaded *l)
{
    mlxn_session *session;
    if (s->count < 2) /* nothing has a predecessor */
        return MLXN_OK;
    MLXN_TRY(
        mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = l->model,
                                      .context = s->v->context ? s->v->context : (int64_t)s->count,
                                      .chunk = s->v->chunk, .matmul = load_matmul(&s->v->common)),
                            &session));
    mlxn_status status = mlxn_session_score(session, s->ids, s->count, score_row, s);
    mlxn_session_release(session);
    return s->status != MLXN_OK ? s->status : status;
}

static mlxn_status report(const scorer *s, const loaded *l, double seconds)
{
    const mlxn_device_info *d = &l->device_info;
    size_t scored = s->count ? s->count - 1 : 0;
    double mean = scored ? s->nll / (double)scored : (double)NAN;
    if (s->v->common.output == OUTPUT_TEXT_WORD) {
        printf("tokens scored %zu\n", scored);
        if (scored)
            printf("mean nll      %.6f\nperplexity    %.4f\n", mean, exp(mean));
    } else {
        printf("{\"tokens_scored\":%zu,\"mean_nll\":", scored);
        json_double(stdout, mean);
        printf(",\"seconds\":%.6f,\"peak_memory_bytes\":%llu,\"device\":\"%s\",\"simd_path\":\"%s\""
               ",\"threads\":%u,\"matmul\":\"%s\"}\n",
               seconds, (unsigned long long)cli_peak_bytes(), d->backend, d->path, d->threads,
               s->v->common.matmul == MATMUL_EXACT_WORD ? "exact" : "fast");
    }
    MLXN_TRY(cli_flush());
    if (!scored) {
        fputs("mlxn: no token to score: none stands after another\n", stderr);
        return MLXN_OK;
    }
    fprintf(stderr, "mlxn: %zu tokens in %.3f s, %.1f tok/s; peak memory %.1f MiB\n", s->count,
            seconds, seconds > 0 ? (double)s->count / seconds : 0,
            (double)cli_peak_bytes() / (1 << 20));
    return MLXN_OK;
}

static mlxn_status score(const score_values *v)
{
    loaded l;
    scorer s = {.v = v, .bar = {.label = "scoring"}};
    int32_t *ids = NULL;
    double start = 0;
    mlxn_status status = load_open(&v->common, LOAD_TOKENIZER | LOAD_MODEL, &l);
    if (status == MLXN_OK)
        status = get_ids(v, &l, &ids, &s.count);
    if (status == MLXN_OK)
        status = check_ids(v, &l, ids, s.count);
    if (status == MLXN_OK) {
        size_t k = (size_t)v->top_logits;
        s.ids = ids;
        s.vocab = (size_t)l.info.vocab_size;
        s.top = malloc(((k < s.vocab ? k : s.vocab) + 1) * sizeof *s.top);
        start = cli_seconds();
        status =
            s.top ? score_ids(&s, &l) : mlxn_fail(MLXN_ERR_MEMORY, "no memory for the top logits");
    }
    progress_clear(&s.bar);
    if (status == MLXN_OK)
        status = report(&s, &l, cli_seconds() - start);
    free(s.top);
    free(ids);
    load_release(&l);
    return status;
}

static int score_main(const command *self, int argc, char **argv)
{
    score_values v = {.common = COMMON_DEFAULTS};
    int code = args_parse(self, argc, argv, &v, NULL, NULL);
    if (code != ARGS_GO_ON)
        return code;
    if (v.file && v.ids)
        return args_usage(self, "-f and --ids exclude each other");
    if (v.top_logits && v.common.output != OUTPUT_JSONL_WORD)
        return args_usage(self, "--top-logits needs --output jsonl");
    return cli_exit(score(&v));
}

const command command_score = {.name = "score",
                               .summary = "Score a text: log-probabilities and their mean.",
                               .operands = "",
                               .words = "",
                               .options = options,
                               .n_options = OPTION_COUNT(options),
                               .main = score_main};
