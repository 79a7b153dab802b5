/* attention_mutants_test.c - broken twins of attention.kernel and attention_decode.kernel. */
#include "kernels/text.h"
#include "mutants.h"
#include "ops/attention/attention_plan.h"
#include "test.h"

static const emu_mutant mutants[] = {
    {"window of one key more", "position - (int)p->window + 1 : 0",
     "position - (int)p->window : 0"},
    {"position against slots", "ATTENTION_LINEAR && position >= p->slots)",
     "ATTENTION_LINEAR && position > p->slots)"},
    {"keys of a ring", "seen > p->slots", "seen > p->slots + 1"},
    {"key head of the block", "y_tile.key_head = y / (uint)a->head_blocks;",
     "y_tile.key_head = y % (uint)a->head_blocks;"},
    {"heads of the block before", "shared + block * a->heads;", "shared;"},
    {"rows past the tokens", "(tokens < a->queries ? (int)tokens : a->queries)", "a->queries"},
    {"one chunk too few", "y.last < 0 ? -1 : y.last / ATTENTION_KEYS;",
     "y.last < 0 ? -1 : (y.last - 1) / ATTENTION_KEYS;"},
    {"keys that no row sees are read",
     "if (s.ints[ROW_FIRST * R + r] <= position && position <= s.ints[ROW_LAST * R + r])", ""},
    {"slots of a ring", "(uint)position % (uint)p->slots", "(uint)position"},
    {"row of the table", "sequence * p->table_columns + position", "position"},
    {"entries past the cache", "slot >= p->slots) {", "slot > p->slots) {"},
    {"bad entries are not noted", "k_atomic_or(o.fault, (uint)ATTENTION_FAULT_ENTRY);", ""},
    {"bad entries drop no row", "s.ints[ROW_OK * R + r] = 0;", ""},
    {"head of the query", "head = at.head + r % at.heads;\n        float x",
     "head = at.head;\n        float x"},
    {"blocks of another lane", "block = (int)lane;", "block = (int)(lane ^ 1u);"},
    {"lanes summed otherwise",
     "sum.v[r] += k_xor(sum.v[r], 2u);\n            sum.v[r] += k_xor(sum.v[r], 1u);",
     "sum.v[r] += k_xor(sum.v[r], 1u);\n            sum.v[r] += k_xor(sum.v[r], 2u);"},
    {"long heads: barrier before staging missing", "k_barrier();\n                attention_stage",
     "attention_stage"},
    {"long heads: barrier after staging missing", "base, g);\n                k_barrier();",
     "base, g);"},
    {"scale left out", "p->scale * scores", "scores"},
    {"softcap left out", "x = p->softcap * k_tanh(k_div(x, p->softcap));", "x = x;"},
    {"keys after the query", "first <= position && position <= last;\n        float x",
     "first <= position;\n        float x"},
    {"maximum over all keys", "seen ? attention_larger(x, ATTENTION_LOWEST) : ATTENTION_LOWEST",
     "attention_larger(x, ATTENTION_LOWEST)"},
    {"sum over all keys", "k_simd_sum(seen ? e : 0.0f)", "k_simd_sum(e)"},
    {"values of all keys", "seen ? e : ATTENTION_UNSEEN", "seen ? e : 0.0f"},
    {"sums of the latest chunk", "attention_take<R>(s, r, ROW_SPAN_M, ROW_SPAN_ANY",
     "s.ints[ROW_SPAN_ANY * R + r] = 0, attention_take<R>(s, r, ROW_SPAN_M, ROW_SPAN_ANY"},
    {"span is not begun anew",
     "s.floats[ROW_SPAN_L * R + r]);\n            s.ints[ROW_SPAN_ANY * R + r] = 0;",
     "s.floats[ROW_SPAN_L * R + r]);"},
    {"older weight 1", "wa = k_exp(old_m - top), wb", "wa = 1.0f, wb"},
    {"barrier after the slots missing", "k_barrier(); /* slots; also staged queries */", ""},
    {"barrier after the scores missing", "k_barrier(); /* scores */", ""},
    {"barrier after the weights missing", "k_barrier(); /* weights */", ""},
    {"barrier before the next tile missing", "k_barrier(); /* before the next tile's rows */", ""},
    {"barrier before the next unit missing", "k_barrier(); /* before the next unit's states */",
     ""},
    {"barrier before the next batch missing", "k_barrier(); /* before the next batch */", ""},
    {"barrier after the gathering missing", "first, g);\n            k_barrier();", "first, g);"},
    {"merge: barrier after the weights missing", "base, n, (int)g.tid);\n            k_barrier();",
     "base, n, (int)g.tid);"},
    {"second element of a pair", "x.both);\n}\n\n/* Elements i and i + 1",
     "x.both << 16);\n}\n\n/* Elements i and i + 1"},
    {"values of the key before", "o.v, slot * p->v_slot", "o.v, (slot ^ 1) * p->v_slot"},
    {"chunks folded into the total alone",
     "attention_fold<R>(s, ROW_CHUNK_A, ROW_CHUNK_HOW, y.span,",
     "attention_fold<R>(s, ROW_CHUNK_A, ROW_CHUNK_HOW, y.total,"},
    {"another tree: spans end one chunk later", "(c + 1) % ATTENTION_SPAN == 0, element",
     "c % ATTENTION_SPAN == 0, element"},
    {"unfinished rows are written",
     "if (s.ints[ROW_LAST * R + r] < 0 || s.ints[ROW_OK * R + r] == 0)",
     "if (s.ints[ROW_LAST * R + r] < 0)"},
    {"split: padding is written",
     "if (position < 0)\n            continue;\n        const "
     "attention_range",
     "const attention_range"},
    {"split: records of one head", "attention_record(a, at.token, at.head + r, i)",
     "attention_record(a, at.token, at.head, i)"},
    {"split: unit's first chunk", "c = begin < chunks.first ? chunks.first : begin;", "c = begin;"},
    {"merge: spans end one chunk later", "(u.first + i + 1) % ATTENTION_SPAN == 0",
     "(u.first + i) % ATTENTION_SPAN == 0"},
    {"merge: carry of the span lost", "float span = s.carry[0],", "float span = s.carry[1],"},
    {"merge: carry of the total lost", "total = s.carry[1];", "total = ATTENTION_LOWEST;"},
    {"merge: rows with bad entries written", "if (active && y.ok != 0.0f)", "if (active)"},
    {"merge: l of the span", "k_div(y.total, y.total_l)", "k_div(y.total, y.span_l)"},
};

/* Each runs the operator's tests on checked text: the long tier has all of them. */
enum { ALL = sizeof mutants / sizeof *mutants, QUICK = 7 };

TEST(mutants_of_attention)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_attention,
                                     .list = mutants,
                                     .count = test_full() ? ALL : QUICK,
                                     .tests = "attention_",
                                     .schedules = ATTENTION_SCHEDULE_SPLIT});
}

static const emu_mutant decode_mutants[] = {
    {"barrier before the keys missing", "k_barrier(); /* slots and queries */", ""},
    {"barrier after the scores missing", "k_barrier(); /* scores */", ""},
    {"barrier after the weights missing", "k_barrier(); /* weights */\n    decode", "decode"},
    {"merge: barrier after the weights missing", "k_barrier(); /* weights */\n        }", "}"},
    {"merge: barrier after the spans missing", "k_barrier(); /* spans */", ""},
    {"heads of the block before", "y.head = key_head * shared + block;",
     "y.head = key_head * shared;"},
    {"one chunk too few", "chunk > position / ATTENTION_KEYS",
     "chunk >= position / ATTENTION_KEYS"},
    {"keys after the query", "|| at > position)", ")"},
    {"slots of a ring", "(uint)at % (uint)p->slots", "(uint)at"},
    {"row of the table", "sequence * p->table_columns + at", "at"},
    {"bad entries are not noted", "k_atomic_or(o.fault, (uint)ATTENTION_FAULT_ENTRY);", ""},
    {"lanes summed otherwise", "sum[r] += k_xor(sum[r], 2u);\n        sum[r] += k_xor(sum[r], 1u);",
     "sum[r] += k_xor(sum[r], 1u);\n        sum[r] += k_xor(sum[r], 2u);"},
    {"values of all keys", "seen ? e : ATTENTION_UNSEEN", "seen ? e : 0.0f"},
    {"spans from the query's first chunk on", "chunk % ATTENTION_SPAN, count", "0, count"},
    {"older weight 1", "k_uint4(k_bits(k_exp(before - m)),", "k_uint4(k_bits(1.0f),"},
    {"maximum of the span's first record", "if (i == decode_end(u, span) - 1)", "if (i == first)"},
    {"rows with bad entries written", "if (y.ok != 0.0f)", ""},
};

TEST(mutants_of_decode)
{
    emu_check_mutants(&(emu_mutants){
        .text = mlxn_kernel_text_attention_decode,
        .list = decode_mutants,
        .count = test_full() ? (int)(sizeof decode_mutants / sizeof *decode_mutants) : 3,
        .tests = "attention_",
        .schedules = ATTENTION_SCHEDULE_SPLIT});
}
