/* cpu_test.c - inside the CPU backend: memory of weights. */
#include <sys/mman.h>
#include <unistd.h>
#include "../test.h"
#include "backends/cpu/cpu.h"

static mlxn_device *open_cpu(uint32_t threads)
{
    mlxn_device *device = NULL;
    CHECK_STATUS(mlxn_device_open_with(
                     MLXN_DESC(mlxn_device_desc, .backend = "cpu", .threads = threads), &device),
                 MLXN_OK);
    return device;
}

/* ---- weights in slabs ---- */

enum { WEIGHTS = 60 }; /* 67 MB: three slabs */

static size_t weight_bytes(int i)
{
    return 70001u + (size_t)(i * 7919 % 60) * 35000u;
}

static unsigned char *weight_at(const mlxn_buffer *weight)
{
    return weight->storage->host;
}

static void mark(const mlxn_buffer *weight, int i)
{
    weight_at(weight)[0] = weight_at(weight)[weight_bytes(i) - 1] = (unsigned char)(i + 1);
}

static int is_marked(const mlxn_buffer *weight, int i)
{
    const unsigned char *at = weight_at(weight);
    return at[0] == i + 1 && at[weight_bytes(i) - 1] == i + 1;
}

/* Whether the page of an address is mapped. */
static int is_mapped(const unsigned char *at)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), offset = (uintptr_t)at % page;
    return msync((void *)(uintptr_t)(at - offset), page, MS_ASYNC) == 0;
}

/* Weights of less than a huge page lie next to each other, keep their contents while others come
 * and go, and leave no mapping behind. */
TEST(core_cpu_weights_share_mappings)
{
    const int64_t shape[] = {1, 256};
    mlxn_device *device = open_cpu(1);
    mlxn_buffer *like = NULL, *weights[WEIGHTS] = {NULL};
    const unsigned char *places[WEIGHTS];
    int next_to = 0;
    REQUIRE(device);
    const mlxn_cpu_device *cpu = (const mlxn_cpu_device *)device;
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_Q8_0, 2, shape, &like), MLXN_OK);
    for (int i = 0; i < WEIGHTS; i++) {
        CHECK_STATUS(mlxn_buffer_create_packed(like, weight_bytes(i), &weights[i]), MLXN_OK);
        REQUIRE(weights[i]);
        mark(weights[i], i);
        places[i] = weight_at(weights[i]);
        CHECK((uintptr_t)places[i] % 64 == 0);
        next_to += i && places[i] == places[i - 1] + ((weight_bytes(i - 1) + 63) & ~(size_t)63);
    }
    CHECK(next_to >= WEIGHTS - 4 && next_to < WEIGHTS - 1); /* more than one slab, but few */
    for (int i = 0; i < WEIGHTS; i += 2) {
        CHECK(is_marked(weights[i], i));
        mlxn_buffer_release(weights[i]);
    }
    for (int i = 1; i < WEIGHTS; i += 2) {
        CHECK(is_marked(weights[i], i));
        mlxn_buffer_release(weights[i]);
    }
    CHECK(cpu->slab == NULL);
    for (int i = 0; i < WEIGHTS; i++)
        CHECK(!is_mapped(places[i]));
    mlxn_buffer_release(like);
    mlxn_device_release(device);
}
