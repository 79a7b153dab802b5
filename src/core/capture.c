/* capture.c - what an encoder has recorded becomes a graph, and a graph is recorded to be replayed;
 * see mlxn/graph.h. */
#include <string.h>
#include "core/encoder.h"
#include "core/graph.h"

mlxn_status mlxn_graph_capture(mlxn_encoder *encoder, mlxn_graph **out)
{
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_capture: out is NULL");
    *out = NULL;
    MLXN_TRY(mlxn_encoder_check_work(encoder, "graph_capture"));
    mlxn_work *work = mlxn_encoder_work(encoder);
    for (const mlxn_node *node = work->first; node; node = node->next)
        if (node->graph)
            return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                             "graph_capture: the work replays a graph itself");
    return mlxn_graph_make(mlxn_encoder_device(encoder), work, out);
}

mlxn_status mlxn_graph_replay(mlxn_encoder *encoder, mlxn_graph *graph)
{
    MLXN_TRY(mlxn_encoder_check_recording(encoder, "graph_replay"));
    if (!graph)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_replay: graph is NULL");
    if (graph->device != mlxn_encoder_device(encoder))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "graph_replay: the graph is of another device");
    mlxn_node *node = mlxn_work_alloc(mlxn_encoder_work(encoder), sizeof *node);
    if (!node)
        return mlxn_fail(MLXN_ERR_MEMORY, "graph_replay: no memory to record it");
    memset(node, 0, sizeof *node);
    node->graph = graph;
    node->shared_bytes = graph->work.shared_max;
    return mlxn_encoder_append(encoder, node);
}
