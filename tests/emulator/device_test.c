/* device_test.c - buffers of a device whose memory the host cannot reach: no address is given out,
 * wrapped memory and mapped files are copied, reads and writes work. */
#include <unistd.h>
#include "device.h"

static int released;
static void note_release(void *context)
{
    released += context == &released;
}

TEST(device_memory_without_host_address)
{
    static const int64_t shape[] = {8};
    uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8}, got[8];
    mlxn_buffer *made = NULL, *wrapped = NULL;
    void *host = bytes;
    mlxn_device *device = &emu_device_open(0)->base;
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_U8, 1, shape, &made));
    CHECK_FAILS(mlxn_buffer_map(made, &host), MLXN_ERR_UNSUPPORTED, "not the host's");
    CHECK(!host);
    CHECK_STATUS(mlxn_buffer_write(made, 2, bytes, 3), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_read(made, 0, got, 8), MLXN_OK);
    CHECK(got[1] == 0 && got[2] == 1 && got[4] == 3 && got[5] == 0);
    released = 0;
    REQUIRE_OK(
        mlxn_buffer_wrap(device, bytes, 8, MLXN_U8, 1, shape, note_release, &released, &wrapped));
    CHECK(released == 1); /* a copy: the memory is free again */
    memset(bytes, 0, sizeof bytes);
    CHECK_STATUS(mlxn_buffer_read(wrapped, 0, got, 8), MLXN_OK);
    for (int i = 0; i < 8; i++)
        CHECK(got[i] == i + 1);
    mlxn_buffer_release(made);
    mlxn_buffer_release(wrapped);
    mlxn_device_release(device);
}

/* More than one piece of the copy, from an offset that is no multiple of a page. */
TEST(device_copies_mapped_files)
{
    enum { HEAD = 5001, N = (20 << 20) + 77 };
    char path[] = "/tmp/mlxn-mapped-XXXXXX";
    const int64_t shape[] = {N};
    mlxn_buffer *b = NULL;
    unsigned char *data = malloc(HEAD + N), *got = malloc(N);
    int file = mkstemp(path);
    REQUIRE(data && got && file >= 0);
    for (int i = 0; i < HEAD + N; i++)
        data[i] = (unsigned char)((uint32_t)i * 2654435761u >> 24);
    CHECK(write(file, data, HEAD + N) == HEAD + N);
    close(file);
    mlxn_device *device = &emu_device_open(0)->base;
    REQUIRE_OK(mlxn_buffer_map_file(device, path, HEAD, MLXN_U8, 1, shape, &b));
    unlink(path);
    CHECK_STATUS(mlxn_buffer_read(b, 0, got, N), MLXN_OK);
    CHECK(!memcmp(got, data + HEAD, N));
    mlxn_buffer_release(b);
    mlxn_device_release(device);
    free(data);
    free(got);
}
