/* encoder_test.c - encoders, barriers, faults, the registry and graphs, with small kernels of the
 * user's. */
#include <pthread.h>
#include "unit.h"

/* ptr[1][i] = ptr[0][i] + args */
static void add_kernel(const mlxn_cpu_call *call)
{
    const int32_t *in = call->ptr[0];
    int32_t *out = call->ptr[1];
    struct {
        int32_t n, by;
    } args;
    memcpy(&args, call->args, sizeof args);
    for (uint64_t i; (i = mlxn_cpu_next(call)) < (uint64_t)args.n;)
        out[i] = in[i] + args.by;
}

/* Every thread counts up a cell of its own, then after a barrier thread 0 adds them. */
static void barrier_kernel(const mlxn_cpu_call *call)
{
    int32_t *cells = call->shared, *out = call->ptr[0];
    cells[call->thread] = 1;
    mlxn_cpu_barrier(call);
    if (call->thread == 0) {
        *out = 0;
        for (uint32_t i = 0; i < call->n_threads; i++)
            *out += cells[i];
    }
}

static size_t barrier_shared(const void *args, uint32_t n_threads)
{
    (void)args;
    return n_threads * sizeof(int32_t);
}

static void fault_kernel(const mlxn_cpu_call *call)
{
    if (call->thread == 0)
        mlxn_cpu_fault(call, "id", 12, 10);
}

static mlxn_device *device_with_kernels(uint32_t threads)
{
    mlxn_device *device = unit_cpu(threads);
    if (!device)
        return NULL;
    CHECK_STATUS(mlxn_kernel_register(
                     device, MLXN_DESC(mlxn_kernel_desc, .name = "test_add", .cpu = add_kernel)),
                 MLXN_OK);
    CHECK_STATUS(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = "test_barrier",
                                                        .cpu = barrier_kernel,
                                                        .cpu_shared = barrier_shared)),
                 MLXN_OK);
    CHECK_STATUS(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = "test_fault",
                                                        .cpu = fault_kernel)),
                 MLXN_OK);
    return device;
}

static mlxn_status add(mlxn_encoder *encoder, mlxn_buffer *in, mlxn_buffer *out, int32_t by)
{
    const mlxn_operand operands[] = {{in, MLXN_READ}, {out, MLXN_WRITE}};
    const int32_t args[2] = {(int32_t)mlxn_buffer_elements(in), by};
    return mlxn_dispatch(encoder,
                         MLXN_DESC(mlxn_dispatch_args, .kernel = "test_add", .operands = operands,
                                   .n_operands = 2, .args = args, .args_bytes = sizeof args));
}

static uint64_t barriers_of(mlxn_encoder *encoder)
{
    mlxn_counters counters = {.size = sizeof counters};
    CHECK_STATUS(mlxn_encoder_get_counters(encoder, &counters), MLXN_OK);
    return counters.barriers;
}

static int32_t first_int(mlxn_buffer *buffer)
{
    int32_t value = -1;
    CHECK_STATUS(mlxn_buffer_read(buffer, 0, &value, sizeof value), MLXN_OK);
    return value;
}

TEST(core_encoder_states)
{
    mlxn_device *device = device_with_kernels(2);
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *a = unit_ints(device, 100), *b = unit_ints(device, 100);
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_ERR_STATE);
    CHECK_STATUS(add(encoder, a, b, 5), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_ERR_STATE);
    CHECK_STATUS(add(encoder, a, b, 5), MLXN_ERR_STATE);
    CHECK(first_int(b) == 5); /* read waits */
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK); /* empty */
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    CHECK_FAILS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "nobody")),
                MLXN_ERR_NOT_FOUND, "nobody");
    CHECK_FAILS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "rms_norm")),
                MLXN_ERR_ARGUMENT, "rms_norm is a kernel of the library");
    CHECK_STATUS(mlxn_dispatch(encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_dispatch(NULL, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_encoder_commit(NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(add(encoder, b, a, 1), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    mlxn_encoder_release(encoder); /* finishes first */
    CHECK(first_int(a) == 6);
    mlxn_buffer_release(a);
    mlxn_buffer_release(b);
    mlxn_device_release(device);
}

TEST(core_barriers)
{
    mlxn_device *device = device_with_kernels(3);
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *a = unit_ints(device, 999), *b = unit_ints(device, 999),
                *c = unit_ints(device, 999);
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    CHECK_STATUS(add(encoder, a, b, 1), MLXN_OK);
    CHECK_STATUS(add(encoder, a, c, 2), MLXN_OK); /* independent */
    CHECK(barriers_of(encoder) == 0);
    CHECK_STATUS(add(encoder, b, c, 3), MLXN_OK); /* RAW on b, WAW on c */
    CHECK(barriers_of(encoder) == 1);
    CHECK_STATUS(add(encoder, c, b, 4), MLXN_OK); /* RAW and WAR */
    CHECK(barriers_of(encoder) == 2);
    CHECK_STATUS(mlxn_encoder_barrier(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_barrier(encoder), MLXN_OK);
    CHECK_STATUS(add(encoder, a, a, 9), MLXN_OK);
    CHECK(barriers_of(encoder) == 3);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK(first_int(c) == 4 && first_int(b) == 8 && first_int(a) == 9);
    mlxn_encoder_release(encoder);
    mlxn_buffer_release(a);
    mlxn_buffer_release(b);
    mlxn_buffer_release(c);
    mlxn_device_release(device);
}

TEST(core_barriers_validate)
{
    mlxn_device *device = device_with_kernels(1);
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *a = unit_ints(device, 8), *b = unit_ints(device, 8);
    REQUIRE_OK(mlxn_encoder_create_with(
        device, MLXN_DESC(mlxn_encoder_desc, .barriers = MLXN_BARRIERS_VALIDATE), &encoder));
    CHECK_STATUS(add(encoder, a, b, 1), MLXN_OK);
    CHECK_FAILS(add(encoder, b, a, 1), MLXN_ERR_HAZARD, "test_add");
    CHECK_STATUS(mlxn_encoder_barrier(encoder), MLXN_OK);
    CHECK_STATUS(add(encoder, b, a, 1), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK(first_int(a) == 2);
    mlxn_encoder_release(encoder);
    REQUIRE_OK(mlxn_encoder_create_with(
        device, MLXN_DESC(mlxn_encoder_desc, .barriers = MLXN_BARRIERS_EXPLICIT), &encoder));
    CHECK_STATUS(add(encoder, a, b, 1), MLXN_OK);
    CHECK_STATUS(add(encoder, b, a, 1), MLXN_OK);
    CHECK(barriers_of(encoder) == 0);
    mlxn_encoder_release(encoder);
    CHECK_STATUS(
        mlxn_encoder_create_with(
            device, MLXN_DESC(mlxn_encoder_desc, .barriers = (mlxn_barrier_mode)7), &encoder),
        MLXN_ERR_ARGUMENT);
    mlxn_buffer_release(a);
    mlxn_buffer_release(b);
    mlxn_device_release(device);
}

/* q, k and v interleaved in one allocation: columns of equal pitch are disjoint. */
TEST(core_barriers_interleaved_views)
{
    mlxn_device *device = device_with_kernels(1);
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *base = NULL, *left = NULL, *right = NULL, *wide = NULL;
    const int64_t shape[] = {16, 8};
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_I32, 2, shape, &base));
    REQUIRE_OK(mlxn_buffer_slice(base, 1, 0, 4, &left));
    REQUIRE_OK(mlxn_buffer_slice(base, 1, 4, 4, &right));
    REQUIRE_OK(mlxn_buffer_slice(base, 1, 3, 2, &wide));
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    const mlxn_operand writes[] = {{left, MLXN_WRITE}, {right, MLXN_WRITE}, {wide, MLXN_WRITE}};
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "test_fault",
                                                      .operands = &writes[i], .n_operands = 1)),
                     MLXN_OK);
    CHECK(barriers_of(encoder) == 1);
    mlxn_encoder_release(encoder);
    mlxn_buffer_release(left);
    mlxn_buffer_release(right);
    mlxn_buffer_release(wide);
    mlxn_buffer_release(base);
    mlxn_device_release(device);
}

TEST(core_team_sizes)
{
    static const uint32_t sizes[] = {1, 2, 3, 8, 17};
    for (int i = 0; i < 5; i++) {
        mlxn_device *device = device_with_kernels(sizes[i]);
        mlxn_encoder *encoder = NULL;
        mlxn_buffer *a = unit_ints(device, 1), *b = unit_ints(device, 1);
        const mlxn_operand to_a = {a, MLXN_WRITE}, to_b = {b, MLXN_WRITE};
        REQUIRE_OK(mlxn_encoder_create(device, &encoder));
        for (int run = 0; run < 20; run++) { /* two at once: their scratch must not meet */
            CHECK_STATUS(
                mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "test_barrier",
                                                 .operands = &to_a, .n_operands = 1)),
                MLXN_OK);
            CHECK_STATUS(
                mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "test_barrier",
                                                 .operands = &to_b, .n_operands = 1)),
                MLXN_OK);
        }
        CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
        CHECK(first_int(a) == (int32_t)sizes[i] && first_int(b) == (int32_t)sizes[i]);
        mlxn_encoder_release(encoder);
        mlxn_buffer_release(a);
        mlxn_buffer_release(b);
        mlxn_device_release(device);
    }
}

TEST(core_faults)
{
    mlxn_device *device = device_with_kernels(2);
    mlxn_encoder *encoder = NULL;
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    CHECK_STATUS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "test_fault")),
                 MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_FAILS(mlxn_encoder_wait(encoder), MLXN_ERR_FAULT, "test_fault: id is 12, limit 10");
    CHECK_FAILS(mlxn_device_wait(device), MLXN_ERR_FAULT, "id is 12");
    CHECK_STATUS(mlxn_device_wait(device), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    mlxn_encoder_release(encoder);
    mlxn_device_release(device);
}

TEST(core_registry)
{
    mlxn_device *device = unit_cpu(1);
    int found = 0;
    CHECK_STATUS(mlxn_kernel_register(device, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(
        mlxn_kernel_register(NULL, MLXN_DESC(mlxn_kernel_desc, .name = "x", .cpu = add_kernel)),
        MLXN_ERR_ARGUMENT);
    CHECK_FAILS(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .cpu = add_kernel)),
                MLXN_ERR_ARGUMENT, "name");
    CHECK_FAILS(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = "x")),
                MLXN_ERR_ARGUMENT, "no code");
    CHECK_FAILS(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = "x",
                                                       .metal_text = "...", .n_constants = 1)),
                MLXN_ERR_ARGUMENT, "1 constants at NULL");
    for (int n = -1; n < 16; n += 10)
        CHECK_FAILS(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = "x",
                                                           .metal_text = "...", .constants = &found,
                                                           .n_constants = n)),
                    MLXN_ERR_ARGUMENT, "at most 8");
    if (mlxn_kernel_name(device, 0))
        CHECK_FAILS(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc,
                                                           .name = mlxn_kernel_name(device, 0),
                                                           .cpu = add_kernel)),
                    MLXN_ERR_ARGUMENT, "kernel of the library");
    CHECK_STATUS(mlxn_kernel_register(
                     device, MLXN_DESC(mlxn_kernel_desc, .name = "mine", .metal_text = "...")),
                 MLXN_OK);
    for (int i = 0; mlxn_kernel_name(device, i); i++)
        found += !strcmp(mlxn_kernel_name(device, i), "mine");
    CHECK(found == 1);
    mlxn_encoder *encoder = NULL;
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    CHECK_FAILS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "mine")),
                MLXN_ERR_UNSUPPORTED, "mine");
    CHECK_STATUS(mlxn_kernel_register(
                     device, MLXN_DESC(mlxn_kernel_desc, .name = "mine", .cpu = fault_kernel)),
                 MLXN_OK); /* replaces */
    CHECK_STATUS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "mine")), MLXN_OK);
    mlxn_encoder_release(encoder);
    mlxn_device_release(device);
}

TEST(core_graph)
{
    mlxn_device *device = device_with_kernels(2);
    mlxn_encoder *encoder = NULL;
    mlxn_graph *graph = NULL;
    mlxn_buffer *a = unit_ints(device, 50), *b = unit_ints(device, 50), *c = unit_ints(device, 50);
    mlxn_buffer *longer = unit_ints(device, 51);
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    CHECK_STATUS(add(encoder, a, b, 1), MLXN_OK);
    CHECK_STATUS(add(encoder, b, a, 1), MLXN_OK);
    REQUIRE_OK(mlxn_graph_capture(encoder, &graph));
    CHECK(mlxn_graph_dispatches(graph) == 2 && mlxn_graph_barriers(graph) == 1);
    mlxn_graph_costs costs = {.size = sizeof costs};
    CHECK_FAILS(mlxn_graph_measure(graph, 1, &costs, NULL, 0), MLXN_ERR_UNSUPPORTED, "not on cpu");
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(mlxn_graph_replay(encoder, graph), MLXN_OK);
    CHECK(barriers_of(encoder) == 5);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK(first_int(a) == 6 && first_int(b) == 5);
    CHECK_FAILS(mlxn_graph_name(graph, "x", c), MLXN_ERR_NOT_FOUND, "x");
    CHECK_STATUS(mlxn_graph_name(graph, "x", b), MLXN_OK);
    CHECK_STATUS(mlxn_graph_name(graph, "x", b), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_graph_bind(graph, "y", c), MLXN_ERR_NOT_FOUND);
    CHECK_STATUS(mlxn_graph_bind(graph, "x", longer), MLXN_ERR_SHAPE);
    CHECK_STATUS(mlxn_graph_bind(graph, "x", c), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_graph_replay(encoder, graph), MLXN_OK);
    CHECK_STATUS(mlxn_graph_capture(encoder, &(mlxn_graph *){NULL}), MLXN_ERR_UNSUPPORTED);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK(first_int(a) == 8 && first_int(c) == 7 && first_int(b) == 5);
    mlxn_graph_release(graph); /* the encoder keeps it */
    CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_graph_replay(encoder, NULL), MLXN_ERR_ARGUMENT);
    mlxn_encoder_release(encoder);
    mlxn_buffer_release(a);
    mlxn_buffer_release(b);
    mlxn_buffer_release(c);
    mlxn_buffer_release(longer);
    mlxn_device_release(device);
}

/* Several threads commit to one device; all of it runs, in the order of the commits. */
static void *committer(void *argument)
{
    mlxn_device *device = argument;
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *a = unit_ints(device, 64), *b = unit_ints(device, 64);
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    for (int i = 0; i < 50; i++) {
        CHECK_STATUS(add(encoder, a, b, 1), MLXN_OK);
        CHECK_STATUS(add(encoder, b, a, 1), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    }
    CHECK(first_int(a) == 100);
    mlxn_encoder_release(encoder);
    mlxn_buffer_release(a);
    mlxn_buffer_release(b);
    return NULL;
}

TEST(core_many_committers)
{
    mlxn_device *device = device_with_kernels(2);
    pthread_t ids[4];
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&ids[i], NULL, committer, device) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
    mlxn_device_release(device);
}
