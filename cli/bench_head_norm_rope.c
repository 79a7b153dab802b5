/* bench_head_norm_rope.c - `mlxn bench head-norm-rope`: the flagship operator beside a plain copy.
 *
 * For each shape four things are timed in turns, so that a slow moment of the machine meets all of
 * them: a copy of the same bytes by the same threads (on a GPU the fastest of several grids), the
 * operator, the chain of single operators that it replaces, and a whole call, that is reset,
 * record, commit and wait of a reused encoder.  A time is the median over the repetitions, the
 * spread the smallest and the largest.  Bytes are what is read and written of the heads alone. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "commands.h"
#include "head_baselines.h"
#include "load.h"
#include "measure.h"
#include "support.h"

enum { OWNED_MAX = 128, BUFFERS_MAX = 16, COPY_THREADS = 256, FIRST_POSITION = 1000 };
enum { ROTATED_BYTES = 256 << 20 }; /* on a GPU: more than its caches hold */
enum { DTYPE_F32, DTYPE_BF16, DTYPE_BOTH };
enum { ANGLES_COMPUTED, ANGLES_TABLES };

typedef struct head_values {
    common_values common;
    int_list tokens, heads, dims;
    int64_t kv_heads, buffers, repetitions;
    int dtype, angles, in_place, cache, baselines, output;
} head_values;

#define AT(field) offsetof(head_values, field)
static const option options[] = {
    {'n', "tokens", OPTION_INTS, "N[,N]", AT(tokens), 1, 1 << 20,
     "Numbers of tokens. Default: 1,16,512,4096."},
    {0, "heads", OPTION_INTS, "N[,N]", AT(heads), 1, 1024,
     "Query heads of a token. Default: 4,16."},
    {0, "kv-heads", OPTION_INT, "N", AT(kv_heads), 0, 1024,
     "Heads of k, and of v, packed behind those of q; v is normed without a weight. Default: 0."},
    {0, "head-dim", OPTION_INTS, "N[,N]", AT(dims), 2, 8192,
     "Elements of a head, even. Default: 128,256,512."},
    {0, "dtype", OPTION_CHOICE, "f32|bf16|both", AT(dtype), 0, 0, "Of the heads. Default: both."},
    {0, "angles", OPTION_CHOICE, "computed|tables", AT(angles), 0, 0,
     "From prepared frequencies, or from tables of cosines and sines in f32. Default: computed."},
    {0, "in-place", OPTION_FLAG, NULL, AT(in_place), 0, 0, "Write the result over the input."},
    {0, "cache", OPTION_FLAG, NULL, AT(cache), 0, 0,
     "Write k and v to a cache, by slots, and not to the output."},
    {0, "baselines", OPTION_FLAG, NULL, AT(baselines), 0, 0,
     "Also time the layouts of other engines' kernels (CUDA; bf16, head size 128 or 256)."},
    {0, "buffers", OPTION_INT, "N", AT(buffers), 0, BUFFERS_MAX,
     "Inputs and outputs taken in turns, to pass caches by. Default 0: 1 on the CPU, else 2 to 8."},
    {'r', "repetitions", OPTION_INT, "N", AT(repetitions), 1, MEASURE_MAX,
     "Samples of each time. Default: 20."},
    COMMON_THREADS,
    COMMON_DEVICE,
    {'o', "output", OPTION_CHOICE, "md|json", AT(output), 0, 0,
     "A table in Markdown, or a JSON array. Default: md."},
};

/* One shape: the operands of each of the buffers taken in turns. */
typedef struct head_shape {
    int64_t tokens, heads, kv_heads, dim;
    mlxn_dtype dtype;
    size_t bytes; /* of the heads, read and written */
} head_shape;

typedef struct head_bench {
    const head_values *v;
    mlxn_device *device;
    mlxn_device_info info;
    mlxn_encoder *encoder;
    head_shape shape;
    int buffers, rows_printed;
    mlxn_buffer *input[BUFFERS_MAX], *output[BUFFERS_MAX];       /* [tokens, all heads, dim] */
    mlxn_buffer *in[BUFFERS_MAX][3], *out[BUFFERS_MAX][3];       /* views of q, k, v */
    mlxn_buffer *weight, *positions, *freqs, *cos, *sin, *table; /* table: of the baselines */
    mlxn_buffer *cache[2], *slots;                               /* of k and v */
    mlxn_buffer *owned[OWNED_MAX];
    int n_owned;
    uint32_t copy_groups;
} head_bench;

/* ---- a copy ---- */

/* Copies its share of operand 0 to operand 1; args: the bytes. */
static void copy_kernel(const mlxn_cpu_call *call)
{
    size_t bytes = *(const size_t *)call->args, part = bytes / call->n_threads / 64 * 64;
    size_t at = part * call->thread;
    size_t end = call->thread + 1 == call->n_threads ? bytes : at + part;
    memcpy((char *)call->ptr[1] + at, (const char *)call->ptr[0] + at, end - at);
}

static const char copy_text[] =
    "extern \"C\" __global__ void bench_copy(const uint4 *__restrict__ in, uint4 *__restrict__ "
    "out,\n"
    "                                      const __grid_constant__ unsigned long long bytes)\n"
    "{\n"
    "    const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;\n"
    "    unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;\n"
    "    for (; i < bytes / 16; i += step)\n"
    "        out[i] = in[i];\n"
    "}\n";

static mlxn_status record_copy(mlxn_encoder *encoder, void *context, int i)
{
    const head_bench *b = context;
    const size_t bytes = b->shape.bytes / 2;
    mlxn_buffer *in = b->input[i % b->buffers], *out = b->output[i % b->buffers];
    if (in == out) /* in place: the next one's */
        out = b->output[(i + 1) % b->buffers];
    mlxn_operand operands[] = {{in, MLXN_READ}, {out, MLXN_WRITE}};
    return mlxn_dispatch(encoder,
                         MLXN_DESC(mlxn_dispatch_args, .kernel = "bench_copy", .operands = operands,
                                   .n_operands = 2, .args = &bytes, .args_bytes = sizeof bytes,
                                   .groups = {b->copy_groups, 1, 1}, .threads = COPY_THREADS));
}

/* ---- the operator ---- */

static mlxn_status record_fused(mlxn_encoder *encoder, void *context, int i)
{
    const head_bench *b = context;
    const int k = i % b->buffers;
    mlxn_qkv_prepare_args a = {
        .size = sizeof a,
        .q = {b->in[k][0], b->out[k][0], b->weight, NULL, MLXN_NORM_WEIGHTED, MLXN_ROPE_NEOX},
        .rotary_pairs = b->shape.dim / 2,
        .attention_factor = 1,
        .eps = 1e-6f};
    if (b->shape.kv_heads) {
        a.k = a.q;
        a.k.input = b->in[k][1];
        a.k.output = b->out[k][1];
        a.v = (mlxn_qkv_part){b->in[k][2], b->out[k][2],         NULL,
                              NULL,        MLXN_NORM_WEIGHTLESS, MLXN_ROPE_NONE};
    }
    if (b->slots) {
        a.k.output = a.v.output = NULL;
        a.k.cache = b->cache[0];
        a.v.cache = b->cache[1];
        a.slots = b->slots;
    }
    if (b->v->angles == ANGLES_TABLES) {
        a.cos = b->cos;
        a.sin = b->sin;
    } else {
        a.freqs = b->freqs;
        a.positions = b->positions;
    }
    return mlxn_qkv_prepare(encoder, &a);
}

/* ---- the chain ---- */

static mlxn_status record_rope(mlxn_encoder *encoder, const head_bench *b, mlxn_buffer *heads)
{
    mlxn_rope_args a = {.size = sizeof a,
                        .input = heads,
                        .output = heads,
                        .pairing = MLXN_ROPE_NEOX,
                        .rotary_pairs = b->shape.dim / 2,
                        .attention_factor = 1};
    if (b->v->angles == ANGLES_TABLES) {
        a.cos = b->cos;
        a.sin = b->sin;
    } else {
        a.freqs = b->freqs;
        a.positions = b->positions;
    }
    return mlxn_rope(encoder, &a);
}

/* The norm alone: of packed heads, which rms_norm does not take. */
static mlxn_status record_norm(mlxn_encoder *encoder, const head_bench *b, int k, int part)
{
    mlxn_qkv_part q = {b->in[k][part], b->out[k][part],    b->weight,
                       NULL,           MLXN_NORM_WEIGHTED, MLXN_ROPE_NONE};
    if (!b->shape.kv_heads)
        return mlxn_rms_norm(encoder,
                             MLXN_DESC(mlxn_rms_norm_args, .input = q.input, .output = q.output,
                                       .weight = q.weight, .eps = 1e-6f));
    if (part == 2) {
        q.weight = NULL;
        q.norm = MLXN_NORM_WEIGHTLESS;
    }
    return mlxn_qkv_prepare(
        encoder, MLXN_DESC(mlxn_qkv_prepare_args, .q = q, .eps = 1e-6f, .attention_factor = 1));
}

/* Without the writing of the cache. */
static mlxn_status record_chain(mlxn_encoder *encoder, void *context, int i)
{
    const head_bench *b = context;
    const int k = i % b->buffers, parts = b->shape.kv_heads ? 3 : 1;
    for (int p = 0; p < parts; p++)
        MLXN_TRY(record_norm(encoder, b, k, p));
    for (int p = 0; p < parts && p < 2; p++)
        MLXN_TRY(record_rope(encoder, b, b->out[k][p]));
    return MLXN_OK;
}

/* ---- other layouts ---- */

typedef struct baseline_context {
    const head_bench *b;
    int which;
} baseline_context;

static mlxn_status record_baseline(mlxn_encoder *encoder, void *context, int i)
{
    const baseline_context *c = context;
    const head_shape *s = &c->b->shape;
    return head_baseline_record(encoder, c->which,
                                &(head_baseline){.heads = c->b->input[i % c->b->buffers],
                                                 .weight = c->b->weight,
                                                 .table = c->b->table,
                                                 .positions = c->b->positions,
                                                 .tokens = s->tokens,
                                                 .heads_all = s->heads + 2 * s->kv_heads,
                                                 .heads_rotated = s->heads + s->kv_heads,
                                                 .dim = s->dim});
}

static int has_baselines(const head_bench *b)
{
    return b->v->baselines && b->shape.dtype == MLXN_BF16 &&
           (b->shape.dim == 128 || b->shape.dim == 256);
}

/* ---- operands ---- */

static mlxn_status own(head_bench *b, mlxn_dtype dtype, int rank, const int64_t *shape,
                       mlxn_buffer **out)
{
    MLXN_TRY(mlxn_buffer_create(b->device, dtype, rank, shape, out));
    b->owned[b->n_owned++] = *out;
    return MLXN_OK;
}

/* Values in [-1, 1), as f32 or cut off to bf16. */
static mlxn_status own_random(head_bench *b, mlxn_dtype dtype, int rank, const int64_t *shape,
                              mlxn_buffer **out)
{
    uint64_t random = 1;
    MLXN_TRY(own(b, dtype, rank, shape, out));
    size_t n = (size_t)mlxn_buffer_elements(*out), size = mlxn_dtype_block_bytes(dtype);
    char *values = malloc(n * size);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench: no memory for %zu values", n);
    for (size_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        float value = (float)(random >> 40) * (1.0f / 8388608.0f) - 1.0f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits >>= dtype == MLXN_BF16 ? 16 : 0;
        memcpy(values + i * size, &bits, size); /* little-endian, as everything mlxn runs on */
    }
    mlxn_status status = mlxn_buffer_write(*out, 0, values, n * size);
    free(values);
    return status;
}

/* first, first + 1, ...: one a token. */
static mlxn_status own_ascending(head_bench *b, mlxn_dtype dtype, uint32_t first, mlxn_buffer **out)
{
    const size_t n = (size_t)b->shape.tokens;
    MLXN_TRY(own(b, dtype, 1, &b->shape.tokens, out));
    uint32_t *values = malloc(n * sizeof *values);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench: no memory for %zu values", n);
    for (size_t t = 0; t < n; t++)
        values[t] = first + (uint32_t)t;
    mlxn_status status = mlxn_buffer_write(*out, 0, values, n * sizeof *values);
    free(values);
    return status;
}

static mlxn_status make_angles(head_bench *b)
{
    const int64_t pairs = b->shape.dim / 2, table[2] = {b->shape.tokens, pairs};
    size_t n = (size_t)(b->shape.tokens * pairs);
    MLXN_TRY(own_ascending(b, MLXN_U32, FIRST_POSITION, &b->positions));
    if (has_baselines(b))
        MLXN_TRY(own_random(b, MLXN_BF16, 2,
                            (int64_t[]){b->shape.tokens + FIRST_POSITION, b->shape.dim},
                            &b->table));
    MLXN_TRY(own(b, MLXN_F32, 2, (int64_t[]){pairs, 2}, &b->freqs));
    MLXN_TRY(mlxn_rope_freqs(b->device,
                             MLXN_DESC(mlxn_rope_freqs_args, .output = b->freqs,
                                       .exponent_dim = b->shape.dim, .theta = 1e4, .scale = 1)));
    if (b->v->angles != ANGLES_TABLES)
        return MLXN_OK;
    MLXN_TRY(own(b, MLXN_F32, 2, table, &b->cos));
    MLXN_TRY(own(b, MLXN_F32, 2, table, &b->sin));
    float *values = malloc(2 * n * sizeof *values);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench: no memory for the tables");
    for (size_t i = 0; i < n; i++) {
        double position = FIRST_POSITION + (double)(i / (size_t)pairs),
               pair = (double)(i % (size_t)pairs);
        double angle = position * pow(1e4, -2 * pair / (double)b->shape.dim);
        values[i] = (float)cos(angle);
        values[n + i] = (float)sin(angle);
    }
    mlxn_status status = mlxn_buffer_write(b->cos, 0, values, n * sizeof *values);
    if (status == MLXN_OK)
        status = mlxn_buffer_write(b->sin, 0, values + n, n * sizeof *values);
    free(values);
    return status;
}

/* The views of q, k and v in a packed buffer. */
static mlxn_status slice_parts(head_bench *b, mlxn_buffer *packed, mlxn_buffer *parts[3])
{
    const int64_t count[3] = {b->shape.heads, b->shape.kv_heads, b->shape.kv_heads};
    int64_t first = 0;
    for (int p = 0; p < 3 && count[p]; first += count[p++]) {
        MLXN_TRY(mlxn_buffer_slice(packed, 1, first, count[p], &parts[p]));
        b->owned[b->n_owned++] = parts[p];
    }
    return MLXN_OK;
}

static mlxn_status make_operands(head_bench *b)
{
    const head_shape *s = &b->shape;
    const int64_t shape[3] = {s->tokens, s->heads + 2 * s->kv_heads, s->dim};
    MLXN_TRY(own_random(b, s->dtype, 1, &s->dim, &b->weight));
    for (int i = 0; i < b->buffers; i++) {
        MLXN_TRY(own_random(b, s->dtype, 3, shape, &b->input[i]));
        b->output[i] = b->input[i];
        if (!b->v->in_place)
            MLXN_TRY(own_random(b, s->dtype, 3, shape, &b->output[i]));
        MLXN_TRY(slice_parts(b, b->input[i], b->in[i]));
        MLXN_TRY(slice_parts(b, b->output[i], b->out[i]));
    }
    for (int k = 0; k < 2 && b->v->cache && s->kv_heads; k++)
        MLXN_TRY(own(b, s->dtype, 3, (int64_t[]){s->tokens, s->kv_heads, s->dim}, &b->cache[k]));
    if (b->cache[0])
        MLXN_TRY(own_ascending(b, MLXN_I32, 0, &b->slots));
    return make_angles(b);
}

/* ---- a row ---- */

typedef struct head_times {
    measure copy, fused, chain, baseline[HEAD_BASELINES];
    double calls[MEASURE_MAX];
} head_times;

/* Seconds of a whole call. */
static mlxn_status sample_call(head_bench *b, double *seconds)
{
    int n = 0;
    double start = cli_seconds(), now = start;
    for (; n < 10000 && (n == 0 || now - start < 1e-3); n++) {
        MLXN_TRY(mlxn_encoder_reset(b->encoder));
        MLXN_TRY(record_fused(b->encoder, b, n));
        MLXN_TRY(mlxn_encoder_commit(b->encoder));
        MLXN_TRY(mlxn_encoder_wait(b->encoder));
        if (n % 16 == 0)
            now = cli_seconds();
    }
    *seconds = (cli_seconds() - start) / n;
    return MLXN_OK;
}

/* Keeps the fastest grid of the copy, each tried five times; the CPU has no grid. */
static mlxn_status open_copy(head_bench *b, int runs, measure *out)
{
    const uint64_t vectors = b->shape.bytes / 2 / 16;
    uint32_t best = 1;
    double fastest = HUGE_VAL;
    b->copy_groups = 1;
    for (uint32_t each = 1; each <= 16 && strcmp(b->info.backend, "cpu") != 0; each *= 2) {
        uint64_t groups = (vectors + COPY_THREADS * each - 1) / (COPY_THREADS * each);
        b->copy_groups = (uint32_t)(groups ? groups : 1);
        mlxn_status status = measure_open(b->encoder, record_copy, b, runs, out);
        for (int i = 0; i < 5 && status == MLXN_OK; i++)
            status = measure_sample(b->encoder, out);
        measure_close(out);
        MLXN_TRY(status);
        double median = measure_summarise(out->samples, NULL, out->count).median;
        if (median < fastest) {
            fastest = median;
            best = b->copy_groups;
        }
    }
    b->copy_groups = best;
    return measure_open(b->encoder, record_copy, b, runs, out);
}

static mlxn_status time_shape(head_bench *b, head_times *t)
{
    /* a CPU's graph stays small enough for its caches; a GPU's launch is worth many dispatches */
    const int cpu = !strcmp(b->info.backend, "cpu");
    const int runs = cpu ? b->buffers : b->shape.bytes < 1 << 24 ? 960 : 96;
    const int copies = b->input[0] != b->output[0] || b->buffers > 1; /* else onto itself */
    const int baselines = has_baselines(b) ? HEAD_BASELINES : 0;
    if (copies)
        MLXN_TRY(open_copy(b, runs, &t->copy));
    MLXN_TRY(measure_open(b->encoder, record_fused, b, runs, &t->fused));
    MLXN_TRY(measure_open(b->encoder, record_chain, b, runs, &t->chain));
    for (int k = 0; k < baselines; k++)
        MLXN_TRY(measure_open(b->encoder, record_baseline, &(baseline_context){b, k}, runs,
                              &t->baseline[k]));
    for (int r = 0; r < b->v->repetitions; r++) {
        if (copies)
            MLXN_TRY(measure_sample(b->encoder, &t->copy));
        MLXN_TRY(measure_sample(b->encoder, &t->fused));
        MLXN_TRY(measure_sample(b->encoder, &t->chain));
        for (int k = 0; k < baselines; k++)
            MLXN_TRY(measure_sample(b->encoder, &t->baseline[k]));
        MLXN_TRY(sample_call(b, &t->calls[r]));
    }
    return MLXN_OK;
}

static void print_json(head_bench *b, const head_times *t)
{
    const head_shape *s = &b->shape;
    const int n = (int)b->v->repetitions;
    const measure_summary fused = measure_summarise(t->fused.samples, NULL, n);
    const measure_summary chain = measure_summarise(t->chain.samples, t->fused.samples, n);
    const measure_summary call = measure_summarise(t->calls, NULL, n);
    printf("%s  {\"tokens\": %" PRId64 ", \"heads\": %" PRId64 ", \"kv_heads\": %" PRId64
           ", \"head_dim\": %" PRId64 ", \"dtype\": \"%s\", \"bytes\": %zu, \"seconds\": %.10f"
           ", \"seconds_low\": %.10f, \"seconds_high\": %.10f, \"bytes_per_second\": %.0f"
           ", \"chain_ratio\": %.4f, \"call_seconds\": %.10f",
           b->rows_printed ? ",\n" : "[\n", s->tokens, s->heads, s->kv_heads, s->dim,
           mlxn_dtype_name(s->dtype), s->bytes, fused.median, fused.low, fused.high,
           (double)s->bytes / fused.median, chain.median, call.median);
    if (t->copy.count) {
        const measure_summary copy = measure_summarise(t->fused.samples, t->copy.samples, n);
        printf(", \"copy_ratio\": %.4f, \"copy_ratio_low\": %.4f, \"copy_ratio_high\": %.4f"
               ", \"copy_seconds\": %.10f",
               copy.median, copy.low, copy.high,
               measure_summarise(t->copy.samples, NULL, n).median);
    }
    for (int k = 0; k < HEAD_BASELINES && t->baseline[k].count; k++)
        printf(", \"%s\": %.10f", head_baseline_names[k],
               measure_summarise(t->baseline[k].samples, NULL, n).median);
    printf("}");
}

static void print_md(head_bench *b, const head_times *t)
{
    const head_shape *s = &b->shape;
    const int n = (int)b->v->repetitions;
    const measure_summary fused = measure_summarise(t->fused.samples, NULL, n);
    char shape[48], spread[32], copy[48] = "";
    if (!b->rows_printed)
        puts(
            "| shape              | dtype |         us | spread              |       MB |   GB/s | "
            "/ copy (spread)        | chain / us | call us    |\n"
            "| ------------------ | ----- | ---------: | ------------------- | -------: | -----: | "
            "---------------------- | ---------: | ---------: |");
    if (s->kv_heads)
        snprintf(shape, sizeof shape,
                 "%" PRId64 " x %" PRId64 "/%" PRId64 "/%" PRId64 " x %" PRId64, s->tokens,
                 s->heads, s->kv_heads, s->kv_heads, s->dim);
    else
        snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64 " x %" PRId64, s->tokens, s->heads,
                 s->dim);
    if (t->copy.count) {
        const measure_summary ratio = measure_summarise(t->fused.samples, t->copy.samples, n);
        snprintf(copy, sizeof copy, "%.2f (%.2f to %.2f)", ratio.median, ratio.low, ratio.high);
    }
    snprintf(spread, sizeof spread, "%.3f to %.3f", fused.low * 1e6, fused.high * 1e6);
    printf("| %-18s | %-5s | %10.3f | %-19s | %8.3f | %6.1f | %-22s | %10.2f | %10.3f |\n", shape,
           mlxn_dtype_name(s->dtype), fused.median * 1e6, spread, (double)s->bytes / 1e6,
           (double)s->bytes / fused.median / 1e9, copy,
           measure_summarise(t->chain.samples, t->fused.samples, n).median,
           measure_summarise(t->calls, NULL, n).median * 1e6);
    for (int k = 0; k < HEAD_BASELINES && t->baseline[k].count; k++)
        printf("| %s, no v: %.3f us, %.2f of ours |\n", head_baseline_names[k],
               measure_summarise(t->baseline[k].samples, NULL, n).median * 1e6,
               measure_summarise(t->baseline[k].samples, t->fused.samples, n).median);
}

/* Enough of them on a GPU that none is in its caches when its turn comes. */
static int choose_buffers(const head_bench *b)
{
    if (b->v->buffers)
        return (int)b->v->buffers;
    if (!strcmp(b->info.backend, "cpu"))
        return 1;
    return b->shape.bytes > ROTATED_BYTES / 2 ? 2 : b->shape.bytes > ROTATED_BYTES / 8 ? 4 : 8;
}

static mlxn_status run_shape(head_bench *b)
{
    head_shape *s = &b->shape;
    head_times *t = calloc(1, sizeof *t);
    if (!t)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench: no memory for the samples");
    s->bytes = 2 * (size_t)(s->tokens * (s->heads + 2 * s->kv_heads) * s->dim) *
               mlxn_dtype_block_bytes(s->dtype);
    b->buffers = choose_buffers(b);
    mlxn_status status = make_operands(b);
    if (status == MLXN_OK)
        status = time_shape(b, t);
    if (status == MLXN_OK) {
        if (b->v->output)
            print_json(b, t);
        else
            print_md(b, t);
        b->rows_printed++;
        status = cli_flush();
    }
    measure_close(&t->copy);
    measure_close(&t->fused);
    measure_close(&t->chain);
    for (int k = 0; k < HEAD_BASELINES; k++)
        measure_close(&t->baseline[k]);
    free(t);
    mlxn_status emptied = mlxn_encoder_reset(b->encoder); /* lets go of the operands */
    while (b->n_owned)
        mlxn_buffer_release(b->owned[--b->n_owned]);
    b->slots = b->cache[0] = b->cache[1] = NULL;
    return status == MLXN_OK ? emptied : status;
}

static mlxn_status run_all(head_bench *b)
{
    const head_values *v = b->v;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < v->dims.count; i++)
            for (int k = 0; k < v->tokens.count; k++)
                for (int h = 0; h < v->heads.count; h++) {
                    if (v->dtype != DTYPE_BOTH && v->dtype != d)
                        continue;
                    b->shape = (head_shape){.tokens = v->tokens.value[k],
                                            .heads = v->heads.value[h],
                                            .kv_heads = v->kv_heads,
                                            .dim = v->dims.value[i],
                                            .dtype = d == DTYPE_F32 ? MLXN_F32 : MLXN_BF16};
                    MLXN_TRY(run_shape(b));
                }
    return MLXN_OK;
}

static mlxn_status bench_head(const head_values *v)
{
    head_bench b = {.v = v, .info = {.size = sizeof b.info}};
    mlxn_status status = load_device(v->common.device, v->common.threads, &b.device);
    if (status == MLXN_OK)
        status = mlxn_device_get_info(b.device, &b.info);
    if (status == MLXN_OK)
        status = mlxn_encoder_create(b.device, &b.encoder);
    if (status == MLXN_OK)
        status =
            mlxn_kernel_register(b.device, MLXN_DESC(mlxn_kernel_desc, .name = "bench_copy",
                                                     .cpu = copy_kernel, .cuda_text = copy_text));
    if (status == MLXN_OK && v->baselines)
        status = head_baselines_register(b.device);
    if (status == MLXN_OK) {
        fprintf(stderr, "mlxn: %s, %s, %u threads\n", b.info.name, b.info.path, b.info.threads);
        status = run_all(&b);
    }
    if (v->output && b.rows_printed)
        puts("\n]");
    mlxn_encoder_release(b.encoder);
    mlxn_device_release(b.device);
    return status == MLXN_OK ? cli_flush() : status;
}

static int bench_head_main(const command *self, int argc, char **argv)
{
    head_values v = {.common = COMMON_DEFAULTS,
                     .tokens = {{1, 16, 512, 4096}, 4},
                     .heads = {{4, 16}, 2},
                     .dims = {{128, 256, 512}, 3},
                     .dtype = DTYPE_BOTH,
                     .repetitions = 20};
    int code = args_parse(self, argc, argv, &v, NULL, NULL);
    if (code != ARGS_GO_ON)
        return code;
    for (int i = 0; i < v.dims.count; i++)
        if (v.dims.value[i] % 2)
            return args_usage(self, "--head-dim %" PRId64 " is odd", v.dims.value[i]);
    return cli_exit(bench_head(&v));
}

const command command_bench_head_norm_rope = {
    .name = "bench head-norm-rope",
    .summary = "Measure the head norm and rotation beside a copy.",
    .operands = "",
    .words = "",
    .options = options,
    .n_options = OPTION_COUNT(options),
    .main = bench_head_main};
