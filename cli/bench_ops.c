/* bench_ops.c - `mlxn bench ops`: what each operator costs at a model's shapes, on any device.
 *
 * First the read bandwidth of the device is measured: the best of five times that argmax takes over
 * 256 MiB of random values, which it reads and hardly computes on.  Then each operator runs once a
 * layer (weights: the layers' own, prepared) in one replayed graph, after a sweep of those 256 MiB
 * that leaves the caches without its operands; the median over the repetitions gives its time.
 * Bytes are what it must read and write at least once; "of read" is bytes / time as a share of the
 * measured bandwidth.  Small operands that follow each other through the cache can take it past
 * 100%; a commit's own microseconds are in the time of an operator that runs once. */
#include <inttypes.h>
#include "bench_ops.h"
#include "cache.h"
#include "commands.h"
#include "json.h"
#include "load.h"
#include "measure.h"
#include "support.h"

enum { SWEEP_ROWS = 1024, SWEEP_COLUMNS = 65536 };

typedef struct ops_values {
    common_values common;
    int64_t rows, keys, repetitions;
    int output;
} ops_values;

#define AT(field) offsetof(ops_values, field)
static const option options[] = {
    COMMON_MODEL,
    {'p', "rows", OPTION_INT, "N", AT(rows), 1, 65536,
     "Tokens computed at once. Default: 1, as in a decode step."},
    {'c', "keys", OPTION_INT, "N", AT(keys), 1, 1e6,
     "Keys in the cache that attention reads. Default: 512, or --rows if that is more."},
    {'r', "repetitions", OPTION_INT, "N", AT(repetitions), 1, MEASURE_MAX,
     "Runs of each operator. Default: 20."},
    COMMON_THREADS,
    COMMON_DEVICE,
    COMMON_MATMUL,
    {'o', "output", OPTION_CHOICE, "md|json", AT(output), 0, 0,
     "A table in Markdown, or a JSON array. Default: md."},
    COMMON_VERBOSE,
};

typedef struct ops_bench {
    const ops_values *v;
    loaded l;
    job_model model;
    mlxn_encoder *encoder;
    mlxn_buffer *sweep, *found;
    int rows_printed;
    double read_rate; /* bytes a second */
} ops_bench;

static mlxn_status run_encoder(ops_bench *o)
{
    MLXN_TRY(mlxn_encoder_commit(o->encoder));
    return mlxn_encoder_wait(o->encoder);
}

static mlxn_status sweep(ops_bench *o)
{
    MLXN_TRY(mlxn_encoder_reset(o->encoder));
    MLXN_TRY(
        mlxn_argmax(o->encoder, MLXN_DESC(mlxn_argmax_args, .logits = o->sweep, .ids = o->found)));
    return run_encoder(o);
}

static mlxn_status measure_read(ops_bench *o)
{
    const int64_t found = SWEEP_ROWS;
    double best = 0;
    MLXN_TRY(job_random(o->l.device, SWEEP_ROWS, SWEEP_COLUMNS, &o->sweep));
    MLXN_TRY(mlxn_buffer_create(o->l.device, MLXN_I32, 1, &found, &o->found));
    for (int i = 0; i < 6; i++) { /* the first one warms up */
        double start = cli_seconds();
        MLXN_TRY(sweep(o));
        double rate = (double)mlxn_buffer_bytes(o->sweep) / (cli_seconds() - start);
        best = i && rate > best ? rate : best;
    }
    o->read_rate = best;
    return MLXN_OK;
}

static mlxn_status take_samples(ops_bench *o, mlxn_graph *graph, double *samples)
{
    for (int64_t r = -1; r < o->v->repetitions; r++) {
        MLXN_TRY(sweep(o));
        MLXN_TRY(mlxn_encoder_reset(o->encoder));
        MLXN_TRY(mlxn_graph_replay(o->encoder, graph));
        double start = cli_seconds();
        MLXN_TRY(run_encoder(o));
        if (r >= 0)
            samples[r] = cli_seconds() - start;
    }
    return MLXN_OK;
}

static mlxn_status time_job(ops_bench *o, job *j, double *seconds)
{
    double samples[MEASURE_MAX];
    mlxn_graph *graph = NULL;
    MLXN_TRY(mlxn_encoder_reset(o->encoder));
    for (int i = 0; i < j->count; i++)
        MLXN_TRY(j->record(o->encoder, j, i));
    MLXN_TRY(mlxn_graph_capture(o->encoder, &graph));
    mlxn_status status = take_samples(o, graph, samples);
    mlxn_graph_release(graph);
    if (status == MLXN_OK)
        *seconds = measure_summarise(samples, NULL, (int)o->v->repetitions).median / j->count;
    return status;
}

static void print_job(ops_bench *o, const job *j, double seconds)
{
    double rate = (double)j->bytes / seconds;
    if (o->v->output) {
        printf("%s  {\"op\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", \"rows\": %" PRId64
               ", \"seconds\": %.9f, \"bytes\": %" PRIu64 ", \"bytes_per_second\": %.0f"
               ", \"read_share\": %.6f, \"flops_per_second\": %.0f, \"read_bandwidth\": %.0f}",
               o->rows_printed ? ",\n" : "[\n", j->name, j->shape, j->dtype, o->model.rows, seconds,
               j->bytes, rate, rate / o->read_rate, j->flops / seconds, o->read_rate);
    } else {
        if (!o->rows_printed)
            puts(
                "| operator             | shape                  | dtype  |       us |        MB | "
                "  GB/s | of read |  GFLOP/s |\n"
                "| -------------------- | ---------------------- | ------ | -------: | --------: | "
                "-----: | ------: | -------: |");
        printf("| %-20s | %-22s | %-6s | %8.1f | %9.3f | %6.1f | %6.1f%% | %8.1f |\n", j->name,
               j->shape, j->dtype, seconds * 1e6, (double)j->bytes / 1e6, rate / 1e9,
               100 * rate / o->read_rate, j->flops / seconds / 1e9);
    }
    o->rows_printed++;
}

static mlxn_status run_job(ops_bench *o, int index)
{
    job j;
    double seconds;
    mlxn_status status = job_open(&o->model, index, &j);
    if (status == MLXN_OK)
        status = time_job(o, &j, &seconds);
    if (status == MLXN_OK) {
        print_job(o, &j, seconds);
        status = cli_flush();
    }
    job_close(&j);
    return status;
}

/* The model's dimensions, from the file's metadata. */
static mlxn_status read_dims(ops_bench *o)
{
    job_model *m = &o->model;
    const struct {
        const char *key;
        int64_t *out;
    } keys[] = {{"block_count", &m->layers},
                {"embedding_length", &m->embedding},
                {"attention.head_count", &m->heads},
                {"attention.head_count_kv", &m->kv_heads},
                {"attention.key_length", &m->head_dim},
                {"feed_forward_length", &m->feed_forward}};
    mlxn_gguf_string architecture;
    mlxn_gguf_tensor t = {.size = sizeof t};
    MLXN_TRY(mlxn_gguf_get_string(o->l.gguf, "general.architecture", &architecture));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[96];
        snprintf(key, sizeof key, "%.*s.%s",
                 (int)(architecture.bytes < 48 ? architecture.bytes : 48), architecture.data,
                 keys[i].key);
        MLXN_TRY(mlxn_gguf_get_i64(o->l.gguf, key, keys[i].out));
        if (*keys[i].out < 1 || *keys[i].out > 1 << 24)
            return mlxn_fail(MLXN_ERR_FORMAT, "%s: %s is %" PRId64, o->l.path, key, *keys[i].out);
    }
    int64_t index = mlxn_gguf_find_tensor(o->l.gguf, "token_embd.weight");
    if (index < 0 || m->layers > JOB_LAYERS_MAX)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: no token_embd.weight, or more than %d layers",
                         o->l.path, JOB_LAYERS_MAX);
    MLXN_TRY(mlxn_gguf_get_tensor(o->l.gguf, index, &t));
    m->vocab = t.shape[0];
    m->rows = o->v->rows;
    m->keys = o->v->keys ? o->v->keys : m->rows > 512 ? m->rows : 512;
    if (m->keys < m->rows)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%" PRId64 " keys are fewer than %" PRId64 " rows",
                         m->keys, m->rows);
    return MLXN_OK;
}

static mlxn_status open_bench(ops_bench *o)
{
    MLXN_TRY(load_open(&o->v->common, 0, &o->l));
    MLXN_TRY(load_device(&o->v->common.device, o->v->common.threads, &o->l.device));
    o->l.device_info.size = sizeof o->l.device_info;
    MLXN_TRY(mlxn_device_get_info(o->l.device, &o->l.device_info));
    o->model = (job_model){.device = o->l.device,
                           .gguf = o->l.gguf,
                           .path = o->l.path,
                           .mode = load_matmul(&o->v->common)};
    MLXN_TRY(read_dims(o));
    MLXN_TRY(mlxn_encoder_create(o->l.device, &o->encoder));
    MLXN_TRY(measure_read(o));
    fprintf(stderr, "mlxn: %s, path %s, reads %.2f GB/s from memory\n", o->l.device_info.name,
            o->l.device_info.path, o->read_rate / 1e9);
    return MLXN_OK;
}

static mlxn_status bench_ops(const ops_values *v)
{
    ops_bench o = {.v = v};
    mlxn_status status = open_bench(&o);
    for (int i = 0; i < job_count && status == MLXN_OK; i++)
        status = run_job(&o, i);
    if (v->output && o.rows_printed)
        puts("\n]");
    mlxn_encoder_release(o.encoder);
    mlxn_buffer_release(o.sweep);
    mlxn_buffer_release(o.found);
    load_release(&o.l);
    return status == MLXN_OK ? cli_flush() : status;
}

static int bench_ops_main(const command *self, int argc, char **argv)
{
    ops_values v = {.common = COMMON_DEFAULTS, .rows = 1, .repetitions = 20};
    int code = args_parse(self, argc, argv, &v, NULL, NULL);
    return code != ARGS_GO_ON ? code : cli_exit(bench_ops(&v));
}

const command command_bench_ops = {.name = "bench ops",
                                   .summary = "Measure each operator at a model's shapes.",
                                   .operands = "",
                                   .words = "",
                                   .options = options,
                                   .n_options = OPTION_COUNT(options),
                                   .main = bench_ops_main};
