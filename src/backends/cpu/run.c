/* run.c - the queue, and running a commit on the team.
 *
 * Commits are queued; whoever waits first runs them in order, as thread 0 of the team.  One job of
 * the team runs a whole commit: each thread walks the list of dispatches, calls the kernel, and
 * meets the others only where a barrier is recorded.  While it waits there it reads ahead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cpu/ahead.h"
#include "backends/cpu/cpu.h"

struct mlxn_cpu_run {
    mlxn_cpu_device *device;
    mlxn_node *node;
    mlxn_cpu_ahead *ahead;
};

/* A barrier; whoever waits reads ahead for what comes from `next` on. */
static void meet(mlxn_cpu_device *cpu, mlxn_cpu_ahead *ahead, const mlxn_node *next)
{
    ahead->from = next;
    mlxn_cpu_team_barrier(cpu->team, mlxn_cpu_ahead_step, ahead);
}

uint64_t mlxn_cpu_next(const mlxn_cpu_call *call)
{
    return atomic_fetch_add_explicit(&call->run->node->next_item, 1, memory_order_relaxed);
}

void mlxn_cpu_barrier(const mlxn_cpu_call *call)
{
    meet(call->run->device, call->run->ahead, call->run->node->next);
}

void mlxn_cpu_fault(const mlxn_cpu_call *call, const char *what, int64_t value, int64_t limit)
{
    mlxn_cpu_fault_record *fault = &call->run->device->fault;
    if (atomic_exchange(&fault->set, 1))
        return;
    fault->kernel = call->run->node->kernel->source.name;
    fault->what = what;
    fault->value = value;
    fault->limit = limit;
}

static void reset_items(mlxn_work *work)
{
    for (mlxn_node *node = work->first; node; node = node->next)
        atomic_store_explicit(&node->next_item, 0, memory_order_relaxed);
}

/* Several replays of a graph in one commit share its nodes: each starts with counters of zero. */
static void run_nodes(mlxn_cpu_device *cpu, mlxn_work *work, unsigned char *scratch,
                      mlxn_cpu_ahead *ahead)
{
    for (mlxn_node *node = work->first; node; node = node->next) {
        if (node->barrier_before)
            meet(cpu, ahead, node);
        if (node->graph) {
            if (ahead->thread == 0)
                reset_items(&node->graph->work);
            meet(cpu, ahead, node);
            run_nodes(cpu, &node->graph->work, scratch + node->shared_offset, ahead);
            continue;
        }
        mlxn_cpu_ahead_reached(ahead, node);
        struct mlxn_cpu_run run = {cpu, node, ahead};
        mlxn_cpu_call call = {.ptr = node->ptr,
                              .args = node->args,
                              .shared = scratch + node->shared_offset,
                              .thread = ahead->thread,
                              .n_threads = ahead->n_threads,
                              .run = &run};
        node->kernel->run(&call);
    }
}

static void run_job(void *context, uint32_t thread)
{
    mlxn_cpu_device *cpu = context;
    mlxn_cpu_ahead ahead = {.thread = thread, .n_threads = cpu->base.threads};
    run_nodes(cpu, cpu->work, cpu->scratch, &ahead);
}

/* Scratch only grows; it is of the device, and commits run one at a time. */
static mlxn_status reserve(mlxn_cpu_device *cpu, size_t bytes)
{
    bytes = bytes ? bytes : 64; /* never NULL: kernels get addresses inside */
    if (bytes <= cpu->scratch_bytes)
        return MLXN_OK;
    free(cpu->scratch);
    cpu->scratch_bytes = 0;
    cpu->scratch = aligned_alloc(64, bytes);
    if (!cpu->scratch)
        return MLXN_ERR_MEMORY;
    cpu->scratch_bytes = bytes;
    return MLXN_OK;
}

static void run_commit(mlxn_cpu_device *cpu, mlxn_commit *commit)
{
    if (reserve(cpu, commit->work->shared_max) != MLXN_OK) {
        commit->status = MLXN_ERR_MEMORY;
        snprintf(commit->detail, sizeof commit->detail, "no memory for %zu bytes of scratch",
                 commit->work->shared_max);
    } else {
        reset_items(commit->work);
        cpu->work = commit->work;
        mlxn_cpu_team_run(cpu->team, run_job, cpu);
    }
    mlxn_cpu_fault_record *fault = &cpu->fault;
    if (atomic_load_explicit(&fault->set, memory_order_relaxed)) {
        commit->status = MLXN_ERR_FAULT;
        snprintf(commit->detail, sizeof commit->detail, "%s: %s is %lld, limit %lld", fault->kernel,
                 fault->what, (long long)fault->value, (long long)fault->limit);
        atomic_store(&fault->set, 0);
    }
    if (commit->status != MLXN_OK)
        mlxn_device_note_failure(&cpu->base, commit);
}

static mlxn_commit *pop(mlxn_cpu_device *cpu)
{
    pthread_mutex_lock(&cpu->queue_lock);
    mlxn_commit *commit = cpu->first;
    if (commit) {
        cpu->first = commit->next;
        if (!cpu->first)
            cpu->last = &cpu->first;
    }
    pthread_mutex_unlock(&cpu->queue_lock);
    return commit;
}

mlxn_status mlxn_cpu_submit(mlxn_device *device, mlxn_commit *commit)
{
    mlxn_cpu_device *cpu = (mlxn_cpu_device *)device;
    pthread_mutex_lock(&cpu->queue_lock);
    commit->next = NULL;
    *cpu->last = commit;
    cpu->last = &commit->next;
    pthread_mutex_unlock(&cpu->queue_lock);
    return MLXN_OK;
}

void mlxn_cpu_wait(mlxn_device *device, uint64_t serial, int *waited)
{
    mlxn_cpu_device *cpu = (mlxn_cpu_device *)device;
    *waited = atomic_load_explicit(&cpu->completed, memory_order_acquire) < serial;
    if (!*waited)
        return;
    pthread_mutex_lock(&cpu->run_lock);
    while (atomic_load_explicit(&cpu->completed, memory_order_relaxed) < serial) {
        mlxn_commit *commit = pop(cpu);
        run_commit(cpu, commit);
        atomic_store_explicit(&cpu->completed, commit->serial, memory_order_release);
    }
    pthread_mutex_unlock(&cpu->run_lock);
}
