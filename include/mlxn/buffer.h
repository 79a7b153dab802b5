/* buffer.h - typed views of device memory, and a pool of them.
 *
 * A buffer is a view: storage, byte offset, dtype, shape and strides (in elements, row-major by
 * default).  Views share storage, which lives as long as its last view.  A buffer is immutable as
 * a view (its contents are not), so it may be shared between threads freely.
 *
 * Host access goes through read, write and map: each waits for committed work that touches the
 * storage.  Work that is recorded but not committed is not waited for. */
#ifndef MLXN_BUFFER_H
#define MLXN_BUFFER_H

#include <mlxn/device.h>
#include <mlxn/dtype.h>

MLXN_EXTERN_C_BEGIN

#define MLXN_MAX_RANK 8

typedef struct mlxn_buffer mlxn_buffer;

/* Allocates a zeroed, dense buffer.  rank 0 to MLXN_MAX_RANK; every extent > 0. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_create(mlxn_device *device, mlxn_dtype dtype,
                                                        int rank, const int64_t *shape,
                                                        mlxn_buffer **out);
/* The same without zeroing: contents are indeterminate until written. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_create_uninitialized(mlxn_device *device,
                                                                      mlxn_dtype dtype, int rank,
                                                                      const int64_t *shape,
                                                                      mlxn_buffer **out);

/* Makes a dense buffer of `bytes` bytes of the caller's memory, which must cover the shape and stay
 * valid until `release(context)` is called (with the last view; NULL: the caller keeps track).
 * On a device that cannot use host memory in place the contents are copied once, here. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_wrap(mlxn_device *device, void *memory,
                                                      size_t bytes, mlxn_dtype dtype, int rank,
                                                      const int64_t *shape,
                                                      void (*release)(void *context), void *context,
                                                      mlxn_buffer **out);
/* Maps `bytes` bytes of a file from `offset` (any alignment), private and copy-on-write: kernels
 * and the host may write to the buffer, the file never changes.  MLXN_ERR_BOUNDS names the file's
 * size if it is too short. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_map_file(mlxn_device *device, const char *path,
                                                          uint64_t offset, mlxn_dtype dtype,
                                                          int rank, const int64_t *shape,
                                                          mlxn_buffer **out);

/* Any view of the same storage.  strides: elements, NULL for dense; byte_offset counts from the
 * start of `base`.  Every element must lie inside the storage.  Block-quantised: last stride 1,
 * last extent, other strides and offset whole blocks. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_view(mlxn_buffer *base, mlxn_dtype dtype, int rank,
                                                      const int64_t *shape, const int64_t *strides,
                                                      size_t byte_offset, mlxn_buffer **out);
/* The part [start, start + count) of dimension `dim`, same rank. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_slice(mlxn_buffer *base, int dim, int64_t start,
                                                       int64_t count, mlxn_buffer **out);

/* References, as device.h has them; any thread. */
MLXN_API mlxn_buffer *mlxn_buffer_retain(mlxn_buffer *buffer);
MLXN_API void mlxn_buffer_release(mlxn_buffer *buffer);

/* NULL answers NULL, NONE or 0. */
MLXN_API mlxn_device *mlxn_buffer_device(const mlxn_buffer *buffer); /* not retained */
MLXN_API mlxn_dtype mlxn_buffer_dtype(const mlxn_buffer *buffer);
MLXN_API int mlxn_buffer_rank(const mlxn_buffer *buffer);
MLXN_API int64_t mlxn_buffer_dim(const mlxn_buffer *buffer, int dim);    /* 0 outside the rank */
MLXN_API int64_t mlxn_buffer_stride(const mlxn_buffer *buffer, int dim); /* 0 outside the rank */
MLXN_API int64_t mlxn_buffer_elements(const mlxn_buffer *buffer);
/* Bytes from the first to the last byte of the view, gaps included. */
MLXN_API size_t mlxn_buffer_bytes(const mlxn_buffer *buffer);
MLXN_API size_t mlxn_buffer_byte_offset(const mlxn_buffer *buffer); /* in its storage */

/* Copy bytes between host memory and the view's byte range.  In a strided view the range includes
 * the gaps.  MLXN_ERR_BOUNDS: byte_offset + bytes passes mlxn_buffer_bytes(). */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_write(mlxn_buffer *buffer, size_t byte_offset,
                                                       const void *src, size_t bytes);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_read(mlxn_buffer *buffer, size_t byte_offset,
                                                      void *dst, size_t bytes);
/* The host address of the view's first byte, valid until the next commit that touches the storage.
 * MLXN_ERR_UNSUPPORTED where the device's memory is not the host's. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_buffer_map(mlxn_buffer *buffer, void **out);

/* A pool hands out buffers from storage it keeps.  alloc takes the smallest kept block that is
 * large enough, or allocates; the contents are indeterminate.  recycle takes a buffer back (the
 * pool takes over the caller's reference): MLXN_ERR_ARGUMENT for one the pool did not make, or one
 * of which other references exist.  reset takes back every buffer handed out; the caller's
 * references stay valid as objects and must still be released, but their storage is reused.
 * trim frees what is not in use. */
typedef struct mlxn_pool mlxn_pool;

typedef struct mlxn_pool_stats {
    size_t size;         /* set by the caller */
    uint64_t kept_bytes; /* of all blocks that the pool holds, in use or not */
    uint64_t used_bytes; /* of those in use */
    uint64_t used_bytes_max;
    uint64_t allocations; /* blocks that were made */
    uint64_t reuses;      /* buffers that got a block that was there */
} mlxn_pool_stats;

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_pool_create(mlxn_device *device, mlxn_pool **out);
MLXN_API mlxn_pool *mlxn_pool_retain(mlxn_pool *pool);
MLXN_API void mlxn_pool_release(mlxn_pool *pool);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_pool_alloc(mlxn_pool *pool, mlxn_dtype dtype, int rank,
                                                     const int64_t *shape, mlxn_buffer **out);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_pool_recycle(mlxn_pool *pool, mlxn_buffer *buffer);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_pool_reset(mlxn_pool *pool);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_pool_trim(mlxn_pool *pool);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_pool_get_stats(const mlxn_pool *pool,
                                                         mlxn_pool_stats *stats);

MLXN_EXTERN_C_END
#endif
