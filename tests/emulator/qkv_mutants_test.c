/* qkv_mutants_test.c - broken twins of qkv_prepare.kernel. */
#include "kernels/text.h"
#include "mutants.h"
#include "ops/rope/qkv_plan.h"
#include "test.h"

static const emu_mutant mutants[] = {
    {"rows: barrier between tables and their use missing",
     "k_barrier();\n        const k_floats<16> cosine", "const k_floats<16> cosine"},
    {"rows: barrier before the next token's tables missing",
     "k_barrier(); /* before the next token's */", ""},
    {"lanes: simd barrier before writing in place missing",
     "k_simd_barrier(); /* in place: all lanes have read */\n    for", "for"},
    {"rows: simd barrier before writing in place missing",
     "k_simd_barrier(); /* in place: all lanes have read */\n    if", "if"},
    {"k takes the weights of q", "{k_input, k_output, k_weight, k_cache}",
     "{k_input, k_output, q_weight, k_cache}"},
    {"the cache of v goes to k", "{v_input, v_output, v_weight, v_cache}",
     "{v_input, v_output, v_weight, k_cache}"},
    {"eps outside the root", "k_div(1.0f, k_sqrt(k_div(sum, (float)QKV_DIM(a)) + a->eps))",
     "k_div(1.0f, k_sqrt(k_div(sum, (float)QKV_DIM(a))) + a->eps)"},
    {"sum in place of mean", "k_sqrt(k_div(sum, (float)QKV_DIM(a)) + a->eps)",
     "k_sqrt(sum + a->eps)"},
    {"rotation the other way", "qkv_put<D>(h, low, k_fma(x, turn.cosine, -(y * turn.sine)));",
     "qkv_put<D>(h, low, k_fma(x, turn.cosine, y * turn.sine));"},
    {"pairs (i, i + rotary pairs)", "high = split ? i + h.offset : 2 * i + 1;",
     "high = split ? i + pairs : 2 * i + 1;"},
    {"pairs of neighbours as halves", "low = split ? i : 2 * i,", "low = i,"},
    {"weight without bias", "y.v[j] *= w.v[j] + h.bias;", "y.v[j] *= w.v[j];"},
    {"weight of the norm left out", "v *= qkv_weight(h, i);", ""},
    {"weight before the norm, in the sum",
     "const float v = qkv_load<D>(h.at.input, i);\n            sum",
     "const float v = qkv_normed<D>(h, i);\n            sum"},
    {"next slot", "(t.slot * part->cache_slot", "((t.slot + 1) * part->cache_slot"},
    {"slot of the token's number", "y.slot = qkv_integer(a->slot_dtype, o.slots, t);",
     "y.slot = t;"},
    {"table row off by one", "o.sines[t.at * a->sin_stride + i]",
     "o.sines[t.at * a->sin_stride + i + 1]"},
    {"position of the next token", "qkv_integer(a->position_dtype, o.positions, t);",
     "qkv_integer(a->position_dtype, o.positions, t) + 1;"},
    {"low part of the frequency dropped", "f.lo = o.freqs[2 * i + 1];", "f.lo = 0.0f;"},
    {"attention factor left out", "y.sine *= a->attention_factor;", ""},
    {"last element not passed through", "qkv_pass<D>(h, 2 * pairs, dim, lane);",
     "qkv_pass<D>(h, 2 * pairs, dim - 1, lane);"},
    {"one element too many", "qkv_pass<D>(h, h.offset + pairs, dim, lane);",
     "qkv_pass<D>(h, h.offset + pairs, dim + 1, lane);"},
    {"between the halves nothing passed", "qkv_rows_pass<D, V>(h, pairs, h.offset, lane);", ""},
    {"another tree: rows exchange nothing", "w.y = k_xor(w.y, 4u);", ""},
    {"another tree: lanes ascend otherwise", "first = k_fma(x1, x1, k_fma(x0, x0, first));",
     "first = k_fma(x0, x0, k_fma(x1, x1, first));"},
    {"half a simdgroup leaves before the shuffles", "const float sum = qkv_rows_sum(D()",
     "if (!active)\n        return;\n    const float sum = qkv_rows_sum(D()"},
    {"negative slots not skipped", "&& t.slot >= 0;", ";"},
    {"slots past the cache written", "y.slot >= a->part[k].slots)", "y.slot > a->part[k].slots)"},
    {"rounding left out in match_unfused", "return h.rounded ? k_unpack(D(), k_pack(D(), v)) : v;",
     "return v;"},
};

/* groups work on several tokens and several heads each */
TEST(mutants_of_qkv_prepare)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_qkv_prepare,
                                     .list = mutants,
                                     .count = sizeof mutants / sizeof *mutants,
                                     .tests = "qkv_prepare_",
                                     .schedules = QKV_SCHEDULE_ROWS,
                                     .groups = 2});
}
