/* graph_test.c - graphs of the CUDA backend against the fake driver: replays, rebinding, and the
 * edges between launches that may start early. */
#include "rounds.h"

TEST(cuda_graph_replays)
{
    rounds_bench b;
    mlxn_graph *graph = NULL;
    mlxn_counters counters = {.size = sizeof counters};
    fake_control *fake = cuda_fake();
    REQUIRE_OK(rounds_open(&b));
    REQUIRE_OK(rounds_record(b.encoder, b.v));
    REQUIRE_OK(mlxn_graph_capture(b.encoder, &graph));
    for (int i = 0; i < 6; i++) {
        fake->seed = (uint64_t)i;
        REQUIRE_OK(mlxn_buffer_write(b.v[0], 0, b.start, sizeof b.start));
        REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
        REQUIRE_OK(cuda_step(b.encoder, "affine", b.v[0], b.v[1], NULL, 1, 0));
        REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
        REQUIRE_OK(rounds_finish(b.encoder));
        rounds_check(&b, 4);
    }
    CHECK(fake->graph_launches == 12);
    REQUIRE_OK(mlxn_encoder_get_counters(b.encoder, &counters));
    CHECK(counters.dispatches == 6 * 17);
    mlxn_graph_release(graph);
    rounds_close(&b);
    CHECK_CLEAN();
}

/* A replay keeps its storage busy though it does not go through its operands. */
TEST(cuda_graph_replay_is_waited_for)
{
    rounds_bench b;
    mlxn_graph *graph = NULL;
    cuda_fake();
    REQUIRE_OK(rounds_open(&b));
    REQUIRE_OK(rounds_record(b.encoder, b.v));
    REQUIRE_OK(mlxn_graph_capture(b.encoder, &graph));
    REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
    REQUIRE_OK(mlxn_encoder_commit(b.encoder));
    rounds_check(&b, 2); /* the read waits */
    REQUIRE_OK(mlxn_encoder_reset(b.encoder));
    REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
    REQUIRE_OK(mlxn_encoder_commit(b.encoder));
    mlxn_graph_release(graph);
    rounds_check(&b, 4);
    rounds_close(&b);
    CHECK_CLEAN();
}

TEST(cuda_graph_rebound)
{
    rounds_bench b;
    mlxn_graph *graph = NULL;
    mlxn_buffer *other = NULL;
    cuda_fake();
    REQUIRE_OK(rounds_open(&b));
    REQUIRE_OK(cuda_vector(b.device, NULL, &other));
    REQUIRE_OK(rounds_record(b.encoder, b.v));
    REQUIRE_OK(mlxn_graph_capture(b.encoder, &graph));
    REQUIRE_OK(mlxn_graph_name(graph, "a", b.v[0]));
    REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
    REQUIRE_OK(rounds_finish(b.encoder));
    REQUIRE_OK(mlxn_graph_bind(graph, "a", other));
    REQUIRE_OK(mlxn_buffer_write(other, 0, b.start, sizeof b.start));
    REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
    REQUIRE_OK(rounds_finish(b.encoder));
    rounds_check(&b, 2);
    mlxn_buffer_release(b.v[0]);
    b.v[0] = other;
    rounds_check(&b, 2);
    mlxn_graph_release(graph);
    rounds_close(&b);
    CHECK_CLEAN();
}

/* Rotating in place, three times, with a kernel of the library, which may start early, and one of
 * the user's between, which may not. */
static mlxn_status record_turns(mlxn_encoder *e, mlxn_buffer *x, mlxn_buffer *positions,
                                mlxn_buffer *freqs, mlxn_buffer *other)
{
    for (int i = 0; i < 3; i++)
        MLXN_TRY(
            mlxn_rope(e, MLXN_DESC(mlxn_rope_args, .input = x, .output = x, .positions = positions,
                                   .freqs = freqs, .pairing = MLXN_ROPE_NEOX, .rotary_pairs = 32,
                                   .attention_factor = 1)));
    mlxn_buffer *flat = NULL;
    const int64_t n = STEP_ELEMENTS;
    MLXN_TRY(mlxn_buffer_view(x, MLXN_F32, 1, &n, NULL, 0, &flat));
    mlxn_status status = cuda_step(e, "affine", flat, other, NULL, 1, 0);
    mlxn_buffer_release(flat);
    return status;
}

static void run_turns(const char *edges, int architecture, long full, long early, float *out)
{
    const int64_t shape[] = {1, STEP_ELEMENTS / 64, 64}, one = 1, freqs[] = {32, 2};
    const int32_t position = 3;
    mlxn_graph *graph = NULL;
    mlxn_buffer *x = NULL, *p = NULL, *f = NULL;
    rounds_bench b;
    fake_control *fake = cuda_fake();
    fake->architecture = architecture;
    setenv("MLXN_CUDA_EDGES", edges, 1);
    REQUIRE_OK(rounds_open(&b));
    REQUIRE_OK(mlxn_buffer_create(b.device, MLXN_F32, 3, shape, &x));
    REQUIRE_OK(mlxn_buffer_create(b.device, MLXN_I32, 1, &one, &p));
    REQUIRE_OK(mlxn_buffer_create(b.device, MLXN_F32, 2, freqs, &f));
    REQUIRE_OK(mlxn_buffer_write(x, 0, b.start, sizeof b.start));
    REQUIRE_OK(mlxn_buffer_write(p, 0, &position, sizeof position));
    REQUIRE_OK(mlxn_rope_freqs(b.device, MLXN_DESC(mlxn_rope_freqs_args, .output = f,
                                                   .exponent_dim = 64, .theta = 1e4, .scale = 1)));
    REQUIRE_OK(record_turns(b.encoder, x, p, f, b.v[1]));
    REQUIRE_OK(mlxn_graph_capture(b.encoder, &graph));
    REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
    REQUIRE_OK(rounds_finish(b.encoder));
    REQUIRE_OK(mlxn_buffer_read(b.v[1], 0, out, sizeof b.start));
    CHECK(fake->edges == full && fake->early_edges == early);
    mlxn_graph_release(graph);
    mlxn_buffer_release(x);
    mlxn_buffer_release(p);
    mlxn_buffer_release(f);
    rounds_close(&b);
    unsetenv("MLXN_CUDA_EDGES");
    CHECK_CLEAN();
}

/* Programmatic edges go to the library's launches alone, and only where the device has them and the
 * code waits. */
TEST(cuda_edges)
{
    float chain[STEP_ELEMENTS], other[STEP_ELEMENTS];
    mlxn_device *device = NULL;
    run_turns("", 90, 1, 2, chain);
    run_turns("programmatic", 90, 1, 2, other);
    CHECK(!memcmp(chain, other, sizeof chain));
    run_turns("full", 90, 3, 0, other);
    CHECK(!memcmp(chain, other, sizeof chain));
    run_turns("chain", 80, 3, 0, other);
    CHECK(!memcmp(chain, other, sizeof chain));
    setenv("MLXN_CUDA_EDGES", "none", 1);
    CHECK_FAILS(mlxn_device_open("cuda", 0, &device), MLXN_ERR_ARGUMENT, "not full");
    unsetenv("MLXN_CUDA_EDGES");
}

/* Independent dispatches: side by side, or in a chain. */
TEST(cuda_edges_of_groups)
{
    static const char *const names[] = {"chain", "programmatic"};
    static const long edges[] = {15, 19}; /* of 4 times 1, 2 and 1 launches */
    for (int i = 0; i < 2; i++) {
        rounds_bench b;
        mlxn_graph *graph = NULL;
        fake_control *fake = cuda_fake();
        setenv("MLXN_CUDA_EDGES", names[i], 1);
        REQUIRE_OK(rounds_open(&b));
        for (int k = 0; k < 2; k++)
            REQUIRE_OK(rounds_record(b.encoder, b.v));
        REQUIRE_OK(mlxn_graph_capture(b.encoder, &graph));
        REQUIRE_OK(mlxn_graph_replay(b.encoder, graph));
        REQUIRE_OK(rounds_finish(b.encoder));
        rounds_check(&b, 4);
        CHECK(fake->edges == edges[i] && !fake->early_edges);
        test_note("%s: %ld edges", names[i], fake->edges);
        mlxn_graph_release(graph);
        rounds_close(&b);
        unsetenv("MLXN_CUDA_EDGES");
        CHECK_CLEAN();
    }
}
