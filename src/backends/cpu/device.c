/* device.c - the CPU as a device: memory, kernels by SIMD path, the queue of run.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backends/cpu/cpu.h"

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

enum { ALL_ISAS = (1 << MLXN_PATH_COUNT) - 1 };

static void cpu_close(mlxn_device *device)
{
    mlxn_cpu_device *cpu = (mlxn_cpu_device *)device;
    mlxn_cpu_team_free(cpu->team);
    mlxn_device_fini(device);
    pthread_mutex_destroy(&cpu->queue_lock);
    pthread_mutex_destroy(&cpu->run_lock);
    pthread_mutex_destroy(&cpu->slab_lock);
    free(cpu->scratch);
    free(cpu);
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
    .alloc = mlxn_cpu_alloc,
    .free = mlxn_cpu_free,
    .wrap = cpu_wrap,
    .drop = mlxn_cpu_drop,
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
    if (desc->threads > MLXN_CPU_THREADS_MAX)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "device_open: %u threads, at most %d", desc->threads,
                         MLXN_CPU_THREADS_MAX);
    if (mask & ~(uint32_t)ALL_ISAS)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "device_open: cpu_mask 0x%x has bits of no instruction set", mask);
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
    pthread_mutex_init(&cpu->slab_lock, NULL);
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
