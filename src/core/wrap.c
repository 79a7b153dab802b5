/* wrap.c - buffers of memory that is there already: the caller's, or a file's.
 *
 * A device that can use host memory in place gets it as storage; for any other it is copied once, a
 * file in pieces whose pages are given back on the way.  See mlxn/buffer.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/internal.h"

enum { COPY_PIECE = 8 << 20 }; /* of a file: whole pages */

/* Host memory as storage of the device; MLXN_ERR_UNSUPPORTED where it cannot use it in place. */
static mlxn_status wrap_memory(mlxn_device *device, void *memory, size_t bytes, mlxn_storage **out)
{
    mlxn_storage *storage = calloc(1, sizeof *storage);
    if (!storage)
        return mlxn_fail(MLXN_ERR_MEMORY, "buffer_wrap: no memory for its description");
    storage->bytes = bytes;
    storage->flags = MLXN_STORAGE_WRAPPED;
    mlxn_status status =
        device->ops->wrap ? device->ops->wrap(device, storage, memory) : MLXN_ERR_UNSUPPORTED;
    if (status != MLXN_OK) {
        free(storage);
        return status;
    }
    atomic_init(&storage->refs, 1);
    storage->device = mlxn_device_retain(device);
    *out = storage;
    return MLXN_OK;
}

/* A dense buffer with a copy of memory; with `drop` the pages of a private mapping of a file, which
 * the memory then is, are given back on the way. */
static mlxn_status copy_memory(mlxn_device *device, char *memory, mlxn_dtype dtype, int rank,
                               const int64_t *shape, int drop, mlxn_buffer **out)
{
    MLXN_TRY(mlxn_buffer_create_uninitialized(device, dtype, rank, shape, out));
    const size_t total = (*out)->bytes, piece = drop ? COPY_PIECE : total;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), lead = (uintptr_t)memory % page;
    mlxn_status status = MLXN_OK;
    for (size_t at = 0; at < total && status == MLXN_OK; at += piece) {
        const size_t n = total - at < piece ? total - at : piece;
        status = mlxn_buffer_write(*out, at, memory + at, n);
        if (drop) /* a piece is whole pages, so each call starts at one */
            madvise(memory + at - lead, n + lead, MADV_DONTNEED);
    }
    if (status != MLXN_OK) {
        mlxn_buffer_release(*out);
        *out = NULL;
    }
    return status;
}

/* ---- the caller's memory ---- */

mlxn_status mlxn_buffer_wrap(mlxn_device *device, void *memory, size_t bytes, mlxn_dtype dtype,
                             int rank, const int64_t *shape, void (*release)(void *context),
                             void *context, mlxn_buffer **out)
{
    size_t needed;
    mlxn_storage *storage = NULL;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_wrap: out is NULL");
    *out = NULL;
    if (!device || !memory)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_wrap: %s is NULL",
                         device ? "memory" : "device");
    MLXN_TRY(mlxn_shape_bytes("buffer_wrap", dtype, rank, shape, &needed));
    if (bytes < needed)
        return mlxn_fail(MLXN_ERR_BOUNDS, "buffer_wrap: memory has %zu bytes, the shape needs %zu",
                         bytes, needed);
    mlxn_status status = wrap_memory(device, memory, bytes, &storage);
    if (status == MLXN_OK) {
        storage->release = release;
        storage->context = context;
        return mlxn_buffer_make(storage, dtype, rank, shape, NULL, 0, out);
    }
    if (status != MLXN_ERR_UNSUPPORTED)
        return status;
    MLXN_TRY(copy_memory(device, memory, dtype, rank, shape, 0, out));
    if (release)
        release(context);
    return MLXN_OK;
}

/* ---- mapped files ---- */

typedef struct mapping {
    void *address;
    size_t bytes;
} mapping;

static void unmap_file(void *context)
{
    mapping *map = context;
    munmap(map->address, map->bytes);
    free(map);
}

/* Maps [offset, offset + bytes) of a file; *lead is how far into the mapping the range starts. */
static mlxn_status map_file(const char *path, uint64_t offset, size_t bytes, mapping **out,
                            size_t *lead)
{
    struct stat info;
    mlxn_status status = MLXN_OK;
    mapping *map = malloc(sizeof *map);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO has no writer yet */
    if (!map)
        status = mlxn_fail(MLXN_ERR_MEMORY, "%s: no memory for its description", path);
    else if (file < 0 || fstat(file, &info))
        status = mlxn_fail(MLXN_ERR_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = mlxn_fail(MLXN_ERR_IO, "%s: not a regular file", path);
    else if ((uint64_t)info.st_size < offset || (uint64_t)info.st_size - offset < bytes)
        status = mlxn_fail(MLXN_ERR_BOUNDS, "%s: has %lld bytes, needs %zu from %llu", path,
                           (long long)info.st_size, bytes, (unsigned long long)offset);
    if (status == MLXN_OK) {
        *lead = (size_t)(offset % (uint64_t)sysconf(_SC_PAGESIZE));
        map->bytes = bytes + *lead;
        map->address = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file,
                            (off_t)(offset - *lead));
        if (map->address == MAP_FAILED)
            status = mlxn_fail(MLXN_ERR_IO, "%s: cannot map %zu bytes: %s", path, map->bytes,
                               strerror(errno));
    }
    if (file >= 0)
        close(file);
    if (status != MLXN_OK)
        free(map);
    else
        *out = map;
    return status;
}

mlxn_status mlxn_buffer_map_file(mlxn_device *device, const char *path, uint64_t offset,
                                 mlxn_dtype dtype, int rank, const int64_t *shape,
                                 mlxn_buffer **out)
{
    size_t bytes, lead;
    mapping *map;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_map_file: out is NULL");
    *out = NULL;
    if (!device || !path)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "buffer_map_file: %s is NULL",
                         device ? "path" : "device");
    MLXN_TRY(mlxn_shape_bytes("buffer_map_file", dtype, rank, shape, &bytes));
    MLXN_TRY(map_file(path, offset, bytes, &map, &lead));
    char *memory = (char *)map->address + lead;
    mlxn_storage *storage = NULL;
    mlxn_status status = wrap_memory(device, memory, bytes, &storage);
    if (status == MLXN_OK) {
        storage->flags |= MLXN_STORAGE_FILE;
        storage->release = unmap_file;
        storage->context = map;
        return mlxn_buffer_make(storage, dtype, rank, shape, NULL, 0, out);
    }
    if (status == MLXN_ERR_UNSUPPORTED)
        status = copy_memory(device, memory, dtype, rank, shape, 1, out);
    unmap_file(map);
    return status;
}
