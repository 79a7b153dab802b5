/* ranks.h - the order of logits in kernel text, and selection by it.
 *
 * As in order.h: a logit becomes a 32-bit key (greater first, -0 equals +0, NaN is 0), key and id a
 * 64-bit rank, the lower id being the greater; all ranks of a row differ, so "the k greatest" has
 * one answer whatever the schedule.  All sums here are of integers: no order shows. */
#ifndef MLXN_OPS_SAMPLING_RANKS_H
#define MLXN_OPS_SAMPLING_RANKS_H

#include "kernels/dialect.h"
#include "ops/sampling/sampling_params.h"

/* Where a thread stands. */
struct rank_thread {
    uint group_x, group_y, groups_y, tid, threads, lane, simd;
};
#define RANK_THREAD                                                                    \
    {                                                                                  \
        k_group3.x, k_group3.y, k_groups3.y, k_thread3.x, k_threads3.x, k_lane, k_simd \
    }

FN uint rank_key(float x)
{
    const uint u = k_bits(x), v = u == 0x80000000u ? 0u : u;
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0u;
    return v >> 31 != 0u ? ~v : v | 0x80000000u;
}

/* The logit of a key. */
FN float rank_value(uint key)
{
    return k_float(key >> 31 != 0u ? key & 0x7fffffffu : ~key);
}

FN uint64_t rank_of(uint key, int64_t id)
{
    return (uint64_t)key << 32 | (uint64_t)(0xffffffffu - (uint)id);
}

FN int64_t rank_id(uint64_t rank)
{
    return (int64_t)(0xffffffffu - (uint)rank);
}

/* ---- over a simdgroup, over a group ---- */

FN uint64_t rank_xor(uint64_t v, uint m)
{
    return (uint64_t)k_xor((uint)(v >> 32), m) << 32 | (uint64_t)k_xor((uint)v, m);
}

FN uint rank_simd_greatest(uint v)
{
    for (uint m = 16u; m != 0u; m >>= 1) {
        const uint other = k_xor(v, m);
        v = other > v ? other : v;
    }
    return v;
}
FN uint64_t rank_simd_greatest(uint64_t v)
{
    for (uint m = 16u; m != 0u; m >>= 1) {
        const uint64_t other = rank_xor(v, m);
        v = other > v ? other : v;
    }
    return v;
}

/* To all threads; `parts` (32) is free for use after the next barrier. */
FN uint64_t rank_group_greatest(uint64_t v, SHARED(uint64_t) parts, REF(rank_thread) t)
{
    v = rank_simd_greatest(v);
    if (t.lane == 0u)
        parts[t.simd] = v;
    k_barrier();
    return rank_simd_greatest(t.lane < t.threads / 32u ? (uint64_t)parts[t.lane] : 0);
}

/* What the threads before this one hold, and all of them. */
struct rank_sums {
    uint64_t before, all;
};

FN rank_sums rank_simd_sums(uint64_t v, uint lane)
{
    rank_sums y = {0, v};
    for (uint m = 1u; m != 32u; m <<= 1) {
        const uint64_t other = rank_xor(y.all, m);
        y.before += (lane & m) != 0u ? other : 0;
        y.all += other;
    }
    return y;
}

/* To all threads; `parts` as above. */
FN rank_sums rank_group_sums(uint64_t v, SHARED(uint64_t) parts, REF(rank_thread) t)
{
    const rank_sums own = rank_simd_sums(v, t.lane);
    rank_sums y = {own.before, 0};
    if (t.lane == 0u)
        parts[t.simd] = own.all;
    k_barrier();
    for (uint i = 0u; i < t.threads / 32u; i++) {
        const uint64_t part = parts[i];
        y.before += i < t.simd ? part : 0;
        y.all += part;
    }
    return y;
}

/* ---- radix selection ----
 *
 * A rank is taken 11, 11, 10, 11, 11, 10 bits at a time from the top.  A level adds up what the
 * ranks with the prefix found so far hold (1, or a weight) in a histogram of their next bits and
 * finds the bin in which the sum, from the greatest rank down, reaches the wanted amount. */

/* A group's histogram of SAMPLING_BINS sums: of counts, one word, or `wide`: two. */
struct rank_memory {
    bool wide;
    SHARED(uint) low;
    SHARED(uint) high;
    SHARED(uint64_t) parts; /* 32 */
    SHARED(uint64_t) found; /* 2: the bin, what is above it */
};

FN int rank_shift(int level)
{
    return (level < 3 ? 32 : 0) + (level % 3 == 0 ? 21 : level % 3 == 1 ? 10 : 0);
}

FN int rank_width(int level)
{
    return level % 3 == 2 ? 10 : 11;
}

FN void rank_clear(REF(rank_memory) m, REF(rank_thread) t)
{
    for (uint i = t.tid; i < (uint)SAMPLING_BINS; i += t.threads) {
        m.low[i] = 0u;
        if (m.wide)
            m.high[i] = 0u;
    }
    k_barrier();
}

/* Adds to a wide bin; a carry is seen by exactly one of the threads that add. */
FN void rank_add(REF(rank_memory) m, uint bin, uint64_t amount)
{
    const uint low = (uint)amount, before = k_atomic_add(m.low + (int64_t)bin, low);
    const uint high = (uint)(amount >> 32) + (before + low < low ? 1u : 0u);
    if (high != 0u)
        k_atomic_add(m.high + (int64_t)bin, high);
}

FN bool rank_matches(uint64_t rank, int level, uint64_t prefix)
{
    return level == 0 || rank >> rank_shift(level - 1) == prefix;
}

FN uint rank_bin(uint64_t rank, int level)
{
    return (uint)(rank >> rank_shift(level)) & ((1u << rank_width(level)) - 1u);
}

/* The state of a selection between levels. */
struct rank_search {
    uint64_t prefix, amount; /* amount: still wanted of the ranks with the prefix */
    uint64_t held;           /* what those hold */
};

FN uint64_t rank_held(REF(rank_memory) m, int64_t bin)
{
    const uint64_t high = m.wide ? (uint64_t)m.high[bin] : 0;
    return high << 32 | (uint64_t)m.low[bin];
}

/* A thread's bins, counted from the top: [begin, end). */
struct rank_share {
    int64_t begin, end;
};

FN rank_share rank_bins(REF(rank_thread) t)
{
    const int64_t each = (int64_t)(((uint)SAMPLING_BINS + t.threads - 1u) / t.threads);
    const int64_t begin = each * t.tid, end = begin + each;
    rank_share y = {begin, end < SAMPLING_BINS ? end : SAMPLING_BINS};
    return y;
}

/* What the bins above a thread's own hold, and all; starts with a barrier. */
FN rank_sums rank_bin_sums(REF(rank_memory) m, REF(rank_thread) t)
{
    const rank_share bins = rank_bins(t);
    uint64_t own = 0;
    k_barrier();
    for (int64_t i = bins.begin; i < bins.end; i++)
        own += rank_held(m, SAMPLING_BINS - 1 - i);
    return rank_group_sums(own, m.parts, t);
}

/* The next level's state: search.amount is at most what all bins hold.  Ends with a barrier. */
FN rank_search rank_find(REF(rank_memory) m, rank_search search, REF(rank_sums) sums, int level,
                         REF(rank_thread) t)
{
    const rank_share bins = rank_bins(t);
    uint64_t above = sums.before;
    for (int64_t i = bins.begin; i < bins.end && above < search.amount; i++) {
        const uint64_t held = rank_held(m, SAMPLING_BINS - 1 - i);
        if (above + held >= search.amount) {
            m.found[0] = (uint64_t)(SAMPLING_BINS - 1 - i);
            m.found[1] = above;
        }
        above += held;
    }
    k_barrier();
    const uint64_t bin = m.found[0];
    search.amount -= m.found[1];
    search.prefix = search.prefix << rank_width(level) | bin;
    search.held = rank_held(m, (int64_t)bin);
    k_barrier(); /* before the histogram and what was found are written again */
    return search;
}

/* The least rank with the prefix that `levels` levels have found. */
FN uint64_t rank_least(REF(rank_search) search, int levels)
{
    return search.prefix << rank_shift(levels - 1);
}

/* Sorts n ranks, a power of two, in descending order: Batcher's bitonic network.  Starts and ends
 * with a barrier. */
FN void rank_sort(SHARED(uint64_t) list, uint n, REF(rank_thread) t)
{
    k_barrier();
    for (uint size = 2u; size <= n; size <<= 1)
        for (uint stride = size >> 1; stride != 0u; stride >>= 1) {
            for (uint i = t.tid; i < n / 2u; i += t.threads) {
                const uint low = i + (i & ~(stride - 1u)), high = low + stride;
                const uint64_t a = list[low], b = list[high];
                if ((a < b) == ((low & size) == 0u)) {
                    list[low] = b;
                    list[high] = a;
                }
            }
            k_barrier();
        }
}

/* ---- blocks ---- */

FN int64_t rank_block_count(int64_t vocab, int shift)
{
    return (vocab + ((int64_t)1 << shift) - 1) >> shift;
}

/* The greatest key of a block of 2^shift ids, by a simdgroup. */
FN uint rank_block_greatest(GLOBAL(const float) row, int64_t vocab, int shift, int64_t block,
                            uint lane)
{
    const int64_t begin = block << shift, limit = begin + ((int64_t)1 << shift);
    const int64_t end = limit < vocab ? limit : vocab;
    uint top = 0u;
    for (int64_t i = begin + lane; i < end; i += 32) {
        const uint key = rank_key(row[i]);
        top = key > top ? key : top;
    }
    return rank_simd_greatest(top);
}

/* The greatest key of a row, by a group; `parts` as above. */
FN uint rank_row_greatest(GLOBAL(const uint) maxima, int64_t blocks, SHARED(uint64_t) parts,
                          REF(rank_thread) t)
{
    uint top = 0u;
    for (int64_t i = t.tid; i < blocks; i += t.threads) {
        const uint key = maxima[i];
        top = key > top ? key : top;
    }
    top = rank_simd_greatest(top);
    if (t.lane == 0u)
        parts[t.simd] = top;
    k_barrier();
    return rank_simd_greatest(t.lane < t.threads / 32u ? (uint)parts[t.lane] : 0u);
}

#endif
