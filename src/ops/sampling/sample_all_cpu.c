/* sample_all_cpu.c - draws from a whole row, or from more candidates than a sorted list holds.
 *
 * The row is never sorted: a filter is a cut, the last logit that it keeps in the order of order.h.
 * The cut is found by radix selection on the keys, 11 + 11 + 10 bits, each level a histogram of
 * counts (top_k) or of weights (top_p) over the team; sums are of integers, so no schedule shows.
 * The draw sums blocks of 1024 ids, then walks the one block in which it lands. */
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

/* Keeps the keys above `key`, and of those equal to it the ids up to `id`. */
typedef struct cut {
    int32_t key, id;
} cut;

static const cut keep_all = {INT32_MIN, INT32_MAX};

static vm kept_by(cut c, vi keys, int64_t i)
{
    vi key = vi_set(c.key), ids = vi_add(vi_iota(), vi_set((int32_t)i));
    return vm_or(vi_gt(keys, key), vm_and(vi_eq(keys, key), vm_not(vi_gt(ids, vi_set(c.id)))));
}

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

/* Lanes whose keys start with the prefix that the levels above have found. */
static vm starts_with(vi keys, int level, uint32_t prefix)
{
    vi u = vi_xor(keys, vi_set(INT32_MIN)), p = vi_set((int32_t)prefix);
    return level == 0 ? vm_first(16) : vi_eq(level == 1 ? vi_shr(u, 21) : vi_shr(u, 10), p);
}

/* Adds the kept logits whose keys start with `prefix`, as 1 or by weight. */
static void fill(const team *t, int by_weight, cut c, int level, uint32_t prefix, uint64_t *bins)
{
    const int low = level == 0 ? 21 : level == 1 ? 10 : 0;
    const vf least = vf_set(1 / draw_unit(t->p->vocab));
    memset(bins, 0, SAMPLING_BINS * sizeof *bins);
    for (int64_t i = t->begin; i < t->end; i += 16) {
        vf x = load_logits(t, i, t->end);
        vi keys = order_keys(x);
        vm wanted = vm_and(starts_with(keys, level, prefix), kept_by(c, keys, i));
        if (t->end - i < 16)
            wanted = vm_and(wanted, vm_first((int)(t->end - i)));
        vf w = vf_set(0);
        if (by_weight) { /* most of a row may weigh nothing */
            w = weights_of(x, t->top, 1);
            wanted = vm_and(wanted, vf_ge(w, least));
        }
        if (!vm_any(wanted))
            continue;
        uint64_t units[16];
        int32_t key[16];
        if (by_weight)
            weight_units(t->p, w, units);
        vi_store(key, keys);
        for (uint32_t bits = vm_bits(wanted), lane = 0; bits; bits >>= 1, lane++)
            if (bits & 1)
                bins[order_unsigned(key[lane]) >> low & ((1u << level_bits[level]) - 1)] +=
                    by_weight ? units[lane] : 1;
    }
}

/* The bin, from the top, in which the running sum reaches *amount; takes off what is above it. */
static uint32_t find_bin(const team *t, const uint64_t *bins, uint64_t *amount)
{
    for (uint32_t bin = SAMPLING_BINS; bin-- > 0;) {
        uint64_t held = 0;
        for (uint32_t k = 0; k < t->call->n_threads; k++)
            held += bins[k * SAMPLING_BINS + bin];
        if (held >= *amount)
            return bin;
        *amount -= held;
    }
    return 0;
}

/* The n-th id that has `key`. */
static int32_t nth_of_key(const team *t, int32_t key, uint64_t n)
{
    for (int64_t i = 0; i < t->p->vocab; i += 16) {
        vi keys = order_keys(load_logits(t, i, t->p->vocab));
        uint32_t found = vm_bits(vi_eq(keys, vi_set(key)));
        for (int32_t lane = 0; found; found >>= 1, lane++)
            if (found & 1 && --n == 0)
                return (int32_t)i + lane;
    }
    return INT32_MAX;
}

/* Of what `c` keeps, the smallest set of first logits that are `amount`, or weigh that much. */
static cut select_cut(team *t, int by_weight, uint64_t amount, cut c)
{
    uint32_t prefix = 0;
    for (int level = 0; level < 3; level++) {
        uint64_t *bins = t->histograms + (size_t)t->levels++ * t->call->n_threads * SAMPLING_BINS;
        fill(t, by_weight, c, level, prefix, bins + t->call->thread * SAMPLING_BINS);
        mlxn_cpu_barrier(t->call);
        prefix = prefix << level_bits[level] | find_bin(t, bins, &amount);
    }
    int32_t key = (int32_t)(prefix ^ 0x80000000u);
    uint64_t n = amount; /* of the logits with this key, lowest ids first */
    if (by_weight) {
        uint64_t units[16];
        float x = cpu_bits_float((uint32_t)(key ^ (key >> 31 & INT32_MAX)));
        weight_units(t->p, weights_of(vf_set(x), t->top, 1), units);
        n = (amount + units[0] - 1) / units[0];
    }
    return (cut){key, nth_of_key(t, key, n)};
}

/* The sum of the weights that top_p looks at. */
static uint64_t total_weight(team *t, cut c)
{
    uint64_t sum = 0;
    for (int64_t i = t->begin; i < t->end; i += 16) {
        vf x = load_logits(t, i, t->end);
        vm kept = kept_by(c, order_keys(x), i);
        sum += weight_sum(t->p, vf_select(kept, weights_of(x, t->top, 1), vf_set(0)));
    }
    mlxn_cpu_barrier(t->call); /* everybody has read the maxima */
    t->maxima[t->call->thread] = sum;
    mlxn_cpu_barrier(t->call);
    sum = 0;
    for (uint32_t k = 0; k < t->call->n_threads; k++)
        sum += t->maxima[k];
    return sum;
}

/* The weights that 16 ids are drawn by. */
static vf drawn_weights(const team *t, int64_t i, int64_t end, cut c)
{
    vf x = load_logits(t, i, end);
    return vf_select(kept_by(c, order_keys(x), i), drawn_weights_of(t->p, x, t->top), vf_set(0));
}

static void sum_blocks(const team *t, cut c)
{
    int64_t begin, end;
    cpu_split(t->call, sampling_blocks(t->p->vocab), &begin, &end);
    for (int64_t b = begin; b < end; b++) {
        int64_t from = b * SAMPLING_BLOCK, to = from + SAMPLING_BLOCK;
        to = to < t->p->vocab ? to : t->p->vocab;
        t->sums[b] = 0;
        for (int64_t i = from; i < to; i += 16)
            t->sums[b] += weight_sum(t->p, drawn_weights(t, i, to, c));
    }
    mlxn_cpu_barrier(t->call);
}

static int32_t draw(const team *t, cut c, int32_t counter)
{
    int64_t blocks = sampling_blocks(t->p->vocab), b = 0;
    uint64_t total = 0;
    for (int64_t i = 0; i < blocks; i++)
        total += t->sums[i];
    uint64_t point = draw_point(t->p->seed, counter, total);
    for (; b < blocks - 1 && point >= t->sums[b]; b++)
        point -= t->sums[b];
    int64_t to = (b + 1) * SAMPLING_BLOCK < t->p->vocab ? (b + 1) * SAMPLING_BLOCK : t->p->vocab;
    for (int64_t i = b * SAMPLING_BLOCK; i < to; i += 16) {
        uint64_t units[16];
        weight_units(t->p, drawn_weights(t, i, to, c), units);
        for (int lane = 0; lane < 16; lane++) {
            if (point < units[lane])
                return (int32_t)(i + lane);
            point -= units[lane];
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
    cut c = keep_all;
    int any = find_top(&t);
    if (any && p->k < p->vocab)
        c = select_cut(&t, 0, (uint64_t)p->k, c);
    if (any && p->top_p < 1)
        c = select_cut(&t, 1, top_p_target(p, total_weight(&t, c)), c);
    if (any)
        sum_blocks(&t, c);
    if (call->thread)
        return;
    if (counter < 0)
        mlxn_cpu_fault(call, "sample: negative counter", counter, 0);
    else
        *token = any ? draw(&t, c, counter) : 0;
}
