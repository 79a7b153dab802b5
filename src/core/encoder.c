/* encoder.c - recording, committing and waiting; see mlxn/encoder.h for the states. */
#include <stdlib.h>
#include <string.h>
#include "core/encoder.h"
#include "core/gpu.h"

typedef enum encoder_state {
    RECORDING,
    COMMITTED,
    DONE,
} encoder_state;

struct mlxn_encoder {
    atomic_int refs;
    mlxn_device *device;
    mlxn_barrier_mode mode;
    int dry_run;
    encoder_state state;
    mlxn_work work;
    mlxn_commit commit;
    mlxn_counters counters;
};

mlxn_status mlxn_encoder_create_with(mlxn_device *device, const mlxn_encoder_desc *desc,
                                     mlxn_encoder **out)
{
    mlxn_encoder_desc local;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "encoder_create: out is NULL");
    *out = NULL;
    if (!device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "encoder_create: device is NULL");
    MLXN_TRY(mlxn_desc_copy("encoder_create", &local, sizeof local, desc));
    if ((unsigned)local.barriers > MLXN_BARRIERS_VALIDATE)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "encoder_create: %d is no barrier mode",
                         (int)local.barriers);
    if (local.dry_run != 0 && local.dry_run != 1)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "encoder_create: dry_run is %d, needs 0 or 1",
                         local.dry_run);
    mlxn_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return mlxn_fail(MLXN_ERR_MEMORY, "encoder_create: out of memory");
    atomic_init(&encoder->refs, 1);
    encoder->device = mlxn_device_retain(device);
    encoder->mode = local.barriers;
    encoder->dry_run = local.dry_run;
    mlxn_work_init(&encoder->work);
    *out = encoder;
    return MLXN_OK;
}

mlxn_status mlxn_encoder_create(mlxn_device *device, mlxn_encoder **out)
{
    return mlxn_encoder_create_with(device, MLXN_DESC(mlxn_encoder_desc, .barriers = 0), out);
}

mlxn_encoder *mlxn_encoder_retain(mlxn_encoder *encoder)
{
    if (encoder)
        atomic_fetch_add_explicit(&encoder->refs, 1, memory_order_relaxed);
    return encoder;
}

static void finish(mlxn_encoder *encoder)
{
    int waited = 0;
    if (encoder->state != COMMITTED)
        return;
    encoder->device->ops->wait(encoder->device, encoder->commit.serial, &waited);
    encoder->counters.syncs += (uint64_t)waited;
    encoder->counters.gpu_seconds += encoder->commit.gpu_seconds;
    encoder->state = DONE;
}

/* Lets go of the graphs that are replayed, before the list is cleared. */
static void release_graphs(const mlxn_work *work)
{
    for (const mlxn_node *node = work->first; node; node = node->next)
        mlxn_graph_release(node->graph);
}

void mlxn_encoder_release(mlxn_encoder *encoder)
{
    if (!encoder || atomic_fetch_sub_explicit(&encoder->refs, 1, memory_order_acq_rel) != 1)
        return;
    finish(encoder);
    release_graphs(&encoder->work);
    mlxn_work_free(&encoder->work);
    mlxn_device_release(encoder->device);
    free(encoder);
}

mlxn_device *mlxn_encoder_device(const mlxn_encoder *encoder)
{
    return encoder ? encoder->device : NULL;
}

mlxn_status mlxn_encoder_check_recording(const mlxn_encoder *encoder, const char *who)
{
    if (!encoder)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: encoder is NULL", who);
    if (encoder->state != RECORDING)
        return mlxn_fail(MLXN_ERR_STATE, "%s: the encoder is committed; reset it first", who);
    return MLXN_OK;
}

mlxn_status mlxn_encoder_check_work(const mlxn_encoder *encoder, const char *who)
{
    MLXN_TRY(mlxn_encoder_check_recording(encoder, who));
    if (encoder->dry_run)
        return mlxn_fail(MLXN_ERR_STATE, "%s: the encoder is a dry run, it records nothing", who);
    return MLXN_OK;
}

mlxn_status mlxn_encoder_barrier(mlxn_encoder *encoder)
{
    MLXN_TRY(mlxn_encoder_check_recording(encoder, "encoder_barrier"));
    encoder->work.barrier_pending = 1;
    return MLXN_OK;
}

mlxn_status mlxn_encoder_commit(mlxn_encoder *encoder)
{
    MLXN_TRY(mlxn_encoder_check_work(encoder, "encoder_commit"));
    encoder->commit = (mlxn_commit){.work = &encoder->work};
    MLXN_TRY(mlxn_device_submit(encoder->device, &encoder->commit));
    encoder->state = COMMITTED;
    encoder->counters.dispatches += encoder->work.dispatches;
    encoder->counters.barriers += encoder->work.barriers;
    encoder->counters.commits++;
    return MLXN_OK;
}

mlxn_status mlxn_encoder_wait(mlxn_encoder *encoder)
{
    if (!encoder)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "encoder_wait: encoder is NULL");
    if (encoder->state == RECORDING)
        return mlxn_fail(MLXN_ERR_STATE, "encoder_wait: nothing is committed");
    finish(encoder);
    if (encoder->commit.status != MLXN_OK)
        return mlxn_fail(encoder->commit.status, "%s", encoder->commit.detail);
    return MLXN_OK;
}

mlxn_status mlxn_encoder_reset(mlxn_encoder *encoder)
{
    if (!encoder)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "encoder_reset: encoder is NULL");
    finish(encoder);
    release_graphs(&encoder->work);
    mlxn_work_clear(&encoder->work);
    encoder->state = RECORDING;
    return MLXN_OK;
}

mlxn_status mlxn_encoder_get_counters(const mlxn_encoder *encoder, mlxn_counters *counters)
{
    if (!encoder)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "encoder_get_counters: encoder is NULL");
    MLXN_TRY(mlxn_info_check("encoder_get_counters", counters, sizeof *counters));
    size_t size = counters->size;
    mlxn_counters now = encoder->counters;
    if (encoder->state == RECORDING) {
        now.dispatches += encoder->work.dispatches;
        now.barriers += encoder->work.barriers;
    }
    now.size = size;
    memcpy(counters, &now, sizeof now);
    return MLXN_OK;
}

/* ---- launches ---- */

/* A node with room for its operands, pointers and arguments, in one piece of the arena. */
static mlxn_node *new_node(mlxn_work *work, int n_operands, size_t args_bytes)
{
    size_t head = (sizeof(mlxn_node) + 15) & ~(size_t)15;
    size_t bound = (size_t)n_operands * sizeof(mlxn_bound);
    size_t ptr = ((size_t)n_operands * sizeof(void *) + 15) & ~(size_t)15;
    unsigned char *p = mlxn_work_alloc(work, head + bound + ptr + args_bytes + 16);
    if (!p)
        return NULL;
    mlxn_node *node = (void *)p;
    memset(node, 0, sizeof *node);
    node->n_operands = n_operands;
    node->operands = (void *)(p + head);
    node->ptr = (void *)(p + head + bound);
    node->args = (void *)(((uintptr_t)(p + head + bound + ptr) + 15) & ~(uintptr_t)15);
    node->args_bytes = args_bytes;
    return node;
}

static void bind(mlxn_node *node, int i, const mlxn_operand *operand)
{
    const mlxn_buffer *b = operand->buffer;
    mlxn_bound *bound = &node->operands[i];
    *bound = (mlxn_bound){.access = operand->access};
    node->ptr[i] = NULL;
    if (!b)
        return;
    bound->storage = b->storage;
    bound->offset = b->offset;
    bound->range = mlxn_buffer_range(b);
    if (b->storage->host)
        node->ptr[i] = (char *)b->storage->host + b->offset;
}

/* Appends a node and keeps alive what it uses; a dry run forgets it. */
mlxn_status mlxn_encoder_append(mlxn_encoder *encoder, mlxn_node *node)
{
    if (encoder->dry_run) {
        mlxn_work_clear(&encoder->work);
        return MLXN_OK;
    }
    MLXN_TRY(mlxn_work_append(&encoder->work, node, encoder->mode));
    for (int i = 0; i < node->n_operands; i++)
        if (node->operands[i].storage)
            mlxn_storage_retain(node->operands[i].storage);
    mlxn_graph_retain(node->graph);
    return MLXN_OK;
}

mlxn_status mlxn_launch_kernel(mlxn_encoder *encoder, mlxn_kernel *kernel,
                               const mlxn_operand *operands, int n_operands, const void *args,
                               size_t args_bytes, const mlxn_grid *grid)
{
    mlxn_work *work = &encoder->work;
    if (encoder->dry_run) /* what was refused last time has left its memory */
        mlxn_work_clear(work);
    mlxn_node *node = new_node(work, n_operands, args_bytes);
    if (!node)
        return mlxn_fail(MLXN_ERR_MEMORY, "%s: no memory to record it", kernel->source.name);
    node->kernel = kernel;
    for (int i = 0; i < n_operands; i++)
        bind(node, i, &operands[i]);
    if (args_bytes)
        memcpy(node->args, args, args_bytes);
    if (grid)
        node->grid = *grid;
    if (encoder->device->gpu)
        MLXN_TRY(mlxn_gpu_plan_node(encoder->device, work, node));
    else if (kernel->source.cpu_shared)
        node->shared_bytes = kernel->source.cpu_shared(node->args, encoder->device->threads);
    return mlxn_encoder_append(encoder, node);
}

mlxn_status mlxn_launch(mlxn_encoder *encoder, int kernel, const mlxn_operand *operands,
                        int n_operands, const void *args, size_t args_bytes, const mlxn_grid *grid)
{
    mlxn_kernel *k = &encoder->device->builtin[kernel];
    if (!k->built)
        MLXN_TRY(mlxn_kernel_find(encoder->device, k->source.name, &k));
    return mlxn_launch_kernel(encoder, k, operands, n_operands, args, args_bytes, grid);
}

static mlxn_status check_dispatch(const mlxn_encoder *encoder, const mlxn_dispatch_args *a)
{
    if (!a->kernel)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "dispatch: kernel is NULL");
    if (a->n_operands < 0 || a->n_operands > MLXN_MAX_OPERANDS)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "dispatch: %s has %d operands, at most %d", a->kernel,
                         a->n_operands, MLXN_MAX_OPERANDS);
    if (a->args_bytes > MLXN_MAX_ARGS_BYTES)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "dispatch: %s has %zu argument bytes, at most %d",
                         a->kernel, a->args_bytes, MLXN_MAX_ARGS_BYTES);
    if ((a->n_operands && !a->operands) || (a->args_bytes && !a->args))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "dispatch: %s of %s is NULL",
                         a->n_operands && !a->operands ? "operands" : "args", a->kernel);
    for (int i = 0; i < a->n_operands; i++) {
        const mlxn_operand *o = &a->operands[i];
        if (o->access < MLXN_READ || o->access > MLXN_READ_WRITE)
            return mlxn_fail(MLXN_ERR_ARGUMENT, "dispatch: operand %d of %s has no access", i,
                             a->kernel);
        if (o->buffer && o->buffer->storage->device != encoder->device)
            return mlxn_fail(MLXN_ERR_ARGUMENT, "dispatch: operand %d of %s is on another device",
                             i, a->kernel);
    }
    return MLXN_OK;
}

mlxn_status mlxn_dispatch(mlxn_encoder *encoder, const mlxn_dispatch_args *args)
{
    mlxn_dispatch_args a;
    mlxn_kernel *kernel;
    MLXN_TRY(mlxn_encoder_check_recording(encoder, "dispatch"));
    MLXN_TRY(mlxn_desc_copy("dispatch", &a, sizeof a, args));
    MLXN_TRY(check_dispatch(encoder, &a));
    MLXN_TRY(mlxn_kernel_find(encoder->device, a.kernel, &kernel));
    if (!kernel->owned) /* its arguments are not public, so not to be checked */
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "dispatch: %s is a kernel of the library, which its operator records",
                         a.kernel);
    mlxn_grid grid = {{a.groups[0], a.groups[1], a.groups[2]}, a.threads, a.shared_bytes};
    return mlxn_launch_kernel(encoder, kernel, a.operands, a.n_operands, a.args, a.args_bytes,
                              &grid);
}

mlxn_work *mlxn_encoder_work(mlxn_encoder *encoder)
{
    return &encoder->work;
}
