/* graph.c - recorded graphs as CUDA graphs.
 *
 * Dispatches between two barriers are independent, so the edges are: every launch depends on all
 * launches of the group before its own, and on the earlier launches of its plan where it says so.
 * Launches that something in their group depends on already are left out of the group's end.  A
 * replay is one call of the driver.
 *
 * A launch that calls k_wait() (`early`) and depends on one other alone gets a programmatic edge
 * from it: it starts when every group of the other has come back from its own k_wait(), and only
 * k_wait() lets it go on when the other has ended.  So two launches of a chain are under way at a
 * time: letting the next one go before waiting piles up more, and a decode step of 168 launches
 * then takes 1.07 times as long (H200).  In a chain all launches follow one another, the
 * independent ones too, so that most have such an edge.  MLXN_CUDA_EDGES chooses: "full" (no such
 * edges), "programmatic", "chain". */
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/cuda.h"

typedef struct cuda_graph {
    struct CUgraphExec_st *executable;
    unsigned long long scratch;
    mlxn_cuda_published published;
} cuda_graph;

typedef struct node_list {
    struct CUgraphNode_st **nodes;
    size_t count, capacity;
} node_list;

typedef struct builder {
    mlxn_cuda_device *cuda;
    struct CUgraph_st *graph;
    unsigned long long scratch;
    node_list before, group; /* the ends of the group before, and of this one */
} builder;

static mlxn_status list_add(node_list *list, struct CUgraphNode_st *node)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        struct CUgraphNode_st **nodes = realloc(list->nodes, capacity * sizeof *nodes);
        if (!nodes)
            return mlxn_fail(MLXN_ERR_MEMORY, "cuda: no memory to build a graph");
        list->nodes = nodes;
        list->capacity = capacity;
    }
    list->nodes[list->count++] = node;
    return MLXN_OK;
}

mlxn_cuda_kernel_node mlxn_cuda_node_of(const mlxn_gpu_launch *launch, void **parameters)
{
    return (mlxn_cuda_kernel_node){
        .function = launch->function,
        .grid = {launch->groups[0], launch->groups[1], launch->groups[2]},
        .block = {launch->threads, 1, 1},
        .shared_bytes = launch->shared_bytes,
        .parameters = parameters,
    };
}

static mlxn_status add_launch(builder *b, const mlxn_gpu_launch *launch,
                              mlxn_cuda_parameters *parameters, const node_list *after,
                              struct CUgraphNode_st **out)
{
    static const mlxn_cuda_edge edge = {.from_port = MLXN_CU_PROGRAMMATIC_PORT,
                                        .type = MLXN_CU_PROGRAMMATIC};
    const int early = b->cuda->edges != MLXN_CUDA_EDGES_FULL && launch->early && after->count == 1;
    mlxn_cuda_driver *cu = &b->cuda->cu;
    const mlxn_cuda_kernel_node kernel = mlxn_cuda_node_of(launch, parameters->pointer);
    MLXN_TRY(CU(cu, cuGraphAddKernelNode_v2, out, b->graph, after->nodes, early ? 0 : after->count,
                &kernel));
    return early ? CU(cu, cuGraphAddDependencies_v2, b->graph, after->nodes, out, &edge, 1)
                 : MLXN_OK;
}

/* The launches of one plan; `ends` is room for those that nothing in the plan follows yet. */
static mlxn_status add_plan(builder *b, const mlxn_node *node, node_list *ends)
{
    ends->count = 0;
    for (int i = 0; i < node->plan->n_launches; i++) {
        const mlxn_gpu_launch *launch = &node->plan->launches[i];
        const int follows =
            (launch->after || b->cuda->edges == MLXN_CUDA_EDGES_CHAIN) && ends->count;
        struct CUgraphNode_st *added;
        mlxn_cuda_parameters p;
        mlxn_cuda_bind(b->cuda, node, launch, b->scratch, &p);
        MLXN_TRY(add_launch(b, launch, &p, follows ? ends : &b->before, &added));
        if (follows)
            ends->count = 0;
        MLXN_TRY(list_add(ends, added));
    }
    for (size_t i = 0; i < ends->count; i++)
        MLXN_TRY(list_add(&b->group, ends->nodes[i]));
    return MLXN_OK;
}

static mlxn_status add_work(builder *b, const mlxn_work *work, node_list *ends)
{
    for (const mlxn_node *node = work->first; node; node = node->next) {
        if ((node->barrier_before || b->cuda->edges == MLXN_CUDA_EDGES_CHAIN) && b->group.count) {
            const node_list spare = b->before;
            b->before = b->group;
            b->group = spare;
            b->group.count = 0;
        }
        MLXN_TRY(add_plan(b, node, ends));
    }
    return MLXN_OK;
}

/* The launch that shows the host what the graph wrote, behind all others. */
static mlxn_status add_publish(builder *b, const mlxn_cuda_published *published)
{
    mlxn_cuda_publish p;
    struct CUgraphNode_st *added;
    if (!published->count)
        return MLXN_OK;
    MLXN_TRY(mlxn_cuda_publish_bind(b->cuda, published, &p));
    return add_launch(b, &p.launch, &p.parameters, &b->group, &added);
}

static mlxn_status build(builder *b, const mlxn_work *work, cuda_graph *out)
{
    node_list ends = {0};
    mlxn_cuda_driver *cu = &b->cuda->cu;
    MLXN_TRY(CU(cu, cuGraphCreate, &b->graph, 0));
    mlxn_status status = add_work(b, work, &ends);
    if (status == MLXN_OK)
        status = add_publish(b, &out->published);
    if (status == MLXN_OK)
        status = CU(cu, cuGraphInstantiateWithFlags, &out->executable, b->graph, 0);
    if (status == MLXN_OK)
        status = CU(cu, cuGraphUpload, out->executable, b->cuda->stream);
    cu->cuGraphDestroy(b->graph);
    free(b->before.nodes);
    free(b->group.nodes);
    free(ends.nodes);
    return status;
}

static void destroy(mlxn_cuda_device *cuda, cuda_graph *graph)
{
    if (graph->executable)
        cuda->cu.cuGraphExecDestroy(graph->executable);
    mlxn_cuda_give(cuda, graph->scratch);
    free(graph);
}

static mlxn_status create(mlxn_cuda_device *cuda, const mlxn_work *work, cuda_graph **out)
{
    cuda_graph *graph = calloc(1, sizeof *graph);
    builder b = {.cuda = cuda};
    if (!graph)
        return mlxn_fail(MLXN_ERR_MEMORY, "cuda: no memory to build a graph");
    mlxn_status status = MLXN_OK;
    if (work->shared_max) /* its own: the addresses are in the graph */
        status = mlxn_cuda_take(cuda, work->shared_max, &graph->scratch);
    b.scratch = graph->scratch;
    mlxn_cuda_published_of(cuda, work, &graph->published);
    if (status == MLXN_OK)
        status = build(&b, work, graph);
    if (status != MLXN_OK)
        destroy(cuda, graph);
    else
        *out = graph;
    return status;
}

mlxn_status mlxn_cuda_graph_launch(mlxn_cuda_device *cuda, mlxn_graph *graph)
{
    cuda_graph *built = graph->backend;
    if (!graph->work.first)
        return MLXN_OK;
    if (!built) {
        MLXN_TRY(create(cuda, &graph->work, &built));
        graph->backend = built;
    }
    MLXN_TRY(CU(&cuda->cu, cuGraphLaunch, built->executable, cuda->stream));
    mlxn_cuda_published_launch(cuda, &built->published);
    return MLXN_OK;
}

unsigned long long mlxn_cuda_graph_scratch(const mlxn_graph *graph)
{
    const cuda_graph *built = graph->backend;
    return built ? built->scratch : 0;
}

int mlxn_cuda_graph_publishes(const mlxn_graph *graph)
{
    const cuda_graph *built = graph->backend;
    return built && built->published.count;
}

void mlxn_cuda_graph_free(mlxn_device *device, mlxn_graph *graph)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    if (!graph->backend)
        return;
    (void)mlxn_cuda_enter(cuda);
    pthread_mutex_lock(&cuda->stream_lock);
    cuda->cu.cuStreamSynchronize(cuda->stream); /* a count is seen before its launch has ended */
    destroy(cuda, graph->backend);
    pthread_mutex_unlock(&cuda->stream_lock);
    graph->backend = NULL;
}
