/* share.h - how the threads of a team divide a long read of n items.
 *
 * Memory is read fastest as one long run by each thread, so seven eighths are divided beforehand,
 * evenly.  The rest goes to whoever is free, in rounds: in a round every thread may take one run,
 * and its runs together are half of what is left.  So the threads end within an item of each other,
 * whatever each had in its cache. */
#ifndef MLXN_CPU_SHARE_H
#define MLXN_CPU_SHARE_H

#include <stdint.h>

typedef struct cpu_share {
    int64_t n, threads;
    int64_t fixed; /* items of each thread */
    int64_t rest;  /* runs; the last ones may be empty */
} cpu_share;

/* The items of each run of the round that begins at item `at`. */
static inline int64_t cpu_share_run(const cpu_share *s, int64_t at)
{
    const int64_t each = (s->n - at) / (2 * s->threads);
    return each > 0 ? each : 1;
}

static inline cpu_share cpu_share_of(int64_t n, uint32_t threads)
{
    cpu_share s = {.n = n, .threads = threads};
    s.fixed = n * 7 / 8 / s.threads;
    for (int64_t at = s.fixed * s.threads; at < n; at += s.threads * cpu_share_run(&s, at))
        s.rest += s.threads;
    return s;
}

/* What is divided beforehand: [*begin, *end) is this thread's. */
static inline void cpu_share_fixed(const cpu_share *s, uint32_t thread, int64_t *begin,
                                   int64_t *end)
{
    *begin = s->fixed * thread;
    *end = *begin + s->fixed;
}

/* Run number `item` of the others; item is below s->rest. */
static inline void cpu_share_rest(const cpu_share *s, int64_t item, int64_t *begin, int64_t *end)
{
    int64_t at = s->fixed * s->threads, run = cpu_share_run(s, at);
    for (; item >= s->threads; item -= s->threads) {
        at += run * s->threads;
        run = cpu_share_run(s, at);
    }
    *begin = at + item * run < s->n ? at + item * run : s->n;
    *end = *begin + run < s->n ? *begin + run : s->n;
}

#endif
