/* sim_device.c - the simulated MTLDevice and what it makes: buffers, libraries, functions,
 * pipelines, residency sets.  Limits are those of Apple's feature tables for Apple7 and later. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim.h"

metalsim_counts metalsim_count;

/* ---- buffers ---- */

enum { STORAGE_SHARED = 0, ERROR_COMPILE = 3, ERROR_PIPELINE = 3 };

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void sim_watch(buffer *b, int on)
{
    uint8_t **const flags[] = {&b->now, &b->since_barrier, &b->pages};
    for (int i = 0; i < 3; i++) {
        const size_t bytes = i < 2 ? b->length : b->length / EMU_PAGE + 1;
        if (*flags[i])
            emu_sparse_free(*flags[i], bytes);
        *flags[i] = on ? emu_sparse(bytes) : NULL;
        if (on && !*flags[i])
            sim_misuse("no memory to watch a buffer of %lu bytes", b->length);
    }
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
    sim_watch(b, 0);
}
static void *buffer_contents(buffer *self, SEL command)
{
    (void)command;
    return self->memory;
}
static NSUInteger buffer_length(buffer *self, SEL command)
{
    (void)command;
    return self->length;
}
static void buffer_set_label(buffer *self, SEL command, id label)
{
    (void)command;
    sim_release(self->label);
    self->label = sim_retain(label);
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

/* ---- compile options, libraries, functions ---- */

typedef struct options {
    struct object object;
    NSUInteger language;
    int fast;
} options;

/* Fast maths is on unless it is turned off. */
static id options_alloc(class *self, SEL command)
{
    (void)command;
    options *o = sim_new(self, sizeof *o);
    o->fast = 1;
    return &o->object;
}
static void options_language(options *self, SEL command, NSUInteger version)
{
    (void)command;
    if (version < 0x10000 || version > 0x40000)
        sim_misuse("[MTLCompileOptions setLanguageVersion:]: %lu is none", version);
    self->language = version;
}
static void options_fast(options *self, SEL command, BOOL fast)
{
    (void)command;
    self->fast = fast;
}
static void options_math(options *self, SEL command, long mode)
{
    (void)command;
    self->fast = mode != 0;
}
static const method MTLCompileOptions_methods[] = {
    METHOD("setLanguageVersion:", "v@:Q", options_language),
    METHOD("setFastMathEnabled:", "v@:B", options_fast),
    METHOD_SINCE(15, "setMathMode:", "v@:q", options_math),
};
static const method MTLCompileOptions_own[] = {METHOD("alloc", "@@:", options_alloc)};
CLASS(MTLCompileOptions, &NSObject_class, sizeof(options), NULL, 0)

typedef struct library {
    struct object object;
    const emu_library *text;
} library;
typedef struct function {
    struct object object;
    library *library;
    char *name;
} function;

static void function_destroy(id self)
{
    function *f = (function *)self;
    sim_release(&f->library->object);
    free(f->name);
}
NO_METHODS(MTLFunction_methods);
NO_METHODS(MTLFunction_own);
CLASS(MTLFunction, &NSObject_class, 0, function_destroy, 0)

static id library_function(library *self, SEL command, id name)
{
    (void)command;
    const char *text = sim_text(name);
    if (emu_parameters(self->text, text) < 0)
        return NULL;
    function *f = sim_new(&MTLFunction_class, sizeof *f);
    f->library = (library *)sim_retain(&self->object);
    f->name = strdup(text);
    return &f->object;
}
static const method MTLLibrary_methods[] = {
    METHOD("newFunctionWithName:", "@@:@", library_function),
};
NO_METHODS(MTLLibrary_own);
CLASS(MTLLibrary, &NSObject_class, 0, NULL, 0)

/* Texts are compiled once for all devices of a program and kept. */
static const emu_library *compile(const char *text, char *log, size_t log_size)
{
    static struct known {
        struct known *next;
        char *text;
        int checked;
        const emu_library *library;
    } * all;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    struct known *k = all;
    while (k && (k->checked != metalsim.checked || strcmp(k->text, text)))
        k = k->next;
    const emu_library *found = k ? k->library : emu_compile(text, metalsim.checked, log, log_size);
    if (!k && found) {
        k = malloc(sizeof *k);
        *k = (struct known){all, strdup(text), metalsim.checked, found};
        all = k;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static id new_library(id self, SEL command, id source, id given, id *error)
{
    (void)self;
    (void)command;
    char log[4096] = "a planned failure";
    const options *o = given ? sim_is(given, &MTLCompileOptions_class, command) : NULL;
    const emu_library *text =
        sim_fails(METALSIM_FAIL_LIBRARY) ? NULL : compile(sim_text(source), log, sizeof log);
    if (!text) {
        sim_error(error, ERROR_COMPILE, log);
        return NULL;
    }
    metalsim_count.language = o ? o->language : 0;
    metalsim_count.precise = o && !o->fast;
    library *l = sim_new(&MTLLibrary_class, sizeof *l);
    l->text = text;
    return &l->object;
}

/* ---- pipelines ---- */

typedef struct pipeline_descriptor {
    struct object object;
    id function, label;
    NSUInteger max_threads;
    BOOL whole;
} pipeline_descriptor;

static void descriptor_destroy(id self)
{
    pipeline_descriptor *d = (pipeline_descriptor *)self;
    sim_release(d->function);
    sim_release(d->label);
}
static void descriptor_function(pipeline_descriptor *self, SEL command, id f)
{
    sim_is(f, &MTLFunction_class, command);
    sim_release(self->function);
    self->function = sim_retain(f);
}
static void descriptor_label(pipeline_descriptor *self, SEL command, id label)
{
    sim_is(label, &NSString_class, command);
    sim_release(self->label);
    self->label = sim_retain(label);
}
static void descriptor_threads(pipeline_descriptor *self, SEL command, NSUInteger n)
{
    (void)command;
    if (n > MAX_GROUP_THREADS)
        sim_misuse("[MTLComputePipelineDescriptor %s]: %lu, at most %d", command, n,
                   MAX_GROUP_THREADS);
    self->max_threads = n;
}
static void descriptor_whole(pipeline_descriptor *self, SEL command, BOOL whole)
{
    (void)command;
    self->whole = whole;
}
static const method MTLComputePipelineDescriptor_methods[] = {
    METHOD("setComputeFunction:", "v@:@", descriptor_function),
    METHOD("setLabel:", "v@:@", descriptor_label),
    METHOD("setMaxTotalThreadsPerThreadgroup:", "v@:Q", descriptor_threads),
    METHOD("setThreadGroupSizeIsMultipleOfThreadExecutionWidth:", "v@:B", descriptor_whole),
};
NO_METHODS(MTLComputePipelineDescriptor_own);
CLASS(MTLComputePipelineDescriptor, &NSObject_class, sizeof(pipeline_descriptor),
      descriptor_destroy, 0)

static void pipeline_destroy(id self)
{
    pipeline *p = (pipeline *)self;
    sim_release(p->label);
    free(p->entry);
}
static NSUInteger pipeline_max_threads(pipeline *self, SEL command)
{
    (void)command;
    return self->max_threads;
}
static NSUInteger pipeline_width(pipeline *self, SEL command)
{
    (void)self;
    (void)command;
    return 32;
}
/* The emulator learns it when a kernel runs; a launch over the limit ends in an error there. */
static NSUInteger pipeline_group_memory(pipeline *self, SEL command)
{
    (void)self;
    (void)command;
    return 0;
}
static const method MTLComputePipelineState_methods[] = {
    METHOD("maxTotalThreadsPerThreadgroup", "Q@:", pipeline_max_threads),
    METHOD("threadExecutionWidth", "Q@:", pipeline_width),
    METHOD("staticThreadgroupMemoryLength", "Q@:", pipeline_group_memory),
};
NO_METHODS(MTLComputePipelineState_own);
CLASS(MTLComputePipelineState, &NSObject_class, 0, pipeline_destroy, 0)

static id make_pipeline(const function *f, id label, NSUInteger max_threads, id *error)
{
    if (sim_fails(METALSIM_FAIL_PIPELINE)) {
        sim_error(error, ERROR_PIPELINE, "a planned failure");
        return NULL;
    }
    pipeline *p = sim_new(&MTLComputePipelineState_class, sizeof *p);
    p->library = f->library->text;
    p->entry = strdup(f->name);
    p->label = sim_retain(label);
    p->n_parameters = emu_parameters(p->library, p->entry);
    p->max_threads = max_threads ? max_threads : metalsim.max_threads;
    metalsim_count.asked_threads = max_threads;
    return &p->object;
}
static id new_pipeline(id self, SEL command, id given, NSUInteger wanted, id *reflection, id *error)
{
    (void)self;
    const pipeline_descriptor *d = sim_is(given, &MTLComputePipelineDescriptor_class, command);
    if (wanted || reflection)
        sim_misuse("[MTLDevice %s]: the simulator gives no reflection", command);
    const function *f = sim_is(d->function, &MTLFunction_class, "computeFunction");
    return make_pipeline(f, d->label, d->max_threads, error);
}
static id new_pipeline_of_function(id self, SEL command, id f, id *error)
{
    (void)self;
    return make_pipeline(sim_is(f, &MTLFunction_class, command), NULL, 0, error);
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

static id device_name(id self, SEL command)
{
    (void)self;
    (void)command;
    return sim_autorelease(sim_string("Simulated GPU"));
}
static BOOL device_family(id self, SEL command, long family)
{
    (void)self;
    (void)command;
    return family >= 1001 && family <= metalsim.family;
}
static NSUInteger device_max_buffer(id self, SEL command)
{
    (void)self;
    (void)command;
    return (NSUInteger)1 << 36;
}
static NSUInteger device_max_group_memory(id self, SEL command)
{
    (void)self;
    (void)command;
    return MAX_GROUP_MEMORY;
}
static size3 device_max_threads(id self, SEL command)
{
    (void)self;
    (void)command;
    return (size3){MAX_GROUP_THREADS, MAX_GROUP_THREADS, 64};
}
static NSUInteger device_working_set(id self, SEL command)
{
    (void)self;
    (void)command;
    return (NSUInteger)1 << 34;
}
static id device_queue(id self, SEL command)
{
    (void)self;
    (void)command;
    return sim_queue_new();
}

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
    METHOD("newLibraryWithSource:options:error:", "@@:@@^@", new_library),
    METHOD("newComputePipelineStateWithDescriptor:options:reflection:error:", "@@:@Q^@^@",
           new_pipeline),
    METHOD("newComputePipelineStateWithFunction:error:", "@@:@^@", new_pipeline_of_function),
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
