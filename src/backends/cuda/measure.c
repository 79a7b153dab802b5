/* measure.c - what the launches of a graph cost, by the device's own clock.
 *
 * The launches run one after another in a graph of their own that records an event behind each.  An
 * event costs about as much as a small kernel, so the same is done with kernels that do nothing,
 * and the difference is what a launch costs: the time beyond an empty kernel in its place.  The
 * clock's ticks are coarse (half a microsecond), the mean over many replays is not. */
#include <stdlib.h>
#include "backends/cuda/cuda.h"
#include "kernels/text.h"

enum {
    EMPTY_LAUNCHES = 100,
    COPIES = 10,
    COPY_BYTES_MAX = 256 << 20,
    COPY_MEMORY_SHARE = 64, /* and at most this part of the device's memory */
};

/* A chain of launches with events between them: n + 1 events for n launches. */
typedef struct timed {
    mlxn_cuda_device *cuda;
    struct CUgraph_st *graph;
    struct CUgraphExec_st *executable;
    struct CUgraphNode_st *last;
    struct CUevent_st **events;
    double *seconds; /* of launch i, summed over the replays */
    size_t n_events, capacity;
} timed;

static void timed_close(timed *t)
{
    mlxn_cuda_driver *cu = &t->cuda->cu;
    for (size_t i = 0; i < t->n_events; i++)
        cu->cuEventDestroy_v2(t->events[i]);
    if (t->executable)
        cu->cuGraphExecDestroy(t->executable);
    if (t->graph)
        cu->cuGraphDestroy(t->graph);
    free(t->events);
    free(t->seconds);
}

static mlxn_status add_event(timed *t)
{
    struct CUgraphNode_st *node;
    struct CUevent_st *event;
    MLXN_TRY(CU(&t->cuda->cu, cuEventCreate, &event, 0));
    t->events[t->n_events++] = event;
    MLXN_TRY(CU(&t->cuda->cu, cuGraphAddEventRecordNode, &node, t->graph, t->last ? &t->last : NULL,
                t->last != NULL, event));
    t->last = node;
    return MLXN_OK;
}

static mlxn_status timed_open(mlxn_cuda_device *cuda, size_t launches, timed *t)
{
    *t = (timed){.cuda = cuda, .capacity = launches + 1};
    t->events = calloc(t->capacity, sizeof(struct CUevent_st *));
    t->seconds = calloc(t->capacity, sizeof *t->seconds);
    if (!t->events || !t->seconds)
        return mlxn_fail(MLXN_ERR_MEMORY, "graph_measure: out of memory");
    MLXN_TRY(CU(&cuda->cu, cuGraphCreate, &t->graph, 0));
    return add_event(t);
}

static mlxn_status add_kernel(timed *t, const mlxn_gpu_launch *launch, void **parameters)
{
    struct CUgraphNode_st *node;
    const mlxn_cuda_kernel_node kernel = mlxn_cuda_node_of(launch, parameters);
    MLXN_TRY(CU(&t->cuda->cu, cuGraphAddKernelNode_v2, &node, t->graph, t->last ? &t->last : NULL,
                t->last != NULL, &kernel));
    t->last = node;
    return MLXN_OK;
}

static mlxn_status instantiate(timed *t)
{
    return CU(&t->cuda->cu, cuGraphInstantiateWithFlags, &t->executable, t->graph, 0);
}

static mlxn_status elapsed(mlxn_cuda_device *cuda, struct CUevent_st *from, struct CUevent_st *to,
                           double *seconds)
{
    float milliseconds = 0;
    MLXN_TRY(CU(&cuda->cu, cuEventElapsedTime_v2, &milliseconds, from, to));
    *seconds += 1e-3 * (double)milliseconds;
    return MLXN_OK;
}

/* Replays it; the first replay does not count. */
static mlxn_status timed_run(timed *t, int repetitions)
{
    mlxn_cuda_driver *cu = &t->cuda->cu;
    for (int i = 0; i <= repetitions; i++) {
        MLXN_TRY(CU(cu, cuGraphLaunch, t->executable, t->cuda->stream));
        MLXN_TRY(CU(cu, cuStreamSynchronize, t->cuda->stream));
        for (size_t k = 0; k + 1 < t->n_events && i > 0; k++)
            MLXN_TRY(elapsed(t->cuda, t->events[k], t->events[k + 1], &t->seconds[k]));
    }
    return MLXN_OK;
}

/* ---- empty kernels ---- */

static mlxn_status add_empty(timed *t, int events)
{
    struct publish_args args = {{0}, {0}};
    void *parameters[] = {&args};
    mlxn_gpu_launch launch = {.text = mlxn_kernel_text_publish_cuda,
                              .entry = "nothing",
                              .groups = {1, 1, 1},
                              .threads = 32};
    MLXN_TRY(mlxn_cuda_compile(t->cuda, &launch));
    for (int i = 0; i < EMPTY_LAUNCHES; i++) {
        MLXN_TRY(add_kernel(t, &launch, parameters));
        if (events || i == EMPTY_LAUNCHES - 1)
            MLXN_TRY(add_event(t));
    }
    return instantiate(t);
}

/* The mean time of an empty kernel in a chain of them, with an event behind each or without. */
static mlxn_status measure_empty(mlxn_cuda_device *cuda, int events, int repetitions, double *out)
{
    timed t;
    double sum = 0;
    mlxn_status status = timed_open(cuda, EMPTY_LAUNCHES, &t);
    if (status == MLXN_OK)
        status = add_empty(&t, events);
    if (status == MLXN_OK)
        status = timed_run(&t, repetitions);
    for (size_t i = 0; i + 1 < t.n_events; i++)
        sum += t.seconds[i];
    timed_close(&t);
    *out = sum / EMPTY_LAUNCHES / repetitions;
    return status;
}

/* ---- the graph ---- */

static size_t count_launches(const mlxn_work *work)
{
    size_t n = 0;
    for (const mlxn_node *node = work->first; node; node = node->next)
        n += (size_t)node->plan->n_launches;
    return n;
}

static mlxn_status add_work(timed *t, const mlxn_work *work, unsigned long long scratch)
{
    mlxn_cuda_parameters p;
    for (const mlxn_node *node = work->first; node; node = node->next)
        for (int i = 0; i < node->plan->n_launches; i++) {
            mlxn_cuda_bind(t->cuda, node, &node->plan->launches[i], scratch, &p);
            MLXN_TRY(add_kernel(t, &node->plan->launches[i], p.pointer));
            MLXN_TRY(add_event(t));
        }
    return instantiate(t);
}

static uint64_t bytes_of(const mlxn_node *node, const mlxn_gpu_launch *launch)
{
    uint64_t bytes = 0;
    for (int i = 0; i < launch->n_parameters; i++)
        if (launch->operand[i] >= 0 && node->operands[launch->operand[i]].storage) {
            const mlxn_range *r = &node->operands[launch->operand[i]].range;
            bytes += r->row_bytes * r->rows;
        }
    return bytes;
}

static void fill(const mlxn_work *work, const timed *t, int repetitions, double empty,
                 mlxn_launch_cost *launches, size_t capacity)
{
    size_t n = 0;
    for (const mlxn_node *node = work->first; node; node = node->next)
        for (int i = 0; i < node->plan->n_launches && n < capacity; i++, n++) {
            const mlxn_gpu_launch *l = &node->plan->launches[i];
            const double seconds = t->seconds[n] / repetitions - empty;
            launches[n] = (mlxn_launch_cost){.kernel = node->kernel->source.name,
                                             .entry = l->entry,
                                             .groups = l->groups[0] * l->groups[1] * l->groups[2],
                                             .threads = l->threads,
                                             .bytes = bytes_of(node, l),
                                             .seconds = seconds > 0 ? seconds : 0};
        }
}

static mlxn_status measure_launches(mlxn_cuda_device *cuda, mlxn_graph *graph, int repetitions,
                                    double empty, mlxn_launch_cost *launches, size_t capacity)
{
    timed t;
    mlxn_status status = timed_open(cuda, count_launches(&graph->work), &t);
    if (status == MLXN_OK)
        status = add_work(&t, &graph->work, mlxn_cuda_graph_scratch(graph));
    if (status == MLXN_OK)
        status = timed_run(&t, repetitions);
    if (status == MLXN_OK)
        fill(&graph->work, &t, repetitions, empty, launches, capacity);
    timed_close(&t);
    return status;
}

/* ---- between two events of the stream ---- */

typedef mlxn_status (*action)(mlxn_cuda_device *cuda, void *context);

static mlxn_status time_action(mlxn_cuda_device *cuda, action act, void *context, int repetitions,
                               double *seconds)
{
    struct CUevent_st *events[2] = {NULL, NULL};
    mlxn_cuda_driver *cu = &cuda->cu;
    *seconds = 0;
    mlxn_status status = act(cuda, context); /* to warm up */
    for (int i = 0; i < 2 && status == MLXN_OK; i++)
        status = CU(cu, cuEventCreate, &events[i], 0);
    if (status == MLXN_OK)
        status = CU(cu, cuEventRecord, events[0], cuda->stream);
    for (int i = 0; i < repetitions && status == MLXN_OK; i++)
        status = act(cuda, context);
    if (status == MLXN_OK)
        status = CU(cu, cuEventRecord, events[1], cuda->stream);
    if (status == MLXN_OK)
        status = CU(cu, cuStreamSynchronize, cuda->stream);
    if (status == MLXN_OK)
        status = elapsed(cuda, events[0], events[1], seconds);
    for (int i = 0; i < 2; i++)
        if (events[i])
            cu->cuEventDestroy_v2(events[i]);
    *seconds /= repetitions;
    return status;
}

static mlxn_status replay(mlxn_cuda_device *cuda, void *graph)
{
    return mlxn_cuda_graph_launch(cuda, graph);
}

typedef struct copy {
    unsigned long long from, to;
    size_t bytes;
} copy;

static mlxn_status copy_once(mlxn_cuda_device *cuda, void *context)
{
    const copy *c = context;
    return CU(&cuda->cu, cuMemcpyDtoDAsync_v2, c->to, c->from, c->bytes, cuda->stream);
}

static mlxn_status measure_copy(mlxn_cuda_device *cuda, double *rate)
{
    copy c = {.bytes = cuda->memory_bytes / COPY_MEMORY_SHARE};
    double seconds = 0;
    if (c.bytes > COPY_BYTES_MAX)
        c.bytes = COPY_BYTES_MAX;
    mlxn_status status = mlxn_cuda_take(cuda, c.bytes, &c.from);
    if (status == MLXN_OK)
        status = mlxn_cuda_take(cuda, c.bytes, &c.to);
    if (status == MLXN_OK)
        status = CU(&cuda->cu, cuMemsetD8Async, c.from, 1, c.bytes, cuda->stream);
    if (status == MLXN_OK)
        status = time_action(cuda, copy_once, &c, COPIES, &seconds);
    mlxn_cuda_give(cuda, c.from);
    mlxn_cuda_give(cuda, c.to);
    *rate = seconds > 0 ? 2 * (double)c.bytes / seconds : 0;
    return status;
}

static mlxn_status measure(mlxn_cuda_device *cuda, mlxn_graph *graph, int repetitions,
                           mlxn_graph_costs *costs, mlxn_launch_cost *launches, size_t capacity)
{
    double with_event;
    if (!cuda->cu.cuEventElapsedTime_v2)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "graph_measure: the driver is too old");
    MLXN_TRY(mlxn_cuda_enter(cuda));
    MLXN_TRY(time_action(cuda, replay, graph, repetitions, &costs->replay_seconds));
    MLXN_TRY(measure_empty(cuda, 0, repetitions, &costs->empty_seconds));
    MLXN_TRY(measure_empty(cuda, 1, repetitions, &with_event));
    MLXN_TRY(measure_launches(cuda, graph, repetitions, with_event, launches, capacity));
    MLXN_TRY(measure_copy(cuda, &costs->copy_rate));
    costs->n_launches = count_launches(&graph->work);
    return MLXN_OK;
}

mlxn_status mlxn_cuda_measure(mlxn_device *device, mlxn_graph *graph, int repetitions,
                              mlxn_graph_costs *costs, mlxn_launch_cost *launches, size_t capacity)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    pthread_mutex_lock(&cuda->stream_lock);
    const mlxn_status status = measure(cuda, graph, repetitions, costs, launches, capacity);
    for (const mlxn_node *node = graph->work.first; node; node = node->next)
        mlxn_cuda_written(node);
    pthread_mutex_unlock(&cuda->stream_lock);
    return status;
}
