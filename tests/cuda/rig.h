/* rig.h - what the tests of the CUDA backend share: the fakes, opened and reset; a device on them;
 * small kernels of the test's own. */
#ifndef MLXN_TESTS_CUDA_RIG_H
#define MLXN_TESTS_CUDA_RIG_H

#include "fake.h"
#include "test.h"

/* The fakes' knobs, in their first state: one device, no failures, an empty kernel cache. */
fake_control *cuda_fake(void);
fake_nvrtc_control *cuda_fake_nvrtc(void);
/* Records a failure if the fake found something wrong or something is still alive. */
void cuda_check_clean(const char *file, int line);
#define CHECK_CLEAN() cuda_check_clean(__FILE__, __LINE__)

/* The folder of the kernel cache that the tests use; the environment names it. */
const char *cuda_cache_folder(void);
/* Removes what is in it; the number of files there were. */
int cuda_cache_clear(void);

extern const char mlxn_kernel_text_steps[];
typedef struct step_args {
    int32_t n;
    float scale, bias;
} step_args;

/* Registers the kernels of steps.kernel; records "kernel(x[, y[, z]])" for vectors of 256. */
enum { STEP_ELEMENTS = 256 };
mlxn_status cuda_register_steps(mlxn_device *device);
mlxn_status cuda_step(mlxn_encoder *encoder, const char *kernel, mlxn_buffer *x, mlxn_buffer *y,
                      mlxn_buffer *z, float scale, float bias);
/* x = scale x + bias for a vector of n. */
mlxn_status cuda_advance(mlxn_encoder *encoder, mlxn_buffer *x, int64_t n, float scale, float bias);
mlxn_status cuda_vector(mlxn_device *device, const float *values, mlxn_buffer **out);

#endif
