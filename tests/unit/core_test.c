/* core_test.c - device, buffer, pool, encoder, registry and graph, with small user kernels. */
#include "../test.h"
#include <pthread.h>
#include <unistd.h>

static mlxn_device *open_cpu(uint32_t threads)
{
    mlxn_device *device = NULL;
    CHECK_STATUS(mlxn_device_open_with(
                     MLXN_DESC(mlxn_device_desc, .backend = "cpu", .threads = threads), &device),
                 MLXN_OK);
    return device;
}

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
    mlxn_device *device = open_cpu(threads);
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

static mlxn_buffer *ints(mlxn_device *device, int64_t n)
{
    mlxn_buffer *buffer = NULL;
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_I32, 1, &n, &buffer), MLXN_OK);
    return buffer;
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

TEST(core_status_texts)
{
    CHECK(!strcmp(mlxn_status_string(MLXN_OK), "success"));
    CHECK(!strcmp(mlxn_status_string((mlxn_status)999), "unknown status"));
    CHECK(mlxn_fail(MLXN_ERR_IO, "file %d", 7) == MLXN_ERR_IO);
    CHECK(!strcmp(mlxn_last_error(), "file 7"));
    CHECK(mlxn_fail(MLXN_ERR_IO, "again: %s", mlxn_last_error()) == MLXN_ERR_IO);
    CHECK(!strcmp(mlxn_last_error(), "again: file 7"));
    CHECK(mlxn_version() == 100 && !strcmp(mlxn_version_string(), "0.1.0"));
}

static void *other_thread_error(void *out)
{
    *(char *)out = mlxn_last_error()[0];
    return NULL;
}

TEST(core_error_text_is_per_thread)
{
    pthread_t id;
    char seen = 'x';
    CHECK(mlxn_fail(MLXN_ERR_IO, "mine") == MLXN_ERR_IO);
    REQUIRE(pthread_create(&id, NULL, other_thread_error, &seen) == 0);
    pthread_join(id, NULL);
    CHECK(seen == 0);
}

TEST(core_dtypes)
{
    CHECK(mlxn_dtype_from_name("q4_k") == MLXN_Q4_K && mlxn_dtype_from_gguf(12) == MLXN_Q4_K);
    CHECK(mlxn_dtype_from_name(NULL) == MLXN_DTYPE_NONE);
    CHECK(mlxn_dtype_from_name("f64") == MLXN_DTYPE_NONE);
    CHECK(mlxn_dtype_from_gguf(0) == MLXN_F32 && mlxn_dtype_from_gguf(30) == MLXN_BF16);
    CHECK(mlxn_dtype_from_gguf(0xffffffffu) == MLXN_DTYPE_NONE);
    CHECK(mlxn_dtype_block_elements(MLXN_Q6_K) == 256 && mlxn_dtype_block_bytes(MLXN_Q6_K) == 210);
    CHECK(mlxn_dtype_block_elements((mlxn_dtype)77) == 0);
    CHECK(!strcmp(mlxn_dtype_name((mlxn_dtype)-1), "none"));
}

TEST(core_desc_sizes)
{
    struct {
        mlxn_device_desc desc;
        uint64_t future;
    } grown = {.desc = {.backend = "cpu"}};
    mlxn_device *device = NULL;
    CHECK_FAILS(mlxn_device_open_with(NULL, &device), MLXN_ERR_ARGUMENT, "NULL");
    CHECK_FAILS(mlxn_device_open_with(&grown.desc, &device), MLXN_ERR_ARGUMENT, "size is 0");
    grown.desc.size = sizeof grown;
    CHECK_STATUS(mlxn_device_open_with(&grown.desc, &device), MLXN_OK);
    mlxn_device_release(device);
    grown.future = 1;
    CHECK_FAILS(mlxn_device_open_with(&grown.desc, &device), MLXN_ERR_ARGUMENT, "knows");
    CHECK(device == NULL);
    grown.desc.size = offsetof(mlxn_device_desc, threads); /* an older caller */
    CHECK_STATUS(mlxn_device_open_with(&grown.desc, &device), MLXN_OK);
    mlxn_device_release(device);
}

TEST(core_device_open)
{
    mlxn_device *device = NULL;
    mlxn_device_info info = {.size = sizeof info};
    CHECK_FAILS(mlxn_device_open("abacus", 0, &device), MLXN_ERR_NOT_FOUND, "abacus");
    CHECK_FAILS(mlxn_device_open("cpu", 1, &device), MLXN_ERR_NOT_FOUND, "not 1");
    CHECK_FAILS(mlxn_device_open("cpu", -1, &device), MLXN_ERR_ARGUMENT, "-1");
    CHECK_STATUS(mlxn_device_open("cpu", 0, NULL), MLXN_ERR_ARGUMENT);
    REQUIRE_OK(mlxn_device_open(NULL, 0, &device));
    REQUIRE_OK(mlxn_device_get_info(device, &info));
    const int on_cpu = !strcmp(info.backend, "cpu"); /* a usable GPU comes first */
    CHECK((on_cpu || !strcmp(info.backend, "cuda")) && (info.threads >= 1) == on_cpu);
    CHECK(info.name[0]);
    info.size = 3;
    CHECK_STATUS(mlxn_device_get_info(device, &info), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_device_get_info(NULL, &info), MLXN_ERR_ARGUMENT);
    int backends = 0, has_cpu = 0;
    for (const char *name; (name = mlxn_backend_name(backends)) != NULL; backends++)
        has_cpu += !strcmp(name, "cpu");
    CHECK(has_cpu == 1);
    CHECK_STATUS(mlxn_device_wait(device), MLXN_OK);
    CHECK_STATUS(mlxn_device_wait(NULL), MLXN_ERR_ARGUMENT);
    mlxn_device_release(device);
    mlxn_device_release(NULL);
}

TEST(core_cpu_mask)
{
    mlxn_device *device = NULL;
    mlxn_device_info info = {.size = sizeof info};
    REQUIRE_OK(mlxn_device_open_with(
        MLXN_DESC(mlxn_device_desc, .backend = "cpu", .cpu_mask = MLXN_CPU_PORTABLE), &device));
    CHECK_STATUS(mlxn_device_get_info(device, &info), MLXN_OK);
    CHECK(!strcmp(info.path, "portable"));
    mlxn_device_release(device);
    setenv("MLXN_CPU_MASK", "portable,mmx", 1);
    CHECK_FAILS(mlxn_device_open("cpu", 0, &device), MLXN_ERR_ARGUMENT, "mmx");
    setenv("MLXN_CPU_MASK", "portable", 1);
    REQUIRE_OK(mlxn_device_open("cpu", 0, &device));
    unsetenv("MLXN_CPU_MASK");
    CHECK_STATUS(mlxn_device_get_info(device, &info), MLXN_OK);
    CHECK(!strcmp(info.path, "portable"));
    mlxn_device_release(device);
}

TEST(core_buffer_bad_input)
{
    mlxn_device *device = open_cpu(1);
    mlxn_buffer *b = NULL;
    const int64_t ok[] = {2, 32}, zero[] = {2, 0}, odd[] = {2, 33};
    const int64_t huge[] = {INT64_MAX / 2, 8}, wide[] = {1ll << 62};
    CHECK_FAILS(mlxn_buffer_create(NULL, MLXN_F32, 2, ok, &b), MLXN_ERR_ARGUMENT, "device");
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_F32, 2, ok, NULL), MLXN_ERR_ARGUMENT);
    CHECK_FAILS(mlxn_buffer_create(device, MLXN_F32, 2, NULL, &b), MLXN_ERR_ARGUMENT, "shape");
    CHECK_FAILS(mlxn_buffer_create(device, (mlxn_dtype)99, 2, ok, &b), MLXN_ERR_DTYPE, "99");
    CHECK_FAILS(mlxn_buffer_create(device, MLXN_F32, 9, ok, &b), MLXN_ERR_SHAPE, "9");
    CHECK_FAILS(mlxn_buffer_create(device, MLXN_F32, -1, ok, &b), MLXN_ERR_SHAPE, "-1");
    CHECK_FAILS(mlxn_buffer_create(device, MLXN_F32, 2, zero, &b), MLXN_ERR_SHAPE, "0");
    CHECK_FAILS(mlxn_buffer_create(device, MLXN_Q8_0, 2, odd, &b), MLXN_ERR_SHAPE, "33");
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_F32, 2, huge, &b), MLXN_ERR_OVERFLOW);
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_F32, 1, wide, &b), MLXN_ERR_OVERFLOW);
    CHECK_FAILS(mlxn_buffer_create(device, MLXN_U8, 1, wide, &b), MLXN_ERR_MEMORY, "bytes");
    CHECK(b == NULL);
    mlxn_device_release(device);
}

TEST(core_buffer_views)
{
    mlxn_device *device = open_cpu(1);
    mlxn_buffer *base = NULL, *view = NULL, *inner = NULL, *quant = NULL;
    const int64_t shape[] = {4, 6}, part[] = {2, 3}, strides[] = {6, 1}, blocks[] = {4, 64};
    float values[24], got[9];
    for (int i = 0; i < 24; i++)
        values[i] = (float)i;
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 2, shape, &base));
    CHECK_STATUS(mlxn_buffer_write(base, 0, values, sizeof values), MLXN_OK);
    REQUIRE_OK(mlxn_buffer_view(base, MLXN_F32, 2, part, strides, 8 * sizeof(float), &view));
    CHECK(mlxn_buffer_bytes(view) == 9 * sizeof(float) && mlxn_buffer_elements(view) == 6);
    CHECK_STATUS(mlxn_buffer_read(view, 0, got, sizeof got), MLXN_OK);
    CHECK(got[0] == 8 && got[8] == 16);
    REQUIRE_OK(mlxn_buffer_slice(view, 0, 1, 1, &inner));
    CHECK_STATUS(mlxn_buffer_read(inner, 0, got, 3 * sizeof(float)), MLXN_OK);
    CHECK(got[0] == 14 && mlxn_buffer_byte_offset(inner) == 14 * sizeof(float));
    mlxn_buffer_release(inner);
    CHECK_FAILS(mlxn_buffer_view(base, MLXN_F32, 2, part, strides, 16 * sizeof(float), &inner),
                MLXN_ERR_BOUNDS, "96");
    CHECK_STATUS(mlxn_buffer_view(base, MLXN_F32, 2, part, strides, 2, &inner), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_buffer_view(NULL, MLXN_F32, 2, part, strides, 0, &inner), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_buffer_view(base, MLXN_F32, 2, part, strides, SIZE_MAX - 3, &inner),
                 MLXN_ERR_BOUNDS);
    CHECK_STATUS(mlxn_buffer_slice(base, 2, 0, 1, &inner), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_buffer_slice(base, 0, 3, 2, &inner), MLXN_ERR_BOUNDS);
    CHECK_STATUS(mlxn_buffer_slice(base, 0, INT64_MAX, 1, &inner), MLXN_ERR_BOUNDS);
    CHECK(inner == NULL);
    mlxn_buffer_release(base); /* the view keeps the storage */
    CHECK_STATUS(mlxn_buffer_read(view, 0, got, sizeof got), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_read(view, 1, got, sizeof got), MLXN_ERR_BOUNDS);
    CHECK_STATUS(mlxn_buffer_write(view, SIZE_MAX, got, 4), MLXN_ERR_BOUNDS);
    mlxn_buffer_release(view);
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_Q8_0, 2, blocks, &quant));
    CHECK(mlxn_buffer_bytes(quant) == 8 * 34);
    REQUIRE_OK(mlxn_buffer_slice(quant, 1, 32, 32, &view));
    CHECK(mlxn_buffer_byte_offset(view) == 34);
    CHECK_FAILS(mlxn_buffer_slice(quant, 1, 16, 32, &inner), MLXN_ERR_SHAPE, "16");
    mlxn_buffer_release(view);
    mlxn_buffer_release(quant);
    mlxn_device_release(device);
}

static void count_release(void *context)
{
    ++*(int *)context;
}

TEST(core_buffer_wrap_and_map)
{
    mlxn_device *device = open_cpu(1);
    mlxn_buffer *b = NULL;
    int32_t memory[4] = {1, 2, 3, 4};
    const int64_t four[] = {4}, five[] = {5};
    int released = 0;
    void *mapped = NULL;
    char path[] = "/tmp/mlxn-test-XXXXXX";
    CHECK_FAILS(mlxn_buffer_wrap(device, memory, sizeof memory, MLXN_I32, 1, five, count_release,
                                 &released, &b),
                MLXN_ERR_BOUNDS, "20");
    CHECK(released == 0);
    REQUIRE_OK(mlxn_buffer_wrap(device, memory, sizeof memory, MLXN_I32, 1, four, count_release,
                                &released, &b));
    REQUIRE_OK(mlxn_buffer_map(b, &mapped));
    CHECK(mapped == memory && released == 0);
    mlxn_buffer_release(b);
    CHECK(released == 1);
    int file = mkstemp(path);
    REQUIRE(file >= 0 && write(file, "abc\1\2\3\4\5\6\7\x8", 11) == 11);
    close(file);
    const int64_t eight[] = {8}, nine[] = {9};
    REQUIRE_OK(mlxn_buffer_map_file(device, path, 3, MLXN_U8, 1, eight, &b));
    uint8_t got[8];
    CHECK_STATUS(mlxn_buffer_read(b, 0, got, 8), MLXN_OK);
    CHECK(got[0] == 1 && got[7] == 8);
    CHECK_STATUS(mlxn_buffer_write(b, 0, "zz", 2), MLXN_OK); /* private: the file stays */
    mlxn_buffer_release(b);
    REQUIRE_OK(mlxn_buffer_map_file(device, path, 3, MLXN_U8, 1, eight, &b));
    CHECK_STATUS(mlxn_buffer_read(b, 0, got, 1), MLXN_OK);
    CHECK(got[0] == 1);
    mlxn_buffer_release(b);
    CHECK_FAILS(mlxn_buffer_map_file(device, path, 3, MLXN_U8, 1, nine, &b), MLXN_ERR_BOUNDS, "11");
    CHECK_FAILS(mlxn_buffer_map_file(device, "/no/such", 0, MLXN_U8, 1, nine, &b), MLXN_ERR_IO,
                "/no/such");
    unlink(path);
    mlxn_device_release(device);
}

TEST(core_pool)
{
    mlxn_device *device = open_cpu(1);
    mlxn_pool *pool = NULL;
    mlxn_buffer *a = NULL, *b = NULL, *c = NULL, *foreign = ints(device, 10);
    mlxn_pool_stats stats = {.size = sizeof stats};
    const int64_t small[] = {10}, large[] = {1000};
    REQUIRE_OK(mlxn_pool_create(device, &pool));
    REQUIRE_OK(mlxn_pool_alloc(pool, MLXN_I32, 1, large, &a));
    REQUIRE_OK(mlxn_pool_alloc(pool, MLXN_I32, 1, small, &b));
    CHECK_FAILS(mlxn_pool_recycle(pool, foreign), MLXN_ERR_ARGUMENT, "not of this pool");
    REQUIRE_OK(mlxn_buffer_slice(a, 0, 0, 5, &c));
    CHECK_FAILS(mlxn_pool_recycle(pool, a), MLXN_ERR_ARGUMENT, "still use");
    mlxn_buffer_release(c);
    CHECK_STATUS(mlxn_pool_recycle(pool, a), MLXN_OK);
    REQUIRE_OK(mlxn_pool_alloc(pool, MLXN_F32, 1, small, &a)); /* any size fits a larger block */
    CHECK_STATUS(mlxn_pool_get_stats(pool, &stats), MLXN_OK);
    CHECK(stats.allocations == 2 && stats.reuses == 1 && stats.used_bytes_max >= 4040);
    mlxn_buffer_release(a); /* released, not recycled: reused all the same */
    REQUIRE_OK(mlxn_pool_alloc(pool, MLXN_I32, 1, large, &a));
    CHECK_STATUS(mlxn_pool_get_stats(pool, &stats), MLXN_OK);
    CHECK(stats.allocations == 2 && stats.reuses == 2);
    CHECK_STATUS(mlxn_pool_reset(pool), MLXN_OK);
    CHECK_STATUS(mlxn_pool_trim(pool), MLXN_OK);
    CHECK_STATUS(mlxn_pool_get_stats(pool, &stats), MLXN_OK);
    CHECK(stats.used_bytes == 0 && stats.kept_bytes == 0);
    CHECK_STATUS(mlxn_pool_alloc(NULL, MLXN_I32, 1, large, &c), MLXN_ERR_ARGUMENT);
    mlxn_buffer_release(a);
    mlxn_buffer_release(b);
    mlxn_buffer_release(foreign);
    mlxn_pool_release(pool);
    mlxn_device_release(device);
}

TEST(core_encoder_states)
{
    mlxn_device *device = device_with_kernels(2);
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *a = ints(device, 100), *b = ints(device, 100);
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
    mlxn_buffer *a = ints(device, 999), *b = ints(device, 999), *c = ints(device, 999);
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
    mlxn_buffer *a = ints(device, 8), *b = ints(device, 8);
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
        mlxn_buffer *a = ints(device, 1), *b = ints(device, 1);
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
    mlxn_device *device = open_cpu(1);
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
    mlxn_buffer *a = ints(device, 50), *b = ints(device, 50), *c = ints(device, 50);
    mlxn_buffer *longer = ints(device, 51);
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
    mlxn_buffer *a = ints(device, 64), *b = ints(device, 64);
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
