/* measure_test.c - mlxn_graph_measure against the fake's clock: a microsecond a launch, a
 * nanosecond a byte copied. */
#include "rig.h"

TEST(cuda_measure)
{
    enum { N = 3 };
    const int64_t elements = 16;
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *x = NULL;
    mlxn_graph *graph = NULL;
    mlxn_graph_costs costs = {.size = sizeof costs};
    mlxn_launch_cost launches[N + 1] = {{.kernel = NULL}};
    float got;
    fake_control *fake = cuda_fake();
    REQUIRE_OK(mlxn_device_open("cuda", 0, &device));
    REQUIRE_OK(cuda_register_steps(device));
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 1, &elements, &x));
    for (int i = 0; i < N; i++)
        REQUIRE_OK(cuda_advance(encoder, x, elements, 1, 1));
    REQUIRE_OK(mlxn_graph_capture(encoder, &graph));
    REQUIRE_OK(mlxn_graph_measure(graph, 4, &costs, launches, N));
    CHECK(costs.n_launches == N && !launches[N].kernel);
    CHECK(fabs(costs.replay_seconds - 4e-6) < 1e-9); /* with the launch that publishes */
    CHECK(fabs(costs.empty_seconds - 1e-6) < 1e-9);
    CHECK(fabs(costs.copy_rate - 2e9) < 1e6);
    for (int i = 0; i < N; i++) {
        const mlxn_launch_cost *l = &launches[i];
        CHECK(!strcmp(l->kernel, "advance") && !strcmp(l->entry, "advance"));
        CHECK(l->groups == 1 && l->threads == 64 && l->bytes == 64);
        CHECK(l->seconds >= 0 && l->seconds < 1e-9); /* no more than an empty kernel */
    }
    CHECK(!fake->copies_out);
    REQUIRE_OK(mlxn_buffer_read(x, 0, &got, sizeof got));
    CHECK(got == N * 10 && fake->copies_out == 1); /* 5 + 5 replays; the last do not publish */
    REQUIRE_OK(mlxn_graph_replay(encoder, graph));
    REQUIRE_OK(mlxn_encoder_commit(encoder));
    REQUIRE_OK(mlxn_buffer_read(x, 0, &got, sizeof got));
    CHECK(got == N * 11 && fake->copies_out == 1);
    CHECK_FAILS(mlxn_graph_measure(NULL, 4, &costs, launches, N), MLXN_ERR_ARGUMENT, "graph");
    CHECK_FAILS(mlxn_graph_measure(graph, 0, &costs, launches, N), MLXN_ERR_ARGUMENT, "is 0");
    CHECK_FAILS(mlxn_graph_measure(graph, 4, &costs, NULL, N), MLXN_ERR_ARGUMENT, "launches");
    CHECK_FAILS(mlxn_graph_measure(graph, 4, NULL, launches, N), MLXN_ERR_ARGUMENT, "NULL");
    mlxn_encoder_release(encoder);
    mlxn_graph_release(graph);
    mlxn_buffer_release(x);
    mlxn_device_release(device);
    CHECK_CLEAN();
}

/* Every call of the driver in it fails once: an answer, and nothing lost. */
TEST(cuda_measure_fails)
{
    const int64_t elements = 16;
    long calls = 0;
    for (long i = 0; i <= calls; i++) {
        mlxn_device *device = NULL;
        mlxn_encoder *encoder = NULL;
        mlxn_buffer *x = NULL;
        mlxn_graph *graph = NULL;
        mlxn_graph_costs costs = {.size = sizeof costs};
        mlxn_launch_cost launch;
        fake_control *fake = cuda_fake();
        REQUIRE_OK(mlxn_device_open("cuda", 0, &device));
        REQUIRE_OK(cuda_register_steps(device));
        REQUIRE_OK(mlxn_encoder_create(device, &encoder));
        REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 1, &elements, &x));
        REQUIRE_OK(cuda_advance(encoder, x, elements, 1, 1));
        REQUIRE_OK(mlxn_graph_capture(encoder, &graph));
        const long before = fake->calls;
        fake->fail_at = i ? before + 23 * i : 0; /* hundreds of calls are of few kinds */
        fake->fail_code = 2;
        const mlxn_status status = mlxn_graph_measure(graph, 1, &costs, &launch, 1);
        if (!i)
            calls = (fake->calls - before) / 23;
        const int quiet =
            fake->failed && (strstr(fake->failed, "Free") || strstr(fake->failed, "Destroy"));
        CHECK((status == MLXN_OK) == (i == 0) || quiet);
        fake->fail_at = 0;
        mlxn_encoder_release(encoder);
        mlxn_graph_release(graph);
        mlxn_buffer_release(x);
        mlxn_device_release(device);
        CHECK_CLEAN();
    }
    test_note("%ld calls", 23 * calls);
}
