/* rig.h - what operator tests share: devices of every SIMD path and team size, buffers with given
 * contents, and random data. */
#ifndef MLXN_TESTS_OPS_RIG_H
#define MLXN_TESTS_OPS_RIG_H

#include "test.h"

/* CPU: every path of this machine with 1 thread, best path first, then the best path with 2, 3 and
 * 8. */
enum { RIG_MAX = 8 };
typedef struct rig_device {
    mlxn_device *device;
    mlxn_encoder *encoder;
    const char *path;
    uint32_t threads;
    int slow; /* emulated: a test that repeats much repeats less */
} rig_device;
/* The CPU's devices, opened on first use and kept; *count of them. */
const rig_device *rig_cpu_devices(int *count);
/* The devices that the tests of operators run on, whose results must be the same bits: what
 * rig_source gives, by default the one that --device names, or the CPU's.  A
 * second one is open in any case, though not counted, for tests that need another device. */
extern const rig_device *(*rig_source)(int *count);
const rig_device *rig_devices(int *count);

/* A dense buffer with these contents (zeros for NULL). */
mlxn_buffer *rig_buffer(mlxn_device *device, mlxn_dtype dtype, int rank, const int64_t *shape,
                        const void *data);
/* One dimension of n elements. */
mlxn_buffer *rig_vector(mlxn_device *device, mlxn_dtype dtype, int64_t n, const void *data);
mlxn_buffer *rig_view(mlxn_buffer *base, int rank, const int64_t *shape, const int64_t *strides,
                      int64_t first);
/* Commits and waits; a failure is recorded unless it is `want`.  Leaves the encoder empty. */
int rig_finish(const rig_device *on, mlxn_status want);
/* Reads a whole dense buffer; element i of one of i32. */
void rig_read(mlxn_buffer *buffer, void *out);
int32_t rig_int(mlxn_buffer *buffer, int64_t i);
/* Some bytes of one. */
void rig_read_part(mlxn_buffer *buffer, size_t offset, void *out, size_t bytes);

/* n values of a dtype: normal numbers times `scale`.  Returns bytes to free. */
void *rig_normal(mlxn_dtype dtype, size_t n, float scale, uint64_t *seed);
size_t rig_bytes(mlxn_dtype dtype, size_t n);

/* Largest seen value of a measure, printed by test_note. */
typedef struct rig_worst {
    double ulp;
    char where[120];
} rig_worst;
/* Where the worst of a dtype is kept: f32 0, f16 1, bf16 2. */
enum { RIG_FLOATS = 3 };
int rig_float(mlxn_dtype dtype);
void rig_record(rig_worst *worst, double ulp, const char *format, ...) MLXN_PRINTF(3, 4);

#endif
