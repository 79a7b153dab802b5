/* bench_ops.c - `mlxn bench ops`: what each operator costs at a model's shapes.
 *
 * First the read bandwidth of the device is measured: a kernel of ours sums 256 MiB with the whole
 * team, best of five.  Then each operator runs once a layer (weights: the layers' own, prepared) in
 * one commit, after a sweep of those 256 MiB that leaves the caches without its operands; the
 * median over the repetitions gives its time.  Bytes are what it must read and write at least once;
 * "of read" is bytes / time as a share of the measured bandwidth.  Small operands that follow each
 * other through the cache can take it past 100%. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "cache.h"
#include "commands.h"
#include "json.h"
#include "load.h"
#include "measure.h"
#include "support.h"

enum { LAYERS_MAX = 128, OWNED_MAX = 16, SWEEP_MIB = 256 };

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

/* One operator: `record` puts its i-th dispatch into the encoder. */
typedef struct job {
    const char *name;
    char shape[48];
    const char *dtype;
    uint64_t bytes; /* of one dispatch */
    double flops;
    int count;
    mlxn_status (*record)(mlxn_encoder *encoder, struct job *j, int i);
    mlxn_buffer *weights[LAYERS_MAX];
    union {
        mlxn_rms_norm_args norm;
        mlxn_norm_add_args norm_add;
        mlxn_qkv_prepare_args qkv;
        mlxn_attention_args attention;
        mlxn_binary_args binary;
        mlxn_gelu_mul_args gelu;
        mlxn_matmul_args matmul;
        mlxn_embedding_args embedding;
        mlxn_argmax_args argmax;
        mlxn_top_k_args top_k;
        mlxn_sample_args sample;
    } args;
} job;

typedef struct ops_bench {
    const ops_values *v;
    loaded l;
    mlxn_encoder *encoder;
    mlxn_buffer *sweep, *sums;
    mlxn_buffer *owned[OWNED_MAX];
    int n_owned, rows_printed;
    int64_t layers, embedding, heads, kv_heads, head_dim, feed_forward, vocab, rows, keys;
    double read_rate; /* bytes a second */
} ops_bench;

/* Sums its share of operand 0, in 64-bit words, into operand 1. */
static void read_kernel(const mlxn_cpu_call *call)
{
    const uint64_t *data = call->ptr[0];
    size_t words = (size_t)SWEEP_MIB << 17, part = words / call->n_threads / 8 * 8;
    size_t at = part * call->thread, end = call->thread + 1 == call->n_threads ? words : at + part;
    uint64_t sum[8] = {0}, total = 0;
    for (; at + 8 <= end; at += 8)
        for (size_t i = 0; i < 8; i++)
            sum[i] += data[at + i];
    for (size_t i = 0; i < 8; i++)
        total += sum[i];
    ((uint64_t *)call->ptr[1])[call->thread * 8] = total;
}

static mlxn_status run_encoder(ops_bench *o)
{
    MLXN_TRY(mlxn_encoder_commit(o->encoder));
    return mlxn_encoder_wait(o->encoder);
}

static mlxn_status sweep(ops_bench *o)
{
    mlxn_operand operands[] = {{o->sweep, MLXN_READ}, {o->sums, MLXN_WRITE}};
    MLXN_TRY(mlxn_encoder_reset(o->encoder));
    MLXN_TRY(mlxn_dispatch(o->encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "bench.read",
                                                 .operands = operands, .n_operands = 2)));
    return run_encoder(o);
}

static mlxn_status measure_read(ops_bench *o)
{
    int64_t bytes = (int64_t)SWEEP_MIB << 20, sums = 64 * 4096;
    double best = 0;
    MLXN_TRY(mlxn_kernel_register(
        o->l.device, MLXN_DESC(mlxn_kernel_desc, .name = "bench.read", .cpu = read_kernel)));
    MLXN_TRY(mlxn_buffer_create(o->l.device, MLXN_U8, 1, &bytes, &o->sweep));
    MLXN_TRY(mlxn_buffer_create(o->l.device, MLXN_U8, 1, &sums, &o->sums));
    /* Fresh zero pages may all be one physical page, and equal ones read faster on some hosts. */
    void *memory;
    MLXN_TRY(mlxn_buffer_map(o->sweep, &memory));
    uint64_t *words = memory, random = 1;
    for (int64_t i = 0; i < bytes / 8; i++)
        words[i] = random = random * 6364136223846793005u + 1442695040888963407u;
    for (int i = 0; i < 6; i++) { /* the first one warms up */
        double start = cli_seconds();
        MLXN_TRY(sweep(o));
        double rate = (double)bytes / (cli_seconds() - start);
        best = i && rate > best ? rate : best;
    }
    o->read_rate = best;
    return MLXN_OK;
}

/* A buffer that lives until the operator is done. */
static mlxn_status own(ops_bench *o, mlxn_dtype dtype, int rank, const int64_t *shape,
                       mlxn_buffer **out)
{
    if (o->n_owned == OWNED_MAX)
        return mlxn_fail(MLXN_ERR_STATE, "bench ops: too many buffers for one operator");
    MLXN_TRY(mlxn_buffer_create(o->l.device, dtype, rank, shape, out));
    o->owned[o->n_owned++] = *out;
    return MLXN_OK;
}

/* f32 [rows, columns] of uniform values in [-1, 1). */
static mlxn_status own_random(ops_bench *o, int64_t rows, int64_t columns, mlxn_buffer **out)
{
    static uint64_t random = 1;
    int64_t n = rows * columns;
    MLXN_TRY(own(o, MLXN_F32, 2, (int64_t[]){rows, columns}, out));
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench ops: no memory for %" PRId64 " values", n);
    for (int64_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(random >> 40) * (1.0f / 8388608.0f) - 1.0f;
    }
    mlxn_status status = mlxn_buffer_write(*out, 0, values, (size_t)n * sizeof *values);
    free(values);
    return status;
}

/* i32 [n]: first, first + 1, ... */
static mlxn_status own_counting(ops_bench *o, int64_t n, int64_t first, mlxn_buffer **out)
{
    MLXN_TRY(own(o, MLXN_I32, 1, &n, out));
    for (int64_t i = 0; i < n; i++) {
        int32_t value = (int32_t)(first + i);
        MLXN_TRY(mlxn_buffer_write(*out, (size_t)i * sizeof value, &value, sizeof value));
    }
    return MLXN_OK;
}

static mlxn_status time_job(ops_bench *o, job *j, double *seconds)
{
    double samples[MEASURE_MAX];
    for (int64_t r = -1; r < o->v->repetitions; r++) {
        MLXN_TRY(sweep(o));
        MLXN_TRY(mlxn_encoder_reset(o->encoder));
        for (int i = 0; i < j->count; i++)
            MLXN_TRY(j->record(o->encoder, j, i));
        double start = cli_seconds();
        MLXN_TRY(run_encoder(o));
        if (r >= 0)
            samples[r] = (cli_seconds() - start) / j->count;
    }
    *seconds = measure_summarise(samples, NULL, (int)o->v->repetitions).median;
    return MLXN_OK;
}

static void print_job(ops_bench *o, const job *j, double seconds)
{
    double rate = (double)j->bytes / seconds;
    if (o->v->output) {
        printf("%s  {\"op\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", \"rows\": %" PRId64
               ", \"seconds\": %.9f, \"bytes\": %" PRIu64 ", \"bytes_per_second\": %.0f"
               ", \"read_share\": %.6f, \"flops_per_second\": %.0f, \"read_bandwidth\": %.0f}",
               o->rows_printed ? ",\n" : "[\n", j->name, j->shape, j->dtype, o->rows, seconds,
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

/* ---- the operators ---- */

static mlxn_status record_norm(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_rms_norm(e, &j->args.norm);
}

static mlxn_status setup_norm(ops_bench *o, job *j)
{
    mlxn_rms_norm_args *a = &j->args.norm;
    *a = (mlxn_rms_norm_args){.size = sizeof *a, .eps = 1e-6f};
    MLXN_TRY(own_random(o, o->rows, o->embedding, &a->input));
    MLXN_TRY(own_random(o, o->rows, o->embedding, &a->output));
    MLXN_TRY(own(o, MLXN_F32, 1, &o->embedding, &a->weight));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 ", %" PRId64 "]", o->rows, o->embedding);
    j->bytes = (uint64_t)(4 * o->embedding * (2 * o->rows + 1));
    j->record = record_norm;
    return MLXN_OK;
}

static mlxn_status record_norm_add(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_norm_add(e, &j->args.norm_add);
}

static mlxn_status setup_norm_add(ops_bench *o, job *j)
{
    mlxn_norm_add_args *a = &j->args.norm_add;
    *a = (mlxn_norm_add_args){.size = sizeof *a, .eps = 1e-6f};
    MLXN_TRY(own_random(o, o->rows, o->embedding, &a->input));
    MLXN_TRY(own_random(o, o->rows, o->embedding, &a->residual));
    MLXN_TRY(own_random(o, o->rows, o->embedding, &a->output));
    MLXN_TRY(own_random(o, o->rows, o->embedding, &a->output_norm));
    MLXN_TRY(own(o, MLXN_F32, 1, &o->embedding, &a->weight));
    MLXN_TRY(own(o, MLXN_F32, 1, &o->embedding, &a->weight2));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 ", %" PRId64 "]", o->rows, o->embedding);
    j->bytes = (uint64_t)(4 * o->embedding * (4 * o->rows + 2));
    j->record = record_norm_add;
    return MLXN_OK;
}

static mlxn_status record_qkv(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_qkv_prepare(e, &j->args.qkv);
}

static mlxn_status setup_qkv(ops_bench *o, job *j)
{
    mlxn_qkv_prepare_args *a = &j->args.qkv;
    int64_t q[] = {o->rows, o->heads, o->head_dim}, kv[] = {o->rows, o->kv_heads, o->head_dim};
    int64_t cache[] = {o->keys, o->kv_heads, o->head_dim}, freqs[] = {o->head_dim / 2, 2};
    *a = (mlxn_qkv_prepare_args){.size = sizeof *a,
                                 .q = {.norm = MLXN_NORM_WEIGHTED, .rope = MLXN_ROPE_NEOX},
                                 .k = {.norm = MLXN_NORM_WEIGHTED, .rope = MLXN_ROPE_NEOX},
                                 .v = {.norm = MLXN_NORM_NONE, .rope = MLXN_ROPE_NONE},
                                 .rotary_pairs = o->head_dim / 2,
                                 .attention_factor = 1,
                                 .eps = 1e-6f};
    MLXN_TRY(own(o, MLXN_F32, 3, q, &a->q.input));
    MLXN_TRY(own(o, MLXN_F32, 3, q, &a->q.output));
    MLXN_TRY(own(o, MLXN_F32, 3, kv, &a->k.input));
    MLXN_TRY(own(o, MLXN_F32, 3, kv, &a->v.input));
    MLXN_TRY(own(o, MLXN_F16, 3, cache, &a->k.cache));
    MLXN_TRY(own(o, MLXN_F16, 3, cache, &a->v.cache));
    MLXN_TRY(own(o, MLXN_F32, 1, &o->head_dim, &a->q.weight));
    MLXN_TRY(own(o, MLXN_F32, 1, &o->head_dim, &a->k.weight));
    MLXN_TRY(own(o, MLXN_F32, 2, freqs, &a->freqs));
    MLXN_TRY(mlxn_rope_freqs(o->l.device,
                             MLXN_DESC(mlxn_rope_freqs_args, .output = a->freqs,
                                       .exponent_dim = o->head_dim, .theta = 1e6, .scale = 1)));
    MLXN_TRY(own_counting(o, o->rows, o->keys - o->rows, &a->positions));
    MLXN_TRY(own_counting(o, o->rows, o->keys - o->rows, &a->slots));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 ", %" PRId64 "+2x%" PRId64 ", %" PRId64 "]",
             o->rows, o->heads, o->kv_heads, o->head_dim);
    j->bytes = (uint64_t)(o->rows * o->head_dim * (8 * o->heads + 12 * o->kv_heads));
    j->record = record_qkv;
    return MLXN_OK;
}

static mlxn_status record_attention(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_attention(e, &j->args.attention);
}

static mlxn_status setup_attention(ops_bench *o, job *j)
{
    mlxn_attention_args *a = &j->args.attention;
    int64_t q[] = {o->rows, o->heads, o->head_dim}, kv[] = {o->keys, o->kv_heads, o->head_dim};
    *a = (mlxn_attention_args){
        .size = sizeof *a, .slot_map = MLXN_SLOTS_LINEAR, .scale = 0.0625f, .max_keys = o->keys};
    MLXN_TRY(own(o, MLXN_F32, 3, q, &a->q));
    MLXN_TRY(own(o, MLXN_F32, 3, q, &a->output));
    MLXN_TRY(own(o, MLXN_F16, 3, kv, &a->k));
    MLXN_TRY(own(o, MLXN_F16, 3, kv, &a->v));
    MLXN_TRY(own_counting(o, o->rows, o->keys - o->rows, &a->positions));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 ", %" PRId64 ", %" PRId64 "] x %" PRId64,
             o->rows, o->heads, o->head_dim, o->keys);
    j->bytes = (uint64_t)(o->head_dim * (8 * o->rows * o->heads + 4 * o->keys * o->kv_heads));
    j->flops = 4.0 * (double)(o->heads * o->head_dim) * (double)o->rows *
               ((double)o->keys - ((double)o->rows - 1) / 2);
    j->dtype = "f16";
    j->record = record_attention;
    return MLXN_OK;
}

static mlxn_status record_gelu(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_gelu_mul(e, &j->args.gelu);
}

static mlxn_status setup_gelu(ops_bench *o, job *j)
{
    mlxn_gelu_mul_args *a = &j->args.gelu;
    a->size = sizeof *a;
    MLXN_TRY(own_random(o, o->rows, o->feed_forward, &a->gate));
    MLXN_TRY(own_random(o, o->rows, o->feed_forward, &a->up));
    MLXN_TRY(own_random(o, o->rows, o->feed_forward, &a->output));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 ", %" PRId64 "]", o->rows, o->feed_forward);
    j->bytes = (uint64_t)(12 * o->rows * o->feed_forward);
    j->record = record_gelu;
    return MLXN_OK;
}

static mlxn_status record_argmax(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_argmax(e, &j->args.argmax);
}

static mlxn_status setup_argmax(ops_bench *o, job *j)
{
    mlxn_argmax_args *a = &j->args.argmax;
    a->size = sizeof *a;
    MLXN_TRY(own_random(o, 1, o->vocab, &a->logits));
    MLXN_TRY(own(o, MLXN_I32, 1, (int64_t[]){1}, &a->ids));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 "]", o->vocab);
    j->bytes = (uint64_t)(4 * o->vocab);
    j->record = record_argmax;
    return MLXN_OK;
}

static mlxn_status record_top_k(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_top_k(e, &j->args.top_k);
}

static mlxn_status setup_top_k(ops_bench *o, job *j)
{
    mlxn_top_k_args *a = &j->args.top_k;
    int64_t shape[] = {1, 40};
    a->size = sizeof *a;
    MLXN_TRY(own_random(o, 1, o->vocab, &a->logits));
    MLXN_TRY(own(o, MLXN_I32, 2, shape, &a->ids));
    MLXN_TRY(own(o, MLXN_F32, 2, shape, &a->values));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 "], k 40", o->vocab);
    j->bytes = (uint64_t)(4 * o->vocab);
    j->record = record_top_k;
    return MLXN_OK;
}

static mlxn_status record_sample(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_sample(e, &j->args.sample);
}

static mlxn_status setup_sample(ops_bench *o, job *j)
{
    mlxn_sample_args *a = &j->args.sample;
    *a = (mlxn_sample_args){.size = sizeof *a,
                            .seed = 1,
                            .top_k = 40,
                            .temperature = 0.8f,
                            .top_p = 0.95f,
                            .min_p = 0.05f};
    mlxn_buffer *logits;
    MLXN_TRY(own_random(o, 1, o->vocab, &logits));
    MLXN_TRY(mlxn_buffer_view(logits, MLXN_F32, 1, &o->vocab, NULL, 0, &a->logits));
    o->owned[o->n_owned++] = a->logits;
    MLXN_TRY(own(o, MLXN_I32, 1, (int64_t[]){1}, &a->token));
    MLXN_TRY(own(o, MLXN_I32, 1, (int64_t[]){1}, &a->counter));
    snprintf(j->shape, sizeof j->shape, "[%" PRId64 "], k 40", o->vocab);
    j->bytes = (uint64_t)(4 * o->vocab);
    j->record = record_sample;
    return MLXN_OK;
}

/* ---- weights ---- */

static mlxn_status load_weight(ops_bench *o, const mlxn_gguf_tensor *t, mlxn_buffer **out)
{
    mlxn_buffer *plain;
    MLXN_TRY(mlxn_buffer_map_file(o->l.device, o->l.path, t->offset, t->dtype, t->rank, t->shape,
                                  &plain));
    mlxn_status status =
        mlxn_weight_prepare(plain, MLXN_WEIGHT_MATMUL | MLXN_WEIGHT_DROP_SOURCE, out);
    mlxn_buffer_release(plain);
    return status;
}

static mlxn_status record_matmul(mlxn_encoder *e, job *j, int i)
{
    j->args.matmul.weight = j->weights[i];
    return mlxn_matmul(e, &j->args.matmul);
}

/* A name with "%" is of every layer, without it of the model.  Layers of a kind may differ in their
 * dtype: those of the first one's are taken. */
static mlxn_status setup_matmul(ops_bench *o, job *j, const char *format)
{
    mlxn_matmul_args *a = &j->args.matmul;
    mlxn_gguf_tensor t = {.size = sizeof t}, first = t;
    int layers = strchr(format, '%') ? (int)o->layers : 1, taken = 0;
    int64_t rows = layers == 1 ? 1 : o->rows; /* logits are of the last token alone */
    for (int i = 0; i < layers; i++) {
        char name[64];
        const char *percent = strchr(format, '%');
        if (percent)
            snprintf(name, sizeof name, "blk.%d.%s", i, percent + 1);
        else
            snprintf(name, sizeof name, "%s", format);
        int64_t index = mlxn_gguf_find_tensor(o->l.gguf, name);
        if (index < 0)
            return mlxn_fail(MLXN_ERR_FORMAT, "%s: tensor %s is missing", o->l.path, name);
        MLXN_TRY(mlxn_gguf_get_tensor(o->l.gguf, index, &t));
        if (!i)
            first = t;
        if (t.dtype == first.dtype)
            MLXN_TRY(load_weight(o, &t, &j->weights[taken++]));
    }
    *a = (mlxn_matmul_args){.size = sizeof *a, .mode = load_matmul(&o->v->common)};
    MLXN_TRY(own_random(o, rows, first.shape[1], &a->input));
    MLXN_TRY(own_random(o, rows, first.shape[0], &a->output));
    snprintf(j->shape, sizeof j->shape, "%" PRId64 " x [%" PRId64 ", %" PRId64 "]", rows,
             first.shape[0], first.shape[1]);
    j->dtype = mlxn_dtype_name(first.dtype);
    j->bytes = first.bytes + (uint64_t)(4 * rows * (first.shape[0] + first.shape[1]));
    j->flops = 2.0 * (double)rows * (double)first.shape[0] * (double)first.shape[1];
    j->count = taken;
    j->record = record_matmul;
    return MLXN_OK;
}

static mlxn_status record_embedding(mlxn_encoder *e, job *j, int i)
{
    (void)i;
    return mlxn_embedding(e, &j->args.embedding);
}

static mlxn_status setup_embedding(ops_bench *o, job *j)
{
    mlxn_embedding_args *a = &j->args.embedding;
    mlxn_gguf_tensor t = {.size = sizeof t};
    int64_t index = mlxn_gguf_find_tensor(o->l.gguf, "token_embd.weight");
    *a = (mlxn_embedding_args){.size = sizeof *a, .scale = 1};
    MLXN_TRY(mlxn_gguf_get_tensor(o->l.gguf, index, &t));
    MLXN_TRY(load_weight(o, &t, &j->weights[0]));
    a->table = j->weights[0];
    MLXN_TRY(own_counting(o, o->rows, 1000, &a->ids));
    MLXN_TRY(own_random(o, o->rows, o->embedding, &a->output));
    snprintf(j->shape, sizeof j->shape, "%" PRId64 " of [%" PRId64 ", %" PRId64 "]", o->rows,
             t.shape[0], t.shape[1]);
    j->dtype = mlxn_dtype_name(t.dtype);
    j->bytes = (uint64_t)o->rows * (t.bytes / (uint64_t)t.shape[0] + 4 * (uint64_t)o->embedding);
    j->record = record_embedding;
    return MLXN_OK;
}

static const struct {
    const char *name;
    mlxn_status (*setup)(ops_bench *o, job *j);
    const char *weight; /* "%NAME": of every layer */
} ops[] = {
    {"embedding", setup_embedding, NULL},
    {"rms_norm", setup_norm, NULL},
    {"matmul attn_q", NULL, "%attn_q.weight"},
    {"matmul attn_k", NULL, "%attn_k.weight"},
    {"matmul attn_v", NULL, "%attn_v.weight"},
    {"qkv_prepare", setup_qkv, NULL},
    {"attention", setup_attention, NULL},
    {"matmul attn_output", NULL, "%attn_output.weight"},
    {"norm_add", setup_norm_add, NULL},
    {"matmul ffn_gate", NULL, "%ffn_gate.weight"},
    {"matmul ffn_up", NULL, "%ffn_up.weight"},
    {"gelu_mul", setup_gelu, NULL},
    {"matmul ffn_down", NULL, "%ffn_down.weight"},
    {"matmul output", NULL, "token_embd.weight"},
    {"argmax", setup_argmax, NULL},
    {"top_k", setup_top_k, NULL},
    {"sample", setup_sample, NULL},
};

static mlxn_status run_op(ops_bench *o, size_t index)
{
    job j = {.name = ops[index].name, .dtype = "f32", .count = (int)o->layers};
    double seconds;
    mlxn_status status =
        ops[index].setup ? ops[index].setup(o, &j) : setup_matmul(o, &j, ops[index].weight);
    if (status == MLXN_OK)
        status = time_job(o, &j, &seconds);
    if (status == MLXN_OK) {
        print_job(o, &j, seconds);
        status = cli_flush();
    }
    for (int i = 0; i < LAYERS_MAX; i++)
        mlxn_buffer_release(j.weights[i]);
    while (o->n_owned)
        mlxn_buffer_release(o->owned[--o->n_owned]);
    return status;
}

/* The model's dimensions, from the file's metadata. */
static mlxn_status read_dims(ops_bench *o)
{
    const struct {
        const char *key;
        int64_t *out;
    } keys[] = {{"block_count", &o->layers},
                {"embedding_length", &o->embedding},
                {"attention.head_count", &o->heads},
                {"attention.head_count_kv", &o->kv_heads},
                {"attention.key_length", &o->head_dim},
                {"feed_forward_length", &o->feed_forward}};
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
    if (index < 0 || o->layers > LAYERS_MAX)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: no token_embd.weight, or more than %d layers",
                         o->l.path, LAYERS_MAX);
    MLXN_TRY(mlxn_gguf_get_tensor(o->l.gguf, index, &t));
    o->vocab = t.shape[0];
    o->rows = o->v->rows;
    o->keys = o->v->keys ? o->v->keys : o->rows > 512 ? o->rows : 512;
    if (o->keys < o->rows)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%" PRId64 " keys are fewer than %" PRId64 " rows",
                         o->keys, o->rows);
    return MLXN_OK;
}

static mlxn_status open_bench(ops_bench *o)
{
    MLXN_TRY(load_open(&o->v->common, 0, &o->l));
    MLXN_TRY(load_device(o->v->common.device, o->v->common.threads, &o->l.device));
    o->l.device_info.size = sizeof o->l.device_info;
    MLXN_TRY(mlxn_device_get_info(o->l.device, &o->l.device_info));
    MLXN_TRY(read_dims(o));
    MLXN_TRY(mlxn_encoder_create(o->l.device, &o->encoder));
    MLXN_TRY(measure_read(o));
    fprintf(stderr, "mlxn: %s, path %s, %u threads read %.2f GB/s from memory\n",
            o->l.device_info.name, o->l.device_info.path, o->l.device_info.threads,
            o->read_rate / 1e9);
    return MLXN_OK;
}

static mlxn_status bench_ops(const ops_values *v)
{
    ops_bench o = {.v = v};
    mlxn_status status = open_bench(&o);
    for (size_t i = 0; i < sizeof ops / sizeof *ops && status == MLXN_OK; i++)
        status = run_op(&o, i);
    if (v->output && o.rows_printed)
        puts("\n]");
    mlxn_encoder_release(o.encoder);
    mlxn_buffer_release(o.sweep);
    mlxn_buffer_release(o.sums);
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
