/* queue.c - commits on the stream, and waiting for them.
 *
 * Launches of a commit go to the stream in the order in which they were recorded, which is an order
 * that every barrier allows; only a graph runs dispatches side by side.  An event marks the end of
 * each commit; where its last graph counts itself (mirror.c), that count is what is waited for.
 * What fails while a commit is queued or runs becomes the failure of that commit and comes back
 * from wait; faults that kernels report are read when the oldest waiting commit is done.
 */
#include <stdio.h>
#include <string.h>
#include "backends/cuda/cuda.h"

enum { WATCHES = 4096 }; /* of the board, before the driver is asked */

mlxn_status mlxn_cuda_queue_open(mlxn_cuda_device *cuda)
{
    const size_t bytes = ((size_t)mlxn_builtin_kernel_count + 1) * sizeof *cuda->faults;
    void *faults;
    cuda->last = &cuda->first;
    MLXN_TRY(CU(&cuda->cu, cuStreamCreate, &cuda->stream, MLXN_CU_STREAM_NON_BLOCKING));
    for (int i = 0; i < MLXN_CUDA_EVENTS; i++)
        MLXN_TRY(CU(&cuda->cu, cuEventCreate, &cuda->events[i], MLXN_CU_EVENT_DISABLE_TIMING));
    MLXN_TRY(CU(&cuda->cu, cuMemHostAlloc, &faults, bytes,
                MLXN_CU_HOST_PORTABLE | MLXN_CU_HOST_DEVICEMAP));
    memset(faults, 0, bytes);
    cuda->faults = faults;
    return CU(&cuda->cu, cuMemHostGetDevicePointer_v2, &cuda->faults_address, faults, 0);
}

void mlxn_cuda_queue_close(mlxn_cuda_device *cuda)
{
    if (!cuda->stream)
        return;
    mlxn_cuda_give(cuda, cuda->scratch);
    cuda->cu.cuStreamSynchronize(cuda->stream);
    if (cuda->faults)
        cuda->cu.cuMemFreeHost((void *)(uintptr_t)cuda->faults);
    for (int i = 0; i < MLXN_CUDA_EVENTS; i++)
        if (cuda->events[i])
            cuda->cu.cuEventDestroy_v2(cuda->events[i]);
    cuda->cu.cuStreamDestroy_v2(cuda->stream);
}

/* ---- launches ---- */

static mlxn_status launch_one(mlxn_cuda_device *cuda, const mlxn_node *node,
                              const mlxn_gpu_launch *launch)
{
    mlxn_cuda_parameters p;
    mlxn_cuda_bind(cuda, node, launch, cuda->scratch, &p);
    return CU(&cuda->cu, cuLaunchKernel, launch->function, launch->groups[0], launch->groups[1],
              launch->groups[2], launch->threads, 1, 1, launch->shared_bytes, cuda->stream,
              p.pointer, NULL);
}

static mlxn_status launch_node(mlxn_cuda_device *cuda, const mlxn_node *node)
{
    if (node->graph)
        return mlxn_cuda_graph_launch(cuda, node->graph);
    for (int i = 0; i < node->plan->n_launches; i++) {
        mlxn_status status = launch_one(cuda, node, &node->plan->launches[i]);
        if (status != MLXN_OK)
            return mlxn_fail(status, "%s: %s", node->kernel->source.name, mlxn_last_error());
    }
    mlxn_cuda_written(node);
    return MLXN_OK;
}

/* ---- commits ---- */

/* Memory given back is reused by later steps of the stream alone. */
static mlxn_status grow_scratch(mlxn_cuda_device *cuda, size_t bytes)
{
    if (bytes <= cuda->scratch_bytes)
        return MLXN_OK;
    mlxn_cuda_give(cuda, cuda->scratch);
    cuda->scratch = 0;
    cuda->scratch_bytes = 0;
    MLXN_TRY(mlxn_cuda_take(cuda, bytes, &cuda->scratch));
    cuda->scratch_bytes = bytes;
    return MLXN_OK;
}

static mlxn_status queue_work(mlxn_cuda_device *cuda, const mlxn_work *work)
{
    MLXN_TRY(mlxn_cuda_enter(cuda));
    MLXN_TRY(grow_scratch(cuda, work->shared_max));
    for (const mlxn_node *node = work->first; node; node = node->next)
        MLXN_TRY(launch_node(cuda, node));
    return MLXN_OK;
}

/* The count that the board has when the work is done, 0 if that is none. */
static uint32_t ends_published(const mlxn_cuda_device *cuda, const mlxn_work *work)
{
    const mlxn_graph *last = NULL;
    for (const mlxn_node *node = work->first; node; node = node->next)
        last = node->graph;
    return last && mlxn_cuda_graph_publishes(last) ? cuda->published : 0;
}

static void fail_commit(mlxn_commit *commit, mlxn_status status)
{
    if (commit->status != MLXN_OK)
        return;
    commit->status = status;
    snprintf(commit->detail, sizeof commit->detail, "%s", mlxn_last_error());
}

mlxn_status mlxn_cuda_submit(mlxn_device *device, mlxn_commit *commit)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    const size_t slot = commit->serial % MLXN_CUDA_EVENTS;
    pthread_mutex_lock(&cuda->stream_lock);
    mlxn_status status = queue_work(cuda, commit->work);
    cuda->counts[slot] = ends_published(cuda, commit->work);
    if (status == MLXN_OK)
        status = CU(&cuda->cu, cuEventRecord, cuda->events[slot], cuda->stream);
    if (status != MLXN_OK)
        fail_commit(commit, status);
    commit->next = NULL;
    *cuda->last = commit;
    cuda->last = &commit->next;
    pthread_mutex_unlock(&cuda->stream_lock);
    return MLXN_OK;
}

/* ---- waiting ---- */

/* The first fault that is set becomes the failure of the oldest commit that has none. */
static void take_faults(mlxn_cuda_device *cuda, mlxn_commit *commit)
{
    for (int i = 0; i < mlxn_builtin_kernel_count; i++) {
        const uint32_t bits = cuda->faults[i];
        if (!bits)
            continue;
        const mlxn_kernel_source *source = &mlxn_builtin_kernels[i];
        cuda->faults[i] = 0;
        mlxn_fail(MLXN_ERR_FAULT, "%s: %s is out of range", source->name,
                  source->gpu_faults[__builtin_ctz(bits)]);
        fail_commit(commit, MLXN_ERR_FAULT);
    }
}

/* Ends every commit up to `serial`; `status` says whether the device got that far. */
static void retire(mlxn_cuda_device *cuda, uint64_t serial, mlxn_status status)
{
    while (cuda->first && cuda->first->serial <= serial) {
        mlxn_commit *commit = cuda->first;
        cuda->first = commit->next;
        if (!cuda->first)
            cuda->last = &cuda->first;
        if (status != MLXN_OK)
            fail_commit(commit, status);
        take_faults(cuda, commit);
        if (commit->status != MLXN_OK)
            mlxn_device_note_failure(&cuda->base, commit);
    }
    if (serial > atomic_load(&cuda->done))
        atomic_store(&cuda->done, serial);
}

/* How to wait for the end of a commit. */
typedef struct ending {
    int failed; /* it, or one before it, while it was queued: then its event says nothing */
    struct CUevent_st *event;
    uint32_t count;
} ending;

static ending ending_of(mlxn_cuda_device *cuda, uint64_t serial)
{
    const size_t slot = serial % MLXN_CUDA_EVENTS;
    ending e = {.event = cuda->events[slot]};
    pthread_mutex_lock(&cuda->stream_lock);
    e.count = cuda->counts[slot];
    for (const mlxn_commit *c = cuda->first; c && c->serial <= serial; c = c->next)
        e.failed |= c->status != MLXN_OK;
    pthread_mutex_unlock(&cuda->stream_lock);
    return e;
}

/* Watches the board, and now and then the driver, which alone knows of a device that is lost. */
static mlxn_status watch(mlxn_cuda_device *cuda, const ending *e)
{
    for (unsigned i = 1; !mlxn_cuda_has_published(cuda, e->count); i++) {
        if (i % WATCHES)
            continue;
        const CUDA_RESULT result = cuda->cu.cuEventQuery(e->event);
        if (result != MLXN_CU_NOT_READY)
            return mlxn_cuda_status(&cuda->cu, result, "cuEventQuery");
    }
    return MLXN_OK;
}

static mlxn_status wait_for(mlxn_cuda_device *cuda, const ending *e)
{
    MLXN_TRY(mlxn_cuda_enter(cuda));
    if (e->failed)
        return CU(&cuda->cu, cuStreamSynchronize, cuda->stream);
    return e->count ? watch(cuda, e) : CU(&cuda->cu, cuEventSynchronize, e->event);
}

void mlxn_cuda_wait(mlxn_device *device, uint64_t serial, int *waited)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    *waited = 0;
    if (serial <= atomic_load(&cuda->done))
        return;
    *waited = 1;
    const ending e = ending_of(cuda, serial);
    const mlxn_status status = wait_for(cuda, &e); /* not under the lock: others go on committing */
    pthread_mutex_lock(&cuda->stream_lock);
    retire(cuda, serial, status);
    pthread_mutex_unlock(&cuda->stream_lock);
}
