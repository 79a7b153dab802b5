/* elementwise_mutants_test.c - broken twins of elementwise.kernel, softmax.kernel and norm.kernel.
 */
#include "kernels/text.h"
#include "mutants.h"
#include "test.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const emu_mutant elementwise[] = {
    {"gelu without the cube", "k_fma(x * x, -0.0713548162726f, -1.59576912160573f)",
     "-1.59576912160573f"},
    {"gelu by the sigmoid's other side", "k_div(x, 1.0f + k_exp(minus_2u))",
     "k_div(x, 1.0f + k_exp(-minus_2u))"},
    {"add takes a twice", "return a + b;", "return a + a;"},
    {"mul adds", "return a * b;", "return a + b;"},
    {"softcap without the division", "k_tanh(k_div(a, scalar))", "k_tanh(a)"},
    {"softcap by the inverse", "k_div(a, scalar)", "(a * k_div(1.0f, scalar))"},
    {"b has the rows of a", "row * p->stride[ELEMENTWISE_B] + i",
     "row * p->stride[ELEMENTWISE_A] + i + 1"},
    {"rows lie dense", "row * p->stride[ELEMENTWISE_OUTPUT] + i", "row * p->dim + i"},
    {"last element missing", "i < p->dim; i += step", "i < p->dim - 1; i += step"},
    {"one element too many", "i < p->dim; i += step", "i < p->dim + 1; i += step"},
    {"groups share their rows", "int64_t row = group.y;", "int64_t row = 0;"},
    {"first element of a group of threads", "(int64_t)group.x * threads + tid) * V",
     "(int64_t)group.x + tid) * V"},
    {"half of a vector", "for (int j = 0; j < V; j++)\n                x.v[j]",
     "for (int j = 0; j < (V + 1) / 2; j++)\n                x.v[j]"},
};

static const emu_mutant softmax[] = {
    {"maximum left out", "const float max = softmax_max(&p, input, in, part, g);",
     "const float max = 0.0f;"},
    {"maximum of a simdgroup", "for (uint i = 0u; i < g.threads / 32u; i++)",
     "for (uint i = 0u; i < 1u; i++)"},
    {"maximum of half a simdgroup", "for (uint d = 16u; d != 0u;", "for (uint d = 8u; d != 0u;"},
    {"barrier after the maxima missing", "part[g.simd] = max;\n    k_barrier();",
     "part[g.simd] = max;"},
    {"barrier before the tile missing", "k_barrier(); /* the tile has been read */", ""},
    {"barrier after the tile missing", "- max);\n        k_barrier();", "- max);"},
    {"sum read too early", "before the barrier */\n    k_barrier();", "*/"},
    {"all simdgroups' order", "g.simd == 0u && i < n; i += 32", "g.simd == 0u && i < n; i += 16"},
    {"tile short", "left < SOFTMAX_TILE ? left : SOFTMAX_TILE", "left < 64 ? left : 64"},
    {"sum not divided by", "k_div(k_exp(softmax_load(&p, input, in + i) - max), sum)",
     "k_exp(softmax_load(&p, input, in + i) - max)"},
    {"row of the input for the output", "y, output, out + i", "y, output, in + i"},
};

static const emu_mutant norm[] = {
    {"eps outside the root", "k_sqrt(mean + a->eps)", "(k_sqrt(mean) + a->eps)"},
    {"sum in place of mean", "k_div(k_simd_sum(lane_sum), (float)a->dim)", "k_simd_sum(lane_sum)"},
    {"weight without bias", "w.v[j] += a->weight_bias;", ""},
    {"held: weight of the first norm for the second", "norm_scaled(y[n], r2, w.second[n])",
     "norm_scaled(y[n], r2, w.first[n])"},
    {"held: second norm of the first's r", "norm_scaled(y[n], r2, w.second[n])",
     "norm_scaled(y[n], r, w.second[n])"},
    {"held: residual not added", "y[n] = norm_plus(y[n], norm_scaled(x[n], r, w.first[n]));",
     "y[n] = norm_scaled(x[n], r, w.first[n]);"},
    {"held: weights read before a dispatch has written them",
     "if (a->settled == 0)\n        k_wait();\n    const norm_weights w = norm_held_weights(a, o, "
     "g);\n"
     "    if (a->settled != 0)\n        k_wait();",
     "const norm_weights w = norm_held_weights(a, o, g);\n    k_wait();"},
    {"held: sum not normed", "x[n] = norm_plus(y[n], x[n]);", ""},
    {"held: barrier after the values missing",
     "}\n    k_barrier();\n    const float r = norm_scale", "}\n    const float r = norm_scale"},
    {"held: barrier before the second values missing",
     "k_barrier();\n        for (int n = 0; n < NORM_ROW_HELD; n++) {\n            const",
     "for (int n = 0; n < NORM_ROW_HELD; n++) {\n            const"},
    {"held: barrier after the second values missing",
     "}\n        k_barrier();\n        r2 =", "}\n        r2 ="},
    {"held: a vector a thread",
     "for (int n = 0; n < NORM_ROW_HELD; n++) {\n        const int64_t i "
     "= (g.tid + (int64_t)n * g.threads) * 4;\n        if (i >= a->dim)\n            break;\n"
     "        x[n]",
     "for (int n = 0; n < 1; n++) {\n        const int64_t i "
     "= (g.tid + (int64_t)n * g.threads) * 4;\n        if (i >= a->dim)\n            break;\n"
     "        x[n]"},
    {"barrier before the next row's tile missing", "k_barrier(); /* before the next row's tile */",
     ""},
    {"tiles: barrier before a tile missing", "k_barrier(); /* the tile has been read */", ""},
    {"tiles: barrier after a tile missing",
     "k_barrier();\n        sum = k_add_squares(tile, (int)n", "sum = k_add_squares(tile, (int)n"},
    {"tiles: sum starts anew", "sum = k_add_squares(tile, (int)n, g.lane, sum);",
     "sum = k_add_squares(tile, (int)n, g.lane, 0.0f);"},
    {"tiles: second norm of the input", "g, NORM_VALUE_ADDED, r, row)",
     "g, NORM_VALUE_FIRST, r, row)"},
    {"another tree", "a = x[i], b = x[i + 32],", "a = x[i + 32], b = x[i],"},
    {"output over the second", "k_store(D(), z, o.second, row * a->stride[NORM_ROW_SECOND] + i)",
     "k_store(D(), z, o.output, row * a->stride[NORM_ROW_SECOND] + i)"},
};

TEST(mutants_of_elementwise)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_elementwise,
                                     .list = elementwise,
                                     .count = COUNT(elementwise),
                                     .tests = "elementwise_",
                                     .groups = {2, 2}});
}

TEST(mutants_of_softmax)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_softmax,
                                     .list = softmax,
                                     .count = COUNT(softmax),
                                     .tests = "elementwise_softmax",
                                     .groups = {1, 1}});
}

TEST(mutants_of_norm)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_norm,
                                     .list = norm,
                                     .count = COUNT(norm),
                                     .tests = "norm_",
                                     .groups = {1, 1}});
}
