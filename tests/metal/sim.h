/* sim.h - the simulator's own: objects, classes and what its files share. */
#ifndef MLXN_TESTS_METAL_SIM_H
#define MLXN_TESTS_METAL_SIM_H

#include <pthread.h>
#include <stdatomic.h>
#include "emulator.h"
#include "metalsim.h"

/* ---- the runtime (sim_objc.c) ---- */

typedef struct object *id;
typedef const char *SEL; /* a selector is its unique name */
typedef unsigned long NSUInteger;
typedef signed char BOOL;

typedef struct method {
    const char *selector, *types;
    void (*code)(void);
    int macos; /* first system with it; 0: every one that the backend runs on */
} method;

typedef struct class class;
struct object {
    const class *isa;
    atomic_long references; /* FREED: a dead object, kept so that its use is seen */
    struct object *next_dead;
};
enum { FREED = -1000000 };
struct class
{
    struct object object; /* a class is an object too: isa is the class of its own methods */
    const char *name;
    const class *super;
    const method *methods;
    size_t n_methods;
    size_t size;                  /* of an instance; 0: alloc is not for it */
    void (*destroy)(id instance); /* gives back what it holds; NULL: nothing */
    int macos;
    atomic_long live;
    class *next;
};

#define METHOD(selector, types, function)              \
    {                                                  \
        selector, types, (void (*)(void))(function), 0 \
    }
#define METHOD_SINCE(macos, selector, types, function)     \
    {                                                      \
        selector, types, (void (*)(void))(function), macos \
    }
/* Defines class `name_class`: methods of its instances are name_methods, of itself name_own. */
#define CLASS(name_, super_, size_, destroy_, macos_)                                     \
    static class name_##_meta = {.name = #name_,                                          \
                                 .super = &NSObject_meta,                                 \
                                 .methods = name_##_own,                                  \
                                 .n_methods = sizeof name_##_own / sizeof *name_##_own};  \
    class name_##_class = {.object = {&name_##_meta, 1, NULL},                            \
                           .name = #name_,                                                \
                           .super = super_,                                               \
                           .methods = name_##_methods,                                    \
                           .n_methods = sizeof name_##_methods / sizeof *name_##_methods, \
                           .size = size_,                                                 \
                           .destroy = destroy_,                                           \
                           .macos = macos_};                                              \
    __attribute__((constructor)) static void name_##_register(void)                       \
    {                                                                                     \
        sim_register(&name_##_class);                                                     \
    }
/* A method without arguments that gives a value. */
#define GETTER(name, type, owner, ...)         \
    static type name(owner *self, SEL command) \
    {                                          \
        (void)self;                            \
        (void)command;                         \
        return __VA_ARGS__;                    \
    }
#define NO_METHODS(list) static const method list[] = {{"", "", NULL, 0}}

extern class NSObject_class, NSObject_meta, NSString_class, NSError_class, NSArray_class;
void sim_register(class *c);
__attribute__((noreturn, format(printf, 1, 2))) void sim_misuse(const char *format, ...);
void *sim_new(class *c, size_t size); /* zeroed, one reference */
id sim_retain(id object);
void sim_release(id object); /* NULL is fine */
id sim_autorelease(id object);
void sim_set(id *place, id object);                 /* a property that retains */
uint64_t sim_hash(uint64_t hash, const char *text); /* from 0 on */
/* Ends the program unless it is an instance of the class. */
void *sim_is(void *object, const class *c, const char *where);
int sim_dead(id object);

METALSIM_API void *objc_autoreleasePoolPush(void);
METALSIM_API void objc_autoreleasePoolPop(void *mark);

id sim_string(const char *text);
const char *sim_text(id string);
/* *error, where wanted, becomes an autoreleased NSError. */
void sim_error(id *error, long code, const char *text);
id sim_error_new(long code, const char *text);

typedef struct block {
    void *isa;
    int flags, reserved;
    void (*invoke)(struct block *block, id argument);
    const struct block_layout {
        unsigned long reserved, size;
        void (*copy)(void *to, const void *from);
        void (*dispose)(const void *block);
    } * layout;
} block;
block *sim_block_copy(const block *b);
void sim_block_free(block *b);

/* Work on other threads: it counts from commit until its objects are given back. */
void sim_busy(int change);
/* Whether this use of the kind is one that shall fail. */
int sim_fails(metalsim_failure kind);

/* ---- Metal (sim_device.c, sim_command.c) ---- */

typedef struct size3 {
    NSUInteger width, height, depth;
} size3;

enum {
    MAX_INDEX = 31,
    MAX_BYTES = 4096,
    MAX_GROUP_MEMORY = 32768,
    MAX_GROUP_THREADS = 1024,
    MAX_CONSTANTS = 32,
};

/* A flag (emulator.h) for every byte, 1 for every page that has some; NULL: not watched. */
typedef struct watched {
    uint8_t *flags, *pages;
} watched;

typedef struct buffer {
    struct object object;
    char *memory;
    NSUInteger length;
    int wrapped; /* memory of the caller */
    block *deallocator;
    id label;
    /* checked text: what was touched by the present dispatch, by those since the last barrier, and
     * by those between it and the one before */
    watched now, since, before;
    const char *last; /* kernel that touched it last */
} buffer;

/* A text that was compiled, kept to the end of the program. */
typedef struct compiled {
    const emu_library *library;
    uint64_t hash;
} compiled;

typedef struct library {
    struct object object;
    const compiled *code;
} library;
typedef struct function {
    struct object object;
    library *library;
    char *name;
    int constants[MAX_CONSTANTS]; /* of functions */
    uint64_t hash;                /* of text and constants */
} function;
typedef struct pipeline_descriptor {
    struct object object;
    id function, label, archives;
    NSUInteger max_threads;
    BOOL whole;
} pipeline_descriptor;

typedef struct pipeline {
    struct object object;
    const emu_library *library;
    char *entry;
    int constants[MAX_CONSTANTS];
    id label;
    int n_parameters;
    NSUInteger max_threads;
} pipeline;

typedef struct bound {
    enum { UNBOUND, NIL, BUFFER, BYTES } kind;
    buffer *buffer;
    NSUInteger offset, length;
    unsigned char *bytes;
} bound;

/* The barrier in front of a dispatch: none, of an encoder, asked for. */
enum { TOGETHER, FIRST, ASKED };
typedef struct dispatch {
    struct dispatch *next;
    const pipeline *pipeline;
    int barrier;
    size3 groups, threads;
    int n;
    bound bounds[MAX_INDEX];
} dispatch;

/* Runs a list of dispatches; the first thing that goes wrong becomes *problem. */
void sim_run(dispatch *first, char *problem, size_t size);
/* Frees all that sim_run.c notes of a buffer. */
void sim_forget(buffer *b);

extern class MTLBuffer_class, MTLComputePipelineState_class, MTLCommandQueue_class,
    MTLResidencySet_class, MTLFunction_class, MTLComputePipelineDescriptor_class;
id sim_queue_new(void);
/* Whether an archive of the NSArray (NULL: empty) has the descriptor's code. */
int sim_archives_have(id archives, const pipeline_descriptor *d);

/* Methods of the device. */
id sim_new_library(id self, SEL command, id source, id options, id *error);
id sim_new_pipeline(id self, SEL command, id descriptor, NSUInteger options, id *reflection,
                    id *error);
id sim_new_pipeline_of_function(id self, SEL command, id function, id *error);
id sim_new_archive(id self, SEL command, id descriptor, id *error);

#endif
