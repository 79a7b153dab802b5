/* buffer.c - views: shape, strides, offset over storage; host access.  See mlxn/buffer.h; memory
 * that a buffer is made of: wrap.c. */
#include <stdlib.h>
#include <string.h>
#include "core/internal.h"

/* ---- shapes ---- */

mlxn_status mlxn_shape_bytes(const char *who, mlxn_dtype dtype, int rank, const int64_t *shape,
                             size_t *bytes)
{
    size_t block = mlxn_dtype_block_elements(dtype), total = 1;
    if (!block)
        return mlxn_fail(MLXN_ERR_DTYPE, "%s: %d is not a dtype", who, (int)dtype);
    if (rank < 0 || rank > MLXN_MAX_RANK)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: rank %d is outside 0 to %d", who, rank,
                         MLXN_MAX_RANK);
    if (rank && !shape)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: shape is NULL", who);
    for (int i = 0; i < rank; i++) {
        if (shape[i] <= 0)
            return mlxn_fail(MLXN_ERR_SHAPE, "%s: dimension %d is %lld, needs > 0", who, i,
                             (long long)shape[i]);
        if (mlxn_mul_overflows(total, (size_t)shape[i], &total) || total > INT64_MAX)
            return mlxn_fail(MLXN_ERR_OVERFLOW, "%s: the number of elements passes 64 bits", who);
    }
    size_t last = rank ? (size_t)shape[rank - 1] : 1;
    if (last % block)
        return mlxn_fail(MLXN_ERR_SHAPE,
                         "%s: last dimension %zu is no multiple of the %s block %zu", who, last,
                         mlxn_dtype_name(dtype), block);
    if (mlxn_mul_overflows(total / block, mlxn_dtype_block_bytes(dtype), bytes) ||
        *bytes > INT64_MAX)
        return mlxn_fail(MLXN_ERR_OVERFLOW, "%s: the size in bytes passes 64 bits", who);
    return MLXN_OK;
}

static void dense_strides(int rank, const int64_t *shape, int64_t *strides)
{
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= shape[i];
    }
}

/* Bytes from the first to the last byte of a view, or 0 on overflow. */
static size_t span_bytes(mlxn_dtype dtype, int rank, const int64_t *shape, const int64_t *strides)
{
    size_t block = mlxn_dtype_block_elements(dtype), last = 0, part, bytes;
    for (int i = 0; i < rank; i++)
        if (mlxn_mul_overflows((size_t)(shape[i] - 1), (size_t)strides[i], &part) ||
            mlxn_add_overflows(last, part, &last))
            return 0;
    if (mlxn_mul_overflows(last / block + 1, mlxn_dtype_block_bytes(dtype), &bytes))
        return 0;
    return bytes;
}

mlxn_status mlxn_buffer_make(mlxn_storage *storage, mlxn_dtype dtype, int rank,
                             const int64_t *shape, const int64_t *strides, size_t offset,
                             mlxn_buffer **out)
{
    mlxn_buffer *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b) {
        mlxn_storage_release(storage);
        return mlxn_fail(MLXN_ERR_MEMORY, "buffer: no memory for its description");
    }
    atomic_init(&b->refs, 1);
    b->storage = storage;
    b->dtype = dtype;
    b->rank = rank;
    b->elements = 1;
    for (int i = 0; i < rank; i++) {
        b->shape[i] = shape[i];
        b->elements *= shape[i];
    }
    if (strides)
        memcpy(b->strides, strides, (size_t)rank * sizeof *strides);
    else
        dense_strides(rank, shape, b->strides);
    b->offset = offset;
    b->bytes = span_bytes(dtype, rank, b->shape, b->strides);
    *out = b;
    return MLXN_OK;
}

/* ---- creation ---- */

static mlxn_status create(const char *who, mlxn_device *device, mlxn_dtype dtype, int rank,
                          const int64_t *shape, int zero, mlxn_buffer **out)
{
    size_t bytes;
    mlxn_storage *storage;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: out is NULL", who);
    *out = NULL;
    if (!device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: device is NULL", who);
    MLXN_TRY(mlxn_shape_bytes(who, dtype, rank, shape, &bytes));
    MLXN_TRY(mlxn_storage_alloc(device, bytes, 0, zero, &storage));
    return mlxn_buffer_make(storage, dtype, rank, shape, NULL, 0, out);
}

mlxn_status mlxn_buffer_create(mlxn_device *device, mlxn_dtype dtype, int rank,
                               const int64_t *shape, mlxn_buffer **out)
{
    return create("buffer_create", device, dtype, rank, shape, 1, out);
}

mlxn_status mlxn_buffer_create_uninitialized(mlxn_device *device, mlxn_dtype dtype, int rank,
                                             const int64_t *shape, mlxn_buffer **out)
{
    return create("buffer_create_uninitialized", device, dtype, rank, shape, 0, out);
}

mlxn_status mlxn_buffer_create_packed(const mlxn_buffer *like, size_t bytes, mlxn_buffer **out)
{
    mlxn_storage *storage;
    *out = NULL;
    MLXN_TRY(mlxn_storage_alloc(like->storage->device, bytes, MLXN_STORAGE_WEIGHT, 0, &storage));
    MLXN_TRY(mlxn_buffer_make(storage, like->dtype, like->rank, like->shape, NULL, 0, out));
    (*out)->layout = MLXN_LAYOUT_PACKED;
    (*out)->bytes = bytes;
    return MLXN_OK;
}

/* ---- views ---- */

static mlxn_status check_view(const mlxn_buffer *base, mlxn_dtype dtype, int rank,
                              const int64_t *shape, const int64_t *strides, size_t byte_offset)
{
    size_t bytes, block = mlxn_dtype_block_elements(dtype);
    MLXN_TRY(mlxn_shape_bytes("buffer_view", dtype, rank, shape, &bytes));
    if (base->layout == MLXN_LAYOUT_PACKED)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "buffer_view: a prepared weight has no views");
    size_t align = block > 1 ? 1 : mlxn_dtype_block_bytes(dtype);
    if ((base->offset + byte_offset) % align)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_view: byte offset %zu is no multiple of %zu",
                         base->offset + byte_offset, align);
    for (int i = 0; strides && i < rank; i++) {
        int last = i == rank - 1;
        int fits = last ? block == 1 || strides[i] == 1
                        : strides[i] >= 0 && (size_t)strides[i] % block == 0;
        if (strides[i] < 0 || !fits)
            return mlxn_fail(MLXN_ERR_SHAPE,
                             "buffer_view: stride %lld of dimension %d does not fit %s",
                             (long long)strides[i], i, mlxn_dtype_name(dtype));
    }
    if (strides) {
        /* the last block of a row starts at its last element rounded down */
        bytes = span_bytes(dtype, rank, shape, strides);
        if (!bytes)
            return mlxn_fail(MLXN_ERR_OVERFLOW, "buffer_view: the extent passes 64 bits");
    }
    if (byte_offset > base->bytes || bytes > base->bytes - byte_offset)
        return mlxn_fail(MLXN_ERR_BOUNDS, "buffer_view: needs bytes %zu to %zu, the base has %zu",
                         byte_offset, byte_offset + bytes, base->bytes);
    return MLXN_OK;
}

mlxn_status mlxn_buffer_view(mlxn_buffer *base, mlxn_dtype dtype, int rank, const int64_t *shape,
                             const int64_t *strides, size_t byte_offset, mlxn_buffer **out)
{
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_view: out is NULL");
    *out = NULL;
    if (!base)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_view: base is NULL");
    MLXN_TRY(check_view(base, dtype, rank, shape, strides, byte_offset));
    mlxn_storage_retain(base->storage);
    return mlxn_buffer_make(base->storage, dtype, rank, shape, strides, base->offset + byte_offset,
                            out);
}

mlxn_status mlxn_buffer_slice(mlxn_buffer *base, int dim, int64_t start, int64_t count,
                              mlxn_buffer **out)
{
    int64_t shape[MLXN_MAX_RANK];
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_slice: out is NULL");
    *out = NULL;
    if (!base)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_slice: base is NULL");
    if (dim < 0 || dim >= base->rank)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_slice: dimension %d of rank %d", dim,
                         base->rank);
    if (start < 0 || count <= 0 || start > base->shape[dim] || count > base->shape[dim] - start)
        return mlxn_fail(MLXN_ERR_BOUNDS, "buffer_slice: %lld from %lld of %lld elements",
                         (long long)count, (long long)start, (long long)base->shape[dim]);
    int64_t block = (int64_t)mlxn_dtype_block_elements(base->dtype);
    if (start * base->strides[dim] % block)
        return mlxn_fail(MLXN_ERR_SHAPE, "buffer_slice: start %lld is inside a block of %lld",
                         (long long)start, (long long)block);
    memcpy(shape, base->shape, sizeof shape);
    shape[dim] = count;
    size_t offset =
        (size_t)(start * base->strides[dim] / block) * mlxn_dtype_block_bytes(base->dtype);
    return mlxn_buffer_view(base, base->dtype, base->rank, shape, base->strides, offset, out);
}

/* ---- handles and getters ---- */

mlxn_buffer *mlxn_buffer_retain(mlxn_buffer *buffer)
{
    if (buffer)
        atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    return buffer;
}

void mlxn_buffer_release(mlxn_buffer *buffer)
{
    if (!buffer || atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) != 1)
        return;
    mlxn_storage_release(buffer->storage);
    free(buffer);
}

mlxn_device *mlxn_buffer_device(const mlxn_buffer *buffer)
{
    return buffer ? buffer->storage->device : NULL;
}

mlxn_dtype mlxn_buffer_dtype(const mlxn_buffer *buffer)
{
    return buffer ? buffer->dtype : MLXN_DTYPE_NONE;
}

int mlxn_buffer_rank(const mlxn_buffer *buffer)
{
    return buffer ? buffer->rank : 0;
}

int64_t mlxn_buffer_dim(const mlxn_buffer *buffer, int dim)
{
    return buffer && dim >= 0 && dim < buffer->rank ? buffer->shape[dim] : 0;
}

int64_t mlxn_buffer_stride(const mlxn_buffer *buffer, int dim)
{
    return buffer && dim >= 0 && dim < buffer->rank ? buffer->strides[dim] : 0;
}

int64_t mlxn_buffer_elements(const mlxn_buffer *buffer)
{
    return buffer ? buffer->elements : 0;
}

size_t mlxn_buffer_bytes(const mlxn_buffer *buffer)
{
    return buffer ? buffer->bytes : 0;
}

size_t mlxn_buffer_byte_offset(const mlxn_buffer *buffer)
{
    return buffer ? buffer->offset : 0;
}

/* ---- host access ---- */

static mlxn_status host_access(const char *who, mlxn_buffer *buffer, size_t byte_offset,
                               const void *memory, size_t bytes)
{
    int waited;
    if (!buffer || (!memory && bytes))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is NULL", who, buffer ? "memory" : "buffer");
    if (buffer->layout == MLXN_LAYOUT_PACKED)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: a prepared weight has no host access", who);
    if (byte_offset > buffer->bytes || bytes > buffer->bytes - byte_offset)
        return mlxn_fail(MLXN_ERR_BOUNDS, "%s: %zu bytes at %zu, the buffer has %zu", who, bytes,
                         byte_offset, buffer->bytes);
    mlxn_device *device = buffer->storage->device;
    device->ops->wait(device, mlxn_storage_last_use(buffer->storage), &waited);
    return MLXN_OK;
}

mlxn_status mlxn_buffer_write(mlxn_buffer *buffer, size_t byte_offset, const void *src,
                              size_t bytes)
{
    MLXN_TRY(host_access("buffer_write", buffer, byte_offset, src, bytes));
    mlxn_device *device = buffer->storage->device;
    return device->ops->write(device, buffer->storage, buffer->offset + byte_offset, src, bytes);
}

mlxn_status mlxn_buffer_read(mlxn_buffer *buffer, size_t byte_offset, void *dst, size_t bytes)
{
    MLXN_TRY(host_access("buffer_read", buffer, byte_offset, dst, bytes));
    mlxn_device *device = buffer->storage->device;
    return device->ops->read(device, buffer->storage, buffer->offset + byte_offset, dst, bytes);
}

mlxn_status mlxn_buffer_map(mlxn_buffer *buffer, void **out)
{
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_map: out is NULL");
    *out = NULL;
    MLXN_TRY(host_access("buffer_map", buffer, 0, NULL, 0));
    if (!buffer->storage->host)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "buffer_map: the memory is not the host's");
    *out = (char *)buffer->storage->host + buffer->offset;
    return MLXN_OK;
}
