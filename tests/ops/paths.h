/* paths.h - the CPU devices that an operator must give equal bits on: every SIMD path of this
 * machine with one thread, the best and the portable one with other team sizes. */
#ifndef MLXN_TEST_PATHS_H
#define MLXN_TEST_PATHS_H

#include "../test.h"

#define TEST_PATHS_MAX 16

static mlxn_device *test_device(uint32_t mask, uint32_t threads)
{
    mlxn_device *device = NULL;
    const mlxn_device_desc *desc =
        MLXN_DESC(mlxn_device_desc, .backend = "cpu", .threads = threads, .cpu_mask = mask);
    CHECK_STATUS(mlxn_device_open_with(desc, &device), MLXN_OK);
    return device;
}

/* Fills `devices`, the best path with one thread first; gives their number. */
static int test_devices(mlxn_device *devices[TEST_PATHS_MAX])
{
    static const uint32_t threads[] = {2, 3, 8};
    const char *seen[8];
    int n = 0, paths = 0;
    for (int bit = 4; bit >= -1; bit--) {
        /* first everything, then one bit less at a time, so that each path comes up once */
        uint32_t mask = bit == 4 ? 0 : (uint32_t)(1 << (bit + 1)) - 1;
        mlxn_device_info info = {.size = sizeof info};
        mlxn_device *device = test_device(mask ? mask : bit == 4 ? 0 : MLXN_CPU_PORTABLE, 1);
        int known = 0;
        if (!device)
            continue;
        CHECK_STATUS(mlxn_device_get_info(device, &info), MLXN_OK);
        for (int i = 0; i < paths; i++)
            known |= !strcmp(seen[i], info.path);
        if (known) {
            mlxn_device_release(device);
            continue;
        }
        seen[paths++] = info.path;
        devices[n++] = device;
    }
    for (int i = 0; i < 3; i++)
        devices[n++] = test_device(0, threads[i]);
    devices[n++] = test_device(MLXN_CPU_PORTABLE, 2);
    return n;
}

static void test_devices_release(mlxn_device **devices, int n)
{
    for (int i = 0; i < n; i++)
        mlxn_device_release(devices[i]);
}

#endif
