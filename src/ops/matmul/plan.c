/* plan.c - what the CPU is told of products beside their kernel: bytes of scratch (plan.h), and
 * what a thread reads first, as matmul_cpu.c divides the pairs of groups. */
#include "backends/cpu/share.h"
#include "ops/matmul/plan.h"
#include "ops/shared.h"

static size_t group_shared(const matmul_group_params *g, uint32_t n_threads)
{
    const group_plan p = plan_group(g);
    return p.shared_bytes + p.thread_bytes * n_threads;
}

size_t mlxn_matmul_shared(const void *args, uint32_t n_threads)
{
    const matmul_group_params one = matmul_group_of(args);
    return group_shared(&one, n_threads);
}

size_t mlxn_matmul_group_shared(const void *args, uint32_t n_threads)
{
    return group_shared(args, n_threads);
}

/* A single row: each weight's pairs of groups that are the thread's own, then those that any
 * thread may take.  Several rows are bound by arithmetic. */
static int group_early(const matmul_group_params *g, uint32_t thread, uint32_t n_threads,
                       mlxn_early_read *out)
{
    int n = 0;
    for (int rest = 0; rest < 2 && g->rows == 1; rest++)
        for (int i = 0; i < g->count; i++) {
            const matmul_weight *w = &g->product[i].weight;
            const int64_t groups = packed_groups(w->rows);
            const size_t bytes =
                packed_group_bytes(packed_format_of((mlxn_dtype)w->dtype), packed_tiles(w->cols));
            const cpu_share share = cpu_share_of((groups + 1) / 2, n_threads);
            int64_t begin = 2 * share.fixed * n_threads, end = groups;
            if (!w->packed)
                continue;
            if (!rest) {
                begin = 2 * share.fixed * thread;
                end = begin + 2 * share.fixed;
            }
            out[n++] = (mlxn_early_read){.operand = 1 + 2 * i,
                                         .offset = (size_t)begin * bytes,
                                         .bytes = (size_t)(end - begin) * bytes};
        }
    return n;
}

int mlxn_matmul_early(const void *args, uint32_t thread, uint32_t n_threads, mlxn_early_read *out)
{
    const matmul_group_params one = matmul_group_of(args);
    return group_early(&one, thread, n_threads, out);
}

int mlxn_matmul_group_early(const void *args, uint32_t thread, uint32_t n_threads,
                            mlxn_early_read *out)
{
    return group_early(args, thread, n_threads, out);
}
