/* device_test.c - opening, memory, commits, faults and lost devices of the CUDA backend, against
 * the fake driver. */
#include <pthread.h>
#include "rounds.h"

static mlxn_device *open_device(void)
{
    mlxn_device *device = NULL;
    CHECK_STATUS(mlxn_device_open("cuda", 0, &device), MLXN_OK);
    return device;
}

TEST(cuda_info)
{
    mlxn_device_info info = {.size = sizeof info};
    mlxn_device *device[2];
    fake_control *fake = cuda_fake();
    fake->devices = 2;
    REQUIRE_OK(mlxn_device_open("cuda", 1, &device[1]));
    REQUIRE_OK(mlxn_device_open("cuda", 0, &device[0]));
    REQUIRE_OK(mlxn_device_get_info(device[1], &info));
    CHECK(!strcmp(info.backend, "cuda") && !strcmp(info.name, "Fake GPU 1"));
    CHECK(!strcmp(info.path, "sm_90") && info.memory_bytes == (uint64_t)8 << 30 && !info.threads);
    mlxn_device_release(device[0]);
    mlxn_device_release(device[1]);
    CHECK_CLEAN();
}

TEST(cuda_says_why_not)
{
    mlxn_device *device = NULL;
    fake_control *fake = cuda_fake();
    CHECK_FAILS(mlxn_device_open("cuda", 1, &device), MLXN_ERR_NOT_FOUND, "1 device, not number 1");
    fake->devices = 0;
    CHECK_FAILS(mlxn_device_open("cuda", 0, &device), MLXN_ERR_UNSUPPORTED, "finds no GPU");
    fake->devices = -1;
    CHECK_FAILS(mlxn_device_open("cuda", 0, &device), MLXN_ERR_UNSUPPORTED, "cuInit");
    fake = cuda_fake();
    fake->driver_version = 11080;
    CHECK_FAILS(mlxn_device_open("cuda", 0, &device), MLXN_ERR_UNSUPPORTED,
                "is of CUDA 11.8; it must be of 12.0");
    fake = cuda_fake();
    fake->architecture = 70;
    CHECK_FAILS(mlxn_device_open("cuda", 0, &device), MLXN_ERR_UNSUPPORTED, "architecture 7.0");
    setenv("MLXN_CUDA_DRIVER", "/nowhere/libcuda.so.1", 1);
    CHECK_FAILS(mlxn_device_open("cuda", 0, &device), MLXN_ERR_UNSUPPORTED, "no NVIDIA driver");
    setenv("MLXN_CUDA_DRIVER", "libm.so.6", 1);
    CHECK_FAILS(mlxn_device_open("cuda", 0, &device), MLXN_ERR_UNSUPPORTED, "lacks cuInit");
    CHECK(!device);
    cuda_fake();
    CHECK_CLEAN();
}

/* ---- memory ---- */

static void check_round_trips(mlxn_device *device)
{
    static const int64_t sizes[] = {1, 255,           4 << 20, (4 << 20) + 1, (9 << 20) + 7,
                                    3, (4 << 20) - 9, 64};
    enum { N = sizeof sizes / sizeof *sizes };
    mlxn_buffer *buffers[N];
    uint64_t seed = 1;
    uint8_t *data = malloc(10 << 20), *back = malloc(10 << 20);
    for (size_t i = 0; data && i < 10 << 20; i++)
        data[i] = (uint8_t)test_random(&seed);
    for (int i = 0; i < N; i++) {
        CHECK_STATUS(mlxn_buffer_create(device, MLXN_U8, 1, &sizes[i], &buffers[i]), MLXN_OK);
        CHECK_STATUS(mlxn_buffer_write(buffers[i], 0, data + i, (size_t)sizes[i]), MLXN_OK);
    }
    for (int i = N - 1; i >= 0; i--) {
        memset(back, 0, (size_t)sizes[i]);
        CHECK_STATUS(mlxn_buffer_read(buffers[i], 0, back, (size_t)sizes[i]), MLXN_OK);
        CHECK(!memcmp(back, data + i, (size_t)sizes[i]));
    }
    CHECK_STATUS(mlxn_buffer_write(buffers[0], 0, data, 0), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_read(buffers[0], 0, back, 0), MLXN_OK);
    for (int i = 0; i < N; i++)
        mlxn_buffer_release(buffers[i]);
    free(data);
    free(back);
}

TEST(cuda_memory)
{
    for (int pools = 0; pools < 2; pools++) {
        fake_control *fake = cuda_fake();
        fake->pools = pools;
        mlxn_device *device = open_device();
        REQUIRE(device);
        check_round_trips(device);
        mlxn_device_release(device);
        CHECK_CLEAN();
    }
}

TEST(cuda_memory_contents_and_limits)
{
    const int64_t n = 1000, huge = (int64_t)1 << 62;
    uint8_t data[1000], memory[1000] = {7};
    void *host;
    mlxn_buffer *zeroed = NULL, *fresh = NULL, *wrapped = NULL, *none = NULL;
    cuda_fake();
    mlxn_device *device = open_device();
    REQUIRE(device);
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_U8, 1, &n, &zeroed));
    REQUIRE_OK(mlxn_buffer_create_uninitialized(device, MLXN_U8, 1, &n, &fresh));
    REQUIRE_OK(
        mlxn_buffer_wrap(device, memory, sizeof memory, MLXN_U8, 1, &n, NULL, NULL, &wrapped));
    REQUIRE_OK(mlxn_buffer_read(zeroed, 0, data, sizeof data));
    for (int i = 0; i < n; i++)
        CHECK(data[i] == 0);
    REQUIRE_OK(mlxn_buffer_read(fresh, 0, data, sizeof data));
    CHECK(data[999] == 0xa5);
    REQUIRE_OK(mlxn_buffer_read(wrapped, 0, data, sizeof data));
    CHECK(data[0] == 7 && data[1] == 0);
    CHECK_STATUS(mlxn_buffer_map(zeroed, &host), MLXN_ERR_UNSUPPORTED);
    CHECK_FAILS(mlxn_buffer_create(device, MLXN_U8, 1, &huge, &none), MLXN_ERR_MEMORY,
                "out of memory");
    mlxn_buffer_release(zeroed);
    mlxn_buffer_release(fresh);
    mlxn_buffer_release(wrapped);
    mlxn_device_release(device);
    CHECK_CLEAN();
}

/* ---- work ---- */

TEST(cuda_commit)
{
    rounds_bench b;
    fake_control *fake = cuda_fake();
    REQUIRE_OK(rounds_open(&b));
    REQUIRE_OK(rounds_record(b.encoder, b.v));
    REQUIRE_OK(mlxn_encoder_commit(b.encoder));
    CHECK(fake->launches == 0); /* nothing waits yet */
    REQUIRE_OK(mlxn_encoder_wait(b.encoder));
    CHECK(fake->launches == 8);
    rounds_check(&b, 2);
    REQUIRE_OK(mlxn_encoder_reset(b.encoder));
    rounds_close(&b);
    CHECK_CLEAN();
}

/* Many commits of several encoders are under way at once; each is waited for by its own. */
TEST(cuda_commits_in_order)
{
    enum { N = 40 }; /* more than there are events */
    rounds_bench b;
    mlxn_encoder *encoders[N];
    fake_control *fake = cuda_fake();
    REQUIRE_OK(rounds_open(&b));
    for (int i = 0; i < N; i++) {
        REQUIRE_OK(mlxn_encoder_create(b.device, &encoders[i]));
        REQUIRE_OK(cuda_step(encoders[i], "advance", b.v[1], NULL, NULL, 1, 1));
        REQUIRE_OK(mlxn_encoder_commit(encoders[i]));
    }
    CHECK(fake->launches == 0);
    REQUIRE_OK(mlxn_encoder_wait(encoders[N - 3]));
    CHECK(fake->launches == N - 2);
    for (int i = 0; i < N; i++) {
        CHECK_STATUS(mlxn_encoder_wait(encoders[i]), MLXN_OK);
        mlxn_encoder_release(encoders[i]);
    }
    float got[STEP_ELEMENTS];
    REQUIRE_OK(mlxn_buffer_read(b.v[1], 0, got, sizeof got));
    CHECK(got[3] == b.start[3] + N);
    REQUIRE_OK(mlxn_device_wait(b.device));
    rounds_close(&b);
    CHECK_CLEAN();
}

/* ---- failures ---- */

TEST(cuda_faults)
{
    const int64_t shape[] = {1, 4, 64}, one = 1, freqs[] = {32, 2};
    int32_t position = -1;
    mlxn_device *device;
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *x = NULL, *p = NULL, *f = NULL;
    cuda_fake();
    device = open_device();
    REQUIRE(device);
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 3, shape, &x));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_I32, 1, &one, &p));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 2, freqs, &f));
    for (int i = 0; i < 3; i++) {
        position = i == 1 ? 0 : -1;
        REQUIRE_OK(mlxn_buffer_write(p, 0, &position, sizeof position));
        REQUIRE_OK(
            mlxn_rope(encoder, MLXN_DESC(mlxn_rope_args, .input = x, .output = x, .positions = p,
                                         .freqs = f, .pairing = MLXN_ROPE_NEOX, .rotary_pairs = 32,
                                         .attention_factor = 1)));
        REQUIRE_OK(mlxn_encoder_commit(encoder));
        if (i == 1)
            CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
        else
            CHECK_FAILS(mlxn_encoder_wait(encoder), MLXN_ERR_FAULT, "position is out of range");
        REQUIRE_OK(mlxn_encoder_reset(encoder));
    }
    CHECK_FAILS(mlxn_device_wait(device), MLXN_ERR_FAULT, "position");
    CHECK_STATUS(mlxn_device_wait(device), MLXN_OK);
    mlxn_encoder_release(encoder);
    mlxn_buffer_release(x);
    mlxn_buffer_release(p);
    mlxn_buffer_release(f);
    mlxn_device_release(device);
    CHECK_CLEAN();
}

/* An illegal access: said once with the driver's text, later calls answer that the device is lost.
 */
TEST(cuda_lost_device)
{
    rounds_bench b;
    float got[STEP_ELEMENTS];
    mlxn_buffer *more = NULL;
    fake_control *fake = cuda_fake();
    REQUIRE_OK(rounds_open(&b));
    REQUIRE_OK(cuda_step(b.encoder, "outside", b.v[0], NULL, NULL, 0, 0));
    REQUIRE_OK(mlxn_encoder_commit(b.encoder));
    CHECK_FAILS(mlxn_encoder_wait(b.encoder), MLXN_ERR_DEVICE, "an illegal memory access");
    CHECK(fake->findings == 1);
    CHECK_FAILS(mlxn_buffer_read(b.v[0], 0, got, sizeof got), MLXN_ERR_DEVICE, "lost since");
    CHECK_FAILS(mlxn_buffer_write(b.v[0], 0, got, sizeof got), MLXN_ERR_DEVICE, "lost since");
    CHECK_FAILS(cuda_vector(b.device, got, &more), MLXN_ERR_DEVICE, "lost since");
    REQUIRE_OK(mlxn_encoder_reset(b.encoder));
    CHECK_FAILS(mlxn_device_wait(b.device), MLXN_ERR_DEVICE, "an illegal memory access");
    CHECK_STATUS(mlxn_device_wait(b.device), MLXN_OK);
    rounds_close(&b);
    cuda_fake();
    CHECK_CLEAN();
}

/* Everything that the backend does, once; the first failure. */
static mlxn_status scenario(void)
{
    rounds_bench b;
    const int64_t few = 16;
    mlxn_graph *graph = NULL;
    mlxn_buffer *small = NULL;
    float got[STEP_ELEMENTS];
    mlxn_status status = rounds_open(&b);
    if (status == MLXN_OK)
        status = rounds_record(b.encoder, b.v);
    if (status == MLXN_OK)
        status = rounds_finish(b.encoder);
    if (status == MLXN_OK)
        status = rounds_record(b.encoder, b.v);
    if (status == MLXN_OK) /* what the host sees of the graph */
        status = mlxn_buffer_create(b.device, MLXN_F32, 1, &few, &small);
    if (status == MLXN_OK)
        status = cuda_advance(b.encoder, small, few, 1, 1);
    if (status == MLXN_OK)
        status = mlxn_graph_capture(b.encoder, &graph);
    for (int i = 0; i < 2 && status == MLXN_OK; i++) {
        status = mlxn_graph_replay(b.encoder, graph);
        if (status == MLXN_OK)
            status = rounds_finish(b.encoder);
    }
    if (status == MLXN_OK)
        status = mlxn_buffer_read(b.v[0], 0, got, sizeof got);
    if (status == MLXN_OK && got[5] != rounds_result(b.start[5], 6))
        test_failed(__FILE__, __LINE__, "wrong result without a failure");
    if (status == MLXN_OK)
        status = mlxn_buffer_read(small, 0, got, sizeof *got);
    if (status == MLXN_OK && got[0] != 2)
        test_failed(__FILE__, __LINE__, "wrong small result without a failure");
    mlxn_buffer_release(small);
    mlxn_graph_release(graph);
    rounds_close(&b);
    return status;
}

/* Whether a failure of this call may pass unnoticed: it gives something back, or what it offers can
 * be done without. */
static int may_pass(const char *call)
{
    return strstr(call, "Destroy") || strstr(call, "Free") || strstr(call, "Unload") ||
           strstr(call, "Release") || !strcmp(call, "cuDeviceGetDefaultMemPool") ||
           !strcmp(call, "cuMemPoolSetAttribute") || !strcmp(call, "cuDeviceGetAttribute") ||
           !strcmp(call, "cuCtxSetCurrent") || !strcmp(call, "cuStreamSynchronize");
}

static void fail_each_call(unsigned code, int pools)
{
    fake_control *fake = cuda_fake();
    fake->pools = pools;
    if (!CHECK_STATUS(scenario(), MLXN_OK))
        return;
    const long calls = fake->calls;
    CHECK(calls > 100);
    for (long i = 1; i <= calls; i++) {
        fake = cuda_fake();
        fake->pools = pools;
        fake->fail_at = i;
        fake->fail_code = code;
        const mlxn_status status = scenario();
        const char *failed = fake->failed ? fake->failed : "nothing";
        if (status == MLXN_OK && !may_pass(failed))
            test_failed(__FILE__, __LINE__, "call %ld, %s, failed without an answer", i, failed);
        if (status != MLXN_OK && !mlxn_last_error()[0])
            test_failed(__FILE__, __LINE__, "call %ld, %s: no text", i, failed);
        fake->fail_at = 0;
        CHECK_CLEAN();
    }
    test_note("%ld calls failed one by one", calls);
}

TEST(cuda_every_call_fails_once)
{
    fail_each_call(2 /* out of memory */, 1);
    fail_each_call(999 /* lasting */, 0);
}

/* ---- threads ---- */

static void *work_alone(void *context)
{
    mlxn_device *device = context;
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *x = NULL;
    float got[STEP_ELEMENTS], start[STEP_ELEMENTS] = {0};
    long bad = 0;
    bad += mlxn_encoder_create(device, &encoder) != MLXN_OK;
    for (int i = 0; i < 20 && !bad; i++) {
        bad += cuda_vector(device, start, &x) != MLXN_OK;
        bad += cuda_step(encoder, "advance", x, NULL, NULL, 1, 1) != MLXN_OK;
        bad += cuda_step(encoder, "advance", x, NULL, NULL, 2, 1) != MLXN_OK;
        bad += rounds_finish(encoder) != MLXN_OK;
        bad += mlxn_buffer_read(x, 0, got, sizeof got) != MLXN_OK || got[7] != 3;
        mlxn_buffer_release(x);
    }
    mlxn_encoder_release(encoder);
    return bad ? context : NULL;
}

TEST(cuda_threads)
{
    pthread_t threads[3];
    cuda_fake();
    mlxn_device *device = open_device();
    REQUIRE(device);
    REQUIRE_OK(cuda_register_steps(device));
    for (int i = 0; i < 3; i++)
        REQUIRE(!pthread_create(&threads[i], NULL, work_alone, device));
    for (int i = 0; i < 3; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        CHECK(!bad);
    }
    mlxn_device_release(device);
    CHECK_CLEAN();
}
