/* ops_matmul.c - times mlxn_matmul on the shapes of Gemma 3 270M: one row (decode: GB/s of weight,
 * beside the machine's plain read of as many bytes) and 512 rows (prefill: GMAC/s).
 * Usage: bench-matmul [threads [cpu mask]] */
#include <string.h>
#include "bench.h"

enum { ROWS = 512, BEST_OF = 9 };

/* Random bytes; the f16 scales that they hold are made small. */
static void fill(mlxn_buffer *b)
{
    const size_t block = mlxn_dtype_block_bytes(mlxn_buffer_dtype(b)), bytes = mlxn_buffer_bytes(b);
    unsigned char *p = malloc(bytes);
    uint32_t x = 1;
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)((x = x * 1664525u + 1013904223u) >> 24);
    for (size_t i = 0; i + block <= bytes; i += block) {
        memcpy(p + i, "\x00\x20\x00\x20", 4);
        if (mlxn_buffer_dtype(b) == MLXN_Q6_K)
            memcpy(p + i + 208, "\x00\x20", 2);
    }
    DO(mlxn_buffer_write(b, 0, p, bytes));
    free(p);
}

/* The best time of a matmul over `copies` weights in turn, so that they do not stay in the cache.
 */
static double best(mlxn_device *device, mlxn_buffer *x, mlxn_buffer **w, int copies, mlxn_buffer *y,
                   mlxn_matmul_mode mode)
{
    double least = 1e9;
    mlxn_encoder *e = NULL;
    DO(mlxn_encoder_create(device, &e));
    for (int i = 0; i < BEST_OF; i++) {
        DO(mlxn_encoder_reset(e));
        for (int c = 0; c < copies; c++)
            DO(mlxn_matmul(e, MLXN_DESC(mlxn_matmul_args, .input = x, .weight = w[c], .output = y,
                                        .mode = mode)));
        const double start = bench_now();
        DO(mlxn_encoder_commit(e));
        DO(mlxn_encoder_wait(e));
        const double took = (bench_now() - start) / copies;
        least = took < least ? took : least;
    }
    mlxn_encoder_release(e);
    return least;
}

static void read_kernel(const mlxn_cpu_call *call)
{
    const int64_t lines = *(const int64_t *)call->args / 64, part = lines / call->n_threads;
    const uint64_t *p = call->ptr[0];
    uint64_t sum[8] = {0};
    for (int64_t i = part * call->thread; i < part * (call->thread + 1); i++)
        for (int j = 0; j < 8; j++)
            sum[j] += p[8 * i + j];
    ((volatile uint64_t *)call->ptr[1])[8 * call->thread] =
        sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static void read_bandwidth(mlxn_device *device)
{
    const int64_t bytes = 200 << 20;
    mlxn_buffer *b = bench_matrix(device, MLXN_U8, 1, bytes),
                *out = bench_matrix(device, MLXN_U8, 64, 1024);
    const mlxn_operand operands[] = {{b, MLXN_READ}, {out, MLXN_WRITE}};
    double least = 1e9;
    void *host = NULL;
    DO(mlxn_buffer_map(b, &host)); /* untouched pages would all be one page of zeros */
    memset(host, 1, (size_t)bytes);
    mlxn_encoder *e = NULL;
    DO(mlxn_kernel_register(device,
                            MLXN_DESC(mlxn_kernel_desc, .name = "bench_read", .cpu = read_kernel)));
    DO(mlxn_encoder_create(device, &e));
    for (int i = 0; i < BEST_OF; i++) {
        DO(mlxn_encoder_reset(e));
        DO(mlxn_dispatch(e,
                         MLXN_DESC(mlxn_dispatch_args, .kernel = "bench_read", .operands = operands,
                                   .n_operands = 2, .args = &bytes, .args_bytes = sizeof bytes)));
        const double start = bench_now();
        DO(mlxn_encoder_commit(e));
        DO(mlxn_encoder_wait(e));
        const double took = bench_now() - start;
        least = i && took < least ? took : least;
    }
    printf("plain read of %lld MiB: %.1f GB/s\n", (long long)(bytes >> 20),
           (double)bytes / least * 1e-9);
    mlxn_encoder_release(e);
    mlxn_buffer_release(b);
    mlxn_buffer_release(out);
}

static void bench(mlxn_device *device, mlxn_dtype dtype, int64_t k, int64_t n)
{
    mlxn_buffer *plain = bench_matrix(device, dtype, n, k), *w[64] = {0};
    mlxn_buffer *x = bench_matrix(device, MLXN_F32, ROWS, k),
                *x1 = bench_matrix(device, MLXN_F32, 1, k);
    const int64_t rows = n > 100000 ? 16 : ROWS;
    mlxn_buffer *y = bench_matrix(device, MLXN_F32, rows, n),
                *y1 = bench_matrix(device, MLXN_F32, 1, n), *xs;
    const double bytes = (double)mlxn_buffer_bytes(plain);
    int copies = (int)(100e6 / bytes) + 1;
    copies = copies > 64 ? 64 : copies;
    fill(plain);
    for (int i = 0; i < copies; i++)
        DO(mlxn_weight_prepare(plain, MLXN_WEIGHT_MATMUL, &w[i]));
    DO(mlxn_buffer_slice(x, 0, 0, rows, &xs));
    for (int mode = MLXN_MATMUL_FAST; mode >= MLXN_MATMUL_EXACT; mode--) {
        const double one = best(device, x1, w, copies, y1, (mlxn_matmul_mode)mode);
        const double many = best(device, xs, w, 1, y, (mlxn_matmul_mode)mode);
        printf("%-5s %5lld -> %-6lld %s  1 row: %8.1f us %5.1f GB/s   %3lld rows: %8.2f ms %6.1f "
               "GMAC/s\n",
               mlxn_dtype_name(dtype), (long long)k, (long long)n,
               mode == MLXN_MATMUL_FAST ? "fast " : "exact", one * 1e6, bytes / one * 1e-9,
               (long long)rows, many * 1e3, (double)rows * (double)k * (double)n / many * 1e-9);
    }
    for (int i = 0; i < copies; i++)
        mlxn_buffer_release(w[i]);
    mlxn_buffer_release(plain);
    mlxn_buffer_release(x);
    mlxn_buffer_release(xs);
    mlxn_buffer_release(x1);
    mlxn_buffer_release(y);
    mlxn_buffer_release(y1);
}

int main(int argc, char **argv)
{
    mlxn_device *device = NULL;
    mlxn_device_info info = {.size = sizeof info};
    DO(mlxn_device_open_with(
        MLXN_DESC(mlxn_device_desc, .backend = "cpu",
                  .threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 0,
                  .cpu_mask = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0),
        &device));
    DO(mlxn_device_get_info(device, &info));
    if (info.threads == 1) /* steadier where others use the machine too */
        bench_clock = CLOCK_PROCESS_CPUTIME_ID;
    printf("%s, %s, %u threads\n", info.name, info.path, info.threads);
    read_bandwidth(device);
    bench(device, MLXN_Q5_0, 640, 1024);
    bench(device, MLXN_Q5_0, 640, 2048);
    bench(device, MLXN_Q8_0, 640, 256);
    bench(device, MLXN_Q4_K, 1024, 640);
    bench(device, MLXN_Q4_K, 2048, 640);
    bench(device, MLXN_Q6_K, 2048, 640);
    bench(device, MLXN_Q8_0, 640, 262144);
    mlxn_device_release(device);
    return 0;
}
