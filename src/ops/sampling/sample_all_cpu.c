/* sample_all_cpu.c - draws from a whole row, or from more candidates than a sorted list holds.
 *
 * The row is never sorted: a filter is the lowest rank (order.h) that it keeps.  The rank is found
 * by radix selection on the keys, 11 + 11 + 10 bits, each level a histogram of counts (top_k) or of
 * weights (top_p) over the team; all sums are of integers, so no schedule shows.  The draw sums
 * blocks of 1024 ids, then walks the one block in which it lands. */
#include <math.h>
#include "ops/sampling/order.h"
#include "ops/sampling/weights.h"

typedef struct team {
    const mlxn_cpu_call *call;
    const sample_params *p;
    const float *x;
    int64_t begin, end; /* this thread's part of the row */
    float top;          /* the largest logit */
    uint64_t *maxima, *histograms, *sums;
    int levels; /* histograms used so far */
} team;

static const int level_bits[] = {11, 11, 10};

/* The vector at id i, filled up with NaN, which is the last of all and weighs nothing. */
static vf load_logits(const team *t, int64_t i, int64_t end)
{
    if (i + 16 <= end)
        return vf_load(t->x + i);
    int n = (int)(end - i);
    return vf_select(vm_first(n), vf_load_n(t->x + i, n), vf_set(NAN));
}

/* Whether any logit is a number; t->top is the largest. */
static int find_top(team *t)
{
    uint64_t best = 0;
    for (int64_t i = t->begin; i < t->end; i += 16) {
        vf x = load_logits(t, i, t->end);
        if (!order_is_nan(best) && !vm_any(vf_gt(x, vf_set(t->top))))
            continue;
        int32_t keys[16];
        vi_store(keys, order_keys(x));
        for (int lane = 0; lane < 16 && i + lane < t->end; lane++)
            if (order_rank(keys[lane], i + lane) > best) {
                best = order_rank(keys[lane], i + lane);
                t->top = order_is_nan(best) ? -HUGE_VALF : t->x[i + lane];
            }
    }
    t->maxima[t->call->thread] = best;
    mlxn_cpu_barrier(t->call);
    for (uint32_t k = 0; k < t->call->n_threads; k++)
        best = t->maxima[k] > best ? t->maxima[k] : best;
    t->top = t->x[order_id(best)];
    return !order_is_nan(best);
}

/* Adds the logits whose keys start with `prefix` and whose rank is at least `lowest`. */
static void fill(const team *t, int by_weight, uint64_t lowest, int level, uint32_t prefix,
                 uint64_t *bins)
{
    int low = level == 0 ? 21 : level == 1 ? 10 : 0;
    memset(bins, 0, SAMPLING_BINS * sizeof *bins);
    for (int64_t i = t->begin; i < t->end; i += 16) {
        int n = t->end - i < 16 ? (int)(t->end - i) : 16;
        int32_t keys[16];
        uint32_t wanted = 0;
        vf x = load_logits(t, i, t->end);
        vi_store(keys, order_keys(x));
        for (int lane = 0; lane < n; lane++) {
            uint32_t key = order_unsigned(keys[lane]);
            int inside = level == 0 || key >> (low + level_bits[level]) == prefix;
            inside &= order_rank(keys[lane], i + lane) >= lowest;
            wanted |= (uint32_t)inside << lane;
        }
        if (!wanted)
            continue;
        weights w;
        if (by_weight)
            weigh_logits(t->p, x, t->top, &w);
        for (int lane = 0; lane < n; lane++)
            if (wanted >> lane & 1)
                bins[order_unsigned(keys[lane]) >> low & ((1u << level_bits[level]) - 1)] +=
                    by_weight ? w.plain[lane] : 1;
    }
}

/* The bin, from the top, in which the running sum reaches *amount; takes off what is above it. */
static uint32_t find_bin(const team *t, const uint64_t *bins, uint64_t *amount, uint64_t *held)
{
    for (uint32_t bin = SAMPLING_BINS; bin-- > 0;) {
        *held = 0;
        for (uint32_t k = 0; k < t->call->n_threads; k++)
            *held += bins[k * SAMPLING_BINS + bin];
        if (*held >= *amount)
            return bin;
        *amount -= *held;
    }
    return 0;
}

/* The rank of the n-th id that has `key`. */
static uint64_t nth_of_key(const team *t, uint32_t key, uint64_t n)
{
    vi wanted = vi_set((int32_t)(key ^ 0x80000000u));
    for (int64_t i = 0; i < t->p->vocab; i += 16) {
        int lanes = t->p->vocab - i < 16 ? (int)(t->p->vocab - i) : 16;
        uint32_t found = vm_bits(vi_eq(order_keys(load_logits(t, i, t->p->vocab)), wanted));
        for (int lane = 0; found && lane < lanes; lane++)
            if (found >> lane & 1 && --n == 0)
                return (uint64_t)key << 32 | (UINT32_MAX - (uint32_t)(i + lane));
    }
    return (uint64_t)key << 32;
}

/* The lowest rank of the smallest set of best ranks that holds `amount` logits, or weighs that
 * much; only ranks from `lowest` on are there. */
static uint64_t select_rank(team *t, int by_weight, uint64_t amount, uint64_t lowest)
{
    uint32_t prefix = 0;
    uint64_t held = 0;
    for (int level = 0; level < 3; level++) {
        uint64_t *bins = t->histograms + (size_t)t->levels++ * t->call->n_threads * SAMPLING_BINS;
        fill(t, by_weight, lowest, level, prefix, bins + t->call->thread * SAMPLING_BINS);
        mlxn_cpu_barrier(t->call);
        prefix = prefix << level_bits[level] | find_bin(t, bins, &amount, &held);
    }
    uint64_t n = amount; /* of the logits with this key, lowest ids first */
    if (by_weight) {
        weights w;
        int32_t key = (int32_t)(prefix ^ 0x80000000u);
        float x = cpu_bits_float((uint32_t)(key ^ (key >> 31 & INT32_MAX)));
        weigh_logits(t->p, vf_set(x), t->top, &w);
        n = (amount + w.plain[0] - 1) / w.plain[0];
    }
    return nth_of_key(t, prefix, n);
}

/* The sum of plain weights of all ranks from `lowest` on. */
static uint64_t total_weight(team *t, uint64_t lowest)
{
    uint64_t sum = 0;
    for (int64_t i = t->begin; i < t->end; i += 16) {
        int32_t keys[16];
        weights w;
        vf x = load_logits(t, i, t->end);
        vi_store(keys, order_keys(x));
        weigh_logits(t->p, x, t->top, &w);
        for (int lane = 0; lane < 16; lane++)
            sum += order_rank(keys[lane], i + lane) >= lowest ? w.plain[lane] : 0;
    }
    mlxn_cpu_barrier(t->call); /* everybody has read the maxima */
    t->maxima[t->call->thread] = sum;
    mlxn_cpu_barrier(t->call);
    sum = 0;
    for (uint32_t k = 0; k < t->call->n_threads; k++)
        sum += t->maxima[k];
    return sum;
}

/* The drawn weights of 16 ids that a filter left. */
static void drawn_weights(const team *t, int64_t i, int64_t end, uint64_t lowest, weights *w)
{
    int32_t keys[16];
    vf x = load_logits(t, i, end);
    vi_store(keys, order_keys(x));
    weigh_logits(t->p, x, t->top, w);
    for (int lane = 0; lane < 16; lane++)
        if (order_rank(keys[lane], i + lane) < lowest)
            w->drawn[lane] = 0;
}

static void sum_blocks(const team *t, uint64_t lowest)
{
    int64_t begin, end;
    cpu_split(t->call, sampling_blocks(t->p->vocab), &begin, &end);
    for (int64_t b = begin; b < end; b++) {
        int64_t from = b * SAMPLING_BLOCK, to = from + SAMPLING_BLOCK;
        to = to < t->p->vocab ? to : t->p->vocab;
        t->sums[b] = 0;
        for (int64_t i = from; i < to; i += 16) {
            weights w;
            drawn_weights(t, i, to, lowest, &w);
            for (int lane = 0; lane < 16; lane++)
                t->sums[b] += w.drawn[lane];
        }
    }
    mlxn_cpu_barrier(t->call);
}

static int32_t draw(const team *t, uint64_t lowest, int32_t counter)
{
    int64_t blocks = sampling_blocks(t->p->vocab), b = 0;
    uint64_t total = 0;
    for (int64_t i = 0; i < blocks; i++)
        total += t->sums[i];
    uint64_t point = draw_point(t->p, counter, total);
    for (; b < blocks - 1 && point >= t->sums[b]; b++)
        point -= t->sums[b];
    int64_t to = (b + 1) * SAMPLING_BLOCK < t->p->vocab ? (b + 1) * SAMPLING_BLOCK : t->p->vocab;
    for (int64_t i = b * SAMPLING_BLOCK; i < to; i += 16) {
        weights w;
        drawn_weights(t, i, to, lowest, &w);
        for (int lane = 0; lane < 16; lane++) {
            if (point < w.drawn[lane])
                return (int32_t)(i + lane);
            point -= w.drawn[lane];
        }
    }
    return 0; /* not reached: point < total */
}

CPU_KERNEL(sample_all)
{
    const sample_params *p = call->args;
    int32_t *token = call->ptr[1], counter = *(const int32_t *)call->ptr[2];
    team t = {.call = call, .p = p, .x = call->ptr[0], .maxima = call->shared};
    t.sums = t.maxima + call->n_threads;
    t.histograms = t.sums + sampling_blocks(p->vocab);
    cpu_split(call, p->vocab, &t.begin, &t.end);
    uint64_t lowest = 0;
    int any = find_top(&t);
    if (any && p->k < p->vocab)
        lowest = select_rank(&t, 0, (uint64_t)p->k, lowest);
    if (any && p->top_p < 1)
        lowest = select_rank(&t, 1, top_p_target(p, total_weight(&t, lowest)), lowest);
    if (any)
        sum_blocks(&t, lowest);
    if (call->thread)
        return;
    if (counter < 0)
        mlxn_cpu_fault(call, "sample: negative counter", counter, 0);
    else
        *token = any ? draw(&t, lowest, counter) : 0;
}
