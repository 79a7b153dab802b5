/* paths.h - every CPU configuration that this machine can run: SIMD paths times threads 1, 2, 3.
 * All of them must give the same bits. */
#ifndef MLXN_TESTS_PATHS_H
#define MLXN_TESTS_PATHS_H

#include "test.h"

typedef struct test_paths {
    mlxn_device *device[15];
    char name[15][24];
    int count;
} test_paths;

test_paths test_paths_open(void);
void test_paths_close(test_paths *paths);

#endif
