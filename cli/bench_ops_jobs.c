/* bench_ops_jobs.c - see bench_ops.h: a row an operator, with the operands that a decode step or a
 * prompt gives it. */
#include "bench_ops.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- operands, which live until the job is closed ---- */

#define SHAPE(...)                                                         \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
    {                                                                      \
        __VA_ARGS__                                                        \
    }

static mlxn_status keep(job *j, mlxn_buffer *buffer)
{
    if (j->n_owned < JOB_OWNED_MAX) {
        j->owned[j->n_owned++] = buffer;
        return MLXN_OK;
    }
    mlxn_buffer_release(buffer);
    return mlxn_fail(MLXN_ERR_STATE, "bench ops: too many buffers for %s", j->name);
}

static mlxn_status own(job *j, mlxn_dtype dtype, int rank, const int64_t *shape, mlxn_buffer **out)
{
    MLXN_TRY(mlxn_buffer_create(j->model->device, dtype, rank, shape, out));
    return keep(j, *out);
}

mlxn_status job_random(mlxn_device *device, int64_t rows, int64_t columns, mlxn_buffer **out)
{
    static uint64_t random = 1;
    const int64_t n = rows * columns, shape[] = {rows, columns};
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench ops: no memory for %" PRId64 " values", n);
    for (int64_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(random >> 40) * (1.0f / 8388608.0f) - 1.0f;
    }
    mlxn_status status = mlxn_buffer_create(device, MLXN_F32, 2, shape, out);
    if (status == MLXN_OK)
        status = mlxn_buffer_write(*out, 0, values, (size_t)n * sizeof *values);
    free(values);
    return status;
}

static mlxn_status own_random(job *j, int64_t rows, int64_t columns, mlxn_buffer **out)
{
    MLXN_TRY(job_random(j->model->device, rows, columns, out));
    return keep(j, *out);
}

/* i32 [n]: first, first + 1, ... */
static mlxn_status own_counting(job *j, int64_t n, int64_t first, mlxn_buffer **out)
{
    int32_t *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench ops: no memory for %" PRId64 " values", n);
    for (int64_t i = 0; i < n; i++)
        values[i] = (int32_t)(first + i);
    mlxn_status status = own(j, MLXN_I32, SHAPE(n), out);
    if (status == MLXN_OK)
        status = mlxn_buffer_write(*out, 0, values, (size_t)n * sizeof *values);
    free(values);
    return status;
}

/* ---- norms, rotation, attention ---- */

/* A record function of an operator whose dispatches are all the same. */
#define RECORD(field, call)                                           \
    static mlxn_status record_##field(mlxn_encoder *e, job *j, int i) \
    {                                                                 \
        (void)i;                                                      \
        return call(e, &j->args.field);                               \
    }

#define NAME_SHAPE(j, ...) snprintf((j)->shape, sizeof(j)->shape, __VA_ARGS__)

static void name_rows(job *j, int64_t columns)
{
    NAME_SHAPE(j, "[%" PRId64 ", %" PRId64 "]", j->model->rows, columns);
}

RECORD(norm, mlxn_rms_norm)
static mlxn_status open_norm(job *j)
{
    const job_model *m = j->model;
    mlxn_rms_norm_args *a = &j->args.norm;
    *a = (mlxn_rms_norm_args){.size = sizeof *a, .eps = 1e-6f};
    MLXN_TRY(own_random(j, m->rows, m->embedding, &a->input));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->embedding), &a->output));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->embedding), &a->weight));
    name_rows(j, m->embedding);
    j->bytes = (uint64_t)(4 * m->embedding * (2 * m->rows + 1));
    return MLXN_OK;
}

RECORD(norm_add, mlxn_norm_add)
static mlxn_status open_norm_add(job *j)
{
    const job_model *m = j->model;
    mlxn_norm_add_args *a = &j->args.norm_add;
    *a = (mlxn_norm_add_args){.size = sizeof *a, .eps = 1e-6f};
    MLXN_TRY(own_random(j, m->rows, m->embedding, &a->input));
    MLXN_TRY(own_random(j, m->rows, m->embedding, &a->residual));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->embedding), &a->output));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->embedding), &a->output_norm));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->embedding), &a->weight));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->embedding), &a->weight2));
    name_rows(j, m->embedding);
    j->bytes = (uint64_t)(4 * m->embedding * (4 * m->rows + 2));
    return MLXN_OK;
}

RECORD(qkv, mlxn_qkv_prepare)
static mlxn_status open_qkv(job *j)
{
    const job_model *m = j->model;
    mlxn_qkv_prepare_args *a = &j->args.qkv;
    *a = (mlxn_qkv_prepare_args){.size = sizeof *a,
                                 .q = {.norm = MLXN_NORM_WEIGHTED, .rope = MLXN_ROPE_NEOX},
                                 .k = {.norm = MLXN_NORM_WEIGHTED, .rope = MLXN_ROPE_NEOX},
                                 .v = {.norm = MLXN_NORM_NONE, .rope = MLXN_ROPE_NONE},
                                 .rotary_pairs = m->head_dim / 2,
                                 .attention_factor = 1,
                                 .eps = 1e-6f};
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->heads, m->head_dim), &a->q.input));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->heads, m->head_dim), &a->q.output));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->kv_heads, m->head_dim), &a->k.input));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->kv_heads, m->head_dim), &a->v.input));
    MLXN_TRY(own(j, MLXN_F16, SHAPE(m->keys, m->kv_heads, m->head_dim), &a->k.cache));
    MLXN_TRY(own(j, MLXN_F16, SHAPE(m->keys, m->kv_heads, m->head_dim), &a->v.cache));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->head_dim), &a->q.weight));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->head_dim), &a->k.weight));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->head_dim / 2, 2), &a->freqs));
    MLXN_TRY(mlxn_rope_freqs(m->device,
                             MLXN_DESC(mlxn_rope_freqs_args, .output = a->freqs,
                                       .exponent_dim = m->head_dim, .theta = 1e6, .scale = 1)));
    MLXN_TRY(own_counting(j, m->rows, m->keys - m->rows, &a->positions));
    a->slots = a->positions;
    NAME_SHAPE(j, "[%" PRId64 ", %" PRId64 "+2x%" PRId64 ", %" PRId64 "]", m->rows, m->heads,
               m->kv_heads, m->head_dim);
    j->bytes = (uint64_t)(m->rows * m->head_dim * (8 * m->heads + 12 * m->kv_heads));
    return MLXN_OK;
}

RECORD(attention, mlxn_attention)
static mlxn_status open_attention(job *j)
{
    const job_model *m = j->model;
    mlxn_attention_args *a = &j->args.attention;
    *a = (mlxn_attention_args){.size = sizeof *a,
                               .slot_map = MLXN_SLOTS_LINEAR,
                               .scale = 0.0625f,
                               .max_keys = m->keys,
                               .precision = m->mode == MLXN_MATMUL_FAST ? MLXN_ATTENTION_FAST
                                                                        : MLXN_ATTENTION_EXACT};
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->heads, m->head_dim), &a->q));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->heads, m->head_dim), &a->output));
    MLXN_TRY(own(j, MLXN_F16, SHAPE(m->keys, m->kv_heads, m->head_dim), &a->k));
    MLXN_TRY(own(j, MLXN_F16, SHAPE(m->keys, m->kv_heads, m->head_dim), &a->v));
    MLXN_TRY(own_counting(j, m->rows, m->keys - m->rows, &a->positions));
    NAME_SHAPE(j, "[%" PRId64 ", %" PRId64 ", %" PRId64 "] x %" PRId64, m->rows, m->heads,
               m->head_dim, m->keys);
    j->bytes = (uint64_t)(m->head_dim * (8 * m->rows * m->heads + 4 * m->keys * m->kv_heads));
    j->flops = 4.0 * (double)(m->heads * m->head_dim) * (double)m->rows *
               ((double)m->keys - ((double)m->rows - 1) / 2);
    j->dtype = "f16";
    return MLXN_OK;
}

RECORD(gelu, mlxn_gelu_mul)
static mlxn_status open_gelu(job *j)
{
    const job_model *m = j->model;
    mlxn_gelu_mul_args *a = &j->args.gelu;
    a->size = sizeof *a;
    MLXN_TRY(own_random(j, m->rows, m->feed_forward, &a->gate));
    MLXN_TRY(own_random(j, m->rows, m->feed_forward, &a->up));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->feed_forward), &a->output));
    name_rows(j, m->feed_forward);
    j->bytes = (uint64_t)(12 * m->rows * m->feed_forward);
    return MLXN_OK;
}

/* ---- choosing a token ---- */

RECORD(argmax, mlxn_argmax)
static mlxn_status open_argmax(job *j)
{
    mlxn_argmax_args *a = &j->args.argmax;
    a->size = sizeof *a;
    MLXN_TRY(own_random(j, 1, j->model->vocab, &a->logits));
    MLXN_TRY(own(j, MLXN_I32, SHAPE(1), &a->ids));
    NAME_SHAPE(j, "[%" PRId64 "]", j->model->vocab);
    j->bytes = (uint64_t)(4 * j->model->vocab);
    return MLXN_OK;
}

RECORD(top_k, mlxn_top_k)
static mlxn_status open_top_k(job *j)
{
    mlxn_top_k_args *a = &j->args.top_k;
    a->size = sizeof *a;
    MLXN_TRY(own_random(j, 1, j->model->vocab, &a->logits));
    MLXN_TRY(own(j, MLXN_I32, SHAPE(1, 40), &a->ids));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(1, 40), &a->values));
    NAME_SHAPE(j, "[%" PRId64 "], k 40", j->model->vocab);
    j->bytes = (uint64_t)(4 * j->model->vocab);
    return MLXN_OK;
}

RECORD(sample, mlxn_sample)
static mlxn_status open_sample(job *j)
{
    const int64_t vocab = j->model->vocab;
    mlxn_sample_args *a = &j->args.sample;
    mlxn_buffer *row;
    *a = (mlxn_sample_args){.size = sizeof *a,
                            .seed = 1,
                            .top_k = 40,
                            .temperature = 0.8f,
                            .top_p = 0.95f,
                            .min_p = 0.05f};
    MLXN_TRY(own_random(j, 1, vocab, &row));
    MLXN_TRY(mlxn_buffer_view(row, MLXN_F32, 1, &vocab, NULL, 0, &a->logits));
    MLXN_TRY(keep(j, a->logits));
    MLXN_TRY(own(j, MLXN_I32, SHAPE(1), &a->token));
    MLXN_TRY(own(j, MLXN_I32, SHAPE(1), &a->counter));
    NAME_SHAPE(j, "[%" PRId64 "], k 40", vocab);
    j->bytes = (uint64_t)(4 * vocab);
    return MLXN_OK;
}

/* ---- weights ---- */

static mlxn_status load_weight(const job_model *m, const char *name, mlxn_gguf_tensor *t,
                               mlxn_buffer **out)
{
    mlxn_buffer *plain;
    const int64_t index = mlxn_gguf_find_tensor(m->gguf, name);
    if (index < 0)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: tensor %s is missing", m->path, name);
    MLXN_TRY(mlxn_gguf_get_tensor(m->gguf, index, t));
    if (t->dtype == MLXN_DTYPE_NONE)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                         "%s: tensor %s: its type %" PRIu32 " is not supported", m->path, name,
                         t->type);
    MLXN_TRY(
        mlxn_buffer_map_file(m->device, m->path, t->offset, t->dtype, t->rank, t->shape, &plain));
    mlxn_status status =
        mlxn_weight_prepare(plain, MLXN_WEIGHT_MATMUL | MLXN_WEIGHT_DROP_SOURCE, out);
    mlxn_buffer_release(plain);
    return status;
}

/* The layers' weights of a kind into weights[which].  They may differ in their dtype: those of the
 * first one's count. */
static mlxn_status load_layers(job *j, const char *kind, int which, mlxn_gguf_tensor *first)
{
    mlxn_gguf_tensor t = {.size = sizeof t};
    int taken = 0;
    for (int i = 0; i < (int)j->model->layers; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, kind);
        MLXN_TRY(load_weight(j->model, name, &t, &j->weights[which][taken]));
        if (!i)
            *first = t;
        if (t.dtype == first->dtype) {
            taken++;
            continue;
        }
        mlxn_buffer_release(j->weights[which][taken]);
        j->weights[which][taken] = NULL;
    }
    j->count = which && j->count < taken ? j->count : taken;
    return MLXN_OK;
}

static void count_product(job *j, const mlxn_gguf_tensor *t, int64_t rows, int products)
{
    NAME_SHAPE(j, "%" PRId64 " x %s[%" PRId64 ", %" PRId64 "]", rows, products > 1 ? "2x" : "",
               t->shape[0], t->shape[1]);
    j->dtype = mlxn_dtype_name(t->dtype);
    j->bytes = (uint64_t)products * t->bytes + (uint64_t)(4 * rows * (t->shape[0] + t->shape[1]));
    j->flops = 2.0 * products * (double)rows * (double)t->shape[0] * (double)t->shape[1];
}

static mlxn_status record_matmul(mlxn_encoder *e, job *j, int i)
{
    j->args.matmul.weight = j->weights[0][i];
    return mlxn_matmul(e, &j->args.matmul);
}

static mlxn_status open_product(job *j, const mlxn_gguf_tensor *t, int64_t rows)
{
    mlxn_matmul_args *a = &j->args.matmul;
    *a = (mlxn_matmul_args){.size = sizeof *a, .mode = j->model->mode};
    MLXN_TRY(own_random(j, rows, t->shape[1], &a->input));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(rows, t->shape[0]), &a->output));
    count_product(j, t, rows, 1);
    return MLXN_OK;
}

/* "matmul KIND" */
static mlxn_status open_matmul(job *j)
{
    mlxn_gguf_tensor t = {.size = sizeof t};
    MLXN_TRY(load_layers(j, strchr(j->name, ' ') + 1, 0, &t));
    return open_product(j, &t, j->model->rows);
}

/* Logits are of the last token alone. */
static mlxn_status open_output(job *j)
{
    mlxn_gguf_tensor t = {.size = sizeof t};
    MLXN_TRY(load_weight(j->model, "token_embd.weight", &t, &j->weights[0][0]));
    j->count = 1;
    return open_product(j, &t, 1);
}

static mlxn_status record_gate(mlxn_encoder *e, job *j, int i)
{
    j->args.group.product[0].weight = j->weights[0][i];
    j->args.group.product[1].weight = j->weights[1][i];
    return mlxn_matmul_group(e, &j->args.group);
}

static mlxn_status open_gate(job *j)
{
    const job_model *m = j->model;
    mlxn_gguf_tensor t = {.size = sizeof t};
    mlxn_matmul_group_args *a = &j->args.group;
    *a = (mlxn_matmul_group_args){.size = sizeof *a, .count = 2, .gate = 1, .mode = m->mode};
    MLXN_TRY(load_layers(j, "ffn_gate", 0, &t));
    MLXN_TRY(load_layers(j, "ffn_up", 1, &t));
    MLXN_TRY(own_random(j, m->rows, t.shape[1], &a->input));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, t.shape[0]), &a->product[0].output));
    count_product(j, &t, m->rows, 2);
    return MLXN_OK;
}

RECORD(embedding, mlxn_embedding)
static mlxn_status open_embedding(job *j)
{
    const job_model *m = j->model;
    mlxn_embedding_args *a = &j->args.embedding;
    mlxn_gguf_tensor t = {.size = sizeof t};
    *a = (mlxn_embedding_args){.size = sizeof *a, .scale = 1};
    MLXN_TRY(load_weight(m, "token_embd.weight", &t, &j->weights[0][0]));
    a->table = j->weights[0][0];
    MLXN_TRY(own_counting(j, m->rows, 1000, &a->ids));
    MLXN_TRY(own(j, MLXN_F32, SHAPE(m->rows, m->embedding), &a->output));
    NAME_SHAPE(j, "%" PRId64 " of [%" PRId64 ", %" PRId64 "]", m->rows, t.shape[0], t.shape[1]);
    j->dtype = mlxn_dtype_name(t.dtype);
    j->bytes = (uint64_t)m->rows * (t.bytes / (uint64_t)t.shape[0] + 4 * (uint64_t)m->embedding);
    return MLXN_OK;
}

/* ---- all of them ---- */

static const struct {
    const char *name;
    mlxn_status (*open)(job *j);
    mlxn_status (*record)(mlxn_encoder *encoder, job *j, int i);
} jobs[] = {
    {"embedding", open_embedding, record_embedding},
    {"rms_norm", open_norm, record_norm},
    {"matmul attn_q", open_matmul, record_matmul},
    {"matmul attn_k", open_matmul, record_matmul},
    {"matmul attn_v", open_matmul, record_matmul},
    {"qkv_prepare", open_qkv, record_qkv},
    {"attention", open_attention, record_attention},
    {"matmul attn_output", open_matmul, record_matmul},
    {"norm_add", open_norm_add, record_norm_add},
    {"matmul ffn_gate", open_matmul, record_matmul},
    {"matmul ffn_up", open_matmul, record_matmul},
    {"gelu_mul", open_gelu, record_gelu},
    {"matmul_group gate+up", open_gate, record_gate},
    {"matmul ffn_down", open_matmul, record_matmul},
    {"matmul output", open_output, record_matmul},
    {"argmax", open_argmax, record_argmax},
    {"top_k", open_top_k, record_top_k},
    {"sample", open_sample, record_sample},
};
const int job_count = (int)(sizeof jobs / sizeof *jobs);

mlxn_status job_open(const job_model *model, int index, job *out)
{
    *out = (job){.model = model,
                 .name = jobs[index].name,
                 .record = jobs[index].record,
                 .dtype = "f32",
                 .count = (int)model->layers};
    return jobs[index].open(out);
}

void job_close(job *j)
{
    for (int i = 0; i < JOB_LAYERS_MAX; i++) {
        mlxn_buffer_release(j->weights[0][i]);
        mlxn_buffer_release(j->weights[1][i]);
    }
    while (j->n_owned)
        mlxn_buffer_release(j->owned[--j->n_owned]);
}
