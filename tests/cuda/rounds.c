/* rounds.c - see rounds.h. */
#include "rounds.h"

mlxn_status rounds_record(mlxn_encoder *e, mlxn_buffer **v)
{
    for (int i = 0; i < 2; i++) {
        MLXN_TRY(cuda_step(e, "affine", v[0], v[2], NULL, 2, 1));
        MLXN_TRY(cuda_step(e, "combine", v[0], v[2], v[3], 3, 0));
        MLXN_TRY(cuda_step(e, "affine", v[2], v[4], NULL, -1, 0));
        MLXN_TRY(cuda_step(e, "combine", v[3], v[4], v[0], 1, 0));
    }
    return MLXN_OK;
}

float rounds_result(float a, int n)
{
    for (; n > 0; n--) {
        float c = 2 * a + 1;
        a = a + 3 * c - c;
    }
    return a;
}

mlxn_status rounds_open(rounds_bench *b)
{
    *b = (rounds_bench){0};
    for (int i = 0; i < STEP_ELEMENTS; i++)
        b->start[i] = (float)(i % 17) - 8;
    MLXN_TRY(mlxn_device_open("cuda", 0, &b->device));
    MLXN_TRY(cuda_register_steps(b->device));
    MLXN_TRY(mlxn_encoder_create(b->device, &b->encoder));
    for (int i = 0; i < 5; i++)
        MLXN_TRY(cuda_vector(b->device, b->start, &b->v[i]));
    return MLXN_OK;
}

void rounds_close(rounds_bench *b)
{
    mlxn_encoder_release(b->encoder);
    for (int i = 0; i < 5; i++)
        mlxn_buffer_release(b->v[i]);
    mlxn_device_release(b->device);
}

mlxn_status rounds_finish(mlxn_encoder *e)
{
    MLXN_TRY(mlxn_encoder_commit(e));
    MLXN_TRY(mlxn_encoder_wait(e));
    return mlxn_encoder_reset(e);
}

void rounds_check(rounds_bench *b, int n)
{
    float got[STEP_ELEMENTS];
    if (!CHECK_STATUS(mlxn_buffer_read(b->v[0], 0, got, sizeof got), MLXN_OK))
        return;
    for (int i = 0; i < STEP_ELEMENTS; i++)
        if (got[i] != rounds_result(b->start[i], n)) {
            test_failed(__FILE__, __LINE__, "element %d is %g, wants %g", i, (double)got[i],
                        (double)rounds_result(b->start[i], n));
            return;
        }
}
