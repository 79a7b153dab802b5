/* bench.h - what the benchmarks share: time, medians, and an end at the first failure. */
#ifndef MLXN_BENCH_H
#define MLXN_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <mlxn/mlxn.h>

/* Prints the failure of a call and ends the program. */
#define DO(call) bench_check((call))
void bench_check(mlxn_status status);

/* Seconds of bench_clock, CLOCK_MONOTONIC at first. */
extern clockid_t bench_clock;
double bench_now(void);

/* Sorts the times. */
double bench_median(double *times, size_t n);

/* A matrix of zeros. */
mlxn_buffer *bench_matrix(mlxn_device *device, mlxn_dtype dtype, int64_t rows, int64_t cols);

#endif
