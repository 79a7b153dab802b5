/* buffer_test.c - buffers, views of them, memory of the caller's and of files, the pool. */
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"

TEST(core_buffer_bad_input)
{
    mlxn_device *device = unit_cpu(1);
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
    mlxn_device *device = unit_cpu(1);
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
    mlxn_device *device = unit_cpu(1);
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
    REQUIRE(!mkfifo(path, 0600));
    CHECK_FAILS(mlxn_buffer_map_file(device, path, 0, MLXN_U8, 1, nine, &b), MLXN_ERR_IO,
                "not a regular file"); /* and does not wait for a writer */
    unlink(path);
    mlxn_device_release(device);
}

TEST(core_pool)
{
    mlxn_device *device = unit_cpu(1);
    mlxn_pool *pool = NULL;
    mlxn_buffer *a = NULL, *b = NULL, *c = NULL, *foreign = unit_ints(device, 10);
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
