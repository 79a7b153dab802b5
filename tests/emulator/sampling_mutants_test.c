/* sampling_mutants_test.c - broken twins of the sampling texts, by the tests that must fail. */
#include "kernels/text.h"
#include "mutants.h"
#include "test.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const emu_mutant list_order[] = {
    {"list: barrier before its number is read missing", "list[at] = rank;\n    }\n    k_barrier();",
     "list[at] = rank;\n    }"},
    {"list: number read while it is cleared",
     "{\n    k_barrier();\n    if (t.tid == 0u)\n        count[0] = 0u;",
     "{\n    if (t.tid == 0u)\n        count[0] = 0u;"},
    {"sort: the rest is not filled", "list[i] = 0;", ""},
    {"-0 before +0", "v = u == 0x80000000u ? 0u : u;", "v = u;"},
    {"NaN is a number", "if ((u & 0x7fffffffu) > 0x7f800000u)\n        return 0u;", ""},
    {"negative logits the wrong way", "? ~v : v | 0x80000000u", "? v : v | 0x80000000u"},
    {"the higher id wins a tie", "(uint64_t)(0xffffffffu - (uint)id)", "(uint64_t)(uint)id"},
    {"argmax: the first of a block", "ids[row] = (int)rank_id(best);", "ids[row] = (int)begin;"},
    {"members: a short last block", "return id < s.vocab ?", "return id <= s.vocab ?"},
};

static const emu_mutant list_argmax[] = {
    {"sort: ascending", "(a < b) == ((low & size)", "(a > b) == ((low & size)"},
    {"sort: barrier missing",
     "list[high] = a;\n                }\n            }\n            k_barrier();",
     "list[high] = a;\n                }\n            }"},
    {"list: no room for all", "if (n > (uint)SAMPLING_K_MAX)", "if (false)"},
    {"members: bound by the block's number", "key = bound >> 32 << 32;", "key = bound;"},
    {"a block misses its last id", "i = begin + lane; i < end; i += 32) {\n        const uint key",
     "i = begin + lane; i < end - 1; i += 32) {\n        const uint key"},
    {"argmax: one simdgroup's best", "best = rank_group_greatest(best, parts, t);\n    if (t.simd",
     "best = rank_simd_greatest(best);\n    if (t.simd"},
    {"a carry of sums twice", "y.before += i < t.simd ? part : 0;",
     "y.before += i <= t.simd ? part : 0;"},
    {"group sums: barrier missing", "parts[t.simd] = own.all;\n    k_barrier();",
     "parts[t.simd] = own.all;"},
    {"the bin below", "(SAMPLING_BINS - 1 - i);\n            m.found[1]",
     "(SAMPLING_BINS - 2 - i);\n            m.found[1]"},
    {"a bin that holds just enough is passed over", "above + held >= search.amount",
     "above + held > search.amount"},
    {"barrier before what was found is written again missing",
     "k_barrier(); /* before the histogram and what was found are written again */", ""},
    {"histogram: barrier after clearing missing", "m.high[i] = 0u;\n    }\n    k_barrier();",
     "m.high[i] = 0u;\n    }"},
    {"histogram: barrier before sums missing", "uint64_t own = 0;\n    k_barrier();",
     "uint64_t own = 0;"},
    {"levels overlap", "level % 3 == 1 ? 10 : 0);", "level % 3 == 1 ? 11 : 0);"},
    {"selection ends a level early", "level == 5 || search.held == search.amount",
     "level == 1 || search.held == search.amount"},
};

static const emu_mutant list_top_p[] = {
    {"top_p keeps one too many", "reached < share; i++", "reached <= share; i++"},
    {"top_p: barrier missing", "k_atomic_add(count, kept);\n    k_barrier();",
     "k_atomic_add(count, kept);"},
};

static const emu_mutant list_extreme[] = {
    {"a token of weight 0 is drawn", "point - below < weight)", "point - below <= weight)"},
    {"a draw by rank, not by id", "order[i] = (uint64_t)list[i] << 32",
     "order[i] = (uint64_t)list[i] >> 32 << 32"},
    {"nine rounds of Philox", "round < 10", "round < 9"},
};

static const emu_mutant list_min_p[] = {
    {"min_p by the drawn weights", "const float plain = weigh_logit(x, top, 1.0f);",
     "const float plain = weigh_logit(x, top, a->temperature);"},
};

static const emu_mutant list_degenerate[] = {
    {"an infinite logit weighs NaN", "if (x == top)\n        return 1.0f;", ""},
};

static const emu_mutant list_negative[] = {
    {"a negative counter draws", "if (number < 0) {", "if (false) {"},
};

static const emu_mutant list_logprob[] = {
    {"logprob: a tail of another block",
     "end = limit < a.vocab ? limit : a.vocab;\n    k_wait();\n"
     "    for (int64_t row",
     "end = limit;\n    k_wait();\n    for (int64_t row"},
    {"logprob: barrier before the next row missing",
     "k_barrier(); /* before the next row's parts */", ""},
    {"logprob: without the largest", "target] - sums[at]) - k_log", "target]) - k_log"},
    {"logprob: a target past the end", "target >= a.vocab", "target > a.vocab"},
};

static const emu_mutant list_repeat[] = {
    {"penalty: the oldest entry counts", "(written - recent) % a.length",
     "(written - recent + a.length - 1) % a.length"},
    {"penalty: the ring does not close", "at < a.length ? at : at - a.length", "at"},
    {"penalty: negative logits divided", "x > 0.0f ? k_div(x, a.penalty) : x * a.penalty",
     "k_div(x, a.penalty)"},
    {"penalty: flags not cleared", "flags[i] = 0u;", ""},
    {"penalty: barrier before the flags are used missing",
     "(uint)SAMPLING_FAULT_ID);\n    }\n    k_barrier();", "(uint)SAMPLING_FAULT_ID);\n    }"},
    {"penalty: an id of the vocabulary's size", "id >= a.vocab) && t.group_x",
     "id > a.vocab) && t.group_x"},
};

static const emu_mutant list_step[] = {
    {"step: slot of the old position", "slots_b[0] = (int)(position % a.capacity_b)",
     "slots_b[0] = (int)((position - 1) % a.capacity_b)"},
    {"step: history of the next entry", "history[number % a.length]",
     "history[(number + 1) % a.length]"},
    {"step: the last counter goes on", "number < 0 || number == 0x7fffffff", "number < 0"},
    {"step: ids left alone", "ids[0] = next;", ""},
};

static const emu_mutant all_degenerate[] = {
    {"histograms not cleared", "histograms[i] = 0u;", ""},
    {"flush: barrier missing",
     "REF(rank_memory) m, REF(rank_thread) t)\n{\n    k_barrier();\n    for",
     "REF(rank_memory) m, REF(rank_thread) t)\n{\n    for"},
    {"level: barrier before the histogram is read missing",
     "uint64_t own = 0;\n    k_barrier();\n    for (int64_t i = bins",
     "uint64_t own = 0;\n    for (int64_t i = bins"},
    {"level: a span of its own",
     "end = limit < a.sample.vocab ? limit : a.sample.vocab;\n"
     "    const int64_t blocks",
     "end = limit < a.sample.vocab ? limit : a.sample.vocab - 1;\n    const int64_t blocks"},
    {"NaN alone: the last level reads nothing",
     "if (key == 0u) /* NaN alone: nothing is drawn */\n        return;", ""},
    {"NaN alone: a draw", "if (key == 0u) {", "if (false) {"},
};

static const emu_mutant all_cuts[] = {
    {"a carry to the high word lost", "+ (before + low < low ? 1u : 0u);\n        if (high",
     ";\n        if (high"},
    {"a group's carry lost", "+ (before + low < low ? 1u : 0u);\n    if (high", ";\n    if (high"},
    {"level: the earlier cut is forgotten", "rank >= least && rank_matches(rank, a.level",
     "rank_matches(rank, a.level"},
    {"level: all prefixes", "return level == 0 || rank >>", "return level >= 0 || rank >>"},
    {"draw: last ids of a block missed", "first + few < end ? first + few : end",
     "first + few < end ? first + few - 1 : end"},
};

static const emu_mutant all_top_p[] = {
    {"amount of the level before", "searches[2 * at + 1] = search.amount;",
     "searches[2 * at + 1] = search.held;"},
    {"cut: equal logits all kept", "if (search.amount < search.held)", "if (false)"},
    {"cut: one too few of equal logits", "(search.amount + weight - 1) / weight",
     "search.amount / weight"},
    {"cut: equals below the earlier cut", "least = sample_equals(", "least = 1 + sample_equals("},
    {"sums: the cut is forgotten", ">= least ? weigh_drawn", ">= 0 ? weigh_drawn"},
};

static const emu_mutant all_extreme[] = {
    {"draw: a token of weight 0", "rest - below < weight)", "rest - below <= weight)"},
    {"draw: a block of sum 0", "rest >= sums[b]; b++", "rest > sums[b]; b++"},
    {"draw: barrier missing", "found[1] = rest;\n    }\n    k_barrier();",
     "found[1] = rest;\n    }"},
};

static const emu_mutant all_negative[] = {
    {"a negative counter draws", "if (number < 0) {", "if (false) {"},
};

static void check(const char *text, const emu_mutant *list, int count, const char *tests)
{
    emu_check_mutants(
        &(emu_mutants){.text = text, .list = list, .count = count, .tests = tests, .schedules = 1});
}

TEST(mutants_of_sampling)
{
    const char *text = mlxn_kernel_text_sampling;
    check(text, list_order, COUNT(list_order), "sampling_order");
    check(text, list_argmax, COUNT(list_argmax), "sampling_argmax");
    check(text, list_top_p, COUNT(list_top_p), "sampling_top_p");
    check(text, list_extreme, COUNT(list_extreme), "sampling_extreme");
    check(text, list_min_p, COUNT(list_min_p), "sampling_min_p");
    check(text, list_degenerate, COUNT(list_degenerate), "sampling_degenerate");
    check(text, list_negative, COUNT(list_negative), "sampling_negative");
    check(text, list_logprob, COUNT(list_logprob), "sampling_logprob");
    check(text, list_repeat, COUNT(list_repeat), "sampling_repeat");
    check(text, list_step, COUNT(list_step), "sampling_step");
}

TEST(mutants_of_sample_all)
{
    const char *text = mlxn_kernel_text_sample_all;
    check(text, all_degenerate, COUNT(all_degenerate), "sampling_degenerate");
    check(text, all_cuts, COUNT(all_cuts), "sampling_top_p");
    check(text, all_top_p, COUNT(all_top_p), "sampling_top_p");
    check(text, all_extreme, COUNT(all_extreme), "sampling_extreme");
    check(text, all_negative, COUNT(all_negative), "sampling_negative");
}
