/* fake_driver.c - the functions of libcuda that the backend calls, but for code and graphs
 * (fake_code.c, fake_graph.c): driver and devices, streams and events, memory.  See fake.h. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fake_driver.h"

struct CUctx_st {
    int device;
};
struct CUstream_st {
    int unused;
};
struct CUmemPoolHandle_st {
    int unused;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct CUctx_st contexts[8];
static _Thread_local struct CUctx_st *current;

void fake_reset(void)
{
    fake.edges = fake.early_edges = fake.copies_out = 0;
    fake.calls = fake.launches = fake.graph_launches = fake.syncs = fake.findings = 0;
    fake.fail_at = 0;
    fake.failed = NULL;
    fake.finding[0] = 0;
    fake_run(fake_newest());
    fake_clear_sticky();
}

/* ---- a call ---- */

unsigned fake_enter(const char *name)
{
    pthread_mutex_lock(&lock);
    if (++fake.calls == fake.fail_at) {
        fake.failed = name;
        return fake.fail_code;
    }
    return fake_sticky();
}

unsigned fake_leave(unsigned result)
{
    pthread_mutex_unlock(&lock);
    return result;
}

int fake_gives_back(const char *name)
{
    return strstr(name, "Free") || strstr(name, "Destroy") || strstr(name, "Unload") ||
           strstr(name, "Release");
}

int fake_has_context(const char *name)
{
    if (!current)
        fake_find("%s: no context", name);
    return current != NULL;
}

/* ---- driver and devices ---- */

CUDA_RESULT cuInit(unsigned flags)
{
    ENTER;
    return fake_leave(flags ? FAKE_INVALID_VALUE : fake.devices < 0 ? MLXN_CU_STUB_LIBRARY : 0);
}

CUDA_RESULT cuDriverGetVersion(int *version)
{
    ENTER;
    *version = fake.driver_version;
    return fake_leave(0);
}

CUDA_RESULT cuGetErrorName(CUDA_RESULT result, const char **text)
{
    static char name[40];
    snprintf(name, sizeof name, "CUDA_ERROR_%u", result);
    *text = name;
    return 0;
}

CUDA_RESULT cuGetErrorString(CUDA_RESULT result, const char **text)
{
    *text = result == MLXN_CU_OUT_OF_MEMORY     ? "out of memory"
            : result == MLXN_CU_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                                : "a failure";
    return 0;
}

CUDA_RESULT cuDeviceGetCount(int *count)
{
    ENTER;
    *count = fake.devices;
    return fake_leave(0);
}

CUDA_RESULT cuDeviceGet(int *device, int index)
{
    ENTER;
    *device = index;
    return fake_leave(index < fake.devices ? 0 : MLXN_CU_INVALID_DEVICE);
}

CUDA_RESULT cuDeviceGetName(char *name, int size, int device)
{
    ENTER;
    snprintf(name, (size_t)size, "Fake GPU %d", device);
    return fake_leave(0);
}

CUDA_RESULT cuDeviceGetAttribute(int *value, CUDA_DEVICE_ATTRIBUTE which, int device)
{
    ENTER;
    (void)device;
    switch (which) {
    case MLXN_CU_MULTIPROCESSORS:
        *value = 8;
        break;
    case MLXN_CU_CAPABILITY_MAJOR:
        *value = fake.architecture / 10;
        break;
    case MLXN_CU_CAPABILITY_MINOR:
        *value = fake.architecture % 10;
        break;
    case MLXN_CU_MEMORY_POOLS:
        *value = fake.pools;
        break;
    default:
        return fake_leave(FAKE_INVALID_VALUE);
    }
    return fake_leave(0);
}

CUDA_RESULT cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    ENTER;
    (void)device;
    *bytes = (size_t)8 << 30;
    return fake_leave(0);
}

CUDA_RESULT cuDevicePrimaryCtxRetain(struct CUctx_st **context, int device)
{
    ENTER;
    contexts[device].device = device;
    *context = &contexts[device];
    fake_live[FAKE_CONTEXT]++;
    return fake_leave(0);
}

CUDA_RESULT cuDevicePrimaryCtxRelease_v2(int device)
{
    ENTER;
    (void)device;
    fake_live[FAKE_CONTEXT]--;
    return fake_leave(result);
}

CUDA_RESULT cuCtxSetCurrent(struct CUctx_st *context)
{
    ENTER;
    current = context;
    return fake_leave(0);
}

/* ---- streams and events ---- */

CUDA_RESULT cuStreamCreate(struct CUstream_st **stream, unsigned flags)
{
    ENTER;
    NEEDS_CONTEXT;
    *stream = flags == MLXN_CU_STREAM_NON_BLOCKING ? malloc(sizeof **stream) : NULL;
    fake_live[FAKE_STREAM] += *stream != NULL;
    return fake_leave(*stream ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuStreamDestroy_v2(struct CUstream_st *stream)
{
    ENTER;
    fake_run(fake_newest());
    fake_live[FAKE_STREAM]--;
    free(stream);
    return fake_leave(result);
}

CUDA_RESULT cuStreamSynchronize(struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    fake.syncs++;
    return fake_leave(stream ? fake_run(fake_newest()) : FAKE_INVALID_HANDLE);
}

CUDA_RESULT cuEventCreate(struct CUevent_st **event, unsigned flags)
{
    ENTER;
    NEEDS_CONTEXT;
    (void)flags;
    *event = calloc(1, sizeof **event);
    fake_live[FAKE_EVENT]++;
    return fake_leave(0);
}

CUDA_RESULT cuEventDestroy_v2(struct CUevent_st *event)
{
    ENTER;
    fake_run(fake_newest());
    fake_live[FAKE_EVENT]--;
    free(event);
    return fake_leave(result);
}

CUDA_RESULT cuEventRecord(struct CUevent_st *event, struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    if (!stream)
        return fake_leave(FAKE_INVALID_HANDLE);
    event->step = fake_queue(&(fake_step){.kind = FAKE_EVENT_STEP, .time = &event->time});
    return fake_leave(0);
}

CUDA_RESULT cuEventQuery(struct CUevent_st *event)
{
    ENTER;
    if (event->step <= fake_ran())
        return fake_leave(0);
    const unsigned failed = fake_run(fake_ran() + 1); /* time passes */
    return fake_leave(failed ? failed : MLXN_CU_NOT_READY);
}

CUDA_RESULT cuEventSynchronize(struct CUevent_st *event)
{
    ENTER;
    NEEDS_CONTEXT;
    fake.syncs++;
    return fake_leave(fake_run(event->step));
}

CUDA_RESULT cuEventElapsedTime_v2(float *milliseconds, struct CUevent_st *from,
                                  struct CUevent_st *to)
{
    ENTER;
    *milliseconds = (float)(1e3 * (to->time - from->time));
    return fake_leave(0);
}

/* ---- memory ---- */

CUDA_RESULT cuMemAlloc_v2(unsigned long long *address, size_t bytes)
{
    ENTER;
    NEEDS_CONTEXT;
    if (!bytes)
        return fake_leave(FAKE_INVALID_VALUE);
    *address = fake_memory_take(bytes);
    return fake_leave(*address ? 0 : MLXN_CU_OUT_OF_MEMORY);
}

CUDA_RESULT cuMemFree_v2(unsigned long long address)
{
    ENTER;
    fake_run(fake_newest()); /* as the driver does */
    if (!fake_memory_give(address))
        fake_find("0x%llx is freed, but is not live", address);
    return fake_leave(result);
}

CUDA_RESULT cuMemAllocAsync(unsigned long long *address, size_t bytes, struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    if (!bytes || !stream)
        return fake_leave(FAKE_INVALID_VALUE);
    *address = fake_memory_take(bytes);
    return fake_leave(*address ? 0 : MLXN_CU_OUT_OF_MEMORY);
}

CUDA_RESULT cuMemFreeAsync(unsigned long long address, struct CUstream_st *stream)
{
    ENTER;
    if (!stream)
        return fake_leave(FAKE_INVALID_HANDLE);
    fake_queue(&(fake_step){.kind = FAKE_FREE, .address = address});
    return fake_leave(result);
}

CUDA_RESULT cuDeviceGetDefaultMemPool(struct CUmemPoolHandle_st **pool, int device)
{
    static struct CUmemPoolHandle_st one;
    ENTER;
    (void)device;
    *pool = &one;
    return fake_leave(0);
}

CUDA_RESULT cuMemPoolSetAttribute(struct CUmemPoolHandle_st *pool, CUDA_POOL_ATTRIBUTE which,
                                  void *value)
{
    ENTER;
    return fake_leave(
        pool && value && which == MLXN_CU_POOL_RELEASE_THRESHOLD ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    ENTER;
    NEEDS_CONTEXT;
    (void)flags;
    *memory = fake_pinned_take(bytes);
    return fake_leave(*memory ? 0 : MLXN_CU_OUT_OF_MEMORY);
}

CUDA_RESULT cuMemFreeHost(void *memory)
{
    ENTER;
    fake_run(fake_newest());
    if (!fake_pinned_give(memory))
        fake_find("%p is freed, but is no live pinned memory", memory);
    return fake_leave(result);
}

CUDA_RESULT cuMemHostGetDevicePointer_v2(unsigned long long *address, void *memory, unsigned flags)
{
    ENTER;
    (void)flags;
    *address = fake_pinned_address(memory);
    return fake_leave(fake_is_pinned(memory, 1) ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t bytes,
                                 struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    fake_step step = {.kind = FAKE_COPY_IN, .address = to, .from = from, .bytes = bytes};
    if (!stream || !fake_memory_at(to, bytes, NULL))
        return fake_leave(FAKE_INVALID_VALUE);
    if (!fake_is_pinned(from, bytes)) { /* the driver copies such memory before it returns */
        step.copy = malloc(bytes);
        memcpy(step.copy, from, bytes);
    }
    fake_queue(&step);
    return fake_leave(0);
}

CUDA_RESULT cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t bytes,
                                 struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    if (!stream || !fake_memory_at(from, bytes, NULL))
        return fake_leave(FAKE_INVALID_VALUE);
    fake.copies_out++;
    fake_queue(&(fake_step){.kind = FAKE_COPY_OUT, .address = from, .to = to, .bytes = bytes});
    return fake_leave(fake_is_pinned(to, bytes) ? 0 : fake_run(fake_newest()));
}

CUDA_RESULT cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes,
                                 struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    if (!stream || !fake_memory_at(from, bytes, NULL) || !fake_memory_at(to, bytes, NULL))
        return fake_leave(FAKE_INVALID_VALUE);
    fake_queue(
        &(fake_step){.kind = FAKE_COPY_INSIDE, .address = to, .source = from, .bytes = bytes});
    return fake_leave(0);
}

CUDA_RESULT cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes,
                            struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    if (!stream || !fake_memory_at(to, bytes, NULL))
        return fake_leave(FAKE_INVALID_VALUE);
    fake_queue(&(fake_step){.kind = FAKE_SET, .address = to, .value = value, .bytes = bytes});
    return fake_leave(0);
}
