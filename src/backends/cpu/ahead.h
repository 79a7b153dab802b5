/* ahead.h - reading ahead while a thread waits.
 *
 * A thread that waits at a barrier asks for the bytes that it will read first in the next dispatch
 * whose kernel names such (mlxn_kernel_source.cpu_early), a few cache lines between two looks at
 * the barrier.  What it has asked for counts at later barriers too, until that dispatch runs.  The
 * bytes are of operands, which the recorded work keeps alive; they are only ever prefetched, so
 * neither a result nor a data race can come of it. */
#ifndef MLXN_CPU_AHEAD_H
#define MLXN_CPU_AHEAD_H

#include "core/internal.h"

enum {
    MLXN_CPU_AHEAD_STEP = 1024,       /* bytes asked for at once: about what arrives in a pause */
    MLXN_CPU_AHEAD_BYTES = 256 << 10, /* for one dispatch: they must still be cached when it runs */
};

/* A thread's place in what it reads ahead. */
typedef struct mlxn_cpu_ahead {
    uint32_t thread, n_threads;
    const mlxn_node *from;   /* look for a dispatch from here on; NULL: that is done */
    const mlxn_node *target; /* the dispatch whose operands are read; NULL: none */
    mlxn_early_read piece[MLXN_EARLY_READS];
    int n, at;    /* pieces, and the current one */
    size_t done;  /* bytes of the current piece asked for */
    size_t bytes; /* of all pieces together */
} mlxn_cpu_ahead;

/* Asks for the next bytes, if there are any; the context is a mlxn_cpu_ahead. */
void mlxn_cpu_ahead_step(void *context);
/* The dispatch begins. */
void mlxn_cpu_ahead_reached(mlxn_cpu_ahead *ahead, const mlxn_node *node);

#endif
