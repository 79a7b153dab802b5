/* bench_step.c - `mlxn bench step`: where the time of a decode step goes on a GPU, launch by
 * launch.
 *
 * mlxn_session_measure gives the time of each launch beyond an empty kernel in its place, the
 * step's time by the device's clock and the copy rate of the same run; the rest of the step is what
 * it costs to go from launch to launch.  The host's part is what a step takes by the host's clock
 * more than that.  The roof is the time to copy as many bytes as the launches are given. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "cache.h"
#include "commands.h"
#include "json.h"
#include "load.h"
#include "support.h"

enum { LAUNCHES_MAX = 4096 };

typedef struct step_values {
    common_values common;
    int64_t depth, repetitions;
    int output;
} step_values;

#define AT(field) offsetof(step_values, field)
static const option options[] = {
    COMMON_MODEL,
    {'d', "depth", OPTION_INT, "N", AT(depth), 1, 1e6,
     "Tokens in the context before the steps. Default: 64."},
    {'r', "repetitions", OPTION_INT, "N", AT(repetitions), 1, 10000, "Steps. Default: 200."},
    COMMON_DEVICE,
    COMMON_MATMUL,
    {'o', "output", OPTION_CHOICE, "md|json", AT(output), 0, 0,
     "A table in Markdown, launches of a kind in one row, or a JSON object with every launch. "
     "Default: md."},
    COMMON_VERBOSE,
};

typedef struct step_bench {
    const step_values *v;
    loaded l;
    mlxn_session *session;
    mlxn_graph_costs costs;
    double step_seconds; /* by the host's clock, the token read */
    mlxn_launch_cost launches[LAUNCHES_MAX];
    size_t count;
} step_bench;

/* ---- measuring ---- */

static mlxn_status feed(step_bench *b)
{
    int32_t token, *ids = malloc((size_t)b->v->depth * sizeof *ids);
    if (!ids)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory for %" PRId64 " ids", b->v->depth);
    for (int64_t i = 0; i < b->v->depth; i++)
        ids[i] = (int32_t)(i * 7919 % b->l.info.vocab_size);
    mlxn_status status = mlxn_session_reset(b->session);
    if (status == MLXN_OK)
        status = mlxn_session_feed(b->session, ids, (size_t)b->v->depth);
    if (status == MLXN_OK)
        status = mlxn_session_sample(b->session, &token);
    free(ids);
    return status;
}

static mlxn_status run_steps(step_bench *b)
{
    int32_t token;
    MLXN_TRY(feed(b));
    MLXN_TRY(mlxn_session_step(b->session, &token));
    const double start = cli_seconds();
    for (int64_t i = 0; i < b->v->repetitions; i++)
        MLXN_TRY(mlxn_session_step(b->session, &token));
    b->step_seconds = (cli_seconds() - start) / (double)b->v->repetitions;
    return MLXN_OK;
}

static mlxn_status measure(step_bench *b)
{
    const int64_t context = b->v->depth + 2 * b->v->repetitions + 2;
    const mlxn_sampling greedy = {.size = sizeof greedy, .top_p = 1, .repeat_penalty = 1};
    MLXN_TRY(load_open(&b->v->common, LOAD_TOKENIZER | LOAD_MODEL, &b->l));
    MLXN_TRY(
        mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = b->l.model, .context = context,
                                      .matmul = load_matmul(&b->v->common)),
                            &b->session));
    MLXN_TRY(mlxn_session_set_sampling(b->session, &greedy));
    MLXN_TRY(run_steps(b));
    MLXN_TRY(feed(b));
    b->costs.size = sizeof b->costs;
    MLXN_TRY(mlxn_session_measure(b->session, (int)b->v->repetitions, &b->costs, b->launches,
                                  LAUNCHES_MAX));
    b->count = b->costs.n_launches;
    if (b->count > LAUNCHES_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "a step has %zu launches, at most %d are shown",
                         b->count, (int)LAUNCHES_MAX);
    return MLXN_OK;
}

/* ---- output ---- */

static int is_alike(const mlxn_launch_cost *a, const mlxn_launch_cost *b)
{
    return !strcmp(a->kernel, b->kernel) && !strcmp(a->entry, b->entry) && a->bytes == b->bytes &&
           a->groups == b->groups && a->threads == b->threads;
}

/* Launches of a kind in one row, at the place of the first. */
static void print_row(const step_bench *b, size_t first)
{
    const mlxn_launch_cost *l = &b->launches[first];
    char rate[32] = "", share[32] = "";
    double sum = 0;
    int count = 0;
    for (size_t i = 0; i < first; i++)
        if (is_alike(&b->launches[i], l))
            return;
    for (size_t i = first; i < b->count; i++)
        if (is_alike(&b->launches[i], l)) {
            sum += b->launches[i].seconds;
            count++;
        }
    if (l->bytes && sum > 0) {
        const double bytes_a_second = (double)l->bytes * count / sum;
        snprintf(rate, sizeof rate, "%.0f", bytes_a_second / 1e9);
        if (b->costs.copy_rate > 0)
            snprintf(share, sizeof share, "%.0f%%", 100 * bytes_a_second / b->costs.copy_rate);
    }
    printf("| %-13s | %-24s | %5d | %7" PRIu32 " | %7" PRIu32 " | %10.1f | %8.2f | %8.1f | %6s | "
           "%7s |\n",
           l->kernel, l->entry, count, l->groups, l->threads, (double)l->bytes / 1024,
           1e6 * sum / count, 1e6 * sum, rate, share);
}

static void sums(const step_bench *b, double *seconds, double *bytes)
{
    *seconds = *bytes = 0;
    for (size_t i = 0; i < b->count; i++) {
        *seconds += b->launches[i].seconds;
        *bytes += (double)b->launches[i].bytes;
    }
}

static void print_md(const step_bench *b)
{
    const mlxn_graph_costs *c = &b->costs;
    double busy, bytes;
    puts(
        "| kernel        | entry                    | count |  groups | threads |   KiB each |  us "
        "each |   us all |   GB/s | of copy |\n"
        "| ------------- | ------------------------ | ----: | ------: | ------: | ---------: | "
        "-------: | -------: | -----: | ------: |");
    for (size_t i = 0; i < b->count; i++)
        print_row(b, i);
    sums(b, &busy, &bytes);
    printf("\nstep: %.1f us by the host (%.0f tok/s), %.1f us by the device; the host's part is "
           "%.1f us\n",
           1e6 * b->step_seconds, 1 / b->step_seconds, 1e6 * c->replay_seconds,
           1e6 * (b->step_seconds - c->replay_seconds));
    printf("launches: %zu take %.1f us beyond empty kernels, which leaves %.2f us from one to the "
           "next (empty kernels in a chain: %.2f us)\n",
           b->count, 1e6 * busy, 1e6 * (c->replay_seconds - busy) / (double)b->count,
           1e6 * c->empty_seconds);
    if (c->copy_rate > 0)
        printf("roof: %.1f MB at the copy's %.0f GB/s are %.1f us, %.1f%% of the step\n",
               bytes / 1e6, c->copy_rate / 1e9, 1e6 * bytes / c->copy_rate,
               100 * bytes / c->copy_rate / b->step_seconds);
}

static void print_json(const step_bench *b)
{
    const mlxn_device_info *d = &b->l.device_info;
    printf("{\"mlxn_version\": \"%s\", \"device\": ", mlxn_version_string());
    json_string(stdout, d->name, strlen(d->name));
    printf(", \"backend\": \"%s\", \"model\": ", d->backend);
    json_string(stdout, b->l.path, strlen(b->l.path));
    printf(", \"matmul\": \"%s\", \"depth\": %" PRId64 ", \"repetitions\": %" PRId64,
           b->v->common.matmul == MATMUL_EXACT_WORD ? "exact" : "fast", b->v->depth,
           b->v->repetitions);
    printf(", \"host_step_seconds\": %.9f, \"device_step_seconds\": %.9f", b->step_seconds,
           b->costs.replay_seconds);
    printf(", \"empty_launch_seconds\": %.9f, \"copy_bytes_per_second\": %.0f, \"launches\": [",
           b->costs.empty_seconds, b->costs.copy_rate);
    for (size_t i = 0; i < b->count; i++) {
        const mlxn_launch_cost *l = &b->launches[i];
        printf("%s\n  {\"kernel\": \"%s\", \"entry\": \"%s\", \"groups\": %" PRIu32
               ", \"threads\": %" PRIu32 ", \"bytes\": %" PRIu64 ", \"seconds\": %.9f}",
               i ? "," : "", l->kernel, l->entry, l->groups, l->threads, l->bytes, l->seconds);
    }
    puts("\n]}");
}

static mlxn_status bench_step(const step_values *v)
{
    step_bench *b = calloc(1, sizeof *b);
    if (!b)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory for the costs of a step");
    b->v = v;
    mlxn_status status = measure(b);
    if (status == MLXN_OK) {
        (v->output ? print_json : print_md)(b);
        status = cli_flush();
    }
    mlxn_session_release(b->session);
    load_release(&b->l);
    free(b);
    return status;
}

static int bench_step_main(const command *self, int argc, char **argv)
{
    step_values v = {.common = COMMON_DEFAULTS, .depth = 64, .repetitions = 200};
    int code = args_parse(self, argc, argv, &v, NULL, NULL);
    return code != ARGS_GO_ON ? code : cli_exit(bench_step(&v));
}

const command command_bench_step = {.name = "bench step",
                                    .summary = "Measure each launch of a decode step on a GPU.",
                                    .operands = "",
                                    .words = "",
                                    .options = options,
                                    .n_options = OPTION_COUNT(options),
                                    .main = bench_step_main};
