/* graph.h - record once, replay many times.
 *
 * A graph is what an encoder had recorded when it was captured: dispatches, operands, barriers.
 * Replaying it into an encoder records all of it at the cost of one node, with a barrier before and
 * after.  Lengths, positions and cache slots that kernels read from device buffers may change
 * between replays; shapes may not.  A graph retains the storage it uses. */
#ifndef MLXN_GRAPH_H
#define MLXN_GRAPH_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

typedef struct mlxn_graph mlxn_graph;

/* Takes everything recorded in `encoder` (in the recording state), which is empty afterwards. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_capture(mlxn_encoder *encoder, mlxn_graph **out);
MLXN_API mlxn_graph *mlxn_graph_retain(mlxn_graph *graph);
MLXN_API void mlxn_graph_release(mlxn_graph *graph);

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_replay(mlxn_encoder *encoder, mlxn_graph *graph);

/* Names a binding: every operand of the graph that is a view of the same storage as `buffer` and
 * lies inside its byte range. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_name(mlxn_graph *graph, const char *name,
                                                     mlxn_buffer *buffer);
/* Puts `buffer` in the place of a named binding for later replays: same device, dtype, shape and
 * strides.  Waits for committed replays first; barriers are found anew. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_bind(mlxn_graph *graph, const char *name,
                                                     mlxn_buffer *buffer);

MLXN_API uint64_t mlxn_graph_dispatches(const mlxn_graph *graph);
MLXN_API uint64_t mlxn_graph_barriers(const mlxn_graph *graph);

MLXN_EXTERN_C_END
#endif
