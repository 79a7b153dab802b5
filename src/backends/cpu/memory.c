/* memory.c - the memory of storage on the CPU.
 *
 * Storage from LARGE_BYTES on is mapped by itself, in huge pages where there are any: what walks
 * through all of a page once pays for finding it.  Weights that are smaller share mappings, slabs,
 * because a huge page would hold several of them.  A slab is filled from its start and goes when
 * the last weight in it does, so weights that live equally long leave no holes.  All other storage
 * comes from the allocator. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "backends/cpu/cpu.h"

enum {
    LARGE_BYTES = 4 << 20,
    HUGE_BYTES = 2 << 20,
    SLAB_BYTES = 32 << 20,
    SLAB_LEAST = 64 << 10, /* smaller weights are the allocator's */
};

struct mlxn_cpu_slab {
    unsigned char *base;
    size_t used;
    size_t weights; /* that live */
};

/* Maps zeroed memory aligned to huge pages: more than needed, with the ends given back. */
static void *map_large(size_t bytes)
{
    size_t room = bytes + HUGE_BYTES;
    unsigned char *raw =
        mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    size_t lead = (HUGE_BYTES - (uintptr_t)raw % HUGE_BYTES) % HUGE_BYTES;
    if (lead)
        munmap(raw, lead);
    munmap(raw + lead + bytes, room - lead - bytes);
#if defined(MADV_HUGEPAGE)
    madvise(raw + lead, bytes, MADV_HUGEPAGE);
#endif
    return raw + lead;
}

static size_t page_round(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

static struct mlxn_cpu_slab *new_slab(void)
{
    struct mlxn_cpu_slab *slab = calloc(1, sizeof *slab);
    if (!slab)
        return NULL;
    slab->base = map_large(SLAB_BYTES);
    if (slab->base)
        return slab;
    free(slab);
    return NULL;
}

/* A slab that is full has no owner but its weights. */
static void *place_in_slab(mlxn_cpu_device *cpu, size_t bytes, void **slab)
{
    void *place = NULL;
    bytes = (bytes + 63) & ~(size_t)63;
    pthread_mutex_lock(&cpu->slab_lock);
    if (!cpu->slab || bytes > SLAB_BYTES - cpu->slab->used)
        cpu->slab = new_slab();
    if (cpu->slab) {
        place = cpu->slab->base + cpu->slab->used;
        cpu->slab->used += bytes;
        cpu->slab->weights++;
    }
    *slab = cpu->slab;
    pthread_mutex_unlock(&cpu->slab_lock);
    return place;
}

static void leave_slab(mlxn_cpu_device *cpu, struct mlxn_cpu_slab *slab)
{
    pthread_mutex_lock(&cpu->slab_lock);
    const int empty = --slab->weights == 0;
    if (empty && cpu->slab == slab)
        cpu->slab = NULL;
    pthread_mutex_unlock(&cpu->slab_lock);
    if (!empty)
        return;
    munmap(slab->base, SLAB_BYTES);
    free(slab);
}

mlxn_status mlxn_cpu_alloc(mlxn_device *device, mlxn_storage *storage, int zero)
{
    size_t bytes = storage->bytes;
    if (bytes > SIZE_MAX - 2 * HUGE_BYTES) {
        storage->host = NULL;
    } else if (bytes >= LARGE_BYTES) {
        storage->host = map_large(page_round(bytes));
    } else if (bytes >= SLAB_LEAST && storage->flags & MLXN_STORAGE_WEIGHT) {
        storage->host = place_in_slab((mlxn_cpu_device *)device, bytes, &storage->backend);
    } else {
        storage->host = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
        if (storage->host && zero)
            memset(storage->host, 0, bytes);
    }
    if (!storage->host)
        return mlxn_fail(MLXN_ERR_MEMORY, "out of memory: cannot allocate %zu bytes", bytes);
    storage->address = (uintptr_t)storage->host;
    return MLXN_OK;
}

void mlxn_cpu_free(mlxn_device *device, mlxn_storage *storage)
{
    if (storage->flags & MLXN_STORAGE_WRAPPED)
        return;
    if (storage->backend)
        leave_slab((mlxn_cpu_device *)device, storage->backend);
    else if (storage->bytes >= LARGE_BYTES)
        munmap(storage->host, page_round(storage->bytes));
    else
        free(storage->host);
}

/* Only pages that lie in the range whole: the others hold neighbours. */
void mlxn_cpu_drop(mlxn_device *device, mlxn_storage *storage, size_t offset, size_t bytes)
{
    (void)device;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = (uintptr_t)storage->host + offset, to = from + bytes;
    const uintptr_t begin = (from + page - 1) / page * page, end = to / page * page;
    if (begin < end)
        madvise((char *)storage->host + (begin - (uintptr_t)storage->host), end - begin,
                MADV_DONTNEED);
}
