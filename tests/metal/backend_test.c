/* backend_test.c - the Metal backend on the simulator: opening, memory, kernels of users, commits,
 * barriers, and every failure that the system may answer with.  No test leaves an object behind. */
#include "rig_metal.h"
#include "backends/metal/metal.h"
#include "kernels/text.h"
#include "kernels/types.h"
#include <unistd.h>

extern const char mlxn_kernel_text_user[];
enum { N = 256 };

/* A device of its own; what lived before it is counted at the end. */
typedef struct bench {
    long before;
    mlxn_device *device;
    mlxn_encoder *encoder;
    mlxn_buffer *x, *y, *z;
} bench;

static int set_up(bench *b)
{
    float ones[N];
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    *b = (bench){.before = metalsim_live(NULL, 0)};
    const mlxn_kernel_desc user = {
        .size = sizeof user, .name = "user_add", .metal_text = mlxn_kernel_text_user};
    if (!test_status(mlxn_device_open("metal", 0, &b->device), MLXN_OK, __FILE__, __LINE__, "open"))
        return 0;
    CHECK_STATUS(mlxn_encoder_create(b->device, &b->encoder), MLXN_OK);
    CHECK_STATUS(mlxn_kernel_register(b->device, &user), MLXN_OK);
    b->x = rig_vector(b->device, MLXN_F32, N, ones);
    b->y = rig_vector(b->device, MLXN_F32, N, NULL);
    b->z = rig_vector(b->device, MLXN_F32, N, NULL);
    return b->z != NULL;
}

static void tear_down(bench *b)
{
    char list[400];
    mlxn_buffer_release(b->x);
    mlxn_buffer_release(b->y);
    mlxn_buffer_release(b->z);
    mlxn_encoder_release(b->encoder);
    mlxn_device_release(b->device);
    metalsim_heal();
    if (metalsim_live(list, sizeof list) != b->before)
        test_failed(__FILE__, __LINE__, "objects are left: %s", list);
}

static mlxn_status add(mlxn_encoder *encoder, mlxn_buffer *from, mlxn_buffer *to, float value,
                       uint32_t threads)
{
    const mlxn_operand operands[] = {{from, MLXN_READ}, {to, MLXN_WRITE}};
    return mlxn_dispatch(encoder,
                         MLXN_DESC(mlxn_dispatch_args, .kernel = "user_add", .operands = operands,
                                   .n_operands = 2, .args = &value, .args_bytes = sizeof value,
                                   .groups = {N / threads, 1, 1}, .threads = threads));
}

static float value_of(mlxn_buffer *buffer)
{
    float values[N] = {0};
    CHECK_STATUS(mlxn_buffer_read(buffer, 0, values, sizeof values), MLXN_OK);
    for (int i = 1; i < N; i++)
        CHECK(values[i] == values[0]);
    return values[0];
}

TEST(metal_device)
{
    bench b;
    mlxn_device_info info = {.size = sizeof info};
    REQUIRE(set_up(&b));
    CHECK_STATUS(mlxn_device_get_info(b.device, &info), MLXN_OK);
    CHECK(!strcmp(info.backend, "metal") && !strcmp(info.name, "Simulated GPU"));
    CHECK(!strcmp(info.path, "apple9") && info.memory_bytes == (uint64_t)1 << 34);
    CHECK(info.threads == 0 && info.allocated == 3 * N * sizeof(float));
    tear_down(&b);
}

TEST(metal_open_refusals)
{
    const long before = metalsim_live(NULL, 0);
    mlxn_device *device = NULL;
    metalsim_fail(METALSIM_FAIL_DEVICE, 0);
    CHECK_FAILS(mlxn_device_open("metal", 0, &device), MLXN_ERR_NOT_FOUND, "no device");
    CHECK_FAILS(mlxn_device_open("metal", 1, &device), MLXN_ERR_NOT_FOUND, "one device");
    metalsim_fail(METALSIM_FAIL_BUFFER, 0);
    CHECK_FAILS(mlxn_device_open("metal", 0, &device), MLXN_ERR_MEMORY, "no memory");
    metalsim.family = 1006;
    CHECK_FAILS(mlxn_device_open("metal", 0, &device), MLXN_ERR_UNSUPPORTED, "family 7");
    metalsim.family = 1009;
    CHECK(!device && metalsim_live(NULL, 0) == before);
}

TEST(metal_memory)
{
    bench b;
    mlxn_buffer *fresh = NULL;
    const int64_t n = N, huge = (int64_t)1 << 40;
    REQUIRE(set_up(&b));
    CHECK(value_of(b.y) == 0); /* zeroed by us: Metal does not promise it */
    CHECK_STATUS(mlxn_buffer_create_uninitialized(b.device, MLXN_F32, 1, &n, &fresh), MLXN_OK);
    mlxn_buffer_release(fresh);
    CHECK_FAILS(mlxn_buffer_create(b.device, MLXN_F32, 1, &huge, &fresh), MLXN_ERR_MEMORY,
                "cannot allocate");
    metalsim_fail(METALSIM_FAIL_BUFFER, 0);
    CHECK_FAILS(mlxn_buffer_create(b.device, MLXN_F32, 1, &n, &fresh), MLXN_ERR_MEMORY,
                "cannot allocate");
    tear_down(&b);
}

static void count_release(void *context)
{
    ++*(int *)context;
}

/* Memory of the caller is used in place, wherever in a page it begins. */
TEST(metal_wraps_memory)
{
    bench b;
    int released = 0;
    const int64_t n = N;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = aligned_alloc(page, 2 * page);
    REQUIRE(memory && set_up(&b));
    for (size_t lead = 0; lead < 64; lead += 48) {
        mlxn_buffer *wrapped = NULL;
        void *mapped = NULL;
        float *values = (void *)(memory + lead);
        for (int i = 0; i < N; i++)
            values[i] = 3;
        CHECK_STATUS(mlxn_buffer_wrap(b.device, values, N * sizeof *values, MLXN_F32, 1, &n,
                                      count_release, &released, &wrapped),
                     MLXN_OK);
        CHECK_STATUS(mlxn_buffer_map(wrapped, &mapped), MLXN_OK);
        CHECK(mapped == values);
        CHECK_STATUS(add(b.encoder, wrapped, b.y, 2, 64), MLXN_OK);
        CHECK_STATUS(add(b.encoder, b.y, wrapped, 2, 64), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_reset(b.encoder), MLXN_OK);
        CHECK(values[0] == 7 && values[N - 1] == 7);
        mlxn_buffer_release(wrapped);
    }
    CHECK(released == 2);
    tear_down(&b);
    free(memory);
}

TEST(metal_wrap_failure_copies)
{
    bench b;
    int released = 0;
    const int64_t n = N;
    float values[N] = {0};
    mlxn_buffer *copy = NULL;
    void *mapped = NULL;
    REQUIRE(set_up(&b));
    metalsim_fail(METALSIM_FAIL_BUFFER, 0);
    CHECK_STATUS(mlxn_buffer_wrap(b.device, values, sizeof values, MLXN_F32, 1, &n, count_release,
                                  &released, &copy),
                 MLXN_OK);
    CHECK_STATUS(mlxn_buffer_map(copy, &mapped), MLXN_OK);
    CHECK(mapped != values && released == 1);
    mlxn_buffer_release(copy);
    tear_down(&b);
}

/* One encoder a commit; barriers where they are needed and nowhere else; nothing is set twice. */
TEST(metal_commit)
{
    bench b;
    mlxn_counters counters = {.size = sizeof counters};
    REQUIRE(set_up(&b));
    const metalsim_counts start = metalsim_count;
    CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK);
    CHECK_STATUS(add(b.encoder, b.x, b.z, 2, 64), MLXN_OK);
    CHECK_STATUS(add(b.encoder, b.y, b.z, 3, 128), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
    CHECK(value_of(b.y) == 2 && value_of(b.z) == 5);
    CHECK(metalsim_count.command_buffers - start.command_buffers == 1);
    CHECK(metalsim_count.encoders - start.encoders == 1);
    CHECK(metalsim_count.dispatches - start.dispatches == 3);
    CHECK(metalsim_count.barriers - start.barriers == 1);
    CHECK(metalsim_count.pipeline_changes - start.pipeline_changes == 1);
    CHECK(metalsim_count.buffer_changes - start.buffer_changes == 4);
    CHECK_STATUS(mlxn_encoder_get_counters(b.encoder, &counters), MLXN_OK);
    CHECK(counters.dispatches == 3 && counters.barriers == 1 && counters.gpu_seconds > 0);
    CHECK(metalsim_count.language == (2 << 16 | 3) && metalsim_count.precise);
    tear_down(&b);
}

TEST(metal_views_move_offsets_only)
{
    bench b;
    mlxn_buffer *half[4] = {NULL};
    REQUIRE(set_up(&b));
    for (int i = 0; i < 4; i++)
        CHECK_STATUS(mlxn_buffer_slice(i < 2 ? b.x : b.y, 0, i % 2 * N / 2, N / 2, &half[i]),
                     MLXN_OK);
    const metalsim_counts start = metalsim_count;
    for (int i = 0; i < 2; i++) {
        const mlxn_operand operands[] = {{half[i], MLXN_READ}, {half[2 + i], MLXN_WRITE}};
        const float value = 4;
        CHECK_STATUS(mlxn_dispatch(b.encoder,
                                   MLXN_DESC(mlxn_dispatch_args, .kernel = "user_add",
                                             .operands = operands, .n_operands = 2, .args = &value,
                                             .args_bytes = 4, .groups = {2, 1, 1}, .threads = 64)),
                     MLXN_OK);
    }
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
    CHECK(value_of(b.y) == 5);
    CHECK(metalsim_count.buffer_changes - start.buffer_changes == 2);
    CHECK(metalsim_count.offset_changes - start.offset_changes == 2);
    CHECK(metalsim_count.barriers == start.barriers);
    for (int i = 0; i < 4; i++)
        mlxn_buffer_release(half[i]);
    tear_down(&b);
}

/* The simulator sees what the caller's own barriers leave out. */
TEST(metal_missing_barrier)
{
    bench b;
    mlxn_encoder *explicit = NULL;
    const int checked = metalsim.checked;
    metalsim.checked = 1;
    REQUIRE(set_up(&b));
    for (int missing = 0; missing < 2; missing++) {
        CHECK_STATUS(mlxn_encoder_create_with(
                         b.device, MLXN_DESC(mlxn_encoder_desc, .barriers = MLXN_BARRIERS_EXPLICIT),
                         &explicit),
                     MLXN_OK);
        CHECK_STATUS(add(explicit, b.x, b.y, 1, 64), MLXN_OK);
        if (!missing)
            CHECK_STATUS(mlxn_encoder_barrier(explicit), MLXN_OK);
        CHECK_STATUS(add(explicit, b.y, b.z, 1, 64), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_commit(explicit), MLXN_OK);
        if (missing)
            CHECK_FAILS(mlxn_encoder_wait(explicit), MLXN_ERR_DEVICE, "missing barrier");
        else
            CHECK_STATUS(mlxn_encoder_wait(explicit), MLXN_OK);
        mlxn_encoder_release(explicit);
    }
    tear_down(&b);
    metalsim.checked = checked;
}

/* And those that nothing needs: the tracker's own never are. */
TEST(metal_idle_barrier)
{
    bench b;
    const int checked = metalsim.checked;
    metalsim.checked = 1;
    REQUIRE(set_up(&b));
    for (int idle = 0; idle < 2; idle++) {
        const metalsim_counts before = metalsim_count;
        CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK);
        if (idle)
            CHECK_STATUS(mlxn_encoder_barrier(b.encoder), MLXN_OK);
        CHECK_STATUS(add(b.encoder, b.x, b.z, 1, 64), MLXN_OK); /* reads what was read */
        CHECK_STATUS(add(b.encoder, b.z, b.y, 1, 64),
                     MLXN_OK); /* reads and writes what was written */
        CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_reset(b.encoder), MLXN_OK);
        CHECK(metalsim_count.barriers - before.barriers == 1 + idle);
        CHECK(metalsim_count.idle_barriers - before.idle_barriers == idle);
    }
    tear_down(&b);
    metalsim.checked = checked;
}

TEST(metal_commits_in_flight)
{
    enum { ENCODERS = 8 };
    bench b;
    mlxn_encoder *encoders[ENCODERS] = {NULL};
    REQUIRE(set_up(&b));
    metalsim_count.in_flight_max = 0;
    for (int i = 0; i < ENCODERS; i++) {
        CHECK_STATUS(mlxn_encoder_create(b.device, &encoders[i]), MLXN_OK);
        CHECK_STATUS(add(encoders[i], i % 2 ? b.y : b.x, i % 2 ? b.x : b.y, 1, 64), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_commit(encoders[i]), MLXN_OK);
    }
    for (int i = ENCODERS - 1; i >= 0; i--)
        CHECK_STATUS(mlxn_encoder_wait(encoders[i]), MLXN_OK);
    CHECK(value_of(b.x) == ENCODERS + 1);
    CHECK(metalsim_count.in_flight_max > 1);
    for (int i = 0; i < ENCODERS; i++)
        mlxn_encoder_release(encoders[i]);
    tear_down(&b);
}

TEST(metal_graph)
{
    bench b;
    mlxn_graph *graph = NULL;
    REQUIRE(set_up(&b));
    CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK);
    CHECK_STATUS(add(b.encoder, b.y, b.x, 1, 64), MLXN_OK);
    CHECK_STATUS(mlxn_graph_capture(b.encoder, &graph), MLXN_OK);
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(mlxn_graph_replay(b.encoder, graph), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
    CHECK(value_of(b.x) == 7);
    CHECK_STATUS(mlxn_encoder_reset(b.encoder), MLXN_OK);
    mlxn_graph_release(graph);
    tear_down(&b);
}

/* ---- kernels of users, and what can be wrong with them ---- */

static void refuse(bench *b, const char *text, uint32_t threads, size_t shared, mlxn_status want,
                   const char *detail)
{
    static const float value = 1;
    const mlxn_kernel_desc user = {
        .size = sizeof user, .name = "user_add", .cuda_text = "", .metal_text = text};
    const mlxn_operand operands[] = {{b->x, MLXN_READ}, {b->y, MLXN_WRITE}};
    CHECK_STATUS(mlxn_kernel_register(b->device, &user), MLXN_OK);
    mlxn_status status = mlxn_dispatch(
        b->encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "user_add", .operands = operands,
                              .n_operands = 2, .args = &value, .args_bytes = sizeof value,
                              .groups = {1, 1, 1}, .threads = threads, .shared_bytes = shared));
    if (status == MLXN_OK)
        status = mlxn_encoder_commit(b->encoder);
    CHECK_FAILS(status, want, detail);
    CHECK_STATUS(mlxn_encoder_reset(b->encoder), MLXN_OK);
}

TEST(metal_kernel_refusals)
{
    bench b;
    REQUIRE(set_up(&b));
    refuse(&b, "#include <mlxn_emulator.hpp>\nKERNEL(user_add, IN(float, x, 0) {", 64, 0,
           MLXN_ERR_COMPILE, "error");
    refuse(&b, "#include <mlxn_emulator.hpp>\n", 64, 0, MLXN_ERR_COMPILE, "no kernel of this name");
    metalsim_fail(METALSIM_FAIL_LIBRARY, 0);
    refuse(&b, "#include <mlxn_emulator.hpp>\n/* 2 */\n", 64, 0, MLXN_ERR_COMPILE, "planned");
    refuse(&b, mlxn_kernel_text_user, 2048, 0, MLXN_ERR_UNSUPPORTED, "at most 1024");
    refuse(&b, mlxn_kernel_text_user, 64, 40000, MLXN_ERR_UNSUPPORTED, "group memory");
    refuse(&b, NULL, 64, 0, MLXN_ERR_UNSUPPORTED, "no code");
    tear_down(&b);
}

/* x * times + plus, both compiled in; under two names with numbers of their own. */
TEST(metal_function_constants)
{
    static const char text[] = "#include <mlxn_emulator.hpp>\n"
                               "K_CONSTANT(times, 0);\nK_CONSTANT(plus, 2);\n"
                               "KERNEL(scale, IN(float, x, 0), OUT(float, y, 1))\n"
                               "{\n    const int i = (int)k_thread3.x;\n"
                               "    y[i] = x[i] * (float)times + (float)plus;\n}\n";
    static const int32_t first[] = {3, 0, -7}, second[] = {-2147483647, 0, 5};
    mlxn_kernel_desc user = {.size = sizeof user,
                             .name = "scale_3",
                             .entry = "scale",
                             .metal_text = text,
                             .constants = first,
                             .n_constants = 3};
    bench b;
    REQUIRE(set_up(&b));
    const mlxn_operand to_y[] = {{b.x, MLXN_READ}, {b.y, MLXN_WRITE}};
    const mlxn_operand to_z[] = {{b.x, MLXN_READ}, {b.z, MLXN_WRITE}};
    mlxn_dispatch_args run = {
        .size = sizeof run, .n_operands = 2, .groups = {1, 1, 1}, .threads = N};
    CHECK_STATUS(mlxn_kernel_register(b.device, &user), MLXN_OK);
    user.name = "scale_least";
    user.constants = second;
    CHECK_STATUS(mlxn_kernel_register(b.device, &user), MLXN_OK);
    run.kernel = "scale_3";
    run.operands = to_y;
    CHECK_STATUS(mlxn_dispatch(b.encoder, &run), MLXN_OK);
    run.kernel = "scale_least";
    run.operands = to_z;
    CHECK_STATUS(mlxn_dispatch(b.encoder, &run), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_reset(b.encoder), MLXN_OK);
    CHECK(value_of(b.y) == -4 && value_of(b.z) == -2147483647.0f + 5);
    user.name = "scale_some"; /* the text has a constant 2 */
    user.n_constants = 2;
    CHECK_STATUS(mlxn_kernel_register(b.device, &user), MLXN_OK);
    run.kernel = "scale_some";
    CHECK_FAILS(mlxn_dispatch(b.encoder, &run), MLXN_ERR_COMPILE, "constant 2 has no value");
    user.name = "scale_none";
    user.entry = NULL;
    user.n_constants = 3;
    CHECK_STATUS(mlxn_kernel_register(b.device, &user), MLXN_OK);
    run.kernel = "scale_none";
    CHECK_FAILS(mlxn_dispatch(b.encoder, &run), MLXN_ERR_COMPILE, "no function of this name");
    tear_down(&b);
}

/* A kernel of the library has pipelines for its first constants, and one for all others. */
TEST(metal_pipeline_variants)
{
    metal_pipeline *made[MLXN_GPU_VARIANTS + 2] = {NULL};
    bench b;
    REQUIRE(set_up(&b));
    for (int i = 0; i < MLXN_GPU_VARIANTS + 2; i++) {
        mlxn_gpu_launch launch = {
            .text = mlxn_kernel_text_norm, .entry = "norm_held_f32", .threads = 32};
        for (int at = 0; at < 4; at++)
            mlxn_gpu_constant(&launch, i);
        CHECK_STATUS(mlxn_metal_find_pipeline((metal_device *)b.device, &launch, &made[i]),
                     MLXN_OK);
        CHECK((launch.constants.at[3] == K_OPEN) == (i >= MLXN_GPU_VARIANTS));
        CHECK(made[i] && (!i || made[i] != made[i - 1]) == (i <= MLXN_GPU_VARIANTS));
    }
    tear_down(&b);
}

TEST(metal_pipeline_failure)
{
    bench b;
    REQUIRE(set_up(&b));
    metalsim_fail(METALSIM_FAIL_PIPELINE, 0);
    CHECK_FAILS(add(b.encoder, b.x, b.y, 1, 64), MLXN_ERR_COMPILE, "planned");
    CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK); /* it is tried again */
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
    CHECK(value_of(b.y) == 2);
    tear_down(&b);
}

/* A kernel that the compiler would give fewer threads is compiled for as many as are launched. */
TEST(metal_asks_for_threads)
{
    bench b;
    REQUIRE(set_up(&b));
    metalsim.max_threads = 128;
    CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 128), MLXN_OK);
    CHECK_STATUS(add(b.encoder, b.x, b.z, 1, 256), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
    CHECK(metalsim_count.asked_threads == 256);
    CHECK(value_of(b.y) == 2 && value_of(b.z) == 2);
    metalsim.max_threads = 1024;
    tear_down(&b);
}

/* ---- failures while work runs ---- */

TEST(metal_command_failure)
{
    bench b;
    REQUIRE(set_up(&b));
    metalsim_fail(METALSIM_FAIL_COMMANDS, 0);
    CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_FAILS(mlxn_encoder_wait(b.encoder), MLXN_ERR_DEVICE, "planned");
    CHECK_FAILS(mlxn_device_wait(b.device), MLXN_ERR_DEVICE, "planned");
    CHECK_STATUS(mlxn_encoder_reset(b.encoder), MLXN_OK);
    CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
    CHECK_STATUS(mlxn_device_wait(b.device), MLXN_OK);
    tear_down(&b);
}

TEST(metal_device_lost)
{
    bench b;
    REQUIRE(set_up(&b));
    metalsim_fail(METALSIM_FAIL_LOST, 1);
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
        if (i == 0)
            CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
        else
            CHECK_FAILS(mlxn_encoder_wait(b.encoder), MLXN_ERR_DEVICE, "removed");
        CHECK_STATUS(mlxn_encoder_reset(b.encoder), MLXN_OK);
    }
    tear_down(&b);
}

/* ---- older and newer systems ---- */

TEST(metal_residency)
{
    bench b;
    for (int macos = 13; macos <= 15; macos += 2) {
        const long resident = metalsim_count.resident;
        metalsim.macos = macos;
        REQUIRE(set_up(&b));
        CHECK_STATUS(add(b.encoder, b.x, b.y, 1, 64), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_commit(b.encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_wait(b.encoder), MLXN_OK);
        CHECK(value_of(b.y) == 2 && metalsim_count.precise);
        /* three of the test, one for absent operands, one for faults */
        CHECK(metalsim_count.resident - resident == (macos == 15 ? 5 : 0));
        tear_down(&b);
        CHECK(metalsim_count.resident == resident);
        metalsim.macos = 15;
    }
}
