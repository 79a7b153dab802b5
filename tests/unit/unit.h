/* unit.h - what the tests of core and of the CPU backend share. */
#ifndef MLXN_TESTS_UNIT_UNIT_H
#define MLXN_TESTS_UNIT_UNIT_H

#include "../test.h"

/* The CPU device with a team of this size; NULL after a failure, which is recorded. */
mlxn_device *unit_cpu(uint32_t threads);
/* A buffer i32 [n] of zeros. */
mlxn_buffer *unit_ints(mlxn_device *device, int64_t n);

#endif
