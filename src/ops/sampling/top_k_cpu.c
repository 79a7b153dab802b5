/* top_k_cpu.c - the k greatest ranks (order.h) of each row, sorted.  Few rows are cut into one part
 * a thread and the threads' lists merged; many rows are done one a thread. */
#include "ops/sampling/order.h"
#include "ops/sampling/sampling.h"

static void write_row(const mlxn_cpu_call *call, const logits_params *p, int64_t row,
                      order_heap *heap)
{
    const float *x = (const float *)call->ptr[0] + row * p->stride;
    int32_t *ids = (int32_t *)call->ptr[1] + row * p->k;
    float *values = (float *)call->ptr[2] + row * p->k;
    order_sort(heap);
    for (int64_t i = 0; i < p->k; i++) {
        ids[i] = order_id(heap->ranks[i]);
        values[i] = x[ids[i]];
    }
}

CPU_KERNEL(top_k)
{
    const logits_params *p = call->args;
    const float *x = call->ptr[0];
    uint64_t *lists = call->shared;
    int64_t begin, end;
    if (p->rows >= call->n_threads) {
        cpu_split(call, p->rows, &begin, &end);
        for (int64_t r = begin; r < end; r++) {
            order_heap heap = {lists + call->thread * p->k, 0, p->k};
            order_scan(&heap, x + r * p->stride, 0, p->vocab);
            write_row(call, p, r, &heap);
        }
        return;
    }
    cpu_split(call, p->vocab, &begin, &end);
    for (int64_t r = 0; r < p->rows; r++) {
        order_heap heap = {lists + (r * call->n_threads + call->thread) * p->k, 0, p->k};
        order_scan(&heap, x + r * p->stride, begin, end);
        while (heap.count < p->k) /* a part shorter than k: ranks that lose to every logit */
            heap.ranks[heap.count++] = 0;
    }
    mlxn_cpu_barrier(call);
    if (call->thread >= p->rows)
        return;
    int64_t row = call->thread, n = call->n_threads;
    order_heap heap = {lists + row * n * p->k, 0, p->k}; /* in place: it grows slower than i */
    for (int64_t i = 0; i < n * p->k; i++)
        order_push(&heap, heap.ranks[i]);
    write_row(call, p, row, &heap);
}
