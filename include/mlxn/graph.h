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

/* Takes everything recorded in `encoder` (in the recording state), which is empty afterwards.
 * MLXN_ERR_UNSUPPORTED if that replays a graph itself. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_capture(mlxn_encoder *encoder, mlxn_graph **out);
MLXN_API mlxn_graph *mlxn_graph_retain(mlxn_graph *graph);
MLXN_API void mlxn_graph_release(mlxn_graph *graph);

/* Records one replay; the encoder keeps the graph alive until reset or release. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_replay(mlxn_encoder *encoder, mlxn_graph *graph);

/* Names a binding: every operand of the graph that is a view of the same storage as `buffer` and
 * lies inside its byte range.  MLXN_ERR_NOT_FOUND: there is none.  A name is given once. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_name(mlxn_graph *graph, const char *name,
                                                     mlxn_buffer *buffer);
/* Puts `buffer` in the place of a named binding for later replays: same device, dtype (else
 * MLXN_ERR_DTYPE), shape and strides (MLXN_ERR_SHAPE).  Waits for committed replays first; barriers
 * are found anew. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_bind(mlxn_graph *graph, const char *name,
                                                     mlxn_buffer *buffer);

/* Of one replay. */
MLXN_API uint64_t mlxn_graph_dispatches(const mlxn_graph *graph);
MLXN_API uint64_t mlxn_graph_barriers(const mlxn_graph *graph);

/* ---- what a graph costs on a GPU ---- */

typedef struct mlxn_launch_cost {
    const char *kernel; /* of the library, or the user's name */
    const char *entry;  /* in its text */
    uint32_t groups, threads;
    uint64_t bytes; /* of all operands that the launch is given, whole */
    double seconds; /* beyond those of an empty kernel in its place */
} mlxn_launch_cost;

typedef struct mlxn_graph_costs {
    size_t size;           /* set by the caller */
    double replay_seconds; /* of a replay among many, by the device's clock */
    double empty_seconds;  /* of an empty kernel in a chain of them */
    double copy_rate;      /* bytes a second, read and written, of a copy in the device's memory */
    size_t n_launches;
} mlxn_graph_costs;

/* Replays the graph repetitions + 1 times as it is, and as often with its launches one after
 * another and the device's clock read between them; fills the costs of the first `capacity`
 * launches.  Waits for committed work first.  MLXN_ERR_UNSUPPORTED where the device cannot: only
 * the "cuda" backend can. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_graph_measure(mlxn_graph *graph, int repetitions,
                                                        mlxn_graph_costs *costs,
                                                        mlxn_launch_cost *launches,
                                                        size_t capacity);

MLXN_EXTERN_C_END
#endif
