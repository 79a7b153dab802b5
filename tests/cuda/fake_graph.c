/* fake_graph.c - the fake driver's graphs: nodes with edges, instantiated as a copy that the stream
 * runs (fake_stream.c). */
#include <stdlib.h>
#include <string.h>
#include "fake_driver.h"

struct CUgraph_st {
    int n;
    fake_node **nodes;
};

CUDA_RESULT cuGraphCreate(struct CUgraph_st **graph, unsigned flags)
{
    ENTER;
    (void)flags;
    *graph = calloc(1, sizeof **graph);
    fake_live[FAKE_GRAPH]++;
    return fake_leave(0);
}

CUDA_RESULT cuGraphDestroy(struct CUgraph_st *graph)
{
    ENTER;
    for (int i = 0; i < graph->n; i++) {
        free(graph->nodes[i]->after);
        free(graph->nodes[i]);
    }
    free(graph->nodes);
    free(graph);
    fake_live[FAKE_GRAPH]--;
    return fake_leave(result);
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
    ENTER;
    NEEDS_CONTEXT;
    fake_node *n = calloc(1, sizeof *n);
    unsigned failed = fake_launch_make(&n->launch, parameters->function, parameters->grid,
                                       parameters->block, parameters->parameters);
    if (failed || parameters->extra || parameters->kernel || parameters->context) {
        free(n);
        return fake_leave(failed ? failed : FAKE_INVALID_VALUE);
    }
    add_node(graph, n, after, n_after);
    *node = n;
    return fake_leave(0);
}

CUDA_RESULT cuGraphAddEventRecordNode(struct CUgraphNode_st **node, struct CUgraph_st *graph,
                                      struct CUgraphNode_st *const *after, size_t n_after,
                                      struct CUevent_st *event)
{
    ENTER;
    NEEDS_CONTEXT;
    fake_node *n = calloc(1, sizeof *n);
    n->time = &event->time;
    add_node(graph, n, after, n_after);
    *node = n;
    return fake_leave(0);
}

CUDA_RESULT cuGraphAddDependencies_v2(struct CUgraph_st *graph, struct CUgraphNode_st *const *from,
                                      struct CUgraphNode_st *const *to, const CUDA_EDGE *edges,
                                      size_t count)
{
    ENTER;
    NEEDS_CONTEXT;
    static const CUDA_EDGE programmatic = {MLXN_CU_PROGRAMMATIC_PORT, 0, MLXN_CU_PROGRAMMATIC, {0}};
    for (size_t i = 0; i < count; i++) {
        fake_node *n = to[i];
        if (fake.architecture < 90 || memcmp(&edges[i], &programmatic, sizeof programmatic) ||
            from[i]->index >= n->index || graph->nodes[n->index] != n)
            return fake_leave(FAKE_INVALID_VALUE);
        n->after = realloc(n->after, (n->n_after + 1) * sizeof *n->after);
        n->after[n->n_after++] = from[i];
        n->early = 1;
        fake.early_edges++;
    }
    return fake_leave(0);
}

CUDA_RESULT cuGraphInstantiateWithFlags(struct CUgraphExec_st **executable,
                                        struct CUgraph_st *graph, unsigned long long flags)
{
    ENTER;
    NEEDS_CONTEXT;
    if (flags)
        return fake_leave(FAKE_INVALID_VALUE);
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
    return fake_leave(0);
}

CUDA_RESULT cuGraphUpload(struct CUgraphExec_st *executable, struct CUstream_st *stream)
{
    ENTER;
    return fake_leave(executable && stream ? 0 : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuGraphLaunch(struct CUgraphExec_st *executable, struct CUstream_st *stream)
{
    ENTER;
    NEEDS_CONTEXT;
    if (!executable || !stream)
        return fake_leave(FAKE_INVALID_VALUE);
    fake_queue(&(fake_step){.kind = FAKE_RUN_GRAPH, .executable = executable});
    return fake_leave(0);
}

CUDA_RESULT cuGraphExecDestroy(struct CUgraphExec_st *executable)
{
    ENTER;
    fake_run(fake_newest());
    for (int i = 0; i < executable->n; i++)
        free(executable->nodes[i].after);
    free(executable->nodes);
    free(executable);
    fake_live[FAKE_EXECUTABLE]--;
    return fake_leave(result);
}
