/* graph.h - what the rest of the core needs of a graph. */
#ifndef MLXN_CORE_GRAPH_H
#define MLXN_CORE_GRAPH_H

#include "core/internal.h"

/* Makes a graph of recorded work without replays, and leaves `work` empty. */
mlxn_status mlxn_graph_make(mlxn_device *device, mlxn_work *work, mlxn_graph **out);

#endif
