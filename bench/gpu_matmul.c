/* gpu_matmul.c - times mlxn_matmul on a GPU, on the shapes of Gemma 3 270M, by every schedule of
 * its planner: microseconds of a dispatch in a replayed graph in which each waits for the one
 * before, with more unlike weights than the caches hold.  Medians of nine replays. Usage:
 * bench-gpu-matmul [BACKEND [ROWS ...]] */
#include <string.h>
#include "bench.h"
#include "ops/matmul/planner.h"

enum { REPLAYS = 9, COPIES_MAX = 512, WEIGHTS_BYTES = 200 << 20 };

/* Random bytes, but 0x20 in place of what could be the exponents of f16 or f32. */
static void fill(mlxn_buffer *b, uint32_t x)
{
    const size_t bytes = mlxn_buffer_bytes(b);
    unsigned char *p = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = i % 2 ? 0x20 : (unsigned char)(x >> 24);
    }
    DO(mlxn_buffer_write(b, 0, p, bytes));
    free(p);
}

/* Seconds of a dispatch: the weights in turn, in a graph. */
static double time_graph(mlxn_device *device, mlxn_buffer *x, mlxn_buffer **w, int copies,
                         mlxn_buffer *y, mlxn_matmul_mode mode)
{
    double took[REPLAYS];
    mlxn_encoder *e = NULL;
    mlxn_graph *graph = NULL;
    DO(mlxn_encoder_create(device, &e));
    for (int c = 0; c < copies; c++)
        DO(mlxn_matmul(
            e, MLXN_DESC(mlxn_matmul_args, .input = x, .weight = w[c], .output = y, .mode = mode)));
    DO(mlxn_graph_capture(e, &graph));
    for (int i = -1; i < REPLAYS; i++) { /* the first builds */
        DO(mlxn_graph_replay(e, graph));
        const double start = bench_now();
        DO(mlxn_encoder_commit(e));
        DO(mlxn_encoder_wait(e));
        if (i >= 0)
            took[i] = (bench_now() - start) / copies;
        DO(mlxn_encoder_reset(e));
    }
    mlxn_graph_release(graph);
    mlxn_encoder_release(e);
    return bench_median(took, REPLAYS);
}

/* One line: each schedule in exact mode, then fast as it is planned. */
static void line(mlxn_device *device, mlxn_buffer *plain, mlxn_buffer **w, int copies, int64_t rows)
{
    static const char *const names[] = {"auto", "short", "wide", "matrix"};
    const int64_t n = mlxn_buffer_dim(plain, 0), k = mlxn_buffer_dim(plain, 1);
    mlxn_gpu_traits *traits = (mlxn_gpu_traits *)(uintptr_t)device->gpu;
    mlxn_buffer *x = bench_matrix(device, MLXN_F32, rows, k),
                *y = bench_matrix(device, MLXN_F32, rows, n);
    fill(x, 9);
    printf("%-5s %6lld x %-5lld %4lld rows:", mlxn_dtype_name(mlxn_buffer_dtype(plain)),
           (long long)n, (long long)k, (long long)rows);
    for (int s = MM_SCHEDULE_AUTO; s <= MM_SCHEDULE_MATRIX; s++) {
        if (rows > 64 && (s == MM_SCHEDULE_SHORT || s == MM_SCHEDULE_WIDE))
            continue;
        traits->schedule = s;
        const double took = time_graph(device, x, w, copies, y, MLXN_MATMUL_EXACT);
        printf("  %s %.2f us (%.0f GB/s)", names[s], took * 1e6,
               (double)mlxn_buffer_bytes(plain) / took * 1e-9);
    }
    traits->schedule = MM_SCHEDULE_AUTO;
    const double fast = time_graph(device, x, w, copies, y, MLXN_MATMUL_FAST);
    printf("  fast %.2f us (%.1f TFLOP/s)\n", fast * 1e6,
           2 * (double)rows * (double)n * (double)k / fast * 1e-12);
    fflush(stdout);
    mlxn_buffer_release(x);
    mlxn_buffer_release(y);
}

static void bench(mlxn_device *device, mlxn_dtype dtype, int64_t n, int64_t k, int n_rows,
                  char **rows)
{
    mlxn_buffer *plain = bench_matrix(device, dtype, n, k), *w[COPIES_MAX] = {0};
    int copies = (int)(WEIGHTS_BYTES / mlxn_buffer_bytes(plain)) + 1;
    copies = copies > COPIES_MAX ? COPIES_MAX : copies;
    for (int i = 0; i < copies; i++) {
        if (i < 2) /* the rest is as the second */
            fill(plain, (uint32_t)i);
        DO(mlxn_weight_prepare(plain, MLXN_WEIGHT_MATMUL, &w[i]));
    }
    for (int i = 0; i < n_rows; i++)
        line(device, plain, w, copies, strtoll(rows[i], NULL, 10));
    for (int i = 0; i < copies; i++)
        mlxn_buffer_release(w[i]);
    mlxn_buffer_release(plain);
}

int main(int argc, char **argv)
{
    static char *usual[] = {"1", "4", "8", "16", "64", "512"};
    const int n_rows = argc > 2 ? argc - 2 : 6;
    char **rows = argc > 2 ? argv + 2 : usual;
    mlxn_device *device = NULL;
    mlxn_device_info info = {.size = sizeof info};
    DO(mlxn_device_open(argc > 1 ? argv[1] : "cuda", 0, &device));
    DO(mlxn_device_get_info(device, &info));
    if (!device->gpu) {
        fprintf(stderr, "%s is no GPU\n", info.name);
        return 2;
    }
    printf("%s, %s\n", info.name, info.path);
    bench(device, MLXN_Q5_0, 1024, 640, n_rows, rows);
    bench(device, MLXN_Q8_0, 256, 640, n_rows, rows);
    bench(device, MLXN_Q4_K, 640, 1024, n_rows, rows);
    bench(device, MLXN_Q5_0, 2048, 640, n_rows, rows);
    bench(device, MLXN_Q6_K, 640, 2048, n_rows, rows);
    bench(device, MLXN_Q8_0, 262144, 640, n_rows < 3 ? n_rows : 3, rows);
    mlxn_device_release(device);
    return 0;
}
