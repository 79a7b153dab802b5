/* head_baselines.c - see head_baselines.h.  Written from the descriptions of the kernels of vLLM
 * (each lane dim / 32 neighbouring elements, the partner by a shuffle, a table of cosines and sines
 * in bf16) and SGLang (the same, angles by powf and fast sine and cosine for each element). */
#include "head_baselines.h"

enum { THREADS = 256 };

typedef struct baseline_args {
    int64_t tokens, heads_all, heads_rotated, dim;
} baseline_args;

#define SHARED_TEXT                                                                              \
    "struct baseline_args { long long tokens, heads_all, heads_rotated, dim; };\n"               \
    "__device__ float unpack(unsigned short v) { return __uint_as_float((unsigned)v << 16); }\n" \
    "__device__ unsigned short pack(float v)\n"                                                  \
    "{\n"                                                                                        \
    "    unsigned short y;\n"                                                                    \
    "    asm(\"cvt.rn.bf16.f32 %0, %1;\" : \"=h\"(y) : \"f\"(v));\n"                             \
    "    return y;\n"                                                                            \
    "}\n"                                                                                        \
    "template <int E> struct alignas(2 * E) elements { unsigned short v[E]; };\n"                \
    "template <int E, bool TABLE>\n"                                                             \
    "__device__ void head(unsigned short *heads, const unsigned short *weight,\n"                \
    "                     const unsigned short *table, const unsigned *positions,\n"             \
    "                     const baseline_args &a)\n"                                             \
    "{\n"                                                                                        \
    "    const long long warp = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;\n"      \
    "    const int lane = threadIdx.x % 32, dim = 32 * E, pair = lane % 16 * E;\n"               \
    "    const long long t = warp / a.heads_rotated, j = warp % a.heads_rotated;\n"              \
    "    if (t >= a.tokens)\n"                                                                   \
    "        return;\n"                                                                          \
    "    elements<E> *at = (elements<E> *)(heads + (t * a.heads_all + j) * dim) + lane;\n"       \
    "    const elements<E> x = *at, w = ((const elements<E> *)weight)[lane];\n"                  \
    "    elements<E> y, c, s;\n"                                                                 \
    "    float v[E], sum = 0;\n"                                                                 \
    "    for (int e = 0; e < E; e++) {\n"                                                        \
    "        v[e] = unpack(x.v[e]);\n"                                                           \
    "        sum += v[e] * v[e];\n"                                                              \
    "    }\n"                                                                                    \
    "    for (int d = 16; d; d /= 2)\n"                                                          \
    "        sum += __shfl_xor_sync(~0u, sum, d);\n"                                             \
    "    const float r = rsqrtf(sum / dim + 1e-6f);\n"                                           \
    "    const long long position = positions[t];\n"                                             \
    "    if (TABLE) {\n"                                                                         \
    "        c = *(const elements<E> *)(table + position * dim + pair);\n"                       \
    "        s = *(const elements<E> *)(table + position * dim + dim / 2 + pair);\n"             \
    "    }\n"                                                                                    \
    "    for (int e = 0; e < E; e++) {\n"                                                        \
    "        float cosine, sine;\n"                                                              \
    "        v[e] *= r * unpack(w.v[e]);\n"                                                      \
    "        const float partner = __shfl_xor_sync(~0u, v[e], 16);\n"                            \
    "        if (TABLE) {\n"                                                                     \
    "            cosine = unpack(c.v[e]);\n"                                                     \
    "            sine = unpack(s.v[e]);\n"                                                       \
    "        } else {\n"                                                                         \
    "            const float f = powf(1e4f, -2.0f * (float)(pair + e) / dim);\n"                 \
    "            __sincosf((float)position * f, &sine, &cosine);\n"                              \
    "        }\n"                                                                                \
    "        y.v[e] = pack(v[e] * cosine + (lane < 16 ? -partner : partner) * sine);\n"          \
    "    }\n"                                                                                    \
    "    *at = y;\n"                                                                             \
    "}\n"

#define KERNEL_TEXT(name, table)                                                            \
    SHARED_TEXT "extern \"C\" __global__ void " name                                        \
                "(unsigned short *heads, const unsigned short *weight,\n"                   \
                "                const unsigned short *table, const unsigned *positions,\n" \
                "                const __grid_constant__ baseline_args a)\n"                \
                "{\n"                                                                       \
                "    if (a.dim == 256)\n"                                                   \
                "        head<8, " table ">(heads, weight, table, positions, a);\n"         \
                "    else\n"                                                                \
                "        head<4, " table ">(heads, weight, table, positions, a);\n"         \
                "}\n"

static const char *const kernels[HEAD_BASELINES] = {"baseline_table", "baseline_computed"};
static const char *const texts[HEAD_BASELINES] = {KERNEL_TEXT("baseline_table", "true"),
                                                  KERNEL_TEXT("baseline_computed", "false")};

const char *const head_baseline_names[HEAD_BASELINES] = {"warp a head, bf16 table",
                                                         "warp a head, angles an element"};

mlxn_status head_baselines_register(mlxn_device *device)
{
    for (int i = 0; i < HEAD_BASELINES; i++)
        MLXN_TRY(mlxn_kernel_register(
            device, MLXN_DESC(mlxn_kernel_desc, .name = kernels[i], .cuda_text = texts[i])));
    return MLXN_OK;
}

mlxn_status head_baseline_record(mlxn_encoder *encoder, int which, const head_baseline *h)
{
    const baseline_args args = {h->tokens, h->heads_all, h->heads_rotated, h->dim};
    const int64_t groups = (h->tokens * h->heads_rotated * 32 + THREADS - 1) / THREADS;
    mlxn_operand operands[] = {{h->heads, MLXN_READ | MLXN_WRITE},
                               {h->weight, MLXN_READ},
                               {h->table, MLXN_READ},
                               {h->positions, MLXN_READ}};
    return mlxn_dispatch(
        encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = kernels[which], .operands = operands,
                           .n_operands = 4, .args = &args, .args_bytes = sizeof args,
                           .groups = {(uint32_t)groups, 1, 1}, .threads = THREADS));
}
