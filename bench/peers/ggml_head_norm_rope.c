/* ggml_head_norm_rope.c - ggml's rms_norm, mul and rope (NEOX) for head_norm_rope.py, which builds
 * it against the ggml of llama-cpp-python and drives it by lines on stdin:
 *     shape TOKENS HEADS DIM DTYPE   answers "ok", or "no REASON"
 *     sample                         answers the seconds of one run, the mean over milliseconds
 * Argument: threads.  The graph holds the chain a few times, so that starting it hardly counts;
 * mul and rope work in place, as llama.cpp's allocator arranges it. */
#define _POSIX_C_SOURCE 200809L
#include <ggml-cpu.h>
#include <ggml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHAINS = 16 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct {
    struct ggml_context *context;
    struct ggml_cgraph *graph;
    struct ggml_cplan plan;
    struct ggml_threadpool *threads;
    int n_threads, chains;
} peer;

static void set_shape(long tokens, long heads, long dim)
{
    const size_t bytes = (size_t)(tokens * heads * dim) * 4;
    if (peer.context) {
        free(peer.plan.work_data);
        ggml_free(peer.context);
    }
    peer.chains = bytes > 1 << 20 ? 1 : CHAINS;
    peer.context = ggml_init(
        (struct ggml_init_params){.mem_size = bytes * (size_t)(peer.chains + 1) +
                                              ((size_t)tokens + (size_t)dim) * 4 + (8 << 20)});
    struct ggml_tensor *x = ggml_new_tensor_3d(peer.context, GGML_TYPE_F32, dim, heads, tokens);
    struct ggml_tensor *weight = ggml_new_tensor_1d(peer.context, GGML_TYPE_F32, dim);
    struct ggml_tensor *positions = ggml_new_tensor_1d(peer.context, GGML_TYPE_I32, tokens);
    for (long i = 0; i < tokens * heads * dim; i++)
        ((float *)x->data)[i] = (float)(i * 7919 % 2001) / 1000.0f - 1.0f;
    for (long i = 0; i < dim; i++)
        ((float *)weight->data)[i] = 1.0f + (float)i / 1000.0f;
    for (long i = 0; i < tokens; i++)
        ((int *)positions->data)[i] = (int)i + 1000;
    peer.graph = ggml_new_graph(peer.context);
    for (int k = 0; k < peer.chains; k++) {
        struct ggml_tensor *y = ggml_rms_norm(peer.context, x, 1e-6f);
        y = ggml_mul_inplace(peer.context, y, weight);
        y = ggml_rope_ext_inplace(peer.context, y, positions, NULL, (int)dim, GGML_ROPE_TYPE_NEOX,
                                  0, 1e4f, 1, 0, 1, 32, 1);
        ggml_build_forward_expand(peer.graph, y);
    }
    peer.plan = ggml_graph_plan(peer.graph, peer.n_threads, peer.threads);
    peer.plan.work_data = malloc(peer.plan.work_size + 64);
    ggml_graph_compute(peer.graph, &peer.plan); /* warms up */
}

static double sample(void)
{
    int n = 0;
    double start = seconds(), now = start;
    for (; n == 0 || now - start < 5e-3; n++, now = seconds())
        ggml_graph_compute(peer.graph, &peer.plan);
    return (now - start) / n / peer.chains;
}

int main(int argc, char **argv)
{
    char line[128], dtype[16];
    long tokens, heads, dim;
    peer.n_threads = argc > 1 ? atoi(argv[1]) : 1;
    ggml_cpu_init();
    struct ggml_threadpool_params params = ggml_threadpool_params_default(peer.n_threads);
    peer.threads = ggml_threadpool_new(&params);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "shape %ld %ld %ld %15s", &tokens, &heads, &dim, dtype) == 4) {
            if (strcmp(dtype, "f32") != 0) {
                puts("no rms_norm of this dtype");
            } else {
                set_shape(tokens, heads, dim);
                puts("ok");
            }
        } else {
            printf("%.10f\n", sample());
        }
        fflush(stdout);
    }
    return 0;
}
