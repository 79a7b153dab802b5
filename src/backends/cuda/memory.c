/* memory.c - the memory of storages, and the copies to and from it.
 *
 * A write is copied into pinned memory and queued, so it does not wait; a read waits for the
 * stream. */
#include <string.h>
#include "backends/cuda/cuda.h"

mlxn_status mlxn_cuda_memory_open(mlxn_cuda_device *cuda)
{
    mlxn_cuda_staging *s = &cuda->staging;
    for (int i = 0; i < 2; i++) {
        void *piece;
        MLXN_TRY(
            CU(&cuda->cu, cuMemHostAlloc, &piece, MLXN_CUDA_STAGING_BYTES, MLXN_CU_HOST_PORTABLE));
        s->piece[i] = piece;
        MLXN_TRY(CU(&cuda->cu, cuEventCreate, &s->free[i], MLXN_CU_EVENT_DISABLE_TIMING));
    }
    return MLXN_OK;
}

void mlxn_cuda_memory_close(mlxn_cuda_device *cuda)
{
    mlxn_cuda_staging *s = &cuda->staging;
    for (int i = 0; i < 2; i++) {
        if (s->free[i])
            cuda->cu.cuEventDestroy_v2(s->free[i]);
        if (s->piece[i])
            cuda->cu.cuMemFreeHost(s->piece[i]);
    }
}

/* ---- allocation ---- */

static mlxn_status take_storage(mlxn_cuda_device *cuda, mlxn_storage *storage, int zero)
{
    unsigned long long address;
    MLXN_TRY(mlxn_cuda_take(cuda, storage->bytes, &address));
    mlxn_status status = MLXN_OK;
    if (zero && storage->bytes)
        status = CU(&cuda->cu, cuMemsetD8Async, address, 0, storage->bytes, cuda->stream);
    if (status != MLXN_OK)
        mlxn_cuda_give(cuda, address);
    else
        storage->address = address;
    return status;
}

mlxn_status mlxn_cuda_alloc(mlxn_device *device, mlxn_storage *storage, int zero)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    MLXN_TRY(mlxn_cuda_enter(cuda));
    pthread_mutex_lock(&cuda->stream_lock);
    mlxn_status status = take_storage(cuda, storage, zero);
    pthread_mutex_unlock(&cuda->stream_lock);
    return status;
}

void mlxn_cuda_free(mlxn_device *device, mlxn_storage *storage)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    (void)!mlxn_cuda_enter(cuda);
    pthread_mutex_lock(&cuda->stream_lock);
    mlxn_cuda_mirror_drop(storage);
    mlxn_cuda_give(cuda, storage->address);
    pthread_mutex_unlock(&cuda->stream_lock);
}

/* The device does not read the host's memory: the core copies instead. */
mlxn_status mlxn_cuda_wrap(mlxn_device *device, mlxn_storage *storage, void *memory)
{
    (void)device;
    (void)storage;
    (void)memory;
    return MLXN_ERR_UNSUPPORTED;
}

/* ---- copies ---- */

/* Goes on to the other piece, once the copies from it are done. */
static mlxn_status next_piece(mlxn_cuda_device *cuda)
{
    mlxn_cuda_staging *s = &cuda->staging;
    MLXN_TRY(CU(&cuda->cu, cuEventRecord, s->free[s->now], cuda->stream));
    MLXN_TRY(CU(&cuda->cu, cuEventSynchronize, s->free[!s->now]));
    s->now = !s->now;
    s->used = 0;
    return MLXN_OK;
}

static mlxn_status write_pieces(mlxn_cuda_device *cuda, unsigned long long to,
                                const unsigned char *src, size_t bytes)
{
    mlxn_cuda_staging *s = &cuda->staging;
    while (bytes) {
        if (s->used == MLXN_CUDA_STAGING_BYTES)
            MLXN_TRY(next_piece(cuda));
        size_t room = MLXN_CUDA_STAGING_BYTES - s->used, n = bytes < room ? bytes : room;
        unsigned char *from = s->piece[s->now] + s->used;
        memcpy(from, src, n);
        MLXN_TRY(CU(&cuda->cu, cuMemcpyHtoDAsync_v2, to, from, n, cuda->stream));
        s->used += n;
        to += n;
        src += n;
        bytes -= n;
    }
    return MLXN_OK;
}

mlxn_status mlxn_cuda_write(mlxn_device *device, mlxn_storage *storage, size_t offset,
                            const void *src, size_t bytes)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    MLXN_TRY(mlxn_cuda_enter(cuda));
    pthread_mutex_lock(&cuda->stream_lock);
    mlxn_cuda_mirror_stale(storage);
    mlxn_status status = write_pieces(cuda, storage->address + offset, src, bytes);
    pthread_mutex_unlock(&cuda->stream_lock);
    return status;
}

/* Through a piece of staging that nothing else uses: the whole stream is waited for. */
static mlxn_status read_pieces(mlxn_cuda_device *cuda, unsigned long long from, unsigned char *dst,
                               size_t bytes)
{
    mlxn_cuda_staging *s = &cuda->staging;
    while (bytes) {
        size_t n = bytes < MLXN_CUDA_STAGING_BYTES ? bytes : MLXN_CUDA_STAGING_BYTES;
        if (n > MLXN_CUDA_STAGING_BYTES - s->used)
            MLXN_TRY(next_piece(cuda));
        unsigned char *piece = s->piece[s->now] + s->used;
        MLXN_TRY(CU(&cuda->cu, cuMemcpyDtoHAsync_v2, piece, from, n, cuda->stream));
        MLXN_TRY(CU(&cuda->cu, cuStreamSynchronize, cuda->stream));
        memcpy(dst, piece, n);
        s->used = 0; /* nothing is under way any more */
        from += n;
        dst += n;
        bytes -= n;
    }
    return MLXN_OK;
}

mlxn_status mlxn_cuda_read(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                           size_t bytes)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    MLXN_TRY(mlxn_cuda_enter(cuda));
    pthread_mutex_lock(&cuda->stream_lock);
    mlxn_status status = mlxn_cuda_mirror_read(cuda, storage, offset, dst, bytes)
                             ? MLXN_OK
                             : read_pieces(cuda, storage->address + offset, dst, bytes);
    pthread_mutex_unlock(&cuda->stream_lock);
    return status;
}
