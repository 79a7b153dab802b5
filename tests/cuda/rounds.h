/* rounds.h - work for the tests of commits and graphs: vectors, and dispatches that depend on one
 * another, with a known result. */
#ifndef MLXN_TESTS_CUDA_ROUNDS_H
#define MLXN_TESTS_CUDA_ROUNDS_H

#include "rig.h"

typedef struct rounds_bench {
    mlxn_device *device;
    mlxn_encoder *encoder;
    mlxn_buffer *v[5];
    float start[STEP_ELEMENTS];
} rounds_bench;

/* A device on the fakes, an encoder, vectors that begin as `start`. */
mlxn_status rounds_open(rounds_bench *b);
void rounds_close(rounds_bench *b);
/* Records two rounds of: c = 2a + 1, d = a + 3c beside e = -c, then a = d + e. */
mlxn_status rounds_record(mlxn_encoder *e, mlxn_buffer **v);
/* Commits, waits, resets. */
mlxn_status rounds_finish(mlxn_encoder *e);
/* What an element becomes in n rounds. */
float rounds_result(float a, int n);
/* v[0] must be `start` after n rounds. */
void rounds_check(rounds_bench *b, int n);

#endif
