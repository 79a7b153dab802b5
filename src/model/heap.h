/* heap.h - a binary heap: the item with the smallest key comes first.  Keys that must come in a
 * certain order are made different by their makers. */
#ifndef MLXN_HEAP_H
#define MLXN_HEAP_H

#include <stdint.h>
#include <stdlib.h>
#include <mlxn/status.h>

typedef struct mlxn_heap_item {
    uint64_t key;
    uint32_t a, b; /* the owner's */
} mlxn_heap_item;

typedef struct mlxn_heap {
    mlxn_heap_item *items; /* owned */
    size_t count, capacity;
} mlxn_heap;

static inline mlxn_status mlxn_heap_push(mlxn_heap *heap, mlxn_heap_item item)
{
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity ? 2 * heap->capacity : 64;
        mlxn_heap_item *items = realloc(heap->items, capacity * sizeof *items);
        if (!items)
            return mlxn_fail(MLXN_ERR_MEMORY, "heap of %zu items", capacity);
        heap->items = items;
        heap->capacity = capacity;
    }
    size_t at = heap->count++;
    for (; at && heap->items[(at - 1) / 2].key > item.key; at = (at - 1) / 2)
        heap->items[at] = heap->items[(at - 1) / 2];
    heap->items[at] = item;
    return MLXN_OK;
}

/* The heap must not be empty. */
static inline mlxn_heap_item mlxn_heap_pop(mlxn_heap *heap)
{
    mlxn_heap_item first = heap->items[0], last = heap->items[--heap->count];
    size_t at = 0, child = 1;
    for (; child < heap->count; child = 2 * at + 1) {
        child += child + 1 < heap->count && heap->items[child + 1].key < heap->items[child].key;
        if (last.key <= heap->items[child].key)
            break;
        heap->items[at] = heap->items[child];
        at = child;
    }
    heap->items[at] = last;
    return first;
}

#endif
