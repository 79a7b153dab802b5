/* objc.c - see objc.h. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include "backends/metal/objc.h"

mlxn_objc_runtime mlxn_objc;

static const char *const selector_names[] = {
#define MESSAGE0(call, owner, selector, ...) selector,
#define MESSAGE1                             MESSAGE0
#define MESSAGE2                             MESSAGE0
#define MESSAGE3                             MESSAGE0
#define MESSAGE4                             MESSAGE0
#include "backends/metal/messages.def"
};

/* Where symbols come from: the frameworks.  A command line program's default device needs
 * CoreGraphics in the process, as Apple documents for MTLCreateSystemDefaultDevice. */
static const char *const frameworks[] = {
    "/usr/lib/libobjc.A.dylib",
    "/System/Library/Frameworks/Foundation.framework/Foundation",
    "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics",
    "/System/Library/Frameworks/Metal.framework/Metal",
};

static void *handles[sizeof frameworks / sizeof *frameworks];
static int n_handles;

static int open_libraries(void)
{
    const char *other = getenv("MLXN_METAL_LIBRARY");
    if (other) {
        handles[n_handles] = dlopen(other, RTLD_NOW | RTLD_LOCAL);
        return handles[n_handles] != NULL && ++n_handles;
    }
#if defined(__APPLE__)
    for (size_t i = 0; i < sizeof frameworks / sizeof *frameworks; i++) {
        handles[n_handles] = dlopen(frameworks[i], RTLD_NOW | RTLD_LOCAL);
        n_handles += handles[n_handles] != NULL;
    }
#else
    (void)frameworks;
#endif
    return n_handles > 0;
}

/* Stores a symbol's address at *at, a pointer to an object or function; 0 if there is none. */
static int find(const char *name, void *at)
{
    void *address = NULL;
    for (int i = 0; i < n_handles && !address; i++)
        address = dlsym(handles[i], name);
#if defined(__APPLE__)
    if (!address)
        address = dlsym(RTLD_DEFAULT, name);
#endif
    *(void **)at = address;
    return address != NULL;
}

static int loaded;

static void load(void)
{
    mlxn_objc_runtime *o = &mlxn_objc;
    if (!open_libraries())
        return;
    if (!find("objc_msgSend", &o->send) || !find("sel_registerName", &o->register_name) ||
        !find("objc_getClass", &o->get_class) || !find("objc_autoreleasePoolPush", &o->pool_push) ||
        !find("objc_autoreleasePoolPop", &o->pool_pop) ||
        !find("MTLCreateSystemDefaultDevice", &o->default_device) ||
        !find("_NSConcreteStackBlock", &o->stack_block))
        return;
    for (int i = 0; i < OBJC_MESSAGE_COUNT; i++)
        o->selectors[i] = o->register_name(selector_names[i]);
    loaded = 1;
}

mlxn_status mlxn_objc_load(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    if (!loaded)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "device_open: this system has no Metal");
    return MLXN_OK;
}

id mlxn_objc_new(const char *class_name)
{
    id class = mlxn_objc.get_class(class_name);
    return class ? objc_init(objc_alloc(class)) : NULL;
}

id mlxn_objc_string(const char *text)
{
    return objc_string(mlxn_objc.get_class("NSString"), text);
}

const char *mlxn_objc_error(id error)
{
    const char *text = error ? objc_utf8(objc_error_text(error)) : NULL;
    return text ? text : "no reason given";
}

objc_block mlxn_objc_block(void (*invoke)(objc_block *block, id argument), void *context)
{
    static const struct objc_block_layout layout = {0, sizeof(objc_block)};
    return (objc_block){mlxn_objc.stack_block, 0, 0, invoke, &layout, context};
}
