/* ops_sampling.c - bench-sampling [BACKEND] [VOCAB]: time of the sampling operators, each recorded
 * many times in a row (every one depends on the one before) into a graph that is replayed; the best
 * of some replays.  Logits are random, as spread as a language model's. */
#include <math.h>
#include "bench.h"

enum { REPEATS = 50, REPLAYS = 20, ROWS = 32, RING = 1024, K = 40 };

typedef struct bench {
    mlxn_device *device;
    mlxn_encoder *encoder;
    mlxn_buffer *logits, *row, *penalised, *token, *ids, *values, *counter, *position, *history;
    mlxn_buffer *targets, *logprobs;
} bench;

static mlxn_buffer *make(const bench *b, mlxn_dtype dtype, int rank, const int64_t *shape)
{
    mlxn_buffer *y;
    DO(mlxn_buffer_create(b->device, dtype, rank, shape, &y));
    return y;
}

static void make_all(bench *b, int64_t vocab)
{
    const int64_t one[] = {1}, rows[] = {ROWS}, all[] = {ROWS, vocab}, k[] = {1, K}, n[] = {RING};
    const size_t count = (size_t)(ROWS * vocab);
    float *x = malloc(count * sizeof *x);
    uint64_t state = 1;
    for (size_t i = 0; x && i < count; i++) { /* sums of four uniform numbers, spread 4 */
        float sum = -2;
        for (int j = 0; j < 4; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) * 0x1p-24f;
        }
        x[i] = sum * 7;
    }
    b->logits = make(b, MLXN_F32, 2, all);
    DO(x ? mlxn_buffer_write(b->logits, 0, x, count * sizeof *x) : MLXN_ERR_MEMORY);
    free(x);
    DO(mlxn_buffer_view(b->logits, MLXN_F32, 1, &vocab, NULL, 0, &b->row));
    b->penalised = make(b, MLXN_F32, 1, &vocab);
    b->token = make(b, MLXN_I32, 1, one);
    b->ids = make(b, MLXN_I32, 2, k);
    b->values = make(b, MLXN_F32, 2, k);
    b->counter = make(b, MLXN_I32, 1, one);
    b->position = make(b, MLXN_I32, 1, one);
    b->history = make(b, MLXN_I32, 1, n);
    b->targets = make(b, MLXN_I32, 1, rows);
    b->logprobs = make(b, MLXN_F32, 1, rows);
}

static mlxn_status sample(const bench *b, int64_t top_k, float top_p, float min_p)
{
    return mlxn_sample(b->encoder, MLXN_DESC(mlxn_sample_args, .logits = b->row, .token = b->token,
                                             .counter = b->counter, .seed = 1, .top_k = top_k,
                                             .temperature = 0.8f, .top_p = top_p, .min_p = min_p));
}

static mlxn_status run_argmax(const bench *b)
{
    return mlxn_argmax(b->encoder, MLXN_DESC(mlxn_argmax_args, .logits = b->row, .ids = b->token));
}

static mlxn_status run_top_k(const bench *b)
{
    return mlxn_top_k(b->encoder, MLXN_DESC(mlxn_top_k_args, .logits = b->row, .ids = b->ids,
                                            .values = b->values));
}

static mlxn_status run_default(const bench *b)
{
    return sample(b, K, 0.95f, 0.05f);
}

static mlxn_status run_many(const bench *b)
{
    return sample(b, 1000, 0.95f, 0);
}

static mlxn_status run_all(const bench *b)
{
    return sample(b, 0, 1, 0);
}

static mlxn_status run_top_p(const bench *b)
{
    return sample(b, 0, 0.95f, 0);
}

static mlxn_status run_both(const bench *b)
{
    return sample(b, 5000, 0.95f, 0);
}

static mlxn_status run_penalty(const bench *b)
{
    return mlxn_repeat_penalty(b->encoder,
                               MLXN_DESC(mlxn_repeat_penalty_args, .logits = b->row,
                                         .history = b->history, .counter = b->counter, .last_n = 64,
                                         .penalty = 1.1f, .output = b->penalised));
}

static mlxn_status run_logprob(const bench *b)
{
    return mlxn_logprob(b->encoder, MLXN_DESC(mlxn_logprob_args, .logits = b->logits,
                                              .targets = b->targets, .logprobs = b->logprobs));
}

static mlxn_status run_step(const bench *b)
{
    return mlxn_step_advance(b->encoder, MLXN_DESC(mlxn_step_advance_args, .token = b->token,
                                                   .ids = b->token, .positions = b->position,
                                                   .counter = b->counter, .history = b->history));
}

static void measure(bench *b, const char *name, mlxn_status (*record)(const bench *))
{
    mlxn_graph *graph;
    double best = HUGE_VAL;
    const int32_t zero = 0;
    DO(mlxn_buffer_write(b->counter, 0, &zero, sizeof zero));
    DO(mlxn_buffer_write(b->position, 0, &zero, sizeof zero));
    DO(mlxn_encoder_reset(b->encoder));
    for (int i = 0; i < REPEATS; i++)
        DO(record(b));
    DO(mlxn_graph_capture(b->encoder, &graph));
    for (int i = 0; i < REPLAYS; i++) {
        const double start = bench_now();
        DO(mlxn_encoder_reset(b->encoder));
        DO(mlxn_graph_replay(b->encoder, graph));
        DO(mlxn_encoder_commit(b->encoder));
        DO(mlxn_encoder_wait(b->encoder));
        best = fmin(best, bench_now() - start);
    }
    printf("%-32s %8.2f us\n", name, best / REPEATS * 1e6);
    mlxn_graph_release(graph);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        mlxn_status (*record)(const bench *);
    } cases[] = {{"argmax", run_argmax},
                 {"step_advance", run_step},
                 {"top_k 40", run_top_k},
                 {"sample k 40, p 0.95, min_p 0.05", run_default},
                 {"sample k 1000, p 0.95", run_many},
                 {"sample all", run_all},
                 {"sample p 0.95", run_top_p},
                 {"sample k 5000, p 0.95", run_both},
                 {"repeat_penalty of 64", run_penalty},
                 {"logprob of 32 rows", run_logprob}};
    const int64_t vocab = argc > 2 ? atoll(argv[2]) : 262144;
    mlxn_device_info info = {.size = sizeof info};
    bench b = {0};
    DO(mlxn_device_open(argc > 1 ? argv[1] : NULL, 0, &b.device));
    DO(mlxn_device_get_info(b.device, &info));
    DO(mlxn_encoder_create(b.device, &b.encoder));
    make_all(&b, vocab);
    printf("%s, vocabulary of %lld, %d in a chain, best of %d\n", info.name, (long long)vocab,
           REPEATS, REPLAYS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        measure(&b, cases[i].name, cases[i].record);
    mlxn_encoder_release(b.encoder);
    mlxn_buffer *all[] = {b.logits,  b.row,      b.penalised, b.token,   b.ids,     b.values,
                          b.counter, b.position, b.history,   b.targets, b.logprobs};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
    mlxn_device_release(b.device);
    return 0;
}
