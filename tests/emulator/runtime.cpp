// runtime.cpp - runs the groups of a dispatch: fibers and their scheduling, barriers and shuffles,
// checked access to buffers and group memory, reports.  Rules of ordering are in shadow.hpp.
#include "runtime.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <thread>
#include "fiber.hpp"
#include "shadow.hpp"

namespace emu
{
enum { MAX_THREADS = 1024, MAX_BUFFERS = 31 };
enum fiber_state { READY, AT_BARRIER, AT_SIMD_BARRIER, AT_SHUFFLE, DONE };

// Shadow of a run of device memory; the cells of one worker.
struct shadow_range {
    char *base;
    size_t bytes;
    cell *cells; // sparse
};

struct region {
    std::string name;
    char *base;
    size_t bytes;
    uint8_t parameter;
    bool shared;
    shadow_range *shadow; // nullptr: nobody writes there
};

struct fiber {
    context c;
    char *stack;
    fiber_state state;
    bool waited;
    thread_info info;
    unsigned id;
    uint32_t barriers, simd_barriers;
    int site;
    unsigned shuffles;
    uint slot[2][4];
#if defined(EMU_ASAN)
    void *fake_stack;
#endif
};

// A group's array: one for each SHARED_ARRAY that was reached.
struct shared_array {
    const void *key;
    std::vector<char> memory;
    std::vector<cell> cells;
    shadow_range shadow;
    region r;
};

// One dispatch as all workers see it.
struct job {
    const entry &kernel;
    bool checked;
    const emu_launch &launch;
    std::vector<bool> restricted; // by parameter: IN and OUT
    std::vector<uint32_t> order;  // of the groups
    std::atomic<size_t> next{0};
    std::atomic<bool> abandoned{false};
    std::mutex lock;
    emu_report *report;
};

struct worker {
    std::vector<fiber> fibers;
    char *stacks = nullptr;
    fiber *current = nullptr;
    context scheduler;
    job *j = nullptr;
    uint32_t group = 0;
    uint64_t random = 1;
    std::vector<shadow_range> ranges;
    std::vector<region> regions;
    std::vector<void *> pointers;
    bindings bound;
    std::vector<std::unique_ptr<shared_array>> arrays;
    char scratch[64];
#if defined(EMU_ASAN)
    void *fake_stack = nullptr;
    const void *stack_bottom = nullptr;
    size_t stack_size = 0;
#endif
    void drop_stacks()
    {
        const size_t bytes = (size_t)MAX_THREADS * STACK_BYTES;
        if (!stacks)
            return;
#if defined(EMU_ASAN)
        __asan_unpoison_memory_region(stacks, bytes); // of frames; others get this memory next
#endif
        munmap(stacks, bytes);
        stacks = nullptr;
    }
    ~worker()
    {
        drop_stacks();
    }
};

static thread_local worker *running;

// The worker of this thread.  A fiber may go on in another thread than it began in, so a compiler
// must not keep the variable's address.
static __attribute__((noinline)) worker *me()
{
    worker *w = running;
    asm volatile("" : "+r"(w));
    return w;
}

// ---- reports

__attribute__((format(printf, 2, 3))) static void finding(long emu_report::*count,
                                                          const char *format, ...)
{
    std::lock_guard<std::mutex> hold(me()->j->lock);
    emu_report *r = me()->j->report;
    if (!(r->races + r->bounds + r->uninitialised + r->divergence + r->alias + r->early)) {
        va_list list;
        va_start(list, format);
        int n = snprintf(r->first, sizeof r->first, "%s: ", me()->j->kernel.name);
        vsnprintf(r->first + n, sizeof r->first - (size_t)n, format, list);
        va_end(list);
    }
    r->*count += 1;
}

// ---- switching

static void yield(fiber_state state, int site)
{
    worker *w = me();
    fiber *f = w->current;
    f->state = state;
    f->site = site;
#if defined(EMU_ASAN)
    __sanitizer_start_switch_fiber(&f->fake_stack, w->stack_bottom, w->stack_size);
#endif
    switch_to(&f->c, &w->scheduler);
#if defined(EMU_ASAN)
    __sanitizer_finish_switch_fiber(f->fake_stack, &w->stack_bottom, &w->stack_size);
#endif
}

// A thread has come to its end.
static void check_waited()
{
    const fiber *f = me()->current;
    if (me()->j->launch.early && !f->waited)
        finding(&emu_report::early,
                "thread %u of group %u ends without k_wait(), in a launch that "
                "may start early",
                f->id, me()->group);
}

static void fiber_main()
{
#if defined(EMU_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, &me()->stack_bottom, &me()->stack_size);
#endif
    for (;;) {
        me()->j->kernel.run(&me()->bound);
        check_waited();
        yield(DONE, 0);
    }
}

static void resume(worker *w, fiber *f)
{
    w->current = f;
#if defined(EMU_ASAN)
    __sanitizer_start_switch_fiber(&w->fake_stack, f->stack, STACK_BYTES);
#endif
    switch_to(&w->scheduler, &f->c);
#if defined(EMU_ASAN)
    __sanitizer_finish_switch_fiber(w->fake_stack, nullptr, nullptr);
#endif
}

// Fresh stacks: at first, and after fibers were left standing in the middle of a kernel.
static void make_fibers(worker *w)
{
    w->drop_stacks();
    w->stacks = (char *)mmap(nullptr, (size_t)MAX_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->stacks == MAP_FAILED)
        abort();
    w->fibers.assign(MAX_THREADS, fiber());
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        w->fibers[i].id = i;
        w->fibers[i].stack = w->stacks + (size_t)i * STACK_BYTES;
        prepare(&w->fibers[i].c, w->fibers[i].stack, i, fiber_main);
    }
}

// ---- memory

static const char *const verbs[] = {"read", "write", "atomic access"};

// A record of the access that the current thread makes.
static record access_by(const worker *w, const region *r, int kind)
{
    const fiber *f = w->current;
    record a;
    a.group1 = w->group + 1;
    a.thread = (uint16_t)f->id;
    a.parameter = r->parameter;
    a.atomic = kind == ATOMIC;
    a.barriers = f->barriers;
    a.simd_barriers = f->simd_barriers;
    return a;
}

static void check_alias(const worker *w, const region *r, const record &other, int64_t at)
{
    const std::vector<bool> &restricted = w->j->restricted;
    if (other && other.parameter != r->parameter &&
        (restricted[other.parameter] || restricted[r->parameter]))
        finding(&emu_report::alias, "%s[%lld] is also reached as %s, and written", r->name.c_str(),
                (long long)at, w->regions[other.parameter].name.c_str());
}

// One byte: 1 after a finding.
static int check_byte(worker *w, const region *r, cell *c, const record &a, int64_t at, int kind)
{
    const bool writes = kind != READ;
    if (r->shared && kind != WRITE && !c->write) {
        finding(&emu_report::uninitialised, "%s[byte %lld] %s by thread %u, never written",
                r->name.c_str(), (long long)at, verbs[kind], a.thread);
        return 1;
    }
    const record *other = racing(*c, a, writes);
    if (other) {
        finding(&emu_report::races,
                "race on %s[byte %lld]: %s by thread %u of group %u after %s by thread %u of group "
                "%u%s, no barrier between",
                r->name.c_str(), (long long)at, verbs[kind], a.thread, a.group1 - 1,
                other == &c->write ? "write" : "read", other->thread, other->group1 - 1,
                other->spread == ONE ? "" : " and others");
        return 1;
    }
    if (!r->shared) {
        check_alias(w, r, c->write, at);
        if (writes)
            check_alias(w, r, c->reads, at);
    }
    return 0;
}

static void note_touch(const emu_touched &t, int64_t at, unsigned size, int kind)
{
    static const uint8_t bits[] = {EMU_TOUCH_READ, EMU_TOUCH_WRITE, EMU_TOUCH_ATOMIC};
    uint8_t *flags = t.flags + t.first + at;
    for (unsigned i = 0; i < size; i++)
        if (!(__atomic_load_n(flags + i, __ATOMIC_RELAXED) & bits[kind])) {
            __atomic_fetch_or(flags + i, bits[kind], __ATOMIC_RELAXED);
            __atomic_store_n(t.pages + (t.first + at + i) / EMU_PAGE, 1, __ATOMIC_RELAXED);
        }
}

// An access to device memory before k_wait().
static void check_early(const worker *w, const region *r, int64_t at, int kind)
{
    if (kind != READ || w->j->launch.unsettled >> r->parameter & 1)
        finding(&emu_report::early, "%s of %s[byte %lld] by thread %u of group %u before k_wait()",
                verbs[kind], r->name.c_str(), (long long)at, w->current->id, w->group);
}

static char *access_memory(region *r, int64_t at, unsigned size, int kind)
{
    worker *w = me();
    const bool inside = at >= 0 && (size_t)at <= r->bytes && size <= r->bytes - (size_t)at;
    if (!inside || (uintptr_t)(r->base + at) % size) {
        finding(&emu_report::bounds,
                "%s of %u bytes at %s[byte %lld] of %zu by thread %u of group %u%s", verbs[kind],
                size, r->name.c_str(), (long long)at, r->bytes, w->current->id, w->group,
                inside ? ", misaligned" : "");
        return (char *)memset(w->scratch, 0x7f, sizeof w->scratch);
    }
    const emu_touched *touched = w->j->launch.touched;
    if (touched && !r->shared && touched[r->parameter].flags)
        note_touch(touched[r->parameter], at, size, kind);
    if (w->j->launch.early && !w->current->waited && !r->shared)
        check_early(w, r, at, kind);
    if (r->shadow) {
        const record a = access_by(w, r, kind);
        cell *c = r->shadow->cells + (r->base + at - r->shadow->base);
        int found = 0;
        for (unsigned i = 0; i < size; i++) {
            found = found || check_byte(w, r, c + i, a, at + i, kind);
            note(c[i], a, kind != READ);
        }
    }
    return r->base + at;
}

static void *shared_memory(const void *key, const char *name, size_t bytes)
{
    worker *w = me();
    for (auto &a : w->arrays)
        if (a->key == key)
            return w->j->checked ? (void *)&a->r : a->memory.data();
    w->arrays.emplace_back(new shared_array());
    shared_array *a = w->arrays.back().get();
    a->key = key;
    a->memory.assign(bytes, (char)0xff); // NaN
    a->cells.assign(w->j->checked ? bytes : 0, cell());
    a->shadow = {a->memory.data(), bytes, a->cells.data()};
    a->r = {std::string("group memory ") + name,
            a->memory.data(),
            bytes,
            MAX_BUFFERS,
            true,
            &a->shadow};
    return w->j->checked ? (void *)&a->r : a->memory.data();
}

static void forget_shared(worker *w)
{
    for (auto &a : w->arrays) {
        std::fill(a->memory.begin(), a->memory.end(), (char)0xff);
        std::fill(a->cells.begin(), a->cells.end(), cell());
    }
}

// ---- what kernels call

static const thread_info *self()
{
    return &me()->current->info;
}

static void barrier(int site)
{
    fiber *f = me()->current;
    yield(AT_BARRIER, site);
    f->barriers++;
    f->simd_barriers = 0;
}

static void simd_barrier(int site)
{
    fiber *f = me()->current;
    yield(AT_SIMD_BARRIER, site);
    f->simd_barriers++;
}

static void wait()
{
    me()->current->waited = true;
}

// A slot is written again two shuffles later at the earliest, when all have read it.
static uint exchange_lanes(uint value, uint mask, int site)
{
    worker *w = me();
    fiber *f = w->current;
    const unsigned slot = f->shuffles++ & 1;
    f->slot[slot][0] = value;
    yield(AT_SHUFFLE, site);
    const unsigned other = f->id ^ (mask & 31);
    return other < w->j->launch.threads ? w->fibers[other].slot[slot][0] : 0;
}

static void gather_lanes(const uint *mine, uint *all, int site)
{
    worker *w = me();
    fiber *f = w->current;
    const unsigned slot = f->shuffles++ & 1, first = f->id & ~31u;
    memcpy(f->slot[slot], mine, sizeof f->slot[slot]);
    yield(AT_SHUFFLE, site);
    memset(all, 0, 32 * sizeof f->slot[slot]);
    for (unsigned i = 0; i < 32 && first + i < w->j->launch.threads; i++)
        memcpy(all + 4 * i, w->fibers[first + i].slot[slot], sizeof f->slot[slot]);
}

const runtime runtime_table = {self,           access_memory, barrier,       simd_barrier,
                               exchange_lanes, gather_lanes,  shared_memory, wait};

// ---- a group

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t seed_of(uint64_t seed, uint64_t group)
{
    uint64_t z = (seed * 0x9e3779b97f4a7c15u) ^ (group + 1) * 0xbf58476d1ce4e5b9u;
    z ^= z >> 31;
    return z ? z : 1;
}

template <class T> static void shuffle(std::vector<T> &list, uint64_t *random)
{
    for (size_t i = list.size(); i > 1; i--)
        std::swap(list[i - 1], list[next_random(random) % i]);
}

static void begin_group(worker *w, uint32_t group)
{
    const emu_launch &l = w->j->launch;
    const uint32_t gx = l.groups[0], gy = l.groups[1];
    w->group = group;
    w->random = seed_of(l.seed, group);
    forget_shared(w);
    for (unsigned i = 0; i < l.threads; i++) {
        fiber &f = w->fibers[i];
        f.state = READY;
        f.waited = false;
        f.barriers = f.simd_barriers = 0;
        f.shuffles = 0;
        f.info = {{group % gx, group / gx % gy, group / gx / gy},
                  {l.groups[0], l.groups[1], l.groups[2]},
                  {i, 0, 0},
                  {l.threads, 1, 1},
                  i & 31,
                  i >> 5};
    }
}

// A simdgroup of which all lanes wait: lets it go on.
static void release_simd(worker *w, unsigned simd, std::vector<unsigned> &next)
{
    const unsigned first = simd * 32, last = std::min(first + 32, w->j->launch.threads);
    bool same = true;
    for (unsigned i = first; i < last; i++)
        same = same && w->fibers[i].site == w->fibers[first].site &&
               w->fibers[i].state == w->fibers[first].state;
    if (!same)
        finding(&emu_report::divergence,
                "simdgroup %u of group %u: lanes at different operations, lines %d and others",
                simd, w->group, w->fibers[first].site);
    for (unsigned i = first; i < last; i++) {
        w->fibers[i].state = READY;
        next.push_back(i);
    }
}

// No thread can go on: all wait at one barrier, or the group is stuck.  False if it is.
static bool release_group(worker *w, std::vector<unsigned> &next)
{
    const unsigned n = w->j->launch.threads;
    unsigned waiting = 0, done = 0, at = 0;
    bool same = true;
    for (unsigned i = 0; i < n; i++) {
        const fiber &f = w->fibers[i];
        done += f.state == DONE;
        if (f.state != AT_BARRIER)
            continue;
        same = same && (!waiting || f.site == w->fibers[at].site);
        at = i;
        waiting++;
    }
    if (waiting != n) {
        finding(&emu_report::divergence,
                "group %u: %u of %u threads wait at a barrier (line %d), %u have returned, the "
                "others wait in a simdgroup operation",
                w->group, waiting, n, waiting ? w->fibers[at].site : 0, done);
        return false;
    }
    if (!same)
        finding(&emu_report::divergence, "group %u: threads wait at different barriers", w->group);
    for (unsigned i = 0; i < n; i++) {
        w->fibers[i].state = READY;
        next.push_back(i);
    }
    return true;
}

static bool run_group(worker *w, uint32_t group)
{
    const emu_launch &l = w->j->launch;
    std::vector<unsigned> ready(l.threads), next, arrived((l.threads + 31) / 32);
    unsigned done = 0;
    begin_group(w, group);
    std::iota(ready.begin(), ready.end(), 0u);
    while (done < l.threads) {
        if (l.seed)
            shuffle(ready, &w->random);
        for (unsigned i : ready) {
            fiber &f = w->fibers[i];
            resume(w, &f);
            done += f.state == DONE;
            if (f.state != AT_SHUFFLE && f.state != AT_SIMD_BARRIER)
                continue;
            const unsigned simd = i / 32, size = std::min(32u, l.threads - simd * 32);
            if (++arrived[simd] == size) {
                arrived[simd] = 0;
                release_simd(w, simd, next);
            }
        }
        if (next.empty() && done < l.threads && !release_group(w, next))
            return false;
        ready.swap(next);
        next.clear();
    }
    return true;
}

// ---- a dispatch

// The memory that may be written, in disjoint runs.
static std::vector<shadow_range> writable(const job &j, const std::vector<parameter> &parameters)
{
    std::vector<shadow_range> all, merged;
    for (size_t i = 0; i < parameters.size(); i++) {
        const emu_buffer &b = j.launch.buffers[i];
        if (b.data && b.bytes && parameters[i].kind != PARAMETER_IN &&
            parameters[i].kind != PARAMETER_ARGS)
            all.push_back({(char *)b.data, b.bytes, nullptr});
    }
    std::sort(all.begin(), all.end(),
              [](const shadow_range &a, const shadow_range &b) { return a.base < b.base; });
    for (const shadow_range &r : all) {
        shadow_range *last = merged.empty() ? nullptr : &merged.back();
        if (last && r.base <= last->base + last->bytes)
            last->bytes = std::max(last->bytes, (size_t)(r.base + r.bytes - last->base));
        else
            merged.push_back(r);
    }
    return merged;
}

static void prepare_worker(worker *w, job *j, const std::vector<parameter> &parameters)
{
    w->j = j;
    w->regions.clear();
    w->pointers.clear();
    w->arrays.clear();
    w->ranges = j->checked ? writable(*j, parameters) : std::vector<shadow_range>();
    for (shadow_range &r : w->ranges)
        if (!(r.cells = (cell *)emu_sparse(r.bytes * sizeof(cell)))) // all zero is an empty cell
            abort();
    for (size_t i = 0; i < parameters.size(); i++) {
        const emu_buffer &b = j->launch.buffers[i];
        region r = {parameters[i].name, (char *)b.data, b.data ? b.bytes : 0,
                    (uint8_t)i,         false,          nullptr};
        // a view that begins in a run and ends past it (an IN one) gets no shadow: its bytes in the
        // run are seen from the other side
        for (shadow_range &s : w->ranges)
            if (r.base >= s.base && r.base + r.bytes <= s.base + s.bytes)
                r.shadow = &s;
        w->regions.push_back(r);
    }
    for (size_t i = 0; i < parameters.size(); i++)
        w->pointers.push_back(j->checked && parameters[i].kind != PARAMETER_ARGS
                                  ? (void *)&w->regions[i]
                                  : j->launch.buffers[i].data);
    w->bound.pointers = w->pointers.data();
    if (w->fibers.empty())
        make_fibers(w);
}

static void work(worker *w)
{
    running = w;
    for (;;) {
        const size_t i = w->j->next++;
        if (i >= w->j->order.size() || w->j->abandoned)
            break;
        if (!run_group(w, w->j->order[i])) {
            w->j->abandoned = true;
            make_fibers(w);
        }
    }
    running = nullptr;
}

// Bytes that groups of both workers touched and one wrote: each worker saw its own groups only.
static void compare(worker *a, worker *b)
{
    running = a;
    for (size_t n = 0; n < a->ranges.size(); n++)
        for (size_t i = 0; i < a->ranges[n].bytes; i++) {
            const cell &x = a->ranges[n].cells[i], &y = b->ranges[n].cells[i];
            const bool atomic = x.write.atomic && y.write.atomic;
            const record *one = x.write ? &x.write : &x.reads, *two = y.write ? &y.write : &y.reads;
            if (!*one || !*two || (!x.write && !y.write) || atomic)
                continue;
            finding(&emu_report::races,
                    "race on %s[byte %zu of the memory there]: %s by thread %u of group %u and %s "
                    "by thread %u of group %u; groups have no barrier",
                    a->regions[one->parameter].name.c_str(), i, one == &x.write ? "write" : "read",
                    one->thread, one->group1 - 1, two == &y.write ? "write" : "read", two->thread,
                    two->group1 - 1);
        }
    running = nullptr;
}

static std::mutex pool_lock;
static std::vector<std::unique_ptr<worker>> pool; // workers keep their stacks between dispatches

static std::unique_ptr<worker> take_worker()
{
    std::lock_guard<std::mutex> hold(pool_lock);
    if (pool.empty())
        return std::unique_ptr<worker>(new worker());
    std::unique_ptr<worker> w = std::move(pool.back());
    pool.pop_back();
    return w;
}

// Either may have run no group at all.
static void return_worker(std::unique_ptr<worker> w, emu_report *report)
{
    size_t shared_bytes = 0;
    for (auto &a : w->arrays)
        shared_bytes += a->memory.size();
    report->shared_bytes = std::max(report->shared_bytes, shared_bytes);
    for (shadow_range &r : w->ranges)
        emu_sparse_free(r.cells, r.bytes * sizeof(cell));
    w->ranges.clear();
    std::lock_guard<std::mutex> hold(pool_lock);
    pool.push_back(std::move(w));
}

void dispatch(const entry &kernel, const std::vector<parameter> &parameters, bool checked,
              const emu_launch &launch, emu_report *report)
{
    job j{kernel, checked, launch, {}, {}, {0}, {false}, {}, report};
    for (const parameter &p : parameters)
        j.restricted.push_back(p.kind == PARAMETER_IN || p.kind == PARAMETER_OUT);
    j.order.resize((size_t)launch.groups[0] * launch.groups[1] * launch.groups[2]);
    std::iota(j.order.begin(), j.order.end(), 0u);
    uint64_t random = seed_of(launch.seed, ~0u);
    if (launch.seed)
        shuffle(j.order, &random);
    const bool two = launch.workers > 1 && j.order.size() > 1;
    std::unique_ptr<worker> first = take_worker(), second;
    prepare_worker(first.get(), &j, parameters);
    if (two) {
        second = take_worker();
        prepare_worker(second.get(), &j, parameters);
        std::thread other(work, second.get());
        work(first.get());
        other.join();
        compare(first.get(), second.get());
    } else {
        work(first.get());
    }
    return_worker(std::move(first), report);
    if (second)
        return_worker(std::move(second), report);
}
} // namespace emu
