/* bench.c - `mlxn bench`: tokens a second, in the columns and JSON keys of llama-bench.
 *
 * ppN: N random ids fed at once into an empty context, until the logits of the last are there.
 * tgN: from BOS on, N decode steps, greedy, each with all logits; nothing is turned into text.
 * tg-greedyN: the same with --screen, which finds the largest logit without the others.
 * Each test runs once to warm up and then --repetitions times; t/s is the mean and the sample
 * standard deviation of the runs. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cache.h"
#include "commands.h"
#include "json.h"
#include "load.h"
#include "support.h"

enum { REPETITIONS_MAX = 1000 };

typedef struct bench_values {
    common_values common;
    int_list threads, prompt, generate;
    int64_t context, chunk, repetitions;
    int output;
} bench_values;

#define AT(field) offsetof(bench_values, field)
static const option options[] = {
    COMMON_MODEL,
    {'p', "n-prompt", OPTION_INTS, "N[,N]", AT(prompt), 0, 1e6,
     "Lengths of the prompts to read; 0: none. Default: 512."},
    {'n', "n-gen", OPTION_INTS, "N[,N]", AT(generate), 0, 1e6,
     "Numbers of tokens to generate; 0: none. Default: 128."},
    {'r', "repetitions", OPTION_INT, "N", AT(repetitions), 1, REPETITIONS_MAX,
     "Runs of each test. Default: 5."},
    {'t', "threads", OPTION_INTS, "N[,N]", AT(threads), 0, MLXN_CPU_THREADS_MAX,
     "CPU threads. Default 0: as many as the CPUs that this process may run on."},
    {'c', "ctx-size", OPTION_INT, "N", AT(context), 0, 1e9,
     "Positions of the context. Default 0: what the largest test needs."},
    {0, "chunk", OPTION_INT, "N", AT(chunk), 0, 65536,
     "Tokens of a prompt computed at once. Default 0: 512."},
    COMMON_DEVICE,
    COMMON_MATMUL,
    COMMON_SCREEN,
    {'o', "output", OPTION_CHOICE, "md|json", AT(output), 0, 0,
     "A table in Markdown, or a JSON array. Default: md."},
    COMMON_VERBOSE,
};

typedef struct bench_state {
    const bench_values *v;
    loaded *l;
    mlxn_session *session;
    char type[96]; /* the model's name as llama-bench gives it */
    int rows;      /* printed so far */
} bench_state;

typedef struct bench_result {
    int64_t prompt, generate;
    double seconds[REPETITIONS_MAX];
    char time[32];
} bench_result;

/* GGUF's general.file_type, in llama.cpp's words. */
static const char *file_type_name(uint32_t type)
{
    static const struct {
        uint32_t type;
        const char *name;
    } names[] = {{0, "all F32"},        {1, "F16"},
                 {2, "Q4_0"},           {3, "Q4_1"},
                 {7, "Q8_0"},           {8, "Q5_0"},
                 {9, "Q5_1"},           {11, "Q3_K - Small"},
                 {12, "Q3_K - Medium"}, {13, "Q3_K - Large"},
                 {14, "Q4_K - Small"},  {15, "Q4_K - Medium"},
                 {16, "Q5_K - Small"},  {17, "Q5_K - Medium"},
                 {18, "Q6_K"},          {32, "BF16"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].type == type)
            return names[i].name;
    return "unknown file type";
}

static void name_type(bench_state *b)
{
    mlxn_gguf_string label = {"", 0};
    uint32_t type = UINT32_MAX;
    /* Both keys are optional; the label is the file's own word for the size. */
    if (mlxn_gguf_get_string(b->l->gguf, "general.size_label", &label) != MLXN_OK)
        label.bytes = 0;
    if (mlxn_gguf_get_u32(b->l->gguf, "general.file_type", &type) != MLXN_OK)
        type = UINT32_MAX;
    snprintf(b->type, sizeof b->type, "%s %.*s %s", b->l->info.architecture,
             (int)(label.bytes < 16 ? label.bytes : 16), label.data, file_type_name(type));
}

static mlxn_status run_prompt(bench_state *b, const int32_t *ids, int64_t count, double *seconds)
{
    const float *logits;
    MLXN_TRY(mlxn_session_reset(b->session));
    double start = cli_seconds();
    MLXN_TRY(mlxn_session_feed(b->session, ids, (size_t)count));
    MLXN_TRY(mlxn_session_logits(b->session, &logits)); /* waits */
    *seconds = cli_seconds() - start;
    return MLXN_OK;
}

static mlxn_status run_generate(bench_state *b, int64_t count, double *seconds)
{
    int32_t bos = mlxn_tokenizer_bos(b->l->tokenizer), token;
    if (bos < 0)
        bos = 0;
    MLXN_TRY(mlxn_session_reset(b->session));
    MLXN_TRY(mlxn_session_feed(b->session, &bos, 1));
    MLXN_TRY(mlxn_session_sample(b->session, &token));
    double start = cli_seconds();
    for (int64_t i = 0; i < count; i++)
        MLXN_TRY(mlxn_session_step(b->session, &token));
    *seconds = cli_seconds() - start;
    return MLXN_OK;
}

static mlxn_status run_test(bench_state *b, bench_result *r)
{
    int32_t *ids = malloc(((size_t)r->prompt + 1) * sizeof *ids);
    uint64_t random = 1;
    mlxn_status status = MLXN_OK;
    double warm_up;
    time_t now = time(NULL);
    if (!ids)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory for %" PRId64 " ids", r->prompt);
    for (int64_t i = 0; i < r->prompt; i++) { /* MMIX's generator, high bits (Knuth) */
        random = random * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (int32_t)((random >> 33) % (uint64_t)b->l->info.vocab_size);
    }
    strftime(r->time, sizeof r->time, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    for (int64_t i = -1; i < b->v->repetitions && status == MLXN_OK; i++) {
        double *seconds = i < 0 ? &warm_up : &r->seconds[i];
        status = r->prompt ? run_prompt(b, ids, r->prompt, seconds)
                           : run_generate(b, r->generate, seconds);
    }
    free(ids);
    return status;
}

/* Mean and sample standard deviation of scale[0] * x, or of scale / x if `inverse`. */
static void statistics(const double *x, int64_t n, double scale, int inverse, double *mean,
                       double *deviation)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += inverse ? scale / x[i] : scale * x[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = (inverse ? scale / x[i] : scale * x[i]) - *mean;
        squares += d * d;
    }
    *deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

static void test_name(const bench_state *b, const bench_result *r, char *out, size_t bytes)
{
    const char *generate = b->v->common.screen ? "tg-greedy" : "tg";
    snprintf(out, bytes, "%s%" PRId64, r->prompt ? "pp" : generate,
             r->prompt ? r->prompt : r->generate);
}

static const char *backend_label(const bench_state *b)
{
    const char *name = b->l->device_info.backend;
    return !strcmp(name, "cpu") ? "CPU" : !strcmp(name, "cuda") ? "CUDA" : "Metal";
}

static void print_md(bench_state *b, const bench_result *r)
{
    double mean, deviation;
    char test[32], size[32], parameters[32], speed[48];
    double n = (double)(r->prompt ? r->prompt : r->generate);
    if (b->rows++ == 0)
        puts("| model                          |       size |     params | backend    | threads | "
             "           test |                  t/s |\n"
             "| ------------------------------ | ---------: | ---------: | ---------- | ------: | "
             "--------------: | -------------------: |");
    statistics(r->seconds, b->v->repetitions, n, 1, &mean, &deviation);
    test_name(b, r, test, sizeof test);
    snprintf(size, sizeof size, "%.2f MiB", (double)b->l->info.weight_bytes / (1 << 20));
    snprintf(parameters, sizeof parameters, "%.2f M", (double)b->l->info.parameters / 1e6);
    snprintf(speed, sizeof speed, "%.2f \u00b1 %.2f", mean, deviation);
    /* the plus-minus sign is two bytes and one column */
    printf("| %-30s | %10s | %10s | %-10s | %7u | %15s | %21s |\n", b->type, size, parameters,
           backend_label(b), b->l->device_info.threads, test, speed);
}

static void json_text(const char *key, const char *text)
{
    printf(", \"%s\": ", key);
    json_string(stdout, text, strlen(text));
}

static void json_numbers(const char *key, const double *x, int64_t n, double scale, int inverse)
{
    printf(", \"%s\": [", key);
    for (int64_t i = 0; i < n; i++)
        printf("%s%.*f", i ? ", " : "", inverse ? 6 : 0, inverse ? scale / x[i] : scale * x[i]);
    putchar(']');
}

static void print_json(bench_state *b, const bench_result *r)
{
    const mlxn_device_info *d = &b->l->device_info;
    int64_t n = b->v->repetitions;
    double mean, deviation, tokens = (double)(r->prompt ? r->prompt : r->generate);
    char test[32];
    test_name(b, r, test, sizeof test);
    printf("%s  {\"mlxn_version\": \"%s\"", b->rows++ ? ",\n" : "[\n", mlxn_version_string());
    json_text("cpu_info", d->name);
    json_text("backends", backend_label(b));
    json_text("simd_path", d->path);
    json_text("model_filename", b->l->path);
    json_text("model_type", b->type);
    printf(", \"model_size\": %" PRIu64 ", \"model_n_params\": %" PRIu64, b->l->info.weight_bytes,
           b->l->info.parameters);
    json_text("matmul", b->v->common.matmul == MATMUL_EXACT_WORD ? "exact" : "fast");
    printf(", \"n_threads\": %u, \"n_prompt\": %" PRId64 ", \"n_gen\": %" PRId64 ", \"n_depth\": 0",
           d->threads, r->prompt, r->generate);
    json_text("test", test);
    json_text("test_time", r->time);
    statistics(r->seconds, n, 1e9, 0, &mean, &deviation);
    printf(", \"avg_ns\": %.0f, \"stddev_ns\": %.0f", mean, deviation);
    statistics(r->seconds, n, tokens, 1, &mean, &deviation);
    printf(", \"avg_ts\": %.6f, \"stddev_ts\": %.6f", mean, deviation);
    json_numbers("samples_ns", r->seconds, n, 1e9, 0);
    json_numbers("samples_ts", r->seconds, n, tokens, 1);
    printf(", \"peak_memory_bytes\": %" PRIu64 "}", cli_peak_bytes());
}

static mlxn_status run_list(bench_state *b, const int_list *list, int prompt)
{
    bench_result *r = calloc(1, sizeof *r);
    mlxn_status status = r ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "no memory for a result");
    for (int i = 0; i < list->count && status == MLXN_OK; i++) {
        if (!list->value[i])
            continue;
        *(prompt ? &r->prompt : &r->generate) = list->value[i];
        status = run_test(b, r);
        if (status != MLXN_OK)
            break;
        (b->v->output ? print_json : print_md)(b, r);
        status = cli_flush();
    }
    free(r);
    return status;
}

/* What a screened step read on average. */
static mlxn_status report_screen(bench_state *b)
{
    mlxn_session_stats stats = {.size = sizeof stats};
    MLXN_TRY(mlxn_session_get_stats(b->session, &stats));
    if (stats.screened_steps)
        fprintf(stderr, "mlxn: a step read %.1f MB of the screen and %.1f rows of the matrix\n",
                (double)stats.screen_bytes / 1e6,
                (double)stats.screen_rows / (double)stats.screened_steps);
    return MLXN_OK;
}

static int64_t context_needed(const bench_values *v)
{
    int64_t most = 1;
    for (int i = 0; i < v->prompt.count; i++)
        most = v->prompt.value[i] > most ? v->prompt.value[i] : most;
    for (int i = 0; i < v->generate.count; i++)
        most = v->generate.value[i] + 1 > most ? v->generate.value[i] + 1 : most;
    return most;
}

/* All tests with one number of threads. */
static mlxn_status run_tests(const bench_values *v, int64_t threads, int *rows)
{
    loaded l;
    bench_state b = {.v = v, .l = &l, .rows = *rows};
    common_values common = v->common;
    mlxn_sampling greedy = {.size = sizeof greedy, .top_p = 1, .repeat_penalty = 1};
    common.threads = threads;
    mlxn_status status = load_open(&common, LOAD_TOKENIZER | LOAD_MODEL, &l);
    if (status == MLXN_OK) {
        name_type(&b);
        status = mlxn_session_create(
            MLXN_DESC(mlxn_session_desc, .model = l.model,
                      .context = v->context ? v->context : context_needed(v), .chunk = v->chunk,
                      .matmul = load_matmul(&v->common), .screen_top = v->common.screen),
            &b.session);
    }
    if (status == MLXN_OK)
        status = mlxn_session_set_sampling(b.session, &greedy);
    if (status == MLXN_OK)
        status = run_list(&b, &v->prompt, 1);
    if (status == MLXN_OK)
        status = run_list(&b, &v->generate, 0);
    if (status == MLXN_OK)
        status = report_screen(&b);
    mlxn_session_release(b.session);
    load_release(&l);
    *rows = b.rows;
    return status;
}

static int has_work(const int_list *list)
{
    for (int i = 0; i < list->count; i++)
        if (list->value[i])
            return 1;
    return 0;
}

static mlxn_status bench(const bench_values *v)
{
    int rows = 0;
    mlxn_status status = MLXN_OK;
    for (int i = 0; i < v->threads.count && status == MLXN_OK; i++)
        status = run_tests(v, v->threads.value[i], &rows);
    if (v->output && rows)
        puts("\n]");
    MLXN_TRY(status);
    MLXN_TRY(cli_flush());
    fprintf(stderr, "mlxn %s: --matmul %s, peak memory %.1f MiB\n", mlxn_version_string(),
            v->common.matmul == MATMUL_EXACT_WORD ? "exact" : "fast",
            (double)cli_peak_bytes() / (1 << 20));
    return MLXN_OK;
}

static int bench_main(const command *self, int argc, char **argv)
{
    bench_values v = {.common = COMMON_DEFAULTS,
                      .threads = {{0}, 1},
                      .prompt = {{512}, 1},
                      .generate = {{128}, 1},
                      .repetitions = 5};
    int code = args_parse(self, argc, argv, &v, NULL, NULL);
    if (code != ARGS_GO_ON)
        return code;
    if (!has_work(&v.prompt) && !has_work(&v.generate))
        return args_usage(self, "nothing is left to measure: -p and -n are both 0");
    return cli_exit(bench(&v));
}

const command command_bench = {.name = "bench",
                               .summary = "Measure tokens a second.",
                               .operands = "",
                               .words = "",
                               .options = options,
                               .n_options = OPTION_COUNT(options),
                               .main = bench_main};
