/* sim_run.c - runs the dispatches of a command buffer in the emulator.
 *
 * Between two barriers of an encoder they run in random order (a concurrent encoder promises none),
 * and for checked text every byte they touch is noted: two that touch the same byte, one of them
 * writing, need a barrier; and a barrier is idle if no two of the dispatches on its sides do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim.h"

enum { GROUP_MAX = 512 };

/* Dispatches with no barrier between them, and the buffers that are watched meanwhile. */
typedef struct group {
    dispatch *run[GROUP_MAX];
    int n, n_watched;
    buffer **watched;
} group;

/* ---- what is touched ---- */

static NSUInteger pages_of(const buffer *b)
{
    return b->length / EMU_PAGE + 1;
}

static watched new_watched(const buffer *b)
{
    const watched w = {emu_sparse(b->length), emu_sparse(pages_of(b))};
    if (!w.flags || !w.pages)
        sim_misuse("no memory to watch a buffer of %lu bytes", b->length);
    return w;
}

static void drop_watched(const buffer *b, watched *w)
{
    if (w->flags) {
        emu_sparse_free(w->flags, b->length);
        emu_sparse_free(w->pages, pages_of(b));
    }
    *w = (watched){NULL, NULL};
}

void sim_forget(buffer *b)
{
    drop_watched(b, &b->now);
    drop_watched(b, &b->since);
    drop_watched(b, &b->before);
}

/* What is at fault in the two sets of flags of one byte; NULL: nothing. */
static const char *conflict(unsigned before, unsigned present)
{
    if (present & EMU_TOUCH_WRITE && before)
        return before & EMU_TOUCH_WRITE ? "writes what was written" : "writes what was read";
    if (present & EMU_TOUCH_READ && before & (EMU_TOUCH_WRITE | EMU_TOUCH_ATOMIC))
        return "reads what was written";
    if (present & EMU_TOUCH_ATOMIC && before & (EMU_TOUCH_READ | EMU_TOUCH_WRITE))
        return "changes what was touched";
    return NULL;
}

/* The bytes of a page. */
static NSUInteger page_end(const buffer *b, NSUInteger page)
{
    const NSUInteger end = (page + 1) * EMU_PAGE;
    return end < b->length ? end : b->length;
}

static void merge_page(buffer *b, NSUInteger page, const dispatch *d, char *problem, size_t size)
{
    const NSUInteger first = page * EMU_PAGE, end = page_end(b, page);
    for (NSUInteger i = first; i < end; i++) {
        const uint8_t now = b->now.flags[i];
        const char *what = now ? conflict(b->since.flags[i], now) : NULL;
        if (what && !*problem)
            snprintf(problem, size, "missing barrier: %s %s by %s since the last one (byte %lu)",
                     d->pipeline->entry, what, b->last, i);
        b->since.flags[i] |= now;
    }
    memset(b->now.flags + first, 0, end - first);
}

/* Adds what a dispatch touched of a buffer to what has been since the barrier. */
static void merge(buffer *b, const dispatch *d, char *problem, size_t size)
{
    for (NSUInteger page = 0; page < pages_of(b); page++)
        if (b->now.pages[page]) {
            merge_page(b, page, d, problem, size);
            b->now.pages[page] = 0;
            b->since.pages[page] = 1;
        }
    b->last = d->pipeline->entry;
}

/* Whether dispatches since the barrier depend on those before it in this buffer. */
static int depends(const buffer *b)
{
    for (NSUInteger page = 0; b->before.flags && page < pages_of(b); page++)
        for (NSUInteger i = page * EMU_PAGE;
             b->before.pages[page] && b->since.pages[page] && i < page_end(b, page); i++)
            if (b->since.flags[i] && conflict(b->before.flags[i], b->since.flags[i]))
                return 1;
    return 0;
}

/* ---- groups ---- */

static void watch(group *g)
{
    for (int k = 0; k < g->n; k++)
        for (int i = 0; i < g->run[k]->n; i++) {
            buffer *b = g->run[k]->bounds[i].kind == BUFFER ? g->run[k]->bounds[i].buffer : NULL;
            if (!b || sim_dead(&b->object) || b->now.flags)
                continue;
            b->now = new_watched(b);
            b->since = new_watched(b);
            g->watched = realloc(g->watched, (size_t)(g->n_watched + 1) * sizeof *g->watched);
            g->watched[g->n_watched++] = b;
        }
}

/* The group has run: it becomes the one before the next barrier. */
static void end_group(group *g, group *earlier)
{
    int needed = g->n == 0 || g->run[0]->barrier != ASKED;
    for (int i = 0; i < g->n_watched && !needed; i++)
        needed = !sim_dead(&g->watched[i]->object) && depends(g->watched[i]);
    metalsim_count.idle_barriers += !needed;
    for (int i = 0; i < earlier->n_watched; i++)
        if (!sim_dead(&earlier->watched[i]->object))
            drop_watched(earlier->watched[i], &earlier->watched[i]->before);
    for (int i = 0; i < g->n_watched; i++) {
        buffer *b = g->watched[i];
        if (sim_dead(&b->object))
            continue;
        drop_watched(b, &b->now);
        b->before = b->since;
        b->since = (watched){NULL, NULL};
    }
    free(earlier->watched);
    *earlier = *g;
    g->watched = NULL;
    g->n = g->n_watched = 0;
}

/* ---- running ---- */

static void run_dispatch(const dispatch *d, char *problem, size_t size)
{
    emu_buffer buffers[MAX_INDEX];
    emu_touched touched[MAX_INDEX] = {{NULL, NULL, 0}};
    emu_report report;
    for (int i = 0; i < d->n; i++) {
        const bound *at = &d->bounds[i];
        if (at->kind == BYTES) {
            buffers[i] = (emu_buffer){at->bytes, at->length};
            continue;
        }
        if (sim_dead(&at->buffer->object))
            sim_misuse("%s: the buffer at index %d was freed while a command buffer uses it",
                       d->pipeline->entry, i);
        buffers[i] = (emu_buffer){at->buffer->memory + at->offset, at->buffer->length - at->offset};
        if (at->buffer->now.flags)
            touched[i] = (emu_touched){at->buffer->now.flags, at->buffer->now.pages, at->offset};
    }
    if (sim_dead((id)&d->pipeline->object))
        sim_misuse("%s: the pipeline was freed while a command buffer uses it", d->pipeline->entry);
    const emu_launch launch = {.kernel = d->pipeline->entry,
                               .buffers = buffers,
                               .n_buffers = d->n,
                               .groups = {(uint32_t)d->groups.width, (uint32_t)d->groups.height,
                                          (uint32_t)d->groups.depth},
                               .threads = (uint32_t)d->threads.width,
                               .seed = metalsim.seed,
                               .workers = metalsim.workers,
                               .constants = d->pipeline->constants,
                               .n_constants = MAX_CONSTANTS,
                               .touched = touched};
    if (emu_dispatch(d->pipeline->library, &launch, &report) && !*problem)
        snprintf(problem, size, "%s", report.first);
    if (report.shared_bytes > MAX_GROUP_MEMORY && !*problem)
        snprintf(problem, size, "%s: %zu bytes of group memory, at most %d", d->pipeline->entry,
                 report.shared_bytes, MAX_GROUP_MEMORY);
    for (int i = 0; i < d->n; i++)
        if (touched[i].flags)
            merge(d->bounds[i].buffer, d, problem, size);
}

static void run_group(group *g, group *earlier, uint64_t *random, char *problem, size_t size)
{
    dispatch *left[GROUP_MAX];
    memcpy(left, g->run, sizeof left);
    if (metalsim.checked)
        watch(g);
    for (int n = g->n, at = 0; at < n; at++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        const int pick = at + (metalsim.seed ? (int)((*random >> 33) % (uint64_t)(n - at)) : 0);
        dispatch *const next = left[pick];
        left[pick] = left[at];
        run_dispatch(next, problem, size);
    }
    if (metalsim.checked)
        end_group(g, earlier);
    g->n = 0;
}

void sim_run(dispatch *first, char *problem, size_t size)
{
    group g = {.n = 0}, earlier = {.n = 0};
    uint64_t random = metalsim.seed;
    for (dispatch *d = first; d; d = d->next) {
        if (g.n && (d->barrier != TOGETHER || g.n == GROUP_MAX))
            run_group(&g, &earlier, &random, problem, size);
        g.run[g.n++] = d;
    }
    run_group(&g, &earlier, &random, problem, size);
    end_group(&g, &earlier); /* nothing follows */
    free(earlier.watched);
}
