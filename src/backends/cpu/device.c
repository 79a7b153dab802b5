/* device.c - the CPU as a device: memory, kernels by SIMD path, the queue of run.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "backends/cpu/cpu.h"

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

enum {
    MAX_THREADS = 1024,
    LARGE_BYTES = 4 << 20, /* from here on storage is mapped, in huge pages where there are any */
    HUGE_BYTES = 2 << 20,
};

static void cpu_close(mlxn_device *device)
{
    mlxn_cpu_device *cpu = (mlxn_cpu_device *)device;
    mlxn_cpu_team_free(cpu->team);
    mlxn_device_fini(device);
    pthread_mutex_destroy(&cpu->queue_lock);
    pthread_mutex_destroy(&cpu->run_lock);
    free(cpu->scratch);
    free(cpu);
}

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

static mlxn_status cpu_alloc(mlxn_device *device, mlxn_storage *storage, int zero)
{
    (void)device;
    size_t bytes = storage->bytes;
    if (bytes > SIZE_MAX - 2 * HUGE_BYTES) {
        storage->host = NULL;
    } else if (bytes >= LARGE_BYTES) {
        storage->host = map_large(page_round(bytes));
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

static void cpu_free(mlxn_device *device, mlxn_storage *storage)
{
    (void)device;
    if (storage->flags & MLXN_STORAGE_WRAPPED)
        return;
    if (storage->bytes >= LARGE_BYTES)
        munmap(storage->host, page_round(storage->bytes));
    else
        free(storage->host);
}

static mlxn_status cpu_wrap(mlxn_device *device, mlxn_storage *storage, void *memory)
{
    (void)device;
    storage->host = memory;
    storage->address = (uintptr_t)memory;
    return MLXN_OK;
}

static mlxn_status cpu_write(mlxn_device *device, mlxn_storage *storage, size_t offset,
                             const void *src, size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy((char *)storage->host + offset, src, bytes);
    return MLXN_OK;
}

static mlxn_status cpu_read(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                            size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy(dst, (const char *)storage->host + offset, bytes);
    return MLXN_OK;
}

/* Only pages that lie in the range whole: the others hold neighbours. */
static void cpu_drop(mlxn_device *device, mlxn_storage *storage, size_t offset, size_t bytes)
{
    (void)device;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = (uintptr_t)storage->host + offset, to = from + bytes;
    const uintptr_t begin = (from + page - 1) / page * page, end = to / page * page;
    if (begin < end)
        madvise((char *)storage->host + (begin - (uintptr_t)storage->host), end - begin,
                MADV_DONTNEED);
}

static mlxn_status cpu_build(mlxn_device *device, mlxn_kernel *kernel)
{
    mlxn_cpu_device *cpu = (mlxn_cpu_device *)device;
    kernel->run = kernel->source.cpu[cpu->path];
    if (!kernel->run)
        kernel->run = kernel->source.cpu[MLXN_PATH_PORTABLE];
    if (!kernel->run)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: the kernel has no CPU function",
                         kernel->source.name);
    return MLXN_OK;
}

static void cpu_unbuild(mlxn_device *device, mlxn_kernel *kernel)
{
    (void)device;
    kernel->run = NULL;
}

static mlxn_status cpu_get_info(const mlxn_device *device, mlxn_device_info *info)
{
    const mlxn_cpu_device *cpu = (const mlxn_cpu_device *)device;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    info->name = cpu->name;
    info->path = mlxn_cpu_path_name(cpu->path);
    info->threads = cpu->base.threads;
    info->memory_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    return MLXN_OK;
}

static const mlxn_device_ops ops = {
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .wrap = cpu_wrap,
    .drop = cpu_drop,
    .write = cpu_write,
    .read = cpu_read,
    .build = cpu_build,
    .unbuild = cpu_unbuild,
    .submit = mlxn_cpu_submit,
    .wait = mlxn_cpu_wait,
    .get_info = cpu_get_info,
};

/* The processor's name as the system tells it, or its family. */
static void read_name(char *name, size_t size)
{
    char line[256];
#if defined(__x86_64__)
    snprintf(name, size, "x86-64");
#elif defined(__aarch64__)
    snprintf(name, size, "arm64");
#else
    snprintf(name, size, "CPU");
#endif
#if defined(__APPLE__)
    size_t room = size;
    sysctlbyname("machdep.cpu.brand_string", name, &room, NULL, 0);
#endif
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, size, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (file)
        fclose(file);
}

static mlxn_status cpu_open(const mlxn_device_desc *desc, mlxn_device **out)
{
    uint32_t mask = desc->cpu_mask;
    const char *names = getenv("MLXN_CPU_MASK");
    if (desc->index != 0)
        return mlxn_fail(MLXN_ERR_NOT_FOUND, "device_open: cpu has device 0 alone, not %d",
                         desc->index);
    if (desc->threads > MAX_THREADS)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "device_open: %u threads, at most %d", desc->threads,
                         MAX_THREADS);
    if (!mask && names)
        MLXN_TRY(mlxn_cpu_parse_mask(names, &mask));
    mlxn_cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return mlxn_fail(MLXN_ERR_MEMORY, "device_open: out of memory");
    mlxn_status status = mlxn_device_init(&cpu->base, "cpu", &ops);
    if (status != MLXN_OK) {
        free(cpu);
        return status;
    }
    cpu->base.threads = desc->threads ? desc->threads : mlxn_cpu_available();
    cpu->path = mlxn_cpu_best_path(mask);
    cpu->last = &cpu->first;
    pthread_mutex_init(&cpu->queue_lock, NULL);
    pthread_mutex_init(&cpu->run_lock, NULL);
    read_name(cpu->name, sizeof cpu->name);
    status = mlxn_cpu_team_create(cpu->base.threads, &cpu->team);
    if (status != MLXN_OK) {
        cpu_close(&cpu->base);
        return status;
    }
    *out = &cpu->base;
    return MLXN_OK;
}

const mlxn_backend mlxn_cpu_backend = {"cpu", cpu_open};
