/* fake_stream.c - what is queued on the fake driver's stream, and running it.
 *
 * There is one queue: the backend under test uses one stream.  Nothing runs before it must. */
#include <stdlib.h>
#include <string.h>
#include "fake_driver.h"

static fake_step *first, **last = &first;
static unsigned long newest, ran;
static unsigned sticky;
static double now; /* seconds: a microsecond a launch, a nanosecond a byte copied inside */

unsigned fake_sticky(void)
{
    return sticky;
}

void fake_clear_sticky(void)
{
    sticky = 0;
}

unsigned long fake_newest(void)
{
    return newest;
}

unsigned long fake_ran(void)
{
    return ran;
}

unsigned long fake_queue(const fake_step *step)
{
    fake_step *own = malloc(sizeof *own);
    if (!own)
        abort();
    *own = *step;
    own->next = NULL;
    *last = own;
    last = &own->next;
    return ++newest;
}

/* ---- launches ---- */

unsigned fake_launch_make(fake_launch *launch, const fake_function *function, const unsigned *grid,
                          const unsigned *block, void **parameters)
{
    const int n = function->n_parameters - (function->args_bytes > 0);
    memset(launch, 0, sizeof *launch);
    for (int i = 0; i < 3; i++)
        if (!grid[i] || !block[i] || (i > 0 && grid[i] > 65535) || grid[i] > 0x7fffffff)
            return FAKE_INVALID_VALUE;
    if (block[0] > 1024 || block[1] != 1 || block[2] != 1 || !parameters)
        return FAKE_INVALID_VALUE;
    launch->function = function;
    memcpy(launch->grid, grid, sizeof launch->grid);
    launch->threads = block[0];
    for (int i = 0; i < n; i++) {
        memcpy(&launch->address[i], parameters[i], sizeof launch->address[i]);
        if (launch->address[i] && !fake_memory_at(launch->address[i], 1, NULL))
            fake_find("%s: parameter %d is 0x%llx, which is not in live memory", function->name, i,
                      launch->address[i]);
    }
    if (function->args_bytes)
        memcpy(launch->args, parameters[n], function->args_bytes);
    return 0;
}

static void run_launch(fake_launch *l, int early, uint32_t unsettled)
{
    const fake_function *f = l->function;
    const int n = f->n_parameters - (f->args_bytes > 0);
    emu_buffer buffers[FAKE_PARAMETERS];
    emu_report report;
    fake.launches++;
    now += 1e-6;
    if (!f->library) {
        fake_find("%s: PTX cannot run here", f->name);
        return;
    }
    for (int i = 0; i < n; i++) {
        buffers[i] = (emu_buffer){NULL, 0};
        if (l->address[i])
            buffers[i].data = fake_memory_at(l->address[i], 1, &buffers[i].bytes);
        if (l->address[i] && !buffers[i].data) { /* freed since */
            sticky = MLXN_CU_ILLEGAL_ADDRESS;
            return;
        }
    }
    if (f->args_bytes)
        buffers[n] = (emu_buffer){l->args, f->args_bytes};
    const emu_launch launch = {.kernel = f->name,
                               .buffers = buffers,
                               .n_buffers = f->n_parameters,
                               .groups = {l->grid[0], l->grid[1], l->grid[2]},
                               .threads = l->threads,
                               .seed = fake.seed,
                               .workers = 1,
                               .early = early,
                               .unsettled = unsettled};
    const long findings = emu_dispatch(f->library, &launch, &report);
    if (findings)
        fake_find("%s: %ld findings: %s", f->name, findings, report.first);
    if (findings && report.bounds)
        sticky = MLXN_CU_ILLEGAL_ADDRESS;
}

static int is_ready(const fake_node *node)
{
    if (node->done)
        return 0;
    for (size_t i = 0; i < node->n_after; i++)
        if (!node->after[i]->done)
            return 0;
    return 1;
}

/* Marks all memory that the graph writes with `mark` and the number of the first node that does. */
static void mark_written(const fake_executable *graph, unsigned long mark)
{
    for (int i = graph->n - 1; i >= 0; i--)
        for (int k = 0; k < FAKE_PARAMETERS && !graph->nodes[i].time; k++)
            if (graph->nodes[i].launch.function->writes >> k & 1)
                fake_memory_mark(graph->nodes[i].launch.address[k], mark + (unsigned long)i);
}

/* The parameters of node i that lie in memory which a node before it writes.  What a later node
 * writes is no matter: that one waits for this. */
static uint32_t unsettled(const fake_node *node, int i, unsigned long mark)
{
    uint32_t mask = 0;
    for (int k = 0; k < FAKE_PARAMETERS; k++) {
        const unsigned long written = fake_memory_marked(node->launch.address[k]);
        mask |= (uint32_t)(mark <= written && written < mark + (unsigned long)i) << k;
    }
    return mask;
}

/* The launches in a random order that the edges allow.  One that may start early does not, but must
 * not touch before k_wait() what it would race for. */
static void run_graph(fake_executable *graph)
{
    for (int i = 0; i < graph->n; i++)
        graph->nodes[i].done = 0;
    static unsigned long marks = 1;
    const unsigned long mark = marks;
    fake.graph_launches++;
    marks += (unsigned long)graph->n;
    mark_written(graph, mark);
    for (int left = graph->n; left > 0; left--) {
        int ready = 0;
        for (int i = 0; i < graph->n; i++)
            ready += is_ready(&graph->nodes[i]);
        fake.seed = fake.seed * 6364136223846793005u + 1442695040888963407u;
        int chosen = (int)((fake.seed >> 33) % (uint64_t)ready);
        for (int i = 0; i < graph->n; i++)
            if (is_ready(&graph->nodes[i]) && chosen-- == 0) {
                fake_node *node = &graph->nodes[i];
                if (node->time)
                    *node->time = now;
                else
                    run_launch(&node->launch, node->early,
                               node->early ? unsettled(node, i, mark) : 0);
                node->done = 1;
                break;
            }
    }
}

/* ---- steps ---- */

static void run_step(fake_step *s)
{
    unsigned char *device = s->bytes ? fake_memory_at(s->address, s->bytes, NULL) : NULL;
    if (s->bytes && !device) {
        sticky = MLXN_CU_ILLEGAL_ADDRESS;
        fake_find("a copy of %zu bytes at 0x%llx is not in live memory", s->bytes, s->address);
        return;
    }
    switch (s->kind) {
    case FAKE_COPY_IN:
        memcpy(device, s->copy ? s->copy : s->from, s->bytes);
        break;
    case FAKE_COPY_OUT:
        memcpy(s->to, device, s->bytes);
        break;
    case FAKE_COPY_INSIDE:
        memcpy(device, fake_memory_at(s->source, s->bytes, NULL), s->bytes);
        now += 1e-9 * (double)s->bytes;
        break;
    case FAKE_SET:
        memset(device, s->value, s->bytes);
        break;
    case FAKE_RUN:
        run_launch(s->launch, 0, 0);
        break;
    case FAKE_RUN_GRAPH:
        run_graph(s->executable);
        break;
    case FAKE_FREE:
        if (!fake_memory_give(s->address))
            fake_find("0x%llx is freed, but is not live", s->address);
        break;
    case FAKE_EVENT_STEP:
        *s->time = now;
        break;
    }
}

unsigned fake_run(unsigned long until)
{
    while (first && ran < until) {
        fake_step *step = first;
        first = step->next;
        if (!first)
            last = &first;
        ran++;
        if (!sticky || step->kind == FAKE_FREE)
            run_step(step);
        free(step->copy);
        free(step->launch);
        free(step);
    }
    return sticky;
}
