/* objc.h - the Objective-C runtime from C: the frameworks are loaded at run time, and every message
 * of messages.def is a typed call, objc_<name>(receiver, arguments...).
 *
 * A method is called through objc_msgSend, cast to the method's own type: that is how compiled
 * Objective-C does it, and what the calling conventions demand (a struct goes in memory or by
 * reference, a double in a register of its own).  No message here returns a struct, so that
 * objc_msgSend_stret is not needed.  Memory rules are Cocoa's: what a call named new_* or
 * mlxn_objc_new returns is the caller's to release; everything else lives until the pool around it
 * is popped. */
#ifndef MLXN_METAL_OBJC_H
#define MLXN_METAL_OBJC_H

#include <mlxn/status.h>
#include <stddef.h>

typedef struct objc_object *id;
typedef struct objc_selector *SEL;

typedef struct metal_size {
    unsigned long width, height, depth;
} metal_size;

/* A block without captures but one pointer; lives on the stack, the receiver copies it. */
typedef struct objc_block {
    const void *isa;
    int flags, reserved;
    void (*invoke)(struct objc_block *block, id argument);
    const struct objc_block_layout {
        unsigned long reserved, size;
    } * layout;
    void *context;
} objc_block;

/* name in messages.def, C type, type encoding on 64-bit Apple systems (BOOL: a signed char on
 * x86-64, a bool on arm64; both return in the low byte and this reads no more) */
#define OBJC_TYPES(X)                  \
    X(OBJECT, id, "@")                 \
    X(SELECTOR, SEL, ":")              \
    X(BOOLEAN, signed char, "B")       \
    X(INTEGER, long, "q")              \
    X(UNSIGNED, unsigned long, "Q")    \
    X(UNSIGNED64, unsigned long, "Q")  \
    X(DOUBLE, double, "d")             \
    X(POINTER, void *, "^v")           \
    X(BYTES, const void *, "^v")       \
    X(TEXT, const char *, "*")         \
    X(ERROR, id *, "^@")               \
    X(RESULT, id *, "^@")              \
    X(BLOCK, const objc_block *, "@?") \
    X(SIZE3, metal_size, "{MTLSize=QQQ}")

#define OBJC_TYPE(name, type, encoding) typedef type objc_type_##name;
OBJC_TYPES(OBJC_TYPE)
#undef OBJC_TYPE
typedef void objc_type_NONE;

enum {
#define MESSAGE0(call, ...) OBJC_MESSAGE_##call,
#define MESSAGE1            MESSAGE0
#define MESSAGE2            MESSAGE0
#define MESSAGE3            MESSAGE0
#define MESSAGE4            MESSAGE0
#include "backends/metal/messages.def"
#undef MESSAGE0
#undef MESSAGE1
#undef MESSAGE2
#undef MESSAGE3
#undef MESSAGE4
    OBJC_MESSAGE_COUNT
};

/* What is taken from the runtime and from Metal; filled once by mlxn_objc_load. */
typedef struct mlxn_objc_runtime {
    void (*send)(void);
    SEL (*register_name)(const char *name);
    id (*get_class)(const char *name);
    void *(*pool_push)(void);
    void (*pool_pop)(void *pool);
    id (*default_device)(void);
    const void *stack_block;
    SEL selectors[OBJC_MESSAGE_COUNT];
} mlxn_objc_runtime;
extern mlxn_objc_runtime mlxn_objc;

/* MLXN_ERR_UNSUPPORTED where the system has no Metal.  The environment variable
 * MLXN_METAL_LIBRARY names a library to take everything from in place of the frameworks. */
mlxn_status mlxn_objc_load(void);
/* A new object of a class; NULL where the system has no such class. */
id mlxn_objc_new(const char *class_name);
/* Text as an NSString of the pool. */
id mlxn_objc_string(const char *text);
/* What an NSError says; lives as long as the pool. */
const char *mlxn_objc_error(id error);
/* A block that calls invoke(block, argument); block->context is context. */
objc_block mlxn_objc_block(void (*invoke)(objc_block *block, id argument), void *context);

/* ---- the calls ---- */

#define OBJC_RETURN_NONE
#define OBJC_RETURN_OBJECT     return
#define OBJC_RETURN_BOOLEAN    return
#define OBJC_RETURN_UNSIGNED   return
#define OBJC_RETURN_UNSIGNED64 return
#define OBJC_RETURN_DOUBLE     return
#define OBJC_RETURN_POINTER    return
#define OBJC_RETURN_TEXT       return

/* objc_msgSend as a method with these types */
#define OBJC_SEND(R, ...)   ((objc_type_##R(*)(__VA_ARGS__))mlxn_objc.send)
#define OBJC_SELECTOR(call) mlxn_objc.selectors[OBJC_MESSAGE_##call]

#define MESSAGE0(call, owner, selector, R)                                \
    static inline objc_type_##R objc_##call(id self)                      \
    {                                                                     \
        OBJC_RETURN_##R OBJC_SEND(R, id, SEL)(self, OBJC_SELECTOR(call)); \
    }
#define MESSAGE1(call, owner, selector, R, A)                                               \
    static inline objc_type_##R objc_##call(id self, objc_type_##A a)                       \
    {                                                                                       \
        OBJC_RETURN_##R OBJC_SEND(R, id, SEL, objc_type_##A)(self, OBJC_SELECTOR(call), a); \
    }
#define MESSAGE2(call, owner, selector, R, A, B)                                       \
    static inline objc_type_##R objc_##call(id self, objc_type_##A a, objc_type_##B b) \
    {                                                                                  \
        OBJC_RETURN_##R OBJC_SEND(R, id, SEL, objc_type_##A,                           \
                                  objc_type_##B)(self, OBJC_SELECTOR(call), a, b);     \
    }
#define MESSAGE3(call, owner, selector, R, A, B, C)                                    \
    static inline objc_type_##R objc_##call(id self, objc_type_##A a, objc_type_##B b, \
                                            objc_type_##C c)                           \
    {                                                                                  \
        OBJC_RETURN_##R OBJC_SEND(R, id, SEL, objc_type_##A, objc_type_##B,            \
                                  objc_type_##C)(self, OBJC_SELECTOR(call), a, b, c);  \
    }
#define MESSAGE4(call, owner, selector, R, A, B, C, D)                                     \
    static inline objc_type_##R objc_##call(id self, objc_type_##A a, objc_type_##B b,     \
                                            objc_type_##C c, objc_type_##D d)              \
    {                                                                                      \
        OBJC_RETURN_##R OBJC_SEND(R, id, SEL, objc_type_##A, objc_type_##B, objc_type_##C, \
                                  objc_type_##D)(self, OBJC_SELECTOR(call), a, b, c, d);   \
    }
#include "backends/metal/messages.def"
#undef MESSAGE0
#undef MESSAGE1
#undef MESSAGE2
#undef MESSAGE3
#undef MESSAGE4

#endif
