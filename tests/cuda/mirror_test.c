/* mirror_test.c - small buffers that a graph writes: the host sees them, and the end of the replay,
 * without the driver, and never sees what is no longer true. */
#include "rig.h"

enum { SMALL = 16, MANY = 6 };

typedef struct mirrored {
    mlxn_device *device;
    mlxn_encoder *encoder;
    mlxn_buffer *v[MANY];
    mlxn_graph *graph;
} mirrored;

/* A graph that adds i + 1 to each of n small vectors, which are 0. */
static mlxn_status mirrored_open(mirrored *m, int n)
{
    const int64_t elements = SMALL;
    *m = (mirrored){0};
    MLXN_TRY(mlxn_device_open("cuda", 0, &m->device));
    MLXN_TRY(cuda_register_steps(m->device));
    MLXN_TRY(mlxn_encoder_create(m->device, &m->encoder));
    for (int i = 0; i < n; i++) {
        MLXN_TRY(mlxn_buffer_create(m->device, MLXN_F32, 1, &elements, &m->v[i]));
        MLXN_TRY(cuda_advance(m->encoder, m->v[i], SMALL, 1, (float)(i + 1)));
    }
    return mlxn_graph_capture(m->encoder, &m->graph);
}

static void mirrored_close(mirrored *m)
{
    mlxn_encoder_release(m->encoder);
    mlxn_graph_release(m->graph);
    for (int i = 0; i < MANY; i++)
        mlxn_buffer_release(m->v[i]);
    mlxn_device_release(m->device);
    CHECK_CLEAN();
}

static mlxn_status finish(mlxn_encoder *e)
{
    MLXN_TRY(mlxn_encoder_commit(e));
    MLXN_TRY(mlxn_encoder_wait(e));
    return mlxn_encoder_reset(e);
}

static mlxn_status replay(mirrored *m)
{
    MLXN_TRY(mlxn_graph_replay(m->encoder, m->graph));
    return finish(m->encoder);
}

/* All elements of a small vector, the last by itself. */
static void check_value(mlxn_buffer *v, float want)
{
    float got[SMALL], last;
    REQUIRE_OK(mlxn_buffer_read(v, 0, got, sizeof got));
    REQUIRE_OK(mlxn_buffer_read(v, (SMALL - 1) * sizeof last, &last, sizeof last));
    for (int i = 0; i < SMALL; i++)
        CHECK(got[i] == want);
    CHECK(last == want);
}

TEST(cuda_mirror_needs_no_driver)
{
    mirrored m;
    fake_control *fake = cuda_fake();
    REQUIRE_OK(mirrored_open(&m, 2));
    REQUIRE_OK(replay(&m));
    const long syncs = fake->syncs;
    for (int i = 2; i < 5; i++) {
        REQUIRE_OK(replay(&m));
        check_value(m.v[0], (float)i);
        check_value(m.v[1], 2 * (float)i);
    }
    CHECK(fake->syncs == syncs && !fake->copies_out);
    mirrored_close(&m);
}

TEST(cuda_mirror_is_never_stale)
{
    const float set[SMALL] = {0};
    mirrored m;
    fake_control *fake = cuda_fake();
    REQUIRE_OK(mirrored_open(&m, 2));
    REQUIRE_OK(replay(&m));
    REQUIRE_OK(mlxn_buffer_write(m.v[0], 0, set, sizeof set)); /* the host writes */
    check_value(m.v[0], 0);
    CHECK(fake->copies_out == 2);
    REQUIRE_OK(replay(&m));
    check_value(m.v[0], 1);
    CHECK(fake->copies_out == 2);
    REQUIRE_OK(cuda_advance(m.encoder, m.v[0], SMALL, 10, 0)); /* a dispatch does, without a wait */
    REQUIRE_OK(mlxn_encoder_commit(m.encoder));
    check_value(m.v[0], 10);
    CHECK(fake->copies_out == 4);
    REQUIRE_OK(mlxn_encoder_reset(m.encoder));
    REQUIRE_OK(mlxn_graph_replay(m.encoder, m.graph)); /* the graph, then a dispatch */
    REQUIRE_OK(cuda_advance(m.encoder, m.v[0], SMALL, 10, 0));
    REQUIRE_OK(finish(m.encoder));
    check_value(m.v[0], 110);
    check_value(m.v[1], 6);
    mirrored_close(&m);
}

/* More than a graph can publish: the others come by a copy, and one that was published by another
 * graph before does too. */
TEST(cuda_mirror_of_many)
{
    mirrored m;
    mlxn_graph *one = NULL;
    fake_control *fake = cuda_fake();
    REQUIRE_OK(mirrored_open(&m, MANY));
    REQUIRE_OK(cuda_advance(m.encoder, m.v[MANY - 1], SMALL, 1, 100));
    REQUIRE_OK(mlxn_graph_capture(m.encoder, &one));
    REQUIRE_OK(mlxn_graph_replay(m.encoder, one));
    REQUIRE_OK(finish(m.encoder));
    check_value(m.v[MANY - 1], 100);
    CHECK(!fake->copies_out);
    for (int i = 1; i < 3; i++) {
        REQUIRE_OK(replay(&m));
        for (int k = 0; k < MANY - 1; k++)
            check_value(m.v[k], (float)(i * (k + 1)));
        check_value(m.v[MANY - 1], (float)(100 + MANY * i));
    }
    CHECK(fake->copies_out > 0);
    REQUIRE_OK(mlxn_graph_replay(m.encoder, one));
    REQUIRE_OK(finish(m.encoder));
    check_value(m.v[MANY - 1], (float)(200 + MANY * 2));
    mlxn_graph_release(one);
    mirrored_close(&m);
}

/* A device that is lost does not leave the host watching. */
TEST(cuda_mirror_of_a_lost_device)
{
    const step_args args = {0, 0, 0};
    mirrored m;
    mlxn_graph *graph = NULL;
    cuda_fake();
    REQUIRE_OK(mirrored_open(&m, 1));
    const mlxn_operand operand = {m.v[0], MLXN_WRITE};
    REQUIRE_OK(mlxn_dispatch(m.encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "outside",
                                                  .operands = &operand, .n_operands = 1,
                                                  .args = &args, .args_bytes = sizeof args,
                                                  .groups = {1, 1, 1}, .threads = 32)));
    REQUIRE_OK(mlxn_graph_capture(m.encoder, &graph));
    REQUIRE_OK(mlxn_graph_replay(m.encoder, graph));
    REQUIRE_OK(mlxn_encoder_commit(m.encoder));
    CHECK_FAILS(mlxn_encoder_wait(m.encoder), MLXN_ERR_DEVICE, "an illegal memory access");
    cuda_fake();
    mlxn_graph_release(graph);
    mirrored_close(&m);
}
