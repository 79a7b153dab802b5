/* paths.c - see paths.h. */
#include "paths.h"

test_paths test_paths_open(void)
{
    test_paths p = {.count = 0};
    for (uint32_t mask = 1; mask <= MLXN_CPU_DOTPROD; mask *= 2)
        for (uint32_t threads = 1; threads <= 3; threads++) {
            mlxn_device_info info = {.size = sizeof info};
            mlxn_device *d = NULL;
            if (mlxn_device_open_with(MLXN_DESC(mlxn_device_desc, .backend = "cpu",
                                                .threads = threads, .cpu_mask = mask),
                                      &d) != MLXN_OK ||
                mlxn_device_get_info(d, &info) != MLXN_OK)
                continue;
            if (mask != MLXN_CPU_PORTABLE && !strcmp(info.path, "portable")) {
                mlxn_device_release(d);
                continue;
            }
            snprintf(p.name[p.count], sizeof p.name[0], "%s x%u", info.path, threads);
            p.device[p.count++] = d;
        }
    return p;
}

void test_paths_close(test_paths *paths)
{
    while (paths->count)
        mlxn_device_release(paths->device[--paths->count]);
}
