/* storage.c - the memory behind buffers: counted, accounted on its device, keyed for hazards. */
#include <stdlib.h>
#include "core/internal.h"

static void account(mlxn_device *device, size_t bytes)
{
    uint64_t now = atomic_fetch_add(&device->allocated, bytes) + bytes;
    uint64_t max = atomic_load(&device->allocated_max);
    while (now > max && !atomic_compare_exchange_weak(&device->allocated_max, &max, now))
        ;
}

mlxn_status mlxn_storage_alloc(mlxn_device *device, size_t bytes, uint32_t flags, int zero,
                               mlxn_storage **out)
{
    mlxn_storage *storage = calloc(1, sizeof *storage);
    *out = NULL;
    if (!storage)
        return mlxn_fail(MLXN_ERR_MEMORY, "buffer: no memory for its description");
    storage->bytes = bytes;
    storage->flags = flags;
    mlxn_status status = device->ops->alloc(device, storage, zero);
    if (status != MLXN_OK) {
        free(storage);
        return status;
    }
    atomic_init(&storage->refs, 1);
    storage->device = mlxn_device_retain(device);
    account(device, bytes);
    *out = storage;
    return MLXN_OK;
}

void mlxn_storage_retain(mlxn_storage *storage)
{
    atomic_fetch_add_explicit(&storage->refs, 1, memory_order_relaxed);
}

uint64_t mlxn_storage_last_use(const mlxn_storage *storage)
{
    const uint64_t last = atomic_load(&storage->last_commit);
    const uint64_t replayed = atomic_load(&storage->device->replayed);
    return atomic_load(&storage->in_graphs) && replayed > last ? replayed : last;
}

void mlxn_storage_release(mlxn_storage *storage)
{
    if (!storage || atomic_fetch_sub_explicit(&storage->refs, 1, memory_order_acq_rel) != 1)
        return;
    mlxn_device *device = storage->device;
    int waited;
    device->ops->wait(device, mlxn_storage_last_use(storage), &waited);
    if (!(storage->flags & MLXN_STORAGE_WRAPPED))
        atomic_fetch_sub(&device->allocated, storage->bytes);
    device->ops->free(device, storage);
    if (storage->release)
        storage->release(storage->context);
    free(storage);
    mlxn_device_release(device);
}

void mlxn_storage_drop(mlxn_storage *storage, size_t offset, size_t bytes)
{
    const mlxn_device_ops *ops = storage->device->ops;
    if (ops->drop && storage->flags & MLXN_STORAGE_FILE)
        ops->drop(storage->device, storage, offset, bytes);
}
