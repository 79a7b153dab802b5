/* sim_objc.c - the Objective-C runtime's subset: classes, selectors, counted objects, pools,
 * blocks; of Foundation NSString and NSError.  See metalsim.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim.h"

#define PUBLIC __attribute__((visibility("default")))

metalsim_settings metalsim = {1, 1, 1, MAX_GROUP_THREADS, 1009, 15};

static void print_counts(void)
{
    char list[400] = "", idle[40] = "";
    const metalsim_counts *c = &metalsim_count;
    const long live = metalsim_live(list, sizeof list);
    if (metalsim.checked)
        snprintf(idle, sizeof idle, " (%ld idle)", c->idle_barriers);
    fprintf(stderr,
            "metalsim: %ld command buffers, %ld dispatches, %ld barriers%s; %ld objects made, %ld "
            "live%s%s\n",
            c->command_buffers, c->dispatches, c->barriers, idle, c->objects, live,
            live ? ": " : "", list);
    fflush(NULL);
    if (live)
        _exit(1);
}

__attribute__((constructor)) static void read_environment(void)
{
    if (getenv("METALSIM_COUNTS"))
        atexit(print_counts);
    if (!getenv("METALSIM_FAST"))
        return;
    metalsim.checked = 0;
    metalsim.seed = 0;
    metalsim.workers = 2;
}

void sim_misuse(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("metalsim: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    abort();
}

/* ---- selectors and classes ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static class *classes;

void sim_register(class *c)
{
    c->next = classes;
    classes = c;
}

PUBLIC SEL sel_registerName(const char *name);
SEL sel_registerName(const char *name)
{
    static const char *known[1 << 12];
    size_t at = 5381;
    for (const char *p = name; *p; p++)
        at = at * 33 + (unsigned char)*p;
    pthread_mutex_lock(&lock);
    for (at &= 4095; known[at] && strcmp(known[at], name); at = (at + 1) & 4095)
        ;
    if (!known[at])
        known[at] = strdup(name);
    const char *found = known[at];
    pthread_mutex_unlock(&lock);
    return found;
}

static const method *find(const class *c, SEL selector)
{
    for (; c; c = c->super)
        for (size_t i = 0; i < c->n_methods; i++)
            if (c->methods[i].macos <= metalsim.macos && !strcmp(c->methods[i].selector, selector))
                return &c->methods[i];
    return NULL;
}

int sim_dead(id object)
{
    return atomic_load(&object->references) <= FREED / 2;
}

__attribute__((used, visibility("hidden"))) void (*sim_lookup(id self, SEL selector))(void);
void (*sim_lookup(id self, SEL selector))(void)
{
    if (sim_dead(self))
        sim_misuse("[%s %s]: the object is freed", self->isa->name, selector);
    const method *m = find(self->isa, selector);
    if (!m)
        sim_misuse("[%s %s]: unrecognized selector", self->isa->name, selector);
    return m->code;
}

PUBLIC id objc_getClass(const char *name);
id objc_getClass(const char *name)
{
    for (class *c = classes; c; c = c->next)
        if (c->macos <= metalsim.macos && !strcmp(c->name, name))
            return &c->object;
    return NULL;
}

PUBLIC id objc_lookUpClass(const char *name);
id objc_lookUpClass(const char *name)
{
    return objc_getClass(name);
}

PUBLIC id objc_getProtocol(const char *name);
id objc_getProtocol(const char *name)
{
    (void)name;
    return NULL;
}

static int list_methods(char *out, size_t room, const char *owner, const class *c)
{
    size_t used = 0;
    for (size_t i = 0; i < c->n_methods; i++)
        if (c->methods[i].code)
            used += (size_t)snprintf(out + used, room - used, "%s %s %s\n", owner,
                                     c->methods[i].selector, c->methods[i].types);
    return (int)used;
}

const char *metalsim_methods(void)
{
    static char text[1 << 15];
    size_t used = 0;
    for (const class *c = classes; c; c = c->next) {
        used += (size_t)list_methods(text + used, sizeof text - used, c->name, c);
        used += (size_t)list_methods(text + used, sizeof text - used, c->name, c->object.isa);
    }
    return text;
}

/* ---- objects ---- */

static struct object *dead; /* reachable, so that leak checkers stay quiet */

void *sim_new(class *c, size_t size)
{
    id object = calloc(1, size);
    if (!object)
        sim_misuse("no memory");
    object->isa = c;
    atomic_init(&object->references, 1);
    atomic_fetch_add(&c->live, 1);
    __atomic_fetch_add(&metalsim_count.objects, 1, __ATOMIC_RELAXED);
    return object;
}

id sim_retain(id object)
{
    if (object && sim_dead(object))
        sim_misuse("[%s retain]: the object is freed", object->isa->name);
    if (object)
        atomic_fetch_add(&object->references, 1);
    return object;
}

void sim_release(id object)
{
    if (!object)
        return;
    if (sim_dead(object))
        sim_misuse("[%s release]: released too often", object->isa->name);
    if (atomic_fetch_sub(&object->references, 1) != 1)
        return;
    if (object->isa->destroy)
        object->isa->destroy(object);
    atomic_fetch_sub(&((class *)object->isa)->live, 1);
    atomic_store(&object->references, FREED);
    pthread_mutex_lock(&lock);
    object->next_dead = dead;
    dead = object;
    pthread_mutex_unlock(&lock);
}

void sim_set(id *place, id object)
{
    id before = *place;
    *place = sim_retain(object);
    sim_release(before);
}

uint64_t sim_hash(uint64_t hash, const char *text)
{
    hash = hash ? hash : 14695981039346656037u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

void *sim_is(void *object, const class *c, const char *where)
{
    if (!object)
        sim_misuse("%s: nil, needs %s", where, c->name);
    const class *isa = ((id)object)->isa;
    while (isa && isa != c)
        isa = isa->super;
    if (!isa)
        sim_misuse("%s: %s, needs %s", where, ((id)object)->isa->name, c->name);
    if (sim_dead(object))
        sim_misuse("%s: the %s is freed", where, c->name);
    return object;
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
} busy = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

void sim_busy(int change)
{
    pthread_mutex_lock(&busy.lock);
    busy.count += change;
    pthread_cond_broadcast(&busy.changed);
    pthread_mutex_unlock(&busy.lock);
}

long metalsim_live(char *list, size_t size)
{
    long live = 0;
    size_t used = 0;
    pthread_mutex_lock(&busy.lock);
    while (busy.count)
        pthread_cond_wait(&busy.changed, &busy.lock);
    pthread_mutex_unlock(&busy.lock);
    if (list && size)
        *list = 0;
    for (const class *c = classes; c; c = c->next) {
        const long n = atomic_load(&c->live);
        live += n;
        if (n && list && used < size)
            used += (size_t)snprintf(list + used, size - used, "%s%s %ld", used ? ", " : "",
                                     c->name, n);
    }
    return live;
}

/* ---- pools ---- */

static _Thread_local struct {
    id *objects;
    size_t count, room;
    int depth;
} pool;

id sim_autorelease(id object)
{
    if (!pool.depth)
        sim_misuse("[%s autorelease]: no pool in place, the object leaks", object->isa->name);
    if (pool.count == pool.room) {
        pool.room = pool.room ? 2 * pool.room : 256;
        pool.objects = realloc(pool.objects, pool.room * sizeof *pool.objects);
        if (!pool.objects)
            sim_misuse("no memory");
    }
    return pool.objects[pool.count++] = object;
}

void *objc_autoreleasePoolPush(void)
{
    pool.depth++;
    return (void *)(pool.count + 1);
}

void objc_autoreleasePoolPop(void *mark)
{
    const size_t keep = (size_t)mark - 1;
    if (!pool.depth || keep > pool.count)
        sim_misuse("a pool is popped that is not in place");
    pool.depth--;
    while (pool.count > keep)
        sim_release(pool.objects[--pool.count]);
    if (!pool.depth) {
        free(pool.objects);
        pool.objects = NULL;
        pool.room = 0;
    }
}

/* ---- blocks: what clang's -fblocks needs, and copies ---- */

PUBLIC extern void *_NSConcreteStackBlock[32], *_NSConcreteGlobalBlock[32],
    *_NSConcreteMallocBlock[32];
void *_NSConcreteStackBlock[32], *_NSConcreteGlobalBlock[32], *_NSConcreteMallocBlock[32];
enum { BLOCK_IS_GLOBAL = 1 << 28, BLOCK_HAS_COPY = 1 << 25 };

block *sim_block_copy(const block *b)
{
    if (!b || b->flags & BLOCK_IS_GLOBAL)
        return (block *)b;
    if (b->isa != _NSConcreteStackBlock && b->isa != _NSConcreteMallocBlock)
        sim_misuse("a block with an unknown isa");
    block *copy = malloc(b->layout->size);
    if (!copy)
        sim_misuse("no memory");
    memcpy(copy, b, b->layout->size);
    copy->isa = _NSConcreteMallocBlock;
    if (b->flags & BLOCK_HAS_COPY)
        b->layout->copy(copy, b);
    return copy;
}

void sim_block_free(block *b)
{
    if (!b || b->flags & BLOCK_IS_GLOBAL)
        return;
    if (b->flags & BLOCK_HAS_COPY)
        b->layout->dispose(b);
    free(b);
}

PUBLIC void *_Block_copy(const void *b);
void *_Block_copy(const void *b)
{
    return sim_block_copy(b);
}
PUBLIC void _Block_release(const void *b);
void _Block_release(const void *b)
{
    sim_block_free((block *)b);
}
PUBLIC void _Block_object_assign(void *to, const void *object, int flags);
void _Block_object_assign(void *to, const void *object, int flags)
{
    (void)flags;
    *(const void **)to = object;
}
PUBLIC void _Block_object_dispose(const void *object, int flags);
void _Block_object_dispose(const void *object, int flags)
{
    (void)object;
    (void)flags;
}

/* ---- NSObject ---- */

GETTER(object_retain, id, struct object, sim_retain(self))
static void object_release(id self, SEL command)
{
    (void)command;
    sim_release(self);
}
GETTER(object_autorelease, id, struct object, sim_autorelease(self))
static BOOL object_responds(id self, SEL command, SEL selector)
{
    (void)command;
    return find(self->isa, selector) != NULL;
}
GETTER(object_references, NSUInteger, struct object, (NSUInteger)atomic_load(&self->references))
GETTER(object_init, id, struct object, self)
static id class_alloc(class *self, SEL command)
{
    (void)command;
    if (!self->size)
        sim_misuse("[%s alloc]: such objects come from a device", self->name);
    return sim_new(self, self->size);
}

static const method NSObject_methods[] = {
    METHOD("retain", "@@:", object_retain),
    METHOD("release", "v@:", object_release),
    METHOD("autorelease", "@@:", object_autorelease),
    METHOD("respondsToSelector:", "B@::", object_responds),
    METHOD("retainCount", "Q@:", object_references),
    METHOD("init", "@@:", object_init),
};
static const method NSObject_own[] = {
    METHOD("alloc", "@@:", class_alloc),
    METHOD("respondsToSelector:", "B@::", object_responds),
};
class NSObject_meta = {.name = "NSObject",
                       .methods = NSObject_own,
                       .n_methods = sizeof NSObject_own / sizeof *NSObject_own};
class NSObject_class = {.object = {&NSObject_meta, 1, NULL},
                        .name = "NSObject",
                        .methods = NSObject_methods,
                        .n_methods = sizeof NSObject_methods / sizeof *NSObject_methods,
                        .size = sizeof(struct object)};
__attribute__((constructor)) static void register_object(void)
{
    sim_register(&NSObject_class);
}

/* ---- NSString, NSError ---- */

typedef struct string {
    struct object object;
    char *text;
} string;

id sim_string(const char *text)
{
    string *s = sim_new(&NSString_class, sizeof *s);
    s->text = strdup(text);
    return &s->object;
}
const char *sim_text(id object)
{
    return ((string *)sim_is(object, &NSString_class, "a text"))->text;
}
static void string_destroy(id self)
{
    free(((string *)self)->text);
}
static id string_with_utf8(id self, SEL command, const char *text)
{
    (void)self;
    (void)command;
    if (!text)
        sim_misuse("[NSString stringWithUTF8String:]: NULL");
    return sim_autorelease(sim_string(text));
}
static id string_with_encoding(id self, SEL command, const char *text, NSUInteger encoding)
{
    if (encoding != 4)
        sim_misuse("[NSString stringWithCString:encoding:]: %lu is not UTF-8", encoding);
    return string_with_utf8(self, command, text);
}
GETTER(string_utf8, const char *, string, self->text)
static const method NSString_methods[] = {METHOD("UTF8String", "*@:", string_utf8)};
static const method NSString_own[] = {
    METHOD("stringWithUTF8String:", "@@:*", string_with_utf8),
    METHOD("stringWithCString:encoding:", "@@:*Q", string_with_encoding),
};
CLASS(NSString, &NSObject_class, 0, string_destroy, 0)

typedef struct error {
    struct object object;
    id description;
    long code;
} error;

id sim_error_new(long code, const char *text)
{
    error *e = sim_new(&NSError_class, sizeof *e);
    e->description = sim_string(text);
    e->code = code;
    return &e->object;
}
void sim_error(id *out, long code, const char *text)
{
    if (out)
        *out = sim_autorelease(sim_error_new(code, text));
}
static void error_destroy(id self)
{
    sim_release(((error *)self)->description);
}
GETTER(error_description, id, error, self->description)
GETTER(error_code, long, error, self->code)
static const method NSError_methods[] = {
    METHOD("localizedDescription", "@@:", error_description),
    METHOD("code", "q@:", error_code),
};
NO_METHODS(NSError_own);
CLASS(NSError, &NSObject_class, 0, error_destroy, 0)

/* ---- planned failures ---- */

static atomic_int planned[METALSIM_FAILURES]; /* uses until it fails, from 1; 0: none */
static atomic_int lost;

void metalsim_fail(metalsim_failure kind, int after)
{
    atomic_store(&planned[kind], after + 1);
}

void metalsim_heal(void)
{
    for (int i = 0; i < METALSIM_FAILURES; i++)
        atomic_store(&planned[i], 0);
    atomic_store(&lost, 0);
}

int sim_fails(metalsim_failure kind)
{
    if (kind == METALSIM_FAIL_LOST && atomic_load(&lost))
        return 1;
    int left = atomic_load(&planned[kind]);
    if (!left)
        return 0;
    atomic_store(&planned[kind], left - 1);
    if (left > 1)
        return 0;
    if (kind == METALSIM_FAIL_LOST)
        atomic_store(&lost, 1);
    return 1;
}
