/* sim_device.c - the simulated MTLDevice, buffers and residency sets.  Limits are those of Apple's
 * feature tables for Apple7 and later. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim.h"

metalsim_counts metalsim_count;

/* ---- buffers ---- */

enum { STORAGE_SHARED = 0 };

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void buffer_destroy(id self)
{
    buffer *b = (buffer *)self;
    if (b->deallocator)
        ((void (*)(block *, void *, NSUInteger))(void (*)(void))b->deallocator->invoke)(
            b->deallocator, b->memory, b->length);
    sim_block_free(b->deallocator);
    if (!b->wrapped)
        free(b->memory);
    sim_release(b->label);
    sim_forget(b);
}
GETTER(buffer_contents, void *, buffer, self->memory)
GETTER(buffer_length, NSUInteger, buffer, self->length)
static void buffer_set_label(buffer *self, SEL command, id label)
{
    (void)command;
    sim_set(&self->label, label);
}
static const method MTLBuffer_methods[] = {
    METHOD("contents", "^v@:", buffer_contents),
    METHOD("length", "Q@:", buffer_length),
    METHOD("setLabel:", "v@:@", buffer_set_label),
};
NO_METHODS(MTLBuffer_own);
CLASS(MTLBuffer, &NSObject_class, 0, buffer_destroy, 0)

static void check_options(NSUInteger options, const char *where)
{
    if (options != STORAGE_SHARED)
        sim_misuse("%s: options %lu; the simulator has shared, tracked storage only", where,
                   options);
}

/* Contents are not promised to be zero, so they are NaN. */
static id new_buffer(id self, SEL command, NSUInteger length, NSUInteger options)
{
    (void)self;
    check_options(options, command);
    if (!length)
        sim_misuse("[MTLDevice %s]: length is 0", command);
    if (sim_fails(METALSIM_FAIL_BUFFER) || length > (NSUInteger)1 << 36)
        return NULL;
    const size_t page = page_size();
    char *memory = aligned_alloc(page, (length + page - 1) / page * page);
    if (!memory)
        return NULL;
    buffer *b = sim_new(&MTLBuffer_class, sizeof *b);
    b->memory = memset(memory, 0xff, length);
    b->length = length;
    return &b->object;
}

static id wrap_buffer(id self, SEL command, void *memory, NSUInteger length, NSUInteger options,
                      const block *deallocator)
{
    (void)self;
    check_options(options, command);
    if (!memory || !length || (size_t)memory % page_size() || length % page_size())
        sim_misuse("[MTLDevice %s]: %p, %lu bytes, are no whole pages", command, memory, length);
    if (sim_fails(METALSIM_FAIL_BUFFER))
        return NULL;
    buffer *b = sim_new(&MTLBuffer_class, sizeof *b);
    b->memory = memory;
    b->length = length;
    b->wrapped = 1;
    b->deallocator = sim_block_copy(deallocator);
    return &b->object;
}

/* ---- residency sets ---- */

enum { MAX_RESIDENT = 4096 };
typedef struct residency_set {
    struct object object;
    id allocations[MAX_RESIDENT];
    int n, changed;
} residency_set;

static void residency_destroy(id self)
{
    residency_set *s = (residency_set *)self;
    metalsim_count.resident -= s->n;
    for (int i = 0; i < s->n; i++)
        sim_release(s->allocations[i]);
}
static int residency_find(const residency_set *s, id allocation)
{
    for (int i = 0; i < s->n; i++)
        if (s->allocations[i] == allocation)
            return i;
    return -1;
}
static void residency_add(residency_set *self, SEL command, id allocation)
{
    sim_is(allocation, &MTLBuffer_class, command);
    if (residency_find(self, allocation) >= 0)
        return;
    if (self->n == MAX_RESIDENT)
        sim_misuse("[MTLResidencySet %s]: too many", command);
    self->allocations[self->n++] = sim_retain(allocation);
    self->changed = 1;
    metalsim_count.resident++;
}
static void residency_remove(residency_set *self, SEL command, id allocation)
{
    const int at = residency_find(self, sim_is(allocation, &MTLBuffer_class, command));
    if (at < 0)
        return;
    sim_release(allocation);
    self->allocations[at] = self->allocations[--self->n];
    self->changed = 1;
    metalsim_count.resident--;
}
static void residency_commit(residency_set *self, SEL command)
{
    (void)command;
    self->changed = 0;
}
static void residency_request(residency_set *self, SEL command)
{
    if (self->changed)
        sim_misuse("[MTLResidencySet %s]: changes are not committed", command);
}
static const method MTLResidencySet_methods[] = {
    METHOD("addAllocation:", "v@:@", residency_add),
    METHOD("removeAllocation:", "v@:@", residency_remove),
    METHOD("commit", "v@:", residency_commit),
    METHOD("requestResidency", "v@:", residency_request),
};
NO_METHODS(MTLResidencySet_own);
CLASS(MTLResidencySet, &NSObject_class, 0, residency_destroy, 15)
NO_METHODS(MTLResidencySetDescriptor_methods);
NO_METHODS(MTLResidencySetDescriptor_own);
CLASS(MTLResidencySetDescriptor, &NSObject_class, sizeof(struct object), NULL, 15)

static id new_residency_set(id self, SEL command, id descriptor, id *error)
{
    (void)self;
    (void)error;
    sim_is(descriptor, &MTLResidencySetDescriptor_class, command);
    return sim_new(&MTLResidencySet_class, sizeof(residency_set));
}

/* ---- the device ---- */

GETTER(device_name, id, struct object, sim_autorelease(sim_string("Simulated GPU")))
static BOOL device_family(id self, SEL command, long family)
{
    (void)self;
    (void)command;
    return family >= 1001 && family <= metalsim.family;
}
GETTER(device_max_buffer, NSUInteger, struct object, (NSUInteger)1 << 36)
GETTER(device_max_group_memory, NSUInteger, struct object, MAX_GROUP_MEMORY)
GETTER(device_max_threads, size3, struct object, (size3){MAX_GROUP_THREADS, MAX_GROUP_THREADS, 64})
GETTER(device_working_set, NSUInteger, struct object, (NSUInteger)1 << 34)
GETTER(device_queue, id, struct object, sim_queue_new())

static const method MTLDevice_methods[] = {
    METHOD("name", "@@:", device_name),
    METHOD("supportsFamily:", "B@:q", device_family),
    METHOD("maxBufferLength", "Q@:", device_max_buffer),
    METHOD("maxThreadgroupMemoryLength", "Q@:", device_max_group_memory),
    METHOD("maxThreadsPerThreadgroup", "{MTLSize=QQQ}@:", device_max_threads),
    METHOD("recommendedMaxWorkingSetSize", "Q@:", device_working_set),
    METHOD("newCommandQueue", "@@:", device_queue),
    METHOD("newBufferWithLength:options:", "@@:QQ", new_buffer),
    METHOD("newBufferWithBytesNoCopy:length:options:deallocator:", "@@:^vQQ@?", wrap_buffer),
    METHOD("newLibraryWithSource:options:error:", "@@:@@^@", sim_new_library),
    METHOD("newComputePipelineStateWithDescriptor:options:reflection:error:", "@@:@Q^@^@",
           sim_new_pipeline),
    METHOD("newComputePipelineStateWithFunction:error:", "@@:@^@", sim_new_pipeline_of_function),
    METHOD_SINCE(11, "newBinaryArchiveWithDescriptor:error:", "@@:@^@", sim_new_archive),
    METHOD_SINCE(15, "newResidencySetWithDescriptor:error:", "@@:@^@", new_residency_set),
};
NO_METHODS(MTLDevice_own);
CLASS(MTLDevice, &NSObject_class, 0, NULL, 0)

METALSIM_API id MTLCreateSystemDefaultDevice(void);
id MTLCreateSystemDefaultDevice(void)
{
    if (sim_fails(METALSIM_FAIL_DEVICE))
        return NULL;
    return sim_new(&MTLDevice_class, sizeof(struct object));
}
