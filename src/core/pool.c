/* pool.c - storage that is handed out again and again; see mlxn/buffer.h. */
#include <stdlib.h>
#include <string.h>
#include "core/internal.h"

typedef struct pool_block {
    struct pool_block *next;
    mlxn_storage *storage;
    mlxn_buffer *buffer; /* the one handed out, not counted; NULL if free */
} pool_block;

struct mlxn_pool {
    atomic_int refs;
    mlxn_device *device;
    pool_block *blocks;
    mlxn_pool_stats stats;
};

enum { GRANULE = 256 };

mlxn_status mlxn_pool_create(mlxn_device *device, mlxn_pool **out)
{
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_create: out is NULL");
    *out = NULL;
    if (!device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_create: device is NULL");
    mlxn_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return mlxn_fail(MLXN_ERR_MEMORY, "pool_create: out of memory");
    atomic_init(&pool->refs, 1);
    pool->device = mlxn_device_retain(device);
    *out = pool;
    return MLXN_OK;
}

mlxn_pool *mlxn_pool_retain(mlxn_pool *pool)
{
    if (pool)
        atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
    return pool;
}

/* Drops the free blocks, or all of them. */
static void drop_blocks(mlxn_pool *pool, int all)
{
    for (pool_block **at = &pool->blocks; *at;) {
        pool_block *block = *at;
        if (block->buffer && !all) {
            at = &block->next;
            continue;
        }
        *at = block->next;
        pool->stats.kept_bytes -= block->storage->bytes;
        mlxn_storage_release(block->storage);
        free(block);
    }
}

void mlxn_pool_release(mlxn_pool *pool)
{
    if (!pool || atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel) != 1)
        return;
    drop_blocks(pool, 1);
    mlxn_device_release(pool->device);
    free(pool);
}

static void take_back(mlxn_pool *pool, pool_block *block)
{
    block->buffer = NULL;
    pool->stats.used_bytes -= block->storage->bytes;
}

/* A buffer that was released rather than recycled has left its storage to the pool alone. */
static void reclaim(mlxn_pool *pool)
{
    for (pool_block *block = pool->blocks; block; block = block->next)
        if (block->buffer && atomic_load(&block->storage->refs) == 1)
            take_back(pool, block);
}

/* The smallest free block of at least `bytes`, or a new one. */
static mlxn_status take_block(mlxn_pool *pool, size_t bytes, pool_block **out)
{
    pool_block *best = NULL;
    reclaim(pool);
    for (pool_block *block = pool->blocks; block; block = block->next)
        if (!block->buffer && block->storage->bytes >= bytes &&
            (!best || block->storage->bytes < best->storage->bytes))
            best = block;
    if (best) {
        pool->stats.reuses++;
        *out = best;
        return MLXN_OK;
    }
    best = calloc(1, sizeof *best);
    if (!best)
        return mlxn_fail(MLXN_ERR_MEMORY, "pool_alloc: out of memory");
    mlxn_status status = mlxn_storage_alloc(pool->device, bytes, 0, 0, &best->storage);
    if (status != MLXN_OK) {
        free(best);
        return status;
    }
    best->next = pool->blocks;
    pool->blocks = best;
    pool->stats.kept_bytes += bytes;
    pool->stats.allocations++;
    *out = best;
    return MLXN_OK;
}

mlxn_status mlxn_pool_alloc(mlxn_pool *pool, mlxn_dtype dtype, int rank, const int64_t *shape,
                            mlxn_buffer **out)
{
    size_t bytes;
    pool_block *block = NULL;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_alloc: out is NULL");
    *out = NULL;
    if (!pool)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_alloc: pool is NULL");
    MLXN_TRY(mlxn_shape_bytes("pool_alloc", dtype, rank, shape, &bytes));
    MLXN_TRY(take_block(pool, (bytes + GRANULE - 1) & ~(size_t)(GRANULE - 1), &block));
    mlxn_storage_retain(block->storage);
    MLXN_TRY(mlxn_buffer_make(block->storage, dtype, rank, shape, NULL, 0, out));
    block->buffer = *out;
    pool->stats.used_bytes += block->storage->bytes;
    if (pool->stats.used_bytes > pool->stats.used_bytes_max)
        pool->stats.used_bytes_max = pool->stats.used_bytes;
    return MLXN_OK;
}

mlxn_status mlxn_pool_recycle(mlxn_pool *pool, mlxn_buffer *buffer)
{
    if (!pool || !buffer)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_recycle: %s is NULL", pool ? "buffer" : "pool");
    for (pool_block *block = pool->blocks; block; block = block->next) {
        if (block->buffer != buffer || block->storage != buffer->storage)
            continue;
        /* one reference of the pool's, one of the buffer's */
        if (atomic_load(&buffer->refs) != 1 || atomic_load(&block->storage->refs) != 2)
            return mlxn_fail(MLXN_ERR_ARGUMENT,
                             "pool_recycle: views or recorded work still use the buffer");
        take_back(pool, block);
        mlxn_buffer_release(buffer);
        return MLXN_OK;
    }
    return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_recycle: the buffer is not of this pool");
}

mlxn_status mlxn_pool_reset(mlxn_pool *pool)
{
    if (!pool)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_reset: pool is NULL");
    for (pool_block *block = pool->blocks; block; block = block->next)
        if (block->buffer)
            take_back(pool, block);
    return MLXN_OK;
}

mlxn_status mlxn_pool_trim(mlxn_pool *pool)
{
    if (!pool)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_trim: pool is NULL");
    drop_blocks(pool, 0);
    return MLXN_OK;
}

mlxn_status mlxn_pool_get_stats(const mlxn_pool *pool, mlxn_pool_stats *stats)
{
    if (!pool)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "pool_get_stats: pool is NULL");
    MLXN_TRY(mlxn_info_check("pool_get_stats", stats, sizeof *stats));
    *stats = pool->stats;
    stats->size = sizeof *stats;
    return MLXN_OK;
}
