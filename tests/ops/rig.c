/* rig.c - see rig.h. */
#include "rig.h"

#include <stdarg.h>

static void add_device(rig_device *devices, int *count, uint32_t mask, const char *path,
                       uint32_t threads)
{
    rig_device d = {.path = path, .threads = threads};
    mlxn_device_info info = {.size = sizeof info};
    if (mlxn_device_open_with(MLXN_DESC(mlxn_device_desc, .backend = "cpu", .threads = threads,
                                        .cpu_mask = mask | MLXN_CPU_PORTABLE),
                              &d.device) != MLXN_OK ||
        mlxn_device_get_info(d.device, &info) != MLXN_OK || strcmp(info.path, path) ||
        mlxn_encoder_create(d.device, &d.encoder) != MLXN_OK) {
        mlxn_device_release(d.device); /* a path that this machine lacks */
        return;
    }
    devices[(*count)++] = d;
}

/* The one device that --device names, opened twice. */
static const rig_device *named_device(int *count)
{
    static rig_device named[2];
    for (int i = 0; i < 2 && !named[i].device; i++) {
        rig_device *d = &named[i];
        d->path = test_backend();
        CHECK_STATUS(mlxn_device_open(d->path, test_device_index(), &d->device), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_create(d->device, &d->encoder), MLXN_OK);
    }
    *count = named[0].encoder != NULL;
    return named;
}

static const rig_device *default_devices(int *count)
{
    return strcmp(test_backend(), "cpu") ? named_device(count) : rig_cpu_devices(count);
}

const rig_device *(*rig_source)(int *count) = default_devices;

const rig_device *rig_devices(int *count)
{
    return rig_source(count);
}

const rig_device *rig_cpu_devices(int *count)
{
    static const struct {
        const char *path;
        uint32_t mask;
    } paths[] = {{"avx512", MLXN_CPU_AVX512 | MLXN_CPU_AVX2},
                 {"avx2", MLXN_CPU_AVX2},
                 {"dotprod", MLXN_CPU_DOTPROD | MLXN_CPU_NEON},
                 {"neon", MLXN_CPU_NEON},
                 {"portable", MLXN_CPU_PORTABLE}};
    static const uint32_t teams[] = {2, 3, 8};
    static rig_device devices[RIG_MAX];
    static int n;
    uint32_t best = MLXN_CPU_PORTABLE;
    if (!n) {
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
            add_device(devices, &n, paths[i].mask, paths[i].path, 1);
            if (n == 1 && best == MLXN_CPU_PORTABLE)
                best = paths[i].mask;
        }
        for (size_t i = 0; i < sizeof teams / sizeof *teams; i++)
            add_device(devices, &n, best, devices[0].path, teams[i]);
        CHECK(n >= 4);
    }
    *count = n;
    return devices;
}

size_t rig_bytes(mlxn_dtype dtype, size_t n)
{
    return n * mlxn_dtype_block_bytes(dtype);
}

mlxn_buffer *rig_buffer(mlxn_device *device, mlxn_dtype dtype, int rank, const int64_t *shape,
                        const void *data)
{
    mlxn_buffer *b = NULL;
    CHECK_STATUS(mlxn_buffer_create(device, dtype, rank, shape, &b), MLXN_OK);
    if (b && data)
        CHECK_STATUS(mlxn_buffer_write(b, 0, data, mlxn_buffer_bytes(b)), MLXN_OK);
    return b;
}

mlxn_buffer *rig_vector(mlxn_device *device, mlxn_dtype dtype, int64_t n, const void *data)
{
    return rig_buffer(device, dtype, 1, &n, data);
}

mlxn_buffer *rig_view(mlxn_buffer *base, int rank, const int64_t *shape, const int64_t *strides,
                      int64_t first)
{
    mlxn_buffer *b = NULL;
    mlxn_dtype dtype = mlxn_buffer_dtype(base);
    CHECK_STATUS(
        mlxn_buffer_view(base, dtype, rank, shape, strides, rig_bytes(dtype, (size_t)first), &b),
        MLXN_OK);
    return b;
}

int rig_finish(const rig_device *on, mlxn_status want)
{
    int ok = test_status(mlxn_encoder_commit(on->encoder), MLXN_OK, __FILE__, __LINE__, "commit");
    ok &= test_status(mlxn_encoder_wait(on->encoder), want, __FILE__, __LINE__, "wait");
    ok &= test_status(mlxn_encoder_reset(on->encoder), MLXN_OK, __FILE__, __LINE__, "reset");
    return ok;
}

void rig_read(mlxn_buffer *buffer, void *out)
{
    rig_read_part(buffer, 0, out, mlxn_buffer_bytes(buffer));
}

void rig_read_part(mlxn_buffer *buffer, size_t offset, void *out, size_t bytes)
{
    if (CHECK_STATUS(mlxn_buffer_read(buffer, offset, out, bytes), MLXN_OK))
        test_seen(mlxn_buffer_dtype(buffer), out, bytes);
}

int32_t rig_int(mlxn_buffer *buffer, int64_t i)
{
    int32_t value = -99;
    rig_read_part(buffer, (size_t)i * 4, &value, 4);
    return value;
}

void *rig_normal(mlxn_dtype dtype, size_t n, float scale, uint64_t *seed)
{
    void *data = malloc(rig_bytes(dtype, n) + 1);
    for (size_t i = 0; data && i < n; i++)
        test_store(dtype, data, i, (double)(scale * test_normal(seed)));
    return data;
}

int rig_float(mlxn_dtype dtype)
{
    return dtype == MLXN_F32 ? 0 : dtype == MLXN_F16 ? 1 : 2;
}

void rig_record(rig_worst *worst, double ulp, const char *format, ...)
{
    va_list args;
    if (!(ulp > worst->ulp))
        return;
    worst->ulp = ulp;
    va_start(args, format);
    vsnprintf(worst->where, sizeof worst->where, format, args);
    va_end(args);
}
