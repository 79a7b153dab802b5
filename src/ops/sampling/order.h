/* order.h - the order of logits: greater first, the lower id first on ties (-0 equals +0), NaN
 * after everything.  A logit becomes a 32-bit key, logit and id a 64-bit rank; all ranks of a row
 * differ, so "the k largest" has one answer whatever the schedule.  Keeps the k greatest ranks in a
 * heap. */
#ifndef MLXN_OPS_SAMPLING_ORDER_H
#define MLXN_OPS_SAMPLING_ORDER_H

#include "backends/cpu/kernel.h"

/* Signed keys in the order of the logits.  Adding 0 turns -0 into +0. */
static inline vi order_keys(vf x)
{
    vi bits = vf_bits(vf_add(x, vf_set(0)));
    vi key = vi_xor(bits, vi_and(vi_sar(bits, 31), vi_set(INT32_MAX)));
    return vi_select(vf_eq(x, x), key, vi_set(INT32_MIN));
}

static inline uint32_t order_unsigned(int32_t key)
{
    return (uint32_t)key ^ 0x80000000u;
}

static inline uint64_t order_rank(int32_t key, int64_t id)
{
    return (uint64_t)order_unsigned(key) << 32 | (UINT32_MAX - (uint32_t)id);
}

static inline int32_t order_id(uint64_t rank)
{
    return (int32_t)(UINT32_MAX - (uint32_t)rank);
}

static inline int order_is_nan(uint64_t rank)
{
    return rank >> 32 == 0;
}

/* A min-heap: ranks[0] is the least of `count`. */
typedef struct order_heap {
    uint64_t *ranks;
    int64_t count, capacity;
} order_heap;

static inline void order_sift_down(uint64_t *ranks, int64_t count)
{
    uint64_t moving = ranks[0];
    int64_t at = 0;
    for (int64_t child = 1; child < count; child = 2 * at + 1) {
        child += child + 1 < count && ranks[child + 1] < ranks[child];
        if (ranks[child] >= moving)
            break;
        ranks[at] = ranks[child];
        at = child;
    }
    ranks[at] = moving;
}

/* Keeps the `capacity` greatest of all pushed. */
static inline void order_push(order_heap *heap, uint64_t rank)
{
    if (heap->count == heap->capacity) {
        if (rank > heap->ranks[0]) {
            heap->ranks[0] = rank;
            order_sift_down(heap->ranks, heap->count);
        }
        return;
    }
    int64_t at = heap->count++;
    for (; at > 0 && heap->ranks[(at - 1) / 2] > rank; at = (at - 1) / 2)
        heap->ranks[at] = heap->ranks[(at - 1) / 2];
    heap->ranks[at] = rank;
}

/* Sorts the heap's array in descending order; it is no heap any more. */
static inline void order_sort(order_heap *heap)
{
    for (int64_t n = heap->count; n > 1; n--) {
        uint64_t least = heap->ranks[0];
        heap->ranks[0] = heap->ranks[n - 1];
        order_sift_down(heap->ranks, n - 1);
        heap->ranks[n - 1] = least;
    }
}

/* Pushes x[begin .. end), ids ascending.  Once the heap is full a vector is looked at further only
 * if one of its keys is greater than the least kept: an equal key has a higher id, so it loses. */
static inline void order_scan(order_heap *heap, const float *x, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i += 16) {
        int n = end - i < 16 ? (int)(end - i) : 16;
        int32_t keys[16];
        vi key = order_keys(n == 16 ? vf_load(x + i) : vf_load_n(x + i, n));
        uint32_t wanted = (1u << n) - 1;
        if (heap->count == heap->capacity) {
            uint32_t least = (uint32_t)(heap->ranks[0] >> 32);
            wanted &= vm_bits(vi_gt(key, vi_set((int32_t)(least ^ 0x80000000u))));
        }
        if (!wanted)
            continue;
        vi_store(keys, key);
        for (int lane = 0; lane < n; lane++)
            if (wanted >> lane & 1)
                order_push(heap, order_rank(keys[lane], i + lane));
    }
}

#endif
