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
#include "head_bench.h"

enum { ROTATED_BYTES = 256 << 20 }; /* on a GPU: more than its caches hold */
enum { DTYPE_F32, DTYPE_BF16, DTYPE_BOTH };

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
    {0, "buffers", OPTION_INT, "N", AT(buffers), 0, HEAD_BUFFERS_MAX,
     "Inputs and outputs taken in turns, to pass caches by. Default 0: 1 on the CPU, else 2 to 8."},
    {'r', "repetitions", OPTION_INT, "N", AT(repetitions), 1, MEASURE_MAX,
     "Samples of each time. Default: 20."},
    COMMON_THREADS,
    COMMON_DEVICE,
    {'o', "output", OPTION_CHOICE, "md|json", AT(output), 0, 0,
     "A table in Markdown, or a JSON array. Default: md."},
};

/* ---- a shape ---- */

/* Seconds of a whole call. */
static mlxn_status sample_call(head_bench *b, double *seconds)
{
    int n = 0;
    double start = cli_seconds(), now = start;
    for (; n < 10000 && (n == 0 || now - start < 1e-3); n++) {
        MLXN_TRY(mlxn_encoder_reset(b->encoder));
        MLXN_TRY(head_record_fused(b->encoder, b, n));
        MLXN_TRY(mlxn_encoder_commit(b->encoder));
        MLXN_TRY(mlxn_encoder_wait(b->encoder));
        if (n % 16 == 0)
            now = cli_seconds();
    }
    *seconds = (cli_seconds() - start) / n;
    return MLXN_OK;
}

/* Keeps the fastest grid of the copy, each tried five times; the CPU has no grid. */
static mlxn_status open_copy(head_bench *b, int runs, measurement *out)
{
    uint32_t best = 1;
    double fastest = HUGE_VAL;
    b->copy_groups = 1;
    for (uint32_t each = 1; each <= 16 && strcmp(b->info.backend, "cpu") != 0; each *= 2) {
        head_copy_grid(b, each);
        mlxn_status status = measure_open(b->encoder, head_record_copy, b, runs, out);
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
    return measure_open(b->encoder, head_record_copy, b, runs, out);
}

static mlxn_status time_shape(head_bench *b, head_times *t)
{
    /* a CPU's graph stays small enough for its caches; a GPU's launch is worth many dispatches */
    const int cpu = !strcmp(b->info.backend, "cpu");
    const int runs = cpu ? b->buffers : b->shape.bytes < 1 << 24 ? 960 : 96;
    const int copies = b->input[0] != b->output[0] || b->buffers > 1; /* else onto itself */
    const int baselines = head_has_baselines(b) ? HEAD_BASELINES : 0;
    if (copies)
        MLXN_TRY(open_copy(b, runs, &t->copy));
    MLXN_TRY(measure_open(b->encoder, head_record_fused, b, runs, &t->fused));
    MLXN_TRY(measure_open(b->encoder, head_record_chain, b, runs, &t->chain));
    for (int k = 0; k < baselines; k++)
        MLXN_TRY(measure_open(b->encoder, head_record_baseline, &(head_baseline_context){b, k},
                              runs, &t->baseline[k]));
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
    mlxn_status status = head_operands_make(b);
    if (status == MLXN_OK)
        status = time_shape(b, t);
    if (status == MLXN_OK) {
        head_print(b, t);
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
    head_operands_release(b);
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
    mlxn_status status = load_device(&v->common.device, v->common.threads, &b.device);
    if (status == MLXN_OK)
        status = mlxn_device_get_info(b.device, &b.info);
    if (status == MLXN_OK && v->baselines && strcmp(b.info.backend, "cuda") != 0)
        status = mlxn_fail(MLXN_ERR_UNSUPPORTED, "--baselines needs a CUDA device, not %s",
                           b.info.backend);
    if (status == MLXN_OK)
        status = mlxn_encoder_create(b.device, &b.encoder);
    if (status == MLXN_OK)
        status = head_kernels_register(&b);
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
