/* sim_library.c - simulated code: compile options, libraries, functions, pipelines.  Texts are
 * compiled for the emulator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim.h"

enum { ERROR_COMPILE = 3, ERROR_PIPELINE = 3, ERROR_MISS = 2 };
enum { OPTION_NONE = 0, OPTION_FAIL_ON_MISS = 4 };

/* ---- compile options ---- */

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

/* ---- texts ---- */

/* Texts are compiled once for all devices of a program and kept. */
static const compiled *compile(const char *text, char *log, size_t log_size)
{
    static struct known {
        struct known *next;
        char *text;
        int checked;
        compiled code;
    } * all;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    struct known *k = all;
    while (k && (k->checked != metalsim.checked || strcmp(k->text, text)))
        k = k->next;
    const emu_library *made = k ? NULL : emu_compile(text, metalsim.checked, log, log_size);
    if (made) {
        k = malloc(sizeof *k);
        *k = (struct known){all, strdup(text), metalsim.checked, {made, sim_hash(0, text)}};
        all = k;
    }
    pthread_mutex_unlock(&lock);
    return k ? &k->code : NULL;
}

/* ---- function constants ---- */

enum { DATA_TYPE_INT = 29 };
typedef struct constant_values {
    struct object object;
    uint32_t set;
    int values[MAX_CONSTANTS];
} constant_values;

static void constants_set(constant_values *self, SEL command, const void *value, NSUInteger type,
                          NSUInteger index)
{
    if (type != DATA_TYPE_INT || index >= MAX_CONSTANTS || !value)
        sim_misuse("[MTLFunctionConstantValues %s]: type %lu at %lu; the simulator has int, up to "
                   "%d of them",
                   command, type, index, MAX_CONSTANTS);
    self->set |= 1u << index;
    self->values[index] = *(const int *)value;
}
static const method MTLFunctionConstantValues_methods[] = {
    METHOD("setConstantValue:type:atIndex:", "v@:^vQQ", constants_set),
};
NO_METHODS(MTLFunctionConstantValues_own);
CLASS(MTLFunctionConstantValues, &NSObject_class, sizeof(constant_values), NULL, 0)

/* Whether all constants of the text have a value; else log says which has none. */
static int complete(const library *l, const constant_values *values, char *log, size_t size)
{
    const uint32_t without = emu_constants(l->code->library) & ~values->set;
    if (without)
        snprintf(log, size, "function constant %d has no value", __builtin_ctz(without));
    return !without;
}

/* ---- libraries, functions ---- */

static void function_destroy(id self)
{
    function *f = (function *)self;
    sim_release(&f->library->object);
    free(f->name);
}
NO_METHODS(MTLFunction_methods);
NO_METHODS(MTLFunction_own);
CLASS(MTLFunction, &NSObject_class, 0, function_destroy, 0)

static id new_function(library *self, const char *name, const constant_values *values)
{
    if (emu_parameters(self->code->library, name) < 0)
        return NULL;
    function *f = sim_new(&MTLFunction_class, sizeof *f);
    f->library = (library *)sim_retain(&self->object);
    f->hash = self->code->hash;
    f->name = strdup(name);
    for (int i = 0; values && i < MAX_CONSTANTS; i++)
        if (values->set >> i & 1) {
            char text[40];
            snprintf(text, sizeof text, "%d: %d", i, values->values[i]);
            f->constants[i] = values->values[i];
            f->hash = sim_hash(f->hash, text);
        }
    return &f->object;
}
static id library_function(library *self, SEL command, id name)
{
    if (emu_constants(self->code->library))
        sim_misuse("[MTLLibrary %s]: the text has function constants", command);
    return new_function(self, sim_text(name), NULL);
}
static id library_function_of(library *self, SEL command, id name, id values, id *error)
{
    char log[4096] = "there is no function of this name";
    const constant_values *v = sim_is(values, &MTLFunctionConstantValues_class, command);
    id f = complete(self, v, log, sizeof log) ? new_function(self, sim_text(name), v) : NULL;
    if (!f)
        sim_error(error, ERROR_COMPILE, log);
    return f;
}
static const method MTLLibrary_methods[] = {
    METHOD("newFunctionWithName:", "@@:@", library_function),
    METHOD("newFunctionWithName:constantValues:error:", "@@:@@^@", library_function_of),
};
NO_METHODS(MTLLibrary_own);
CLASS(MTLLibrary, &NSObject_class, 0, NULL, 0)

id sim_new_library(id self, SEL command, id source, id given, id *error)
{
    (void)self;
    char log[4096] = "a planned failure";
    const options *o = given ? sim_is(given, &MTLCompileOptions_class, command) : NULL;
    const compiled *of =
        sim_fails(METALSIM_FAIL_LIBRARY) ? NULL : compile(sim_text(source), log, sizeof log);
    if (!of) {
        sim_error(error, ERROR_COMPILE, log);
        return NULL;
    }
    metalsim_count.language = o ? o->language : 0;
    metalsim_count.precise = o && !o->fast;
    library *l = sim_new(&MTLLibrary_class, sizeof *l);
    l->code = of;
    return &l->object;
}

/* ---- pipelines ---- */

static void descriptor_destroy(id self)
{
    pipeline_descriptor *d = (pipeline_descriptor *)self;
    sim_release(d->function);
    sim_release(d->label);
    sim_release(d->archives);
}
static void descriptor_function(pipeline_descriptor *self, SEL command, id f)
{
    sim_is(f, &MTLFunction_class, command);
    sim_set(&self->function, f);
}
static void descriptor_label(pipeline_descriptor *self, SEL command, id label)
{
    sim_is(label, &NSString_class, command);
    sim_set(&self->label, label);
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
static void descriptor_archives(pipeline_descriptor *self, SEL command, id archives)
{
    sim_is(archives, &NSArray_class, command);
    sim_set(&self->archives, archives);
}
static const method MTLComputePipelineDescriptor_methods[] = {
    METHOD("setComputeFunction:", "v@:@", descriptor_function),
    METHOD("setLabel:", "v@:@", descriptor_label),
    METHOD_SINCE(11, "setBinaryArchives:", "v@:@", descriptor_archives),
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
GETTER(pipeline_max_threads, NSUInteger, pipeline, self->max_threads)
GETTER(pipeline_width, NSUInteger, pipeline, 32)
/* The emulator learns it when a kernel runs; a launch over the limit ends in an error there. */
GETTER(pipeline_group_memory, NSUInteger, pipeline, 0)
static const method MTLComputePipelineState_methods[] = {
    METHOD("maxTotalThreadsPerThreadgroup", "Q@:", pipeline_max_threads),
    METHOD("threadExecutionWidth", "Q@:", pipeline_width),
    METHOD("staticThreadgroupMemoryLength", "Q@:", pipeline_group_memory),
};
NO_METHODS(MTLComputePipelineState_own);
CLASS(MTLComputePipelineState, &NSObject_class, 0, pipeline_destroy, 0)

static id make_pipeline(const pipeline_descriptor *d, NSUInteger option, id *error)
{
    const function *f = sim_is(d->function, &MTLFunction_class, "computeFunction");
    const int archived = sim_archives_have(d->archives, d);
    if (option == OPTION_FAIL_ON_MISS && !archived) {
        sim_error(error, ERROR_MISS, "not in a binary archive");
        return NULL;
    }
    if (sim_fails(METALSIM_FAIL_PIPELINE)) {
        sim_error(error, ERROR_PIPELINE, "a planned failure");
        return NULL;
    }
    pipeline *p = sim_new(&MTLComputePipelineState_class, sizeof *p);
    p->library = f->library->code->library;
    p->entry = strdup(f->name);
    memcpy(p->constants, f->constants, sizeof p->constants);
    p->label = sim_retain(d->label);
    p->n_parameters = emu_parameters(p->library, p->entry);
    p->max_threads = d->max_threads ? d->max_threads : metalsim.max_threads;
    metalsim_count.asked_threads = d->max_threads;
    metalsim_count.compiled += !archived;
    metalsim_count.archived += archived;
    return &p->object;
}
id sim_new_pipeline(id self, SEL command, id given, NSUInteger option, id *reflection, id *error)
{
    (void)self;
    const pipeline_descriptor *d = sim_is(given, &MTLComputePipelineDescriptor_class, command);
    if ((option != OPTION_NONE && option != OPTION_FAIL_ON_MISS) || reflection)
        sim_misuse("[MTLDevice %s]: the simulator gives no reflection", command);
    return make_pipeline(d, option, error);
}
id sim_new_pipeline_of_function(id self, SEL command, id f, id *error)
{
    (void)self;
    const pipeline_descriptor d = {.function = sim_is(f, &MTLFunction_class, command)};
    return make_pipeline(&d, OPTION_NONE, error);
}
