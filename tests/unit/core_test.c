/* core_test.c - status and error texts, dtypes, descriptors of other sizes, devices. */
#include <pthread.h>
#include "unit.h"

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
    mlxn_device *none = NULL;
    if (mlxn_device_open_with(MLXN_DESC(mlxn_device_desc, .threads = 100000), &none)) /* no GPU */
        CHECK(strstr(mlxn_last_error(), "100000 threads")); /* and not of a backend that is not */
    mlxn_device_release(none);
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
    REQUIRE_OK(mlxn_device_open_with(/* every set there is, also those that this machine lacks */
                                     MLXN_DESC(mlxn_device_desc, .backend = "cpu",
                                               .cpu_mask = 2 * MLXN_CPU_DOTPROD - 1),
                                     &device));
    mlxn_device_release(device);
    CHECK_FAILS(mlxn_device_open_with(MLXN_DESC(mlxn_device_desc, .backend = "cpu",
                                                .cpu_mask = 2 * MLXN_CPU_DOTPROD | 1),
                                      &device),
                MLXN_ERR_ARGUMENT, "cpu_mask 0x21");
    CHECK_FAILS(mlxn_device_open_with(
                    MLXN_DESC(mlxn_device_desc, .backend = "cpu", .cpu_mask = 1u << 31), &device),
                MLXN_ERR_ARGUMENT, "cpu_mask 0x80000000");
    CHECK_FAILS(mlxn_device_open_with(MLXN_DESC(mlxn_device_desc, .backend = "cpu",
                                                .threads = MLXN_CPU_THREADS_MAX + 1),
                                      &device),
                MLXN_ERR_ARGUMENT, "1025 threads, at most 1024");
    setenv("MLXN_CPU_MASK", "portable,mmx", 1);
    CHECK_FAILS(mlxn_device_open("cpu", 0, &device), MLXN_ERR_ARGUMENT, "mmx");
    CHECK_FAILS(mlxn_device_open(NULL, 0, &device), MLXN_ERR_ARGUMENT, "mmx");
    setenv("MLXN_CPU_MASK", "portable", 1);
    REQUIRE_OK(mlxn_device_open("cpu", 0, &device));
    unsetenv("MLXN_CPU_MASK");
    CHECK_STATUS(mlxn_device_get_info(device, &info), MLXN_OK);
    CHECK(!strcmp(info.path, "portable"));
    mlxn_device_release(device);
}
