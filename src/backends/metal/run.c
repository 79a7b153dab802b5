/* run.c - a commit becomes a command buffer with one concurrent compute encoder.
 *
 * Dispatches of a concurrent encoder may overlap; memoryBarrierWithScope stands where the hazard
 * tracker put a barrier, or where a plan orders its own launches.  Command buffers of the queue run
 * in the order of their commits (its buffers are tracked resources).  A command buffer does not
 * retain what it uses: encoders keep storage alive until they have waited, pipelines live as long
 * as the device, and the scratch is retained here.  Its completion handler, on a thread of Metal's,
 * fills in the commit; mlxn_metal_wait waits for that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/metal/constants.h"
#include "backends/metal/metal.h"

/* What is set in the encoder, so that nothing is set twice. */
typedef struct metal_pass {
    metal_device *metal;
    metal_flight *flight;
    id encoder;
    id pipeline;
    id bound[MLXN_GPU_PARAMETERS + 1];
    size_t offset[MLXN_GPU_PARAMETERS + 1];
    unsigned long group_memory;
} metal_pass;

/* ---- flights ---- */

static size_t fault_bytes(void)
{
    return (size_t)mlxn_builtin_kernel_count * sizeof(uint32_t);
}

static metal_flight *take_flight(metal_device *metal)
{
    pthread_mutex_lock(&metal->lock);
    metal_flight *flight = metal->idle;
    if (flight)
        metal->idle = flight->next;
    pthread_mutex_unlock(&metal->lock);
    if (flight)
        return flight;
    flight = calloc(1, sizeof *flight);
    if (!flight)
        return NULL;
    flight->device = metal;
    flight->faults = mlxn_metal_new_buffer(metal, fault_bytes());
    if (!flight->faults) {
        free(flight);
        return NULL;
    }
    memset(objc_contents(flight->faults), 0, fault_bytes());
    return flight;
}

static void give_flight(metal_flight *flight)
{
    metal_device *metal = flight->device;
    pthread_mutex_lock(&metal->lock);
    flight->next = metal->idle;
    metal->idle = flight;
    pthread_mutex_unlock(&metal->lock);
}

void mlxn_metal_release_flights(metal_device *metal)
{
    while (metal->idle) {
        metal_flight *flight = metal->idle;
        metal->idle = flight->next;
        mlxn_metal_release_buffer(metal, flight->faults);
        free(flight);
    }
}

/* ---- completion ---- */

/* The first fault that is set becomes the commit's failure; all are cleared. */
static void take_faults(metal_flight *flight)
{
    uint32_t *words = objc_contents(flight->faults);
    mlxn_commit *commit = flight->commit;
    for (int i = 0; i < mlxn_builtin_kernel_count; i++) {
        const mlxn_kernel_source *source = &mlxn_builtin_kernels[i];
        if (words[i] && commit->status == MLXN_OK) {
            commit->status = MLXN_ERR_FAULT;
            snprintf(commit->detail, sizeof commit->detail, "%s: %s is out of range", source->name,
                     source->gpu_faults[__builtin_ctz(words[i])]);
        }
        words[i] = 0;
    }
}

/* Marks a flight as done; commits count as completed in order. */
static void land(metal_flight *flight)
{
    metal_device *metal = flight->device;
    pthread_mutex_lock(&metal->lock);
    flight->done = 1;
    while (metal->first && metal->first->done) {
        metal_flight *done = metal->first;
        metal->completed = done->commit->serial;
        metal->first = done->next;
        if (!metal->first)
            metal->last = &metal->first;
        done->next = metal->idle;
        metal->idle = done;
    }
    pthread_cond_broadcast(&metal->landed);
    pthread_mutex_unlock(&metal->lock);
}

static void on_completed(objc_block *block, id commands)
{
    metal_flight *flight = block->context;
    mlxn_commit *commit = flight->commit;
    void *pool = mlxn_objc.pool_push();
    commit->gpu_seconds = objc_gpu_end(commands) - objc_gpu_start(commands);
    if (objc_command_status(commands) != MTLCommandBufferStatusCompleted) {
        commit->status = MLXN_ERR_DEVICE;
        snprintf(commit->detail, sizeof commit->detail, "metal: %s",
                 mlxn_objc_error(objc_command_error(commands)));
    }
    take_faults(flight);
    if (commit->status != MLXN_OK)
        mlxn_device_note_failure(&flight->device->base, commit);
    objc_release(flight->scratch);
    flight->scratch = NULL;
    mlxn_objc.pool_pop(pool);
    land(flight); /* from here on the commit is its owner's */
}

void mlxn_metal_wait(mlxn_device *device, uint64_t serial, int *waited)
{
    metal_device *metal = (metal_device *)device;
    pthread_mutex_lock(&metal->lock);
    *waited = metal->completed < serial;
    while (metal->completed < serial)
        pthread_cond_wait(&metal->landed, &metal->lock);
    pthread_mutex_unlock(&metal->lock);
}

/* ---- scratch ---- */

/* Scratch only grows; a flight keeps the one it was encoded with. */
static mlxn_status reserve(metal_device *metal, size_t bytes)
{
    if (bytes <= metal->scratch_bytes)
        return MLXN_OK;
    id scratch = mlxn_metal_new_buffer(metal, bytes);
    if (!scratch)
        return mlxn_fail(MLXN_ERR_MEMORY, "metal: no memory for %zu bytes of scratch", bytes);
    mlxn_metal_release_buffer(metal, metal->scratch);
    metal->scratch = scratch;
    metal->scratch_bytes = bytes;
    return MLXN_OK;
}

/* ---- encoding ---- */

static void bind(metal_pass *pass, int index, id buffer, size_t offset)
{
    const unsigned long at = (unsigned long)index;
    if (pass->bound[index] != buffer)
        objc_set_buffer(pass->encoder, buffer, offset, at);
    else if (pass->offset[index] != offset)
        objc_set_buffer_offset(pass->encoder, offset, at);
    pass->bound[index] = buffer;
    pass->offset[index] = offset;
}

static void bind_parameter(metal_pass *pass, const mlxn_node *node, size_t scratch_at,
                           const mlxn_gpu_launch *launch, int i)
{
    const mlxn_kernel *builtin = pass->metal->base.builtin;
    const size_t offset = launch->offset[i];
    const int operand = launch->operand[i];
    if (operand == MLXN_GPU_FAULT) {
        bind(pass, i, pass->flight->faults, (size_t)(node->kernel - builtin) * sizeof(uint32_t));
    } else if (operand == MLXN_GPU_SCRATCH) {
        bind(pass, i, pass->flight->scratch, scratch_at + offset);
    } else if (operand == MLXN_GPU_NONE || !node->operands[operand].storage) {
        bind(pass, i, pass->metal->nothing, 0);
    } else {
        const mlxn_bound *b = &node->operands[operand];
        bind(pass, i, b->storage->backend, mlxn_metal_lead(b->storage) + b->offset + offset);
    }
}

static void encode_launch(metal_pass *pass, const mlxn_node *node, size_t scratch_at,
                          const mlxn_gpu_launch *launch)
{
    const metal_pipeline *p = launch->function;
    const int n = launch->n_parameters;
    const unsigned long group_memory = (launch->shared_bytes + 15ul) & ~15ul;
    if (pass->pipeline != p->pipeline)
        objc_set_pipeline(pass->encoder, p->pipeline);
    pass->pipeline = p->pipeline;
    for (int i = 0; i < n; i++)
        bind_parameter(pass, node, scratch_at, launch, i);
    if (launch->args_bytes) {
        objc_set_bytes(pass->encoder, launch->args, launch->args_bytes, (unsigned long)n);
        pass->bound[n] = NULL;
    }
    if (pass->group_memory != group_memory)
        objc_set_group_memory(pass->encoder, group_memory, 0);
    pass->group_memory = group_memory;
    objc_dispatch(pass->encoder,
                  (metal_size){launch->groups[0], launch->groups[1], launch->groups[2]},
                  (metal_size){launch->threads, 1, 1});
}

static void encode(metal_pass *pass, const mlxn_work *work, size_t scratch_at)
{
    for (const mlxn_node *node = work->first; node; node = node->next) {
        const size_t at = scratch_at + node->shared_offset;
        if (node->barrier_before)
            objc_memory_barrier(pass->encoder, MTLBarrierScopeBuffers);
        if (node->graph)
            encode(pass, &node->graph->work, at);
        int done = 0; /* launches of the plan in front of the last barrier */
        for (int i = 0; node->plan && i < node->plan->n_launches; i++) {
            if (node->plan->launches[i].after > done) {
                objc_memory_barrier(pass->encoder, MTLBarrierScopeBuffers);
                done = i;
            }
            encode_launch(pass, node, at, &node->plan->launches[i]);
        }
    }
}

static mlxn_status send(metal_device *metal, metal_flight *flight, mlxn_commit *commit)
{
    char label[40];
    id commands = objc_command_buffer(metal->queue);
    metal_pass pass = {.metal = metal, .flight = flight};
    pass.encoder = objc_compute_encoder(commands, MTLDispatchTypeConcurrent);
    if (!pass.encoder)
        return mlxn_fail(MLXN_ERR_DEVICE, "metal: no command buffer could be made");
    snprintf(label, sizeof label, "mlxn commit %llu", (unsigned long long)commit->serial);
    objc_set_command_label(commands, mlxn_objc_string(label));
    flight->commit = commit;
    flight->done = 0;
    flight->scratch = objc_retain(metal->scratch);
    encode(&pass, commit->work, 0);
    objc_end_encoding(pass.encoder);
    pthread_mutex_lock(&metal->lock);
    flight->next = NULL;
    *metal->last = flight;
    metal->last = &flight->next;
    pthread_mutex_unlock(&metal->lock);
    const objc_block completed = mlxn_objc_block(on_completed, flight);
    objc_on_completed(commands, &completed);
    objc_commit(commands);
    return MLXN_OK;
}

mlxn_status mlxn_metal_submit(mlxn_device *device, mlxn_commit *commit)
{
    metal_device *metal = (metal_device *)device;
    void *pool = mlxn_objc.pool_push();
    metal_flight *flight = take_flight(metal);
    mlxn_status status =
        flight ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "metal: no memory to commit");
    if (status == MLXN_OK)
        status = reserve(metal, commit->work->shared_max);
    if (status == MLXN_OK) {
        mlxn_metal_update_residency(metal);
        status = send(metal, flight, commit);
    }
    if (status != MLXN_OK && flight)
        give_flight(flight);
    mlxn_objc.pool_pop(pool);
    return status;
}
