/* ahead.c - see ahead.h. */
#include "backends/cpu/ahead.h"

/* The first dispatch from `node` on whose kernel names early reads: into graphs, not out of them.
 */
static const mlxn_node *find_target(const mlxn_node *node)
{
    while (node && (node->graph || !node->kernel->source.cpu_early))
        node = node->graph ? node->graph->work.first : node->next;
    return node;
}

static void aim(mlxn_cpu_ahead *a)
{
    const mlxn_node *target = find_target(a->from);
    a->from = NULL;
    if (target == a->target)
        return;
    a->target = target;
    a->n = a->at = 0;
    a->done = a->bytes = 0;
    if (target)
        a->n = target->kernel->source.cpu_early(target->args, a->thread, a->n_threads, a->piece);
}

void mlxn_cpu_ahead_step(void *context)
{
    mlxn_cpu_ahead *a = context;
    if (a->from)
        aim(a);
    while (a->at < a->n && a->done >= a->piece[a->at].bytes) {
        a->at++;
        a->done = 0;
    }
    if (a->at >= a->n || a->bytes >= MLXN_CPU_AHEAD_BYTES)
        return;
    const mlxn_early_read *piece = &a->piece[a->at];
    const char *base = (const char *)a->target->ptr[piece->operand] + piece->offset;
    const size_t left = piece->bytes - a->done;
    const size_t bytes = left < MLXN_CPU_AHEAD_STEP ? left : MLXN_CPU_AHEAD_STEP;
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(base + a->done + i, 0, 3);
    a->done += bytes;
    a->bytes += bytes;
}

void mlxn_cpu_ahead_reached(mlxn_cpu_ahead *a, const mlxn_node *node)
{
    if (a->target != node)
        return;
    a->target = NULL;
    a->n = 0;
}
