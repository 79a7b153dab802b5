/* work.c - a list of recorded dispatches and the memory it lives in.
 *
 * Nodes are bump-allocated from blocks that are kept when the list is cleared, so that recording
 * into a reused encoder allocates nothing.  A list holds a reference to the storage of every
 * operand; to the graphs that it replays its encoder does. */
#include <stdlib.h>
#include "core/internal.h"

struct mlxn_arena_block {
    mlxn_arena_block *next;
    size_t used, capacity;
    _Alignas(64) unsigned char bytes[];
};

enum { BLOCK_BYTES = 32768 };

void *mlxn_work_alloc(mlxn_work *work, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    mlxn_arena_block *block = work->blocks;
    if (!block || bytes > block->capacity - block->used) {
        if (work->spare && bytes <= work->spare->capacity) {
            block = work->spare;
            work->spare = block->next;
        } else {
            size_t capacity = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
            block = malloc(sizeof *block + capacity);
            if (!block)
                return NULL;
            block->capacity = capacity;
        }
        block->used = 0;
        block->next = work->blocks;
        work->blocks = block;
    }
    void *p = block->bytes + block->used;
    block->used += bytes;
    return p;
}

void mlxn_work_init(mlxn_work *work)
{
    *work = (mlxn_work){0};
    work->last = &work->first;
}

void mlxn_work_clear(mlxn_work *work)
{
    for (mlxn_node *node = work->first; node; node = node->next)
        for (int i = 0; i < node->n_operands; i++)
            mlxn_storage_release(node->operands[i].storage);
    while (work->blocks) {
        mlxn_arena_block *block = work->blocks;
        work->blocks = block->next;
        block->next = work->spare;
        work->spare = block;
    }
    work->first = NULL;
    work->last = &work->first;
    work->dispatches = work->barriers = 0;
    work->barrier_pending = 0;
    work->shared_used = work->shared_max = 0;
    mlxn_hazards_clear(&work->hazards);
}

void mlxn_work_free(mlxn_work *work)
{
    mlxn_work_clear(work);
    while (work->spare) {
        mlxn_arena_block *block = work->spare;
        work->spare = block->next;
        free(block);
    }
    mlxn_hazards_free(&work->hazards);
}

static mlxn_status check_hazard(mlxn_work *work, const mlxn_node *node, mlxn_barrier_mode mode,
                                int *barrier)
{
    int operand;
    if (mode == MLXN_BARRIERS_EXPLICIT || *barrier)
        return MLXN_OK;
    const mlxn_node *earlier = mlxn_hazards_find(&work->hazards, node, &operand);
    if (!earlier)
        return MLXN_OK;
    if (mode == MLXN_BARRIERS_VALIDATE)
        return mlxn_fail(
            MLXN_ERR_HAZARD,
            "%s: operand %d %s what %s used since the last barrier: a barrier is missing",
            node->kernel->source.name, operand,
            node->operands[operand].access & MLXN_WRITE ? "writes" : "reads",
            earlier->kernel->source.name);
    *barrier = 1;
    return MLXN_OK;
}

static void note_written(const mlxn_node *node)
{
    for (int i = 0; i < node->n_operands; i++)
        if (node->operands[i].storage && node->operands[i].access & MLXN_WRITE)
            atomic_store_explicit(&node->operands[i].storage->written, 1, memory_order_relaxed);
}

mlxn_status mlxn_work_append(mlxn_work *work, mlxn_node *node, mlxn_barrier_mode mode)
{
    int barrier = work->barrier_pending || node->graph;
    MLXN_TRY(check_hazard(work, node, mode, &barrier));
    barrier = barrier && work->first;
    if (barrier) {
        mlxn_hazards_clear(&work->hazards);
        work->shared_used = 0;
    }
    if (mode != MLXN_BARRIERS_EXPLICIT)
        MLXN_TRY(mlxn_hazards_add(&work->hazards, node));
    node->barrier_before = barrier;
    node->shared_offset = work->shared_used;
    work->shared_used += (node->shared_bytes + 255) & ~(size_t)255;
    if (work->shared_used > work->shared_max)
        work->shared_max = work->shared_used;
    work->barriers += (uint64_t)barrier;
    work->dispatches += node->graph ? node->graph->work.dispatches : 1;
    work->barriers += node->graph ? node->graph->work.barriers : 0;
    work->barrier_pending = node->graph != NULL;
    node->next = NULL;
    *work->last = node;
    work->last = &node->next;
    note_written(node);
    return MLXN_OK;
}
