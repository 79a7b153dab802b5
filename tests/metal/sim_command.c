/* sim_command.c - the simulated queue, command buffers and compute encoders.
 *
 * A queue runs its command buffers in the order of their commits, on a thread of its own
 * (sim_run.c).  Between encoders and between command buffers there is always a barrier, as Metal
 * tracks hazards of tracked resources there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sim.h"

typedef struct queue {
    struct object object;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct commands *first, **last;
    int leave, in_flight;
} queue;

enum { STATUS_NOT_ENQUEUED = 0, STATUS_COMMITTED = 2, STATUS_COMPLETED = 4, STATUS_ERROR = 5 };
enum { ERROR_INTERNAL = 1, ERROR_REMOVED = 11, MAX_HANDLERS = 8 };

/* What lives as long as a command buffer: bytes of setBytes, or an object it retains. */
typedef struct kept {
    struct kept *next;
    id object;
    unsigned char bytes[];
} kept;

typedef struct commands {
    struct object object;
    struct commands *next;
    queue *queue;
    int retains; /* what it uses */
    int encoding, done;
    atomic_int status;
    dispatch *first, **last;
    block *handlers[MAX_HANDLERS];
    int n_handlers;
    double start, end;
    id error;
    kept *kept;
} commands;

typedef struct encoder {
    struct object object;
    commands *commands;
    int ended, concurrent, barrier; /* as in dispatch, of the next one */
    const pipeline *pipeline;
    NSUInteger group_memory[MAX_INDEX];
    bound bounds[MAX_INDEX];
} encoder;

/* ---- encoders ---- */

static void check_open(const encoder *e, SEL command)
{
    if (e->ended)
        sim_misuse("[MTLComputeCommandEncoder %s]: after endEncoding", command);
}
static void check_index(NSUInteger index, SEL command)
{
    if (index >= MAX_INDEX)
        sim_misuse("[MTLComputeCommandEncoder %s]: index %lu, at most %d", command, index,
                   MAX_INDEX - 1);
}
static kept *keep(commands *c, id object, size_t bytes)
{
    kept *k = malloc(sizeof *k + bytes);
    if (!k)
        sim_misuse("no memory");
    k->next = c->kept;
    k->object = sim_retain(object);
    return c->kept = k;
}
static void use(commands *c, id object)
{
    if (c->retains)
        keep(c, object, 0);
}
static void encoder_pipeline(encoder *self, SEL command, id given)
{
    check_open(self, command);
    self->pipeline = sim_is(given, &MTLComputePipelineState_class, command);
    use(self->commands, given);
    metalsim_count.pipeline_changes++;
}
static void encoder_offset(encoder *self, SEL command, NSUInteger offset, NSUInteger index)
{
    check_open(self, command);
    check_index(index, command);
    bound *b = &self->bounds[index];
    if (b->kind != BUFFER)
        sim_misuse("[MTLComputeCommandEncoder %s]: no buffer at index %lu", command, index);
    if (offset > b->buffer->length)
        sim_misuse("[MTLComputeCommandEncoder %s]: offset %lu of %lu bytes", command, offset,
                   b->buffer->length);
    b->offset = offset;
    metalsim_count.offset_changes++;
}
static void encoder_buffer(encoder *self, SEL command, id given, NSUInteger offset,
                           NSUInteger index)
{
    check_open(self, command);
    check_index(index, command);
    self->bounds[index] = (bound){NIL, NULL, 0, 0, NULL};
    if (!given)
        return;
    buffer *b = sim_is(given, &MTLBuffer_class, command);
    use(self->commands, given);
    self->bounds[index] = (bound){BUFFER, b, 0, 0, NULL};
    encoder_offset(self, command, offset, index);
    metalsim_count.offset_changes--;
    metalsim_count.buffer_changes++;
}
static void encoder_bytes(encoder *self, SEL command, const void *bytes, NSUInteger length,
                          NSUInteger index)
{
    check_open(self, command);
    check_index(index, command);
    if (!bytes || !length || length > MAX_BYTES)
        sim_misuse("[MTLComputeCommandEncoder %s]: %lu bytes at %p, at most %d", command, length,
                   bytes, MAX_BYTES);
    kept *copy = keep(self->commands, NULL, length);
    memcpy(copy->bytes, bytes, length);
    self->bounds[index] = (bound){BYTES, NULL, 0, length, copy->bytes};
}
static void encoder_group_memory(encoder *self, SEL command, NSUInteger length, NSUInteger index)
{
    check_open(self, command);
    check_index(index, command);
    if (length % 16 || length > MAX_GROUP_MEMORY)
        sim_misuse("[MTLComputeCommandEncoder %s]: %lu is no multiple of 16 up to %d", command,
                   length, MAX_GROUP_MEMORY);
    self->group_memory[index] = length;
}
static void encoder_barrier(encoder *self, SEL command, NSUInteger scope)
{
    check_open(self, command);
    if (scope != 1)
        sim_misuse("[MTLComputeCommandEncoder %s]: scope %lu; buffers are 1", command, scope);
    self->barrier = ASKED;
    metalsim_count.barriers++;
}
static void check_dispatch(const encoder *e, SEL command, size3 groups, size3 threads)
{
    const NSUInteger n = threads.width * threads.height * threads.depth;
    NSUInteger memory = 0;
    check_open(e, command);
    if (!e->pipeline)
        sim_misuse("[MTLComputeCommandEncoder %s]: no pipeline is set", command);
    if (!n || !groups.width || !groups.height || !groups.depth)
        sim_misuse("[MTLComputeCommandEncoder %s]: an empty grid", command);
    if (n > e->pipeline->max_threads || threads.height != 1 || threads.depth != 1)
        sim_misuse("[MTLComputeCommandEncoder %s]: %lu threads a group, the pipeline of %s has %lu",
                   command, n, e->pipeline->entry, e->pipeline->max_threads);
    for (int i = 0; i < MAX_INDEX; i++)
        memory += e->group_memory[i];
    if (memory > MAX_GROUP_MEMORY)
        sim_misuse("[MTLComputeCommandEncoder %s]: %lu bytes of group memory", command, memory);
    for (int i = 0; i < e->pipeline->n_parameters; i++)
        if (e->bounds[i].kind == UNBOUND || e->bounds[i].kind == NIL)
            sim_misuse("[MTLComputeCommandEncoder %s]: %s has nothing at index %d", command,
                       e->pipeline->entry, i);
}
static void encoder_dispatch(encoder *self, SEL command, size3 groups, size3 threads)
{
    check_dispatch(self, command, groups, threads);
    dispatch *d = calloc(1, sizeof *d);
    d->pipeline = self->pipeline;
    d->barrier = self->barrier || self->concurrent ? self->barrier : FIRST;
    d->groups = groups;
    d->threads = threads;
    d->n = self->pipeline->n_parameters;
    memcpy(d->bounds, self->bounds, sizeof d->bounds);
    self->barrier = TOGETHER;
    *self->commands->last = d;
    self->commands->last = &d->next;
    metalsim_count.dispatches++;
}
static void encoder_end(encoder *self, SEL command)
{
    check_open(self, command);
    self->ended = 1;
    self->commands->encoding = 0;
}
static void encoder_label(id self, SEL command, id label)
{
    (void)self;
    sim_is(label, &NSString_class, command);
}
static void encoder_destroy(id self)
{
    encoder *e = (encoder *)self;
    if (!e->ended)
        sim_misuse("a compute encoder is freed before endEncoding");
    sim_release(&e->commands->object);
}
static const method MTLComputeCommandEncoder_methods[] = {
    METHOD("setComputePipelineState:", "v@:@", encoder_pipeline),
    METHOD("setBuffer:offset:atIndex:", "v@:@QQ", encoder_buffer),
    METHOD("setBufferOffset:atIndex:", "v@:QQ", encoder_offset),
    METHOD("setBytes:length:atIndex:", "v@:^vQQ", encoder_bytes),
    METHOD("setThreadgroupMemoryLength:atIndex:", "v@:QQ", encoder_group_memory),
    METHOD("memoryBarrierWithScope:", "v@:Q", encoder_barrier),
    METHOD("dispatchThreadgroups:threadsPerThreadgroup:", "v@:{MTLSize=QQQ}{MTLSize=QQQ}",
           encoder_dispatch),
    METHOD("endEncoding", "v@:", encoder_end),
    METHOD("setLabel:", "v@:@", encoder_label),
};
NO_METHODS(MTLComputeCommandEncoder_own);
CLASS(MTLComputeCommandEncoder, &NSObject_class, 0, encoder_destroy, 0)

/* ---- completion ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void complete(commands *c)
{
    char problem[600] = "";
    c->start = now();
    if (sim_fails(METALSIM_FAIL_LOST))
        c->error = sim_error_new(ERROR_REMOVED, "the device was removed");
    else if (sim_fails(METALSIM_FAIL_COMMANDS))
        c->error = sim_error_new(ERROR_INTERNAL, "a planned failure");
    else
        sim_run(c->first, problem, sizeof problem);
    if (*problem)
        c->error = sim_error_new(ERROR_INTERNAL, problem);
    c->end = now();
    atomic_store(&c->status, c->error ? STATUS_ERROR : STATUS_COMPLETED);
    for (int i = 0; i < c->n_handlers; i++) {
        c->handlers[i]->invoke(c->handlers[i], &c->object);
        sim_block_free(c->handlers[i]);
    }
}

/* ---- command buffers ---- */

static void commands_destroy(id self)
{
    commands *c = (commands *)self;
    while (c->first) {
        dispatch *d = c->first;
        c->first = d->next;
        free(d);
    }
    while (c->kept) {
        kept *k = c->kept;
        c->kept = k->next;
        sim_release(k->object);
        free(k);
    }
    if (c->status == STATUS_NOT_ENQUEUED)
        for (int i = 0; i < c->n_handlers; i++)
            sim_block_free(c->handlers[i]);
    sim_release(c->error);
    sim_release(&c->queue->object);
}

extern class MTLCommandBuffer_class;

static id commands_encoder_of(commands *self, SEL command, NSUInteger type)
{
    if (self->encoding || self->status != STATUS_NOT_ENQUEUED || type > 1)
        sim_misuse("[MTLCommandBuffer %s]: %s", command,
                   self->encoding ? "an encoder is open" : "committed, or no such type");
    encoder *e = sim_new(&MTLComputeCommandEncoder_class, sizeof *e);
    e->commands = (commands *)sim_retain(&self->object);
    e->concurrent = type == 1;
    e->barrier = FIRST;
    self->encoding = 1;
    metalsim_count.encoders++;
    return sim_autorelease(&e->object);
}
static id commands_encoder(commands *self, SEL command)
{
    return commands_encoder_of(self, command, 0);
}
static void commands_handler(commands *self, SEL command, const block *handler)
{
    if (self->status != STATUS_NOT_ENQUEUED)
        sim_misuse("[MTLCommandBuffer %s]: after commit", command);
    if (self->n_handlers == MAX_HANDLERS)
        sim_misuse("[MTLCommandBuffer %s]: too many", command);
    self->handlers[self->n_handlers++] = sim_block_copy(handler);
}
static void commands_commit(commands *self, SEL command)
{
    queue *q = self->queue;
    if (self->encoding)
        sim_misuse("[MTLCommandBuffer %s]: an encoder is open", command);
    if (atomic_exchange(&self->status, STATUS_COMMITTED) != STATUS_NOT_ENQUEUED)
        sim_misuse("[MTLCommandBuffer %s]: a second time", command);
    sim_retain(&self->object);
    sim_busy(1);
    pthread_mutex_lock(&q->lock);
    *q->last = self;
    q->last = &self->next;
    if (++q->in_flight > metalsim_count.in_flight_max)
        metalsim_count.in_flight_max = q->in_flight;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}
static void commands_wait(commands *self, SEL command)
{
    if (self->status < STATUS_COMMITTED)
        sim_misuse("[MTLCommandBuffer %s]: before commit", command);
    pthread_mutex_lock(&self->queue->lock);
    while (!self->done)
        pthread_cond_wait(&self->queue->changed, &self->queue->lock);
    pthread_mutex_unlock(&self->queue->lock);
}
GETTER(commands_status, NSUInteger, commands, (NSUInteger)self->status)
GETTER(commands_error, id, commands, self->error)
GETTER(commands_start, double, commands, self->start)
GETTER(commands_end, double, commands, self->end)
static const method MTLCommandBuffer_methods[] = {
    METHOD("computeCommandEncoder", "@@:", commands_encoder),
    METHOD("computeCommandEncoderWithDispatchType:", "@@:Q", commands_encoder_of),
    METHOD("addCompletedHandler:", "v@:@?", commands_handler),
    METHOD("commit", "v@:", commands_commit),
    METHOD("waitUntilCompleted", "v@:", commands_wait),
    METHOD("status", "Q@:", commands_status),
    METHOD("error", "@@:", commands_error),
    METHOD("GPUStartTime", "d@:", commands_start),
    METHOD("GPUEndTime", "d@:", commands_end),
    METHOD("setLabel:", "v@:@", encoder_label),
};
NO_METHODS(MTLCommandBuffer_own);
CLASS(MTLCommandBuffer, &NSObject_class, 0, commands_destroy, 0)

/* ---- the queue ---- */

static void *queue_main(void *argument)
{
    queue *q = argument;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (!q->first && !q->leave)
            pthread_cond_wait(&q->changed, &q->lock);
        commands *c = q->first;
        if (!c)
            break;
        q->first = c->next;
        if (!q->first)
            q->last = &q->first;
        pthread_mutex_unlock(&q->lock);
        void *pool = objc_autoreleasePoolPush();
        complete(c);
        objc_autoreleasePoolPop(pool);
        pthread_mutex_lock(&q->lock);
        c->done = 1;
        q->in_flight--;
        pthread_cond_broadcast(&q->changed);
        pthread_mutex_unlock(&q->lock);
        sim_release(&c->object);
        sim_busy(-1);
        pthread_mutex_lock(&q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* The last reference may go on the queue's own thread, which then cannot be joined. */
static void queue_destroy(id self)
{
    queue *q = (queue *)self;
    pthread_mutex_lock(&q->lock);
    q->leave = 1;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    if (pthread_equal(q->thread, pthread_self()))
        pthread_detach(q->thread);
    else
        pthread_join(q->thread, NULL);
}

static id queue_commands_of(queue *self, int retains)
{
    commands *c = sim_new(&MTLCommandBuffer_class, sizeof *c);
    c->queue = (queue *)sim_retain(&self->object);
    c->retains = retains;
    c->last = &c->first;
    metalsim_count.command_buffers++;
    return sim_autorelease(&c->object);
}
GETTER(queue_commands, id, queue, queue_commands_of(self, 1))
GETTER(queue_commands_unretained, id, queue, queue_commands_of(self, 0))
static void queue_residency(queue *self, SEL command, id set)
{
    (void)self;
    sim_is(set, &MTLResidencySet_class, command);
}
static const method MTLCommandQueue_methods[] = {
    METHOD("commandBuffer", "@@:", queue_commands),
    METHOD("commandBufferWithUnretainedReferences", "@@:", queue_commands_unretained),
    METHOD("setLabel:", "v@:@", encoder_label),
    METHOD_SINCE(15, "addResidencySet:", "v@:@", queue_residency),
};
NO_METHODS(MTLCommandQueue_own);
CLASS(MTLCommandQueue, &NSObject_class, 0, queue_destroy, 0)

id sim_queue_new(void)
{
    queue *q = sim_new(&MTLCommandQueue_class, sizeof *q);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    q->last = &q->first;
    if (pthread_create(&q->thread, NULL, queue_main, q))
        sim_misuse("no thread for a queue");
    return &q->object;
}
