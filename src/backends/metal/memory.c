/* memory.c - buffers in memory that CPU and GPU share: no copies, one address for both.
 *
 * From macOS 15 on a residency set keeps all buffers resident, so that a command buffer need not
 * bring them in one by one; before that Metal does so for what a dispatch binds. */
#include <string.h>
#include <unistd.h>
#include "backends/metal/constants.h"
#include "backends/metal/metal.h"

static void note_resident(metal_device *metal, id buffer, int in)
{
    if (!metal->residency)
        return;
    pthread_mutex_lock(&metal->lock);
    if (in)
        objc_add_allocation(metal->residency, buffer);
    else
        objc_remove_allocation(metal->residency, buffer);
    metal->residency_old = 1;
    pthread_mutex_unlock(&metal->lock);
}

void mlxn_metal_update_residency(metal_device *metal)
{
    pthread_mutex_lock(&metal->lock);
    if (metal->residency_old) {
        objc_commit_residency(metal->residency);
        objc_request_residency(metal->residency);
        metal->residency_old = 0;
    }
    pthread_mutex_unlock(&metal->lock);
}

id mlxn_metal_new_buffer(metal_device *metal, size_t bytes)
{
    /* a buffer of no bytes does not exist, and 16 can be loaded at once */
    id buffer =
        objc_new_buffer(metal->device, bytes < 16 ? 16 : bytes, MTLResourceStorageModeShared);
    if (buffer)
        note_resident(metal, buffer, 1);
    return buffer;
}

void mlxn_metal_release_buffer(metal_device *metal, id buffer)
{
    if (buffer)
        note_resident(metal, buffer, 0);
    objc_release(buffer);
}

mlxn_status mlxn_metal_alloc(mlxn_device *device, mlxn_storage *storage, int zero)
{
    metal_device *metal = (metal_device *)device;
    void *pool = mlxn_objc.pool_push();
    id buffer = mlxn_metal_new_buffer(metal, storage->bytes);
    if (buffer) {
        storage->backend = buffer;
        storage->host = objc_contents(buffer);
        storage->address = (uintptr_t)storage->host;
        if (zero)
            memset(storage->host, 0, storage->bytes);
    }
    mlxn_objc.pool_pop(pool);
    if (!buffer)
        return mlxn_fail(MLXN_ERR_MEMORY, "out of memory: Metal cannot allocate %zu bytes",
                         storage->bytes);
    return MLXN_OK;
}

/* Host memory is used where it is.  Metal takes whole pages, so the buffer begins at the page of
 * the first byte and ends with that of the last; kernels touch only what lies between. */
size_t mlxn_metal_lead(const mlxn_storage *storage)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return storage->flags & MLXN_STORAGE_WRAPPED ? (uintptr_t)storage->host % page : 0;
}

mlxn_status mlxn_metal_wrap(mlxn_device *device, mlxn_storage *storage, void *memory)
{
    metal_device *metal = (metal_device *)device;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), lead = (uintptr_t)memory % page;
    const size_t bytes = (lead + storage->bytes + page - 1) / page * page;
    void *pool = mlxn_objc.pool_push();
    id buffer = objc_wrap_buffer(metal->device, (char *)memory - lead, bytes,
                                 MTLResourceStorageModeShared, NULL);
    if (buffer)
        note_resident(metal, buffer, 1);
    mlxn_objc.pool_pop(pool);
    if (!buffer)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "Metal cannot use this memory in place");
    storage->backend = buffer;
    storage->host = memory;
    storage->address = (uintptr_t)memory;
    return MLXN_OK;
}

void mlxn_metal_free(mlxn_device *device, mlxn_storage *storage)
{
    void *pool = mlxn_objc.pool_push();
    mlxn_metal_release_buffer((metal_device *)device, storage->backend);
    mlxn_objc.pool_pop(pool);
}

mlxn_status mlxn_metal_write(mlxn_device *device, mlxn_storage *storage, size_t offset,
                             const void *src, size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy((char *)storage->host + offset, src, bytes);
    return MLXN_OK;
}

mlxn_status mlxn_metal_read(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                            size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy(dst, (const char *)storage->host + offset, bytes);
    return MLXN_OK;
}
