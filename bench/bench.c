/* bench.c - see bench.h. */
#include "bench.h"

clockid_t bench_clock = CLOCK_MONOTONIC;

void bench_check(mlxn_status status)
{
    if (status == MLXN_OK)
        return;
    fprintf(stderr, "%s\n", mlxn_last_error());
    exit(1);
}

double bench_now(void)
{
    struct timespec t;
    clock_gettime(bench_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *times, size_t n)
{
    qsort(times, n, sizeof *times, by_size);
    return times[n / 2];
}

mlxn_buffer *bench_matrix(mlxn_device *device, mlxn_dtype dtype, int64_t rows, int64_t cols)
{
    mlxn_buffer *b = NULL;
    const int64_t dims[2] = {rows, cols};
    DO(mlxn_buffer_create(device, dtype, 2, dims, &b));
    return b;
}
