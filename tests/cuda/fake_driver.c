/* fake_driver.c - the functions of libcuda that the backend calls; see fake.h. */
#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fake_driver.h"

#define CUDA_FUNCTION(need, name, parameters) CUDA_RESULT name parameters;
#include "backends/cuda/driver.def"
#undef CUDA_FUNCTION

struct CUctx_st {
    int device;
};
struct CUstream_st {
    int unused;
};
struct CUevent_st {
    unsigned long step;
    double time; /* seconds */
};
struct CUmod_st {
    emu_library *library;
    char *ptx;
    fake_function *functions;
};
struct CUgraph_st {
    int n;
    fake_node **nodes;
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

/* Counts a call; its injected failure, or the one that the device is left in. */
static unsigned enter(const char *name)
{
    if (++fake.calls == fake.fail_at) {
        fake.failed = name;
        return fake.fail_code;
    }
    return fake_sticky();
}

#define ENTER                                   \
    pthread_mutex_lock(&lock);                  \
    unsigned result = enter(__func__);          \
    if (result != 0 && !is_release(__func__)) { \
        pthread_mutex_unlock(&lock);            \
        return result;                          \
    }
#define LEAVE(value)                 \
    do {                             \
        unsigned answer = (value);   \
        pthread_mutex_unlock(&lock); \
        return answer;               \
    } while (0)
/* As LEAVE, for calls that need a context. */
#define NEEDS_CONTEXT                          \
    if (!current) {                            \
        fake_find("%s: no context", __func__); \
        LEAVE(201);                            \
    }

/* Calls that give something back do so even where they answer with a failure. */
static int is_release(const char *name)
{
    return strstr(name, "Free") || strstr(name, "Destroy") || strstr(name, "Unload") ||
           strstr(name, "Release");
}

/* ---- driver and devices ---- */

CUDA_RESULT cuInit(unsigned flags)
{
    ENTER
    LEAVE(flags ? FAKE_INVALID_VALUE : fake.devices < 0 ? MLXN_CU_STUB_LIBRARY : 0);
}

CUDA_RESULT cuDriverGetVersion(int *version)
{
    ENTER
    *version = fake.driver_version;
    LEAVE(0);
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
    ENTER
    *count = fake.devices;
    LEAVE(0);
}

CUDA_RESULT cuDeviceGet(int *device, int index)
{
    ENTER
    *device = index;
    LEAVE(index < fake.devices ? 0 : MLXN_CU_INVALID_DEVICE);
}

CUDA_RESULT cuDeviceGetName(char *name, int size, int device)
{
    ENTER
    snprintf(name, (size_t)size, "Fake GPU %d", device);
    LEAVE(0);
}

CUDA_RESULT cuDeviceGetAttribute(int *value, CUDA_DEVICE_ATTRIBUTE which, int device)
{
    ENTER(void) device;
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
        LEAVE(FAKE_INVALID_VALUE);
    }
    LEAVE(0);
}

CUDA_RESULT cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    ENTER(void) device;
    *bytes = (size_t)8 << 30;
    LEAVE(0);
}

CUDA_RESULT cuDevicePrimaryCtxRetain(struct CUctx_st **context, int device)
{
    ENTER
    contexts[device].device = device;
    *context = &contexts[device];
    fake_live[FAKE_CONTEXT]++;
    LEAVE(0);
}

CUDA_RESULT cuDevicePrimaryCtxRelease_v2(int device)
{
    ENTER(void) device;
    fake_live[FAKE_CONTEXT]--;
    LEAVE(result);
}

CUDA_RESULT cuCtxSetCurrent(struct CUctx_st *context)
{
    ENTER
    current = context;
    LEAVE(0);
}

/* ---- streams and events ---- */

CUDA_RESULT cuStreamCreate(struct CUstream_st **stream, unsigned flags)
{
    ENTER
    NEEDS_CONTEXT
    *stream = flags == MLXN_CU_STREAM_NON_BLOCKING ? malloc(sizeof **stream) : NULL;
    fake_live[FAKE_STREAM] += *stream != NULL;
    LEAVE(*stream ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuStreamDestroy_v2(struct CUstream_st *stream)
{
    ENTER
    fake_run(fake_newest());
    fake_live[FAKE_STREAM]--;
    free(stream);
    LEAVE(result);
}

CUDA_RESULT cuStreamSynchronize(struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    fake.syncs++;
    LEAVE(stream ? fake_run(fake_newest()) : FAKE_INVALID_HANDLE);
}

CUDA_RESULT cuEventCreate(struct CUevent_st **event, unsigned flags)
{
    ENTER
    NEEDS_CONTEXT(void) flags;
    *event = calloc(1, sizeof **event);
    fake_live[FAKE_EVENT]++;
    LEAVE(0);
}

CUDA_RESULT cuEventDestroy_v2(struct CUevent_st *event)
{
    ENTER
    fake_run(fake_newest());
    fake_live[FAKE_EVENT]--;
    free(event);
    LEAVE(result);
}

CUDA_RESULT cuEventRecord(struct CUevent_st *event, struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    if (!stream)
        LEAVE(FAKE_INVALID_HANDLE);
    event->step = fake_queue(&(fake_step){.kind = FAKE_EVENT_STEP, .time = &event->time});
    LEAVE(0);
}

CUDA_RESULT cuEventQuery(struct CUevent_st *event)
{
    ENTER
    if (event->step <= fake_ran())
        LEAVE(0);
    const unsigned failed = fake_run(fake_ran() + 1); /* time passes */
    LEAVE(failed ? failed : MLXN_CU_NOT_READY);
}

CUDA_RESULT cuEventSynchronize(struct CUevent_st *event)
{
    ENTER
    NEEDS_CONTEXT
    fake.syncs++;
    LEAVE(fake_run(event->step));
}

CUDA_RESULT cuEventElapsedTime_v2(float *milliseconds, struct CUevent_st *from,
                                  struct CUevent_st *to)
{
    ENTER
    *milliseconds = (float)(1e3 * (to->time - from->time));
    LEAVE(0);
}

/* ---- memory ---- */

CUDA_RESULT cuMemAlloc_v2(unsigned long long *address, size_t bytes)
{
    ENTER
    NEEDS_CONTEXT
    if (!bytes)
        LEAVE(FAKE_INVALID_VALUE);
    *address = fake_memory_take(bytes);
    LEAVE(*address ? 0 : MLXN_CU_OUT_OF_MEMORY);
}

CUDA_RESULT cuMemFree_v2(unsigned long long address)
{
    ENTER
    fake_run(fake_newest()); /* as the driver does */
    if (!fake_memory_give(address))
        fake_find("0x%llx is freed, but is not live", address);
    LEAVE(result);
}

CUDA_RESULT cuMemAllocAsync(unsigned long long *address, size_t bytes, struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    if (!bytes || !stream)
        LEAVE(FAKE_INVALID_VALUE);
    *address = fake_memory_take(bytes);
    LEAVE(*address ? 0 : MLXN_CU_OUT_OF_MEMORY);
}

CUDA_RESULT cuMemFreeAsync(unsigned long long address, struct CUstream_st *stream)
{
    ENTER
    if (!stream)
        LEAVE(FAKE_INVALID_HANDLE);
    fake_queue(&(fake_step){.kind = FAKE_FREE, .address = address});
    LEAVE(result);
}

CUDA_RESULT cuDeviceGetDefaultMemPool(struct CUmemPoolHandle_st **pool, int device)
{
    static struct CUmemPoolHandle_st one;
    ENTER(void) device;
    *pool = &one;
    LEAVE(0);
}

CUDA_RESULT cuMemPoolSetAttribute(struct CUmemPoolHandle_st *pool, CUDA_POOL_ATTRIBUTE which,
                                  void *value)
{
    ENTER
    LEAVE(pool && value && which == MLXN_CU_POOL_RELEASE_THRESHOLD ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    ENTER
    NEEDS_CONTEXT(void) flags;
    *memory = fake_pinned_take(bytes);
    LEAVE(*memory ? 0 : MLXN_CU_OUT_OF_MEMORY);
}

CUDA_RESULT cuMemFreeHost(void *memory)
{
    ENTER
    fake_run(fake_newest());
    if (!fake_pinned_give(memory))
        fake_find("%p is freed, but is no live pinned memory", memory);
    LEAVE(result);
}

CUDA_RESULT cuMemHostGetDevicePointer_v2(unsigned long long *address, void *memory, unsigned flags)
{
    ENTER(void) flags;
    *address = fake_pinned_address(memory);
    LEAVE(fake_is_pinned(memory, 1) ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t bytes,
                                 struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    fake_step step = {.kind = FAKE_COPY_IN, .address = to, .from = from, .bytes = bytes};
    if (!stream || !fake_memory_at(to, bytes, NULL))
        LEAVE(FAKE_INVALID_VALUE);
    if (!fake_is_pinned(from, bytes)) { /* the driver copies such memory before it returns */
        step.copy = malloc(bytes);
        memcpy(step.copy, from, bytes);
    }
    fake_queue(&step);
    LEAVE(0);
}

CUDA_RESULT cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t bytes,
                                 struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    if (!stream || !fake_memory_at(from, bytes, NULL))
        LEAVE(FAKE_INVALID_VALUE);
    fake.copies_out++;
    fake_queue(&(fake_step){.kind = FAKE_COPY_OUT, .address = from, .to = to, .bytes = bytes});
    LEAVE(fake_is_pinned(to, bytes) ? 0 : fake_run(fake_newest()));
}

CUDA_RESULT cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes,
                                 struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    if (!stream || !fake_memory_at(from, bytes, NULL) || !fake_memory_at(to, bytes, NULL))
        LEAVE(FAKE_INVALID_VALUE);
    fake_queue(
        &(fake_step){.kind = FAKE_COPY_INSIDE, .address = to, .source = from, .bytes = bytes});
    LEAVE(0);
}

CUDA_RESULT cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes,
                            struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    if (!stream || !fake_memory_at(to, bytes, NULL))
        LEAVE(FAKE_INVALID_VALUE);
    fake_queue(&(fake_step){.kind = FAKE_SET, .address = to, .value = value, .bytes = bytes});
    LEAVE(0);
}

/* ---- modules ---- */

static unsigned write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    const int written = file && fwrite(data, 1, bytes, file) == bytes;
    return file && fclose(file) == 0 && written ? 0 : 304;
}

/* Loads the emulator's shared object in memory; its end is that of its section headers. */
static unsigned load_object(const unsigned char *image, emu_library **out)
{
    char path[] = "/tmp/mlxn-fake-XXXXXX", log[1000];
    Elf64_Ehdr head;
    memcpy(&head, image, sizeof head);
    int file = mkstemp(path);
    if (file < 0)
        return 304;
    close(file);
    unsigned result =
        write_file(path, image, head.e_shoff + (size_t)head.e_shnum * head.e_shentsize);
    *out = result ? NULL : emu_open(path, log, sizeof log);
    unlink(path);
    return *out ? 0 : MLXN_CU_INVALID_IMAGE;
}

CUDA_RESULT cuModuleLoadDataEx(struct CUmod_st **module, const void *image, unsigned n_options,
                               CUDA_JIT_OPTION *options, void **values)
{
    ENTER
    NEEDS_CONTEXT
    struct CUmod_st *m = calloc(1, sizeof *m);
    if (n_options == 2 && options[0] == MLXN_CU_JIT_ERROR_LOG)
        snprintf(values[0], 20, "the assembler's log");
    if (!memcmp(image, ELFMAG, SELFMAG)) {
        unsigned failed = load_object(image, &m->library);
        if (failed) {
            free(m);
            LEAVE(failed);
        }
    } else if (strstr(image, ".version") && strstr(image, ".target")) {
        m->ptx = strdup(image);
    } else {
        free(m);
        LEAVE(MLXN_CU_INVALID_IMAGE);
    }
    *module = m;
    fake_live[FAKE_MODULE]++;
    LEAVE(0);
}

CUDA_RESULT cuModuleUnload(struct CUmod_st *module)
{
    ENTER
    fake_run(fake_newest());
    while (module->functions) {
        fake_function *f = module->functions;
        module->functions = f->next;
        free(f);
    }
    emu_release(module->library);
    free(module->ptx);
    free(module);
    fake_live[FAKE_MODULE]--;
    LEAVE(result);
}

CUDA_RESULT cuModuleGetFunction(struct CUfunc_st **function, struct CUmod_st *module,
                                const char *name)
{
    ENTER
    char entry[160];
    int n = module->library ? emu_parameters(module->library, name) : 0;
    snprintf(entry, sizeof entry, ".entry %s(", name);
    if (n < 0 || (module->ptx && !strstr(module->ptx, entry)))
        LEAVE(500);
    fake_function *f = calloc(1, sizeof *f);
    f->library = module->library;
    f->n_parameters = n;
    f->args_bytes = n ? emu_args_bytes(module->library, name) : 0;
    f->writes = n ? emu_writes(module->library, name) : 0;
    snprintf(f->name, sizeof f->name, "%s", name);
    f->next = module->functions;
    module->functions = f;
    *function = f;
    LEAVE(0);
}

CUDA_RESULT cuFuncSetAttribute(struct CUfunc_st *function, CUDA_FUNCTION_ATTRIBUTE which, int value)
{
    ENTER
    LEAVE(function && which == MLXN_CU_MAX_DYNAMIC_SHARED_BYTES && value >= 0 &&
                  value <= 232448 - 1024
              ? 0
              : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuLaunchKernel(struct CUfunc_st *function, unsigned grid_x, unsigned grid_y,
                           unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                           unsigned shared_bytes, struct CUstream_st *stream, void **parameters,
                           void **extra)
{
    ENTER
    NEEDS_CONTEXT
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    (void)shared_bytes;
    if (!stream || extra)
        LEAVE(FAKE_INVALID_VALUE);
    fake_launch *launch = malloc(sizeof *launch);
    unsigned failed = fake_launch_make(launch, function, grid, block, parameters);
    if (failed) {
        free(launch);
        LEAVE(failed);
    }
    fake_queue(&(fake_step){.kind = FAKE_RUN, .launch = launch});
    LEAVE(0);
}

/* ---- graphs ---- */

CUDA_RESULT cuGraphCreate(struct CUgraph_st **graph, unsigned flags)
{
    ENTER(void) flags;
    *graph = calloc(1, sizeof **graph);
    fake_live[FAKE_GRAPH]++;
    LEAVE(0);
}

CUDA_RESULT cuGraphDestroy(struct CUgraph_st *graph)
{
    ENTER
    for (int i = 0; i < graph->n; i++) {
        free(graph->nodes[i]->after);
        free(graph->nodes[i]);
    }
    free(graph->nodes);
    free(graph);
    fake_live[FAKE_GRAPH]--;
    LEAVE(result);
}

static void add_node(struct CUgraph_st *graph, fake_node *n, struct CUgraphNode_st *const *after,
                     size_t n_after)
{
    n->n_after = n_after;
    n->after = malloc((n_after + 1) * sizeof *n->after);
    if (n_after)
        memcpy(n->after, after, n_after * sizeof *after);
    n->index = graph->n;
    fake.edges += (long)n_after;
    graph->nodes = realloc(graph->nodes, (size_t)(graph->n + 1) * sizeof(fake_node *));
    graph->nodes[graph->n++] = n;
}

CUDA_RESULT cuGraphAddKernelNode_v2(struct CUgraphNode_st **node, struct CUgraph_st *graph,
                                    struct CUgraphNode_st *const *after, size_t n_after,
                                    const CUDA_KERNEL_NODE *parameters)
{
    ENTER
    NEEDS_CONTEXT
    fake_node *n = calloc(1, sizeof *n);
    unsigned failed = fake_launch_make(&n->launch, parameters->function, parameters->grid,
                                       parameters->block, parameters->parameters);
    if (failed || parameters->extra || parameters->kernel || parameters->context) {
        free(n);
        LEAVE(failed ? failed : FAKE_INVALID_VALUE);
    }
    add_node(graph, n, after, n_after);
    *node = n;
    LEAVE(0);
}

CUDA_RESULT cuGraphAddEventRecordNode(struct CUgraphNode_st **node, struct CUgraph_st *graph,
                                      struct CUgraphNode_st *const *after, size_t n_after,
                                      struct CUevent_st *event)
{
    ENTER
    NEEDS_CONTEXT
    fake_node *n = calloc(1, sizeof *n);
    n->time = &event->time;
    add_node(graph, n, after, n_after);
    *node = n;
    LEAVE(0);
}

CUDA_RESULT cuGraphAddDependencies_v2(struct CUgraph_st *graph, struct CUgraphNode_st *const *from,
                                      struct CUgraphNode_st *const *to, const CUDA_EDGE *edges,
                                      size_t count)
{
    ENTER
    NEEDS_CONTEXT
    static const CUDA_EDGE programmatic = {MLXN_CU_PROGRAMMATIC_PORT, 0, MLXN_CU_PROGRAMMATIC, {0}};
    for (size_t i = 0; i < count; i++) {
        fake_node *n = to[i];
        if (fake.architecture < 90 || memcmp(&edges[i], &programmatic, sizeof programmatic) ||
            from[i]->index >= n->index || graph->nodes[n->index] != n)
            LEAVE(FAKE_INVALID_VALUE);
        n->after = realloc(n->after, (n->n_after + 1) * sizeof *n->after);
        n->after[n->n_after++] = from[i];
        n->early = 1;
        fake.early_edges++;
    }
    LEAVE(0);
}

CUDA_RESULT cuGraphInstantiateWithFlags(struct CUgraphExec_st **executable,
                                        struct CUgraph_st *graph, unsigned long long flags)
{
    ENTER
    NEEDS_CONTEXT
    if (flags)
        LEAVE(FAKE_INVALID_VALUE);
    fake_executable *e = calloc(1, sizeof *e);
    e->n = graph->n;
    e->nodes = calloc((size_t)graph->n + 1, sizeof *e->nodes);
    for (int i = 0; i < e->n; i++) {
        fake_node *to = &e->nodes[i];
        *to = *graph->nodes[i];
        to->after = malloc((to->n_after + 1) * sizeof *to->after);
        for (size_t k = 0; k < to->n_after; k++)
            to->after[k] = &e->nodes[graph->nodes[i]->after[k]->index];
    }
    *executable = e;
    fake_live[FAKE_EXECUTABLE]++;
    LEAVE(0);
}

CUDA_RESULT cuGraphUpload(struct CUgraphExec_st *executable, struct CUstream_st *stream)
{
    ENTER
    LEAVE(executable && stream ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuGraphLaunch(struct CUgraphExec_st *executable, struct CUstream_st *stream)
{
    ENTER
    NEEDS_CONTEXT
    if (!executable || !stream)
        LEAVE(FAKE_INVALID_VALUE);
    fake_queue(&(fake_step){.kind = FAKE_RUN_GRAPH, .executable = executable});
    LEAVE(0);
}

CUDA_RESULT cuGraphExecDestroy(struct CUgraphExec_st *executable)
{
    ENTER
    fake_run(fake_newest());
    for (int i = 0; i < executable->n; i++)
        free(executable->nodes[i].after);
    free(executable->nodes);
    free(executable);
    fake_live[FAKE_EXECUTABLE]--;
    LEAVE(result);
}
