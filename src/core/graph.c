/* graph.c - recorded work that is replayed: the object, its costs and its named bindings; see
 * mlxn/graph.h.  How work comes out of an encoder, and back into one, is capture.c. */
#include <stdlib.h>
#include <string.h>
#include "core/gpu.h"
#include "core/graph.h"

struct mlxn_binding {
    struct mlxn_binding *next;
    mlxn_buffer *buffer; /* what is bound now */
    char name[];
};

/* ---- what storage knows of graphs ---- */

static void enter_graph(mlxn_storage *storage)
{
    if (storage)
        atomic_fetch_add(&storage->in_graphs, 1);
}

/* From here on the storage itself remembers the last replay of the graph. */
static void leave_graph(mlxn_storage *storage, uint64_t last_replay)
{
    if (!storage)
        return;
    uint64_t last = atomic_load(&storage->last_commit);
    while (last < last_replay &&
           !atomic_compare_exchange_weak(&storage->last_commit, &last, last_replay))
        ;
    atomic_fetch_sub(&storage->in_graphs, 1);
}

/* ---- handles ---- */

mlxn_status mlxn_graph_make(mlxn_device *device, mlxn_work *work, mlxn_graph **out)
{
    mlxn_graph *graph = calloc(1, sizeof *graph);
    if (!graph)
        return mlxn_fail(MLXN_ERR_MEMORY, "graph_capture: out of memory");
    atomic_init(&graph->refs, 1);
    graph->device = mlxn_device_retain(device);
    graph->work = *work;
    if (!graph->work.first)
        graph->work.last = &graph->work.first;
    mlxn_work_init(work);
    for (const mlxn_node *node = graph->work.first; node; node = node->next)
        for (int i = 0; i < node->n_operands; i++)
            enter_graph(node->operands[i].storage);
    *out = graph;
    return MLXN_OK;
}

mlxn_graph *mlxn_graph_retain(mlxn_graph *graph)
{
    if (graph)
        atomic_fetch_add_explicit(&graph->refs, 1, memory_order_relaxed);
    return graph;
}

void mlxn_graph_release(mlxn_graph *graph)
{
    if (!graph || atomic_fetch_sub_explicit(&graph->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (graph->device->ops->graph_free)
        graph->device->ops->graph_free(graph->device, graph);
    while (graph->bindings) {
        struct mlxn_binding *binding = graph->bindings;
        graph->bindings = binding->next;
        mlxn_buffer_release(binding->buffer);
        free(binding);
    }
    for (const mlxn_node *node = graph->work.first; node; node = node->next)
        for (int i = 0; i < node->n_operands; i++)
            leave_graph(node->operands[i].storage, graph->last_commit);
    mlxn_work_free(&graph->work);
    mlxn_device_release(graph->device);
    free(graph);
}

uint64_t mlxn_graph_dispatches(const mlxn_graph *graph)
{
    return graph ? graph->work.dispatches : 0;
}

uint64_t mlxn_graph_barriers(const mlxn_graph *graph)
{
    return graph ? graph->work.barriers : 0;
}

mlxn_status mlxn_graph_measure(mlxn_graph *graph, int repetitions, mlxn_graph_costs *costs,
                               mlxn_launch_cost *launches, size_t capacity)
{
    if (!graph || (!launches && capacity))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_measure: %s is NULL",
                         graph ? "launches" : "graph");
    MLXN_TRY(mlxn_info_check("graph_measure", costs, sizeof *costs));
    if (repetitions < 1)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_measure: repetitions is %d, needs >= 1",
                         repetitions);
    if (!graph->device->ops->measure)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "graph_measure: not on %s devices",
                         graph->device->backend);
    MLXN_TRY(mlxn_device_wait(graph->device));
    *costs = (mlxn_graph_costs){.size = sizeof *costs};
    return graph->device->ops->measure(graph->device, graph, repetitions, costs, launches,
                                       capacity);
}

/* ---- named bindings ---- */

/* Whether an operand lies inside the byte range of a buffer, of the same storage. */
static int is_inside(const mlxn_bound *bound, const mlxn_buffer *buffer)
{
    if (bound->storage != buffer->storage || bound->offset < buffer->offset)
        return 0;
    size_t extent = (size_t)((bound->range.rows - 1) * bound->range.pitch + bound->range.row_bytes);
    return bound->offset - buffer->offset + extent <= buffer->bytes;
}

mlxn_status mlxn_graph_name(mlxn_graph *graph, const char *name, mlxn_buffer *buffer)
{
    int found = 0;
    if (!graph || !name || !buffer)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_name: %s is NULL",
                         !graph  ? "graph"
                         : !name ? "name"
                                 : "buffer");
    for (const struct mlxn_binding *b = graph->bindings; b; b = b->next)
        if (!strcmp(b->name, name))
            return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_name: \"%s\" is named already", name);
    for (const mlxn_node *node = graph->work.first; node; node = node->next)
        for (int i = 0; i < node->n_operands; i++)
            found |= is_inside(&node->operands[i], buffer);
    if (!found)
        return mlxn_fail(MLXN_ERR_NOT_FOUND, "graph_name: no operand uses the buffer of \"%s\"",
                         name);
    struct mlxn_binding *binding = malloc(sizeof *binding + strlen(name) + 1);
    if (!binding)
        return mlxn_fail(MLXN_ERR_MEMORY, "graph_name: out of memory");
    strcpy(binding->name, name);
    binding->buffer = mlxn_buffer_retain(buffer);
    binding->next = graph->bindings;
    graph->bindings = binding;
    return MLXN_OK;
}

static mlxn_status check_bind(const mlxn_graph *graph, const char *name, const mlxn_buffer *old,
                              const mlxn_buffer *new)
{
    if (new->storage->device != graph->device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_bind: \"%s\" is on another device", name);
    if (new->dtype != old->dtype || new->layout != old->layout)
        return mlxn_fail(MLXN_ERR_DTYPE, "graph_bind: \"%s\" is %s, needs %s%s", name,
                         mlxn_dtype_name(new->dtype), mlxn_dtype_name(old->dtype),
                         new->layout != old->layout ? " in the same layout" : "");
    if (new->rank != old->rank || memcmp(new->shape, old->shape, sizeof new->shape) != 0 ||
        memcmp(new->strides, old->strides, sizeof new->strides) != 0)
        return mlxn_fail(MLXN_ERR_SHAPE, "graph_bind: \"%s\" has another shape or other strides",
                         name);
    return MLXN_OK;
}

static void rebind(const mlxn_graph *graph, mlxn_node *node, int i, const mlxn_buffer *old,
                   const mlxn_buffer *new)
{
    mlxn_bound *bound = &node->operands[i];
    size_t offset = bound->offset - old->offset + new->offset;
    mlxn_storage_retain(new->storage);
    enter_graph(new->storage);
    leave_graph(bound->storage, graph->last_commit);
    mlxn_storage_release(bound->storage);
    bound->storage = new->storage;
    bound->offset = offset;
    bound->range.address = new->storage->address + offset;
    node->ptr[i] = new->storage->host ? (char *)new->storage->host + offset : NULL;
}

/* Takes the nodes out and appends them again, so that plans and barriers fit the new ranges.  A
 * barrier that was there stays: it may have been the caller's. */
static mlxn_status place_again(mlxn_device *device, mlxn_work *work)
{
    mlxn_node *node = work->first;
    work->first = NULL;
    work->last = &work->first;
    work->dispatches = work->barriers = 0;
    work->shared_used = work->shared_max = 0;
    mlxn_hazards_clear(&work->hazards);
    while (node) {
        mlxn_node *next = node->next;
        work->barrier_pending = node->barrier_before;
        MLXN_TRY(mlxn_gpu_plan_node(device, work, node));
        MLXN_TRY(mlxn_work_append(work, node, MLXN_BARRIERS_AUTO));
        node = next;
    }
    return MLXN_OK;
}

mlxn_status mlxn_graph_bind(mlxn_graph *graph, const char *name, mlxn_buffer *buffer)
{
    struct mlxn_binding *binding = graph ? graph->bindings : NULL;
    if (!graph || !name || !buffer)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_bind: %s is NULL",
                         !graph  ? "graph"
                         : !name ? "name"
                                 : "buffer");
    while (binding && strcmp(binding->name, name) != 0)
        binding = binding->next;
    if (!binding)
        return mlxn_fail(MLXN_ERR_NOT_FOUND, "graph_bind: nothing is named \"%s\"", name);
    MLXN_TRY(check_bind(graph, name, binding->buffer, buffer));
    int waited;
    graph->device->ops->wait(graph->device, graph->last_commit, &waited);
    for (mlxn_node *node = graph->work.first; node; node = node->next)
        for (int i = 0; i < node->n_operands; i++)
            if (is_inside(&node->operands[i], binding->buffer))
                rebind(graph, node, i, binding->buffer, buffer);
    mlxn_buffer_retain(buffer);
    mlxn_buffer_release(binding->buffer);
    binding->buffer = buffer;
    if (graph->device->ops->graph_free) {
        graph->device->ops->graph_free(graph->device, graph);
        graph->backend = NULL;
    }
    return place_again(graph->device, &graph->work);
}
