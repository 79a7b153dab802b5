/* dry_run_test.c - asking a device what it can do: on an encoder that is a dry run a call answers
 * what recording it would, status and text, and nothing is recorded. */
#include "rig.h"

enum { FEW, FEW_OUT, MANY, MANY_KEYS, MANY_OUT, POSITIONS, BUFFERS };

static void make_buffers(const rig_device *on, mlxn_buffer *b[BUFFERS])
{
    const int64_t few[3] = {1, 4, 8}, many[3] = {1, 1 << 17, 1};
    for (int i = 0; i < POSITIONS; i++)
        b[i] = rig_buffer(on->device, MLXN_F32, 3, i < MANY ? few : many, NULL);
    b[POSITIONS] = rig_vector(on->device, MLXN_I32, 1, NULL);
}

static mlxn_encoder *dry_run(const rig_device *on)
{
    mlxn_encoder *encoder = NULL;
    CHECK_STATUS(mlxn_encoder_create_with(
                     on->device,
                     MLXN_DESC(mlxn_encoder_desc, .barriers = MLXN_BARRIERS_VALIDATE, .dry_run = 1),
                     &encoder),
                 MLXN_OK);
    return encoder;
}

static void no_kernel(const mlxn_cpu_call *call)
{
    (void)call;
}

/* Calls that every device can do, that are wrong on each, and that GPUs cannot do: more key heads
 * than a grid holds, a kernel without code for them. */
enum { NORM, PREPARE, NO_OUTPUT, WRONG_DTYPE, MANY_HEADS, CPU_ALONE, CALLS };

static mlxn_status call(mlxn_encoder *e, mlxn_buffer *const b[BUFFERS], int which)
{
    const mlxn_qkv_part part = {.input = b[FEW],
                                .output = which == NO_OUTPUT ? NULL : b[FEW_OUT],
                                .norm = MLXN_NORM_WEIGHTLESS,
                                .rope = MLXN_ROPE_NONE};
    mlxn_buffer *normed = which == WRONG_DTYPE ? b[POSITIONS] : b[FEW_OUT];
    switch (which) {
    case NORM:
    case WRONG_DTYPE:
        return mlxn_rms_norm(
            e, MLXN_DESC(mlxn_rms_norm_args, .input = b[FEW], .output = normed, .eps = 1e-6f));
    case PREPARE:
    case NO_OUTPUT:
        return mlxn_qkv_prepare(e, MLXN_DESC(mlxn_qkv_prepare_args, .q = part, .eps = 1e-6f));
    case MANY_HEADS:
        return mlxn_attention(e, MLXN_DESC(mlxn_attention_args, .q = b[MANY], .k = b[MANY_KEYS],
                                           .v = b[MANY_KEYS], .output = b[MANY_OUT],
                                           .positions = b[POSITIONS], .scale = 1, .max_keys = 1,
                                           .slot_map = MLXN_SLOTS_LINEAR));
    default:
        return mlxn_dispatch(e, MLXN_DESC(mlxn_dispatch_args, .kernel = "cpu_alone",
                                          .groups = {1, 1, 1}, .threads = 32));
    }
}

static mlxn_status expected(const rig_device *on, int which)
{
    mlxn_device_info info = {.size = sizeof info};
    CHECK_STATUS(mlxn_device_get_info(on->device, &info), MLXN_OK);
    if (which >= MANY_HEADS)
        return strcmp(info.backend, "cpu") ? MLXN_ERR_UNSUPPORTED : MLXN_OK;
    return which == WRONG_DTYPE ? MLXN_ERR_DTYPE : which == NO_OUTPUT ? MLXN_ERR_ARGUMENT : MLXN_OK;
}

TEST(dry_run_answers_as_recording_does)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        const rig_device *on = &devices[d];
        mlxn_encoder *dry = dry_run(on);
        mlxn_buffer *b[BUFFERS];
        make_buffers(on, b);
        CHECK_STATUS(
            mlxn_kernel_register(
                on->device, MLXN_DESC(mlxn_kernel_desc, .name = "cpu_alone", .cpu = no_kernel)),
            MLXN_OK);
        for (int i = 0; i < CALLS; i++) {
            char text[256];
            CHECK_STATUS(call(on->encoder, b, i), expected(on, i));
            snprintf(text, sizeof text, "%s", mlxn_last_error());
            CHECK_STATUS(mlxn_encoder_create(NULL, &(mlxn_encoder *){NULL}), MLXN_ERR_ARGUMENT);
            CHECK_STATUS(call(dry, b, i), expected(on, i)); /* twice: no hazard either */
            CHECK_STATUS(call(dry, b, i), expected(on, i));
            CHECK(expected(on, i) == MLXN_OK || !strcmp(text, mlxn_last_error()));
        }
        CHECK_STATUS(mlxn_encoder_reset(on->encoder), MLXN_OK);
        mlxn_encoder_release(dry);
        for (int i = 0; i < BUFFERS; i++)
            mlxn_buffer_release(b[i]);
    }
}

TEST(dry_run_records_nothing)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        const rig_device *on = &devices[d];
        mlxn_encoder *dry = dry_run(on);
        mlxn_graph *graph = NULL, *none = NULL;
        mlxn_counters counters = {.size = sizeof counters};
        mlxn_buffer *b[BUFFERS];
        make_buffers(on, b);
        CHECK_STATUS(call(on->encoder, b, NORM), MLXN_OK);
        REQUIRE_OK(mlxn_graph_capture(on->encoder, &graph));
        CHECK_STATUS(call(dry, b, NORM), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_barrier(dry), MLXN_OK);
        CHECK_STATUS(mlxn_graph_replay(dry, graph), MLXN_OK);
        mlxn_graph_release(graph);
        CHECK_STATUS(mlxn_encoder_get_counters(dry, &counters), MLXN_OK);
        CHECK(counters.dispatches == 0 && counters.barriers == 0 && counters.commits == 0);
        CHECK_FAILS(mlxn_encoder_commit(dry), MLXN_ERR_STATE, "encoder_commit: the encoder is a");
        CHECK_FAILS(mlxn_graph_capture(dry, &none), MLXN_ERR_STATE, "graph_capture: the encoder");
        CHECK(!none);
        CHECK_STATUS(mlxn_encoder_reset(dry), MLXN_OK);
        mlxn_encoder_release(dry);
        for (int i = 0; i < BUFFERS; i++)
            mlxn_buffer_release(b[i]);
    }
}

TEST(dry_run_is_0_or_1)
{
    int n;
    mlxn_encoder *encoder = NULL;
    CHECK_FAILS(mlxn_encoder_create_with(rig_devices(&n)->device,
                                         MLXN_DESC(mlxn_encoder_desc, .dry_run = 2), &encoder),
                MLXN_ERR_ARGUMENT, "dry_run is 2");
    CHECK(!encoder);
}
