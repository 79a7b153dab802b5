/* replay.c - what a graph costs beside its kernels: replays of a chain of dependent small rotations
 * (8 heads of 256, one token), and of one as long as a decode step of Gemma 3 270M; each replay is
 * committed, waited for, and 16 values that it wrote are read.  Medians of 2000.
 * usage: bench-replay [BACKEND]; MLXN_CUDA_EDGES compares the edges of CUDA graphs. */
#include "bench.h"

enum { REPLAYS = 2000, HEADS = 8, DIM = 256 };

typedef struct chain {
    mlxn_device *device;
    mlxn_encoder *encoder;
    mlxn_buffer *x, *small, *position, *freqs;
    mlxn_graph *graph;
} chain;

static mlxn_status rotate(chain *c, mlxn_buffer *x, int64_t pairs)
{
    mlxn_buffer *freqs = NULL;
    MLXN_TRY(mlxn_buffer_slice(c->freqs, 0, 0, pairs, &freqs));
    mlxn_status status = mlxn_rope(
        c->encoder,
        MLXN_DESC(mlxn_rope_args, .input = x, .output = x, .positions = c->position, .freqs = freqs,
                  .pairing = MLXN_ROPE_NEOX, .rotary_pairs = pairs, .attention_factor = 1));
    mlxn_buffer_release(freqs);
    return status;
}

static mlxn_status open_chain(chain *c, const char *backend)
{
    const int64_t shape[] = {1, HEADS, DIM}, few[] = {1, 1, 16}, one = 1, freqs[] = {DIM / 2, 2};
    MLXN_TRY(mlxn_device_open(backend, 0, &c->device));
    MLXN_TRY(mlxn_encoder_create(c->device, &c->encoder));
    MLXN_TRY(mlxn_buffer_create(c->device, MLXN_F32, 3, shape, &c->x));
    MLXN_TRY(mlxn_buffer_create(c->device, MLXN_F32, 3, few, &c->small));
    MLXN_TRY(mlxn_buffer_create(c->device, MLXN_I32, 1, &one, &c->position));
    MLXN_TRY(mlxn_buffer_create(c->device, MLXN_F32, 2, freqs, &c->freqs));
    return mlxn_rope_freqs(c->device, MLXN_DESC(mlxn_rope_freqs_args, .output = c->freqs,
                                                .exponent_dim = DIM, .theta = 1e4, .scale = 1));
}

static mlxn_status measure(chain *c, int length, double *median)
{
    static double times[REPLAYS];
    float values[16];
    for (int i = 1; i < length; i++)
        MLXN_TRY(rotate(c, c->x, DIM / 2));
    MLXN_TRY(mlxn_encoder_barrier(c->encoder));
    MLXN_TRY(rotate(c, c->small, 8));
    MLXN_TRY(mlxn_graph_capture(c->encoder, &c->graph));
    for (int i = -100; i < REPLAYS; i++) {
        const double start = bench_now();
        MLXN_TRY(mlxn_graph_replay(c->encoder, c->graph));
        MLXN_TRY(mlxn_encoder_commit(c->encoder));
        MLXN_TRY(mlxn_encoder_wait(c->encoder));
        MLXN_TRY(mlxn_buffer_read(c->small, 0, values, sizeof values));
        if (i >= 0)
            times[i] = 1e6 * (bench_now() - start);
        MLXN_TRY(mlxn_encoder_reset(c->encoder));
    }
    mlxn_graph_release(c->graph);
    c->graph = NULL;
    *median = bench_median(times, REPLAYS);
    return MLXN_OK;
}

static mlxn_status run(chain *c, const char *backend)
{
    static const int lengths[] = {1, 2, 21, 101, 201};
    double first = 0, median = 0;
    const char *edges = getenv("MLXN_CUDA_EDGES");
    MLXN_TRY(open_chain(c, backend));
    printf("edges: %s\n", edges && *edges ? edges : "default");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        MLXN_TRY(measure(c, lengths[i], &median));
        if (i == 0)
            first = median;
        printf("%4d dispatches: %8.2f us a replay", lengths[i], median);
        if (i > 0)
            printf(", %.3f us a dispatch more", (median - first) / (lengths[i] - 1));
        printf("\n");
    }
    return MLXN_OK;
}

int main(int argc, char **argv)
{
    chain c = {0};
    const mlxn_status status = run(&c, argc > 1 ? argv[1] : "cuda");
    if (status != MLXN_OK)
        fprintf(stderr, "bench-replay: %s\n", mlxn_last_error());
    mlxn_graph_release(c.graph);
    mlxn_encoder_release(c.encoder);
    mlxn_buffer_release(c.x);
    mlxn_buffer_release(c.small);
    mlxn_buffer_release(c.position);
    mlxn_buffer_release(c.freqs);
    mlxn_device_release(c.device);
    return status != MLXN_OK;
}
