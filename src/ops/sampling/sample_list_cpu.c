/* sample_list_cpu.c - draws from at most 1024 candidates: each thread lists the best of its part of
 * the row (order.h), one thread merges the lists, filters and draws. */
#include <math.h>
#include "ops/sampling/order.h"
#include "ops/sampling/weights.h"

typedef struct candidates {
    uint64_t drawn[SAMPLING_K_MAX]; /* weight of each, best first */
    uint64_t by_id[SAMPLING_K_MAX]; /* ~id and number, so that ascending ids come last to first */
} candidates;

/* Weighs the sorted ranks; gives how many are left by top_p, and the sum of drawn weights. */
static int64_t filter(const sample_params *p, const float *x, const order_heap *heap, candidates *c,
                      uint64_t *total)
{
    uint64_t plain[SAMPLING_K_MAX], sum = 0, reached = 0; /* whole vectors fit: 1024 is one */
    float top = x[order_id(heap->ranks[0])], values[16];
    for (int64_t i = 0; i < heap->count; i += 16) {
        for (int lane = 0; lane < 16; lane++)
            values[lane] = i + lane < heap->count ? x[order_id(heap->ranks[i + lane])] : NAN;
        weight_units(p, weights_of(vf_load(values), top, 1), plain + i);
        weight_units(p, drawn_weights_of(p, vf_load(values), top), c->drawn + i);
    }
    for (int64_t i = 0; i < heap->count; i++)
        sum += plain[i];
    int64_t kept = heap->count;
    if (p->top_p < 1) {
        uint64_t target = top_p_target(p, sum);
        for (kept = 0; kept < heap->count && reached < target; kept++)
            reached += plain[kept];
    }
    *total = 0;
    for (int64_t i = 0; i < kept; i++)
        *total += c->drawn[i];
    return kept;
}

static int32_t draw(const sample_params *p, const float *x, order_heap *heap, int32_t counter)
{
    candidates c;
    uint64_t total, below = 0;
    order_sort(heap);
    if (order_is_nan(heap->ranks[0]))
        return 0; /* as argmax */
    int64_t kept = filter(p, x, heap, &c, &total);
    order_heap ids = {c.by_id, 0, kept};
    for (int64_t i = 0; i < kept; i++)
        order_push(&ids, (heap->ranks[i] & UINT32_MAX) << 32 | (uint64_t)i);
    order_sort(&ids); /* greatest ~id first: ascending ids */
    uint64_t point = draw_point(p->seed, counter, total);
    int64_t at = 0;
    for (; at < kept - 1; at++) {
        below += c.drawn[c.by_id[at] & UINT32_MAX];
        if (point < below)
            break;
    }
    return order_id(heap->ranks[c.by_id[at] & UINT32_MAX]);
}

CPU_KERNEL(sample_list)
{
    const sample_params *p = call->args;
    const float *x = call->ptr[0];
    int32_t *token = call->ptr[1], counter = *(const int32_t *)call->ptr[2];
    uint64_t *lists = call->shared;
    int64_t begin, end, all = p->k * call->n_threads;
    cpu_split(call, p->vocab, &begin, &end);
    order_heap heap = {lists + call->thread * p->k, 0, p->k};
    order_scan(&heap, x, begin, end);
    while (heap.count < p->k) /* a part shorter than k: ranks that lose to every logit */
        heap.ranks[heap.count++] = 0;
    mlxn_cpu_barrier(call);
    if (call->thread)
        return;
    if (counter < 0) {
        mlxn_cpu_fault(call, "sample: negative counter", counter, 0);
        return;
    }
    order_heap merged = {lists, 0, p->k}; /* in place: it grows slower than i */
    for (int64_t i = 0; i < all; i++)
        order_push(&merged, lists[i]);
    *token = draw(p, x, &merged, counter);
}
