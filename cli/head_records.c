/* head_records.c - what `mlxn bench head-norm-rope` times: a plain copy, the operator, the chain of
 * single operators that it replaces, and other engines' layouts. */
#include <string.h>
#include "head_bench.h"

enum { COPY_THREADS = 256 };

/* ---- a copy ---- */

/* Copies its share of operand 0 to operand 1; args: the bytes. */
static void copy_kernel(const mlxn_cpu_call *call)
{
    size_t bytes = *(const size_t *)call->args, part = bytes / call->n_threads / 64 * 64;
    size_t at = part * call->thread;
    size_t end = call->thread + 1 == call->n_threads ? bytes : at + part;
    memcpy((char *)call->ptr[1] + at, (const char *)call->ptr[0] + at, end - at);
}

static const char copy_text[] =
    "extern \"C\" __global__ void bench_copy(const uint4 *__restrict__ in, uint4 *__restrict__ "
    "out,\n"
    "                                      const __grid_constant__ unsigned long long bytes)\n"
    "{\n"
    "    const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;\n"
    "    unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;\n"
    "    for (; i < bytes / 16; i += step)\n"
    "        out[i] = in[i];\n"
    "}\n";

void head_copy_grid(head_bench *b, uint32_t each)
{
    const uint64_t vectors = b->shape.bytes / 2 / 16;
    const uint64_t groups = (vectors + COPY_THREADS * each - 1) / (COPY_THREADS * each);
    b->copy_groups = (uint32_t)(groups ? groups : 1);
}

mlxn_status head_record_copy(mlxn_encoder *encoder, void *context, int i)
{
    const head_bench *b = context;
    const size_t bytes = b->shape.bytes / 2;
    mlxn_buffer *in = b->input[i % b->buffers], *out = b->output[i % b->buffers];
    if (in == out) /* in place: the next one's */
        out = b->output[(i + 1) % b->buffers];
    mlxn_operand operands[] = {{in, MLXN_READ}, {out, MLXN_WRITE}};
    return mlxn_dispatch(encoder,
                         MLXN_DESC(mlxn_dispatch_args, .kernel = "bench_copy", .operands = operands,
                                   .n_operands = 2, .args = &bytes, .args_bytes = sizeof bytes,
                                   .groups = {b->copy_groups, 1, 1}, .threads = COPY_THREADS));
}

/* ---- the operator ---- */

/* The angles' operands in a descriptor: tables, or frequencies and positions. */
static void set_angles(const head_bench *b, mlxn_buffer **freqs, mlxn_buffer **positions,
                       mlxn_buffer **cosines, mlxn_buffer **sines)
{
    if (b->v->angles == HEAD_ANGLES_TABLES) {
        *cosines = b->cos;
        *sines = b->sin;
    } else {
        *freqs = b->freqs;
        *positions = b->positions;
    }
}

mlxn_status head_record_fused(mlxn_encoder *encoder, void *context, int i)
{
    const head_bench *b = context;
    const int k = i % b->buffers;
    mlxn_qkv_prepare_args a = {
        .size = sizeof a,
        .q = {b->in[k][0], b->out[k][0], b->weight, NULL, MLXN_NORM_WEIGHTED, MLXN_ROPE_NEOX},
        .rotary_pairs = b->shape.dim / 2,
        .attention_factor = 1,
        .eps = 1e-6f};
    if (b->shape.kv_heads) {
        a.k = a.q;
        a.k.input = b->in[k][1];
        a.k.output = b->out[k][1];
        a.v = (mlxn_qkv_part){b->in[k][2], b->out[k][2],         NULL,
                              NULL,        MLXN_NORM_WEIGHTLESS, MLXN_ROPE_NONE};
    }
    if (b->slots) {
        a.k.output = a.v.output = NULL;
        a.k.cache = b->cache[0];
        a.v.cache = b->cache[1];
        a.slots = b->slots;
    }
    set_angles(b, &a.freqs, &a.positions, &a.cos, &a.sin);
    return mlxn_qkv_prepare(encoder, &a);
}

/* ---- the chain ---- */

static mlxn_status record_rope(mlxn_encoder *encoder, const head_bench *b, mlxn_buffer *heads)
{
    mlxn_rope_args a = {.size = sizeof a,
                        .input = heads,
                        .output = heads,
                        .pairing = MLXN_ROPE_NEOX,
                        .rotary_pairs = b->shape.dim / 2,
                        .attention_factor = 1};
    set_angles(b, &a.freqs, &a.positions, &a.cos, &a.sin);
    return mlxn_rope(encoder, &a);
}

/* The norm alone: of packed heads, which rms_norm does not take. */
static mlxn_status record_norm(mlxn_encoder *encoder, const head_bench *b, int k, int part)
{
    mlxn_qkv_part q = {b->in[k][part], b->out[k][part],    b->weight,
                       NULL,           MLXN_NORM_WEIGHTED, MLXN_ROPE_NONE};
    if (!b->shape.kv_heads)
        return mlxn_rms_norm(encoder,
                             MLXN_DESC(mlxn_rms_norm_args, .input = q.input, .output = q.output,
                                       .weight = q.weight, .eps = 1e-6f));
    if (part == 2) {
        q.weight = NULL;
        q.norm = MLXN_NORM_WEIGHTLESS;
    }
    return mlxn_qkv_prepare(
        encoder, MLXN_DESC(mlxn_qkv_prepare_args, .q = q, .eps = 1e-6f, .attention_factor = 1));
}

mlxn_status head_record_chain(mlxn_encoder *encoder, void *context, int i)
{
    const head_bench *b = context;
    const int k = i % b->buffers, parts = b->shape.kv_heads ? 3 : 1;
    for (int p = 0; p < parts; p++)
        MLXN_TRY(record_norm(encoder, b, k, p));
    for (int p = 0; p < parts && p < 2; p++)
        MLXN_TRY(record_rope(encoder, b, b->out[k][p]));
    return MLXN_OK;
}

/* ---- other layouts ---- */

mlxn_status head_record_baseline(mlxn_encoder *encoder, void *context, int i)
{
    const head_baseline_context *c = context;
    const head_shape *s = &c->bench->shape;
    return head_baseline_record(encoder, c->which,
                                &(head_baseline){.heads = c->bench->input[i % c->bench->buffers],
                                                 .weight = c->bench->weight,
                                                 .table = c->bench->table,
                                                 .positions = c->bench->positions,
                                                 .tokens = s->tokens,
                                                 .heads_all = s->heads + 2 * s->kv_heads,
                                                 .heads_rotated = s->heads + s->kv_heads,
                                                 .dim = s->dim});
}

int head_has_baselines(const head_bench *b)
{
    return b->v->baselines && b->shape.dtype == MLXN_BF16 &&
           (b->shape.dim == 128 || b->shape.dim == 256);
}

mlxn_status head_kernels_register(const head_bench *b)
{
    MLXN_TRY(
        mlxn_kernel_register(b->device, MLXN_DESC(mlxn_kernel_desc, .name = "bench_copy",
                                                  .cpu = copy_kernel, .cuda_text = copy_text)));
    return b->v->baselines ? head_baselines_register(b->device) : MLXN_OK;
}
