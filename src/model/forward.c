/* forward.c - records a forward pass of Gemma 3 (Gemma 3 technical report, 2025).
 *
 *   h = sqrt(E) * embedding[id]
 *   a layer:  h += norm(attention(rope(norm(q)), rope(norm(k)), v) Wo),  q, k, v from norm(h)
 *             h += norm((gelu(g) * u) Wd),                              g, u from norm(h)
 *   logits = norm(h) W
 *
 * A layer is 8 dispatches: one for the products q, k, v, one qkv_prepare that norms, rotates and
 * fills the cache, attention, one product, one fused norm-add-norm, one for gelu(g) * u, one
 * product, one fused norm-add-norm whose second norm is the next layer's first. */
#include "model/gemma3.h"

/* Every buffer of the set, for loops over all of them. */
#define ACTIVATION_COUNT (sizeof(gemma3_activations) / sizeof(mlxn_buffer *))

static mlxn_buffer **as_array(gemma3_activations *a)
{
    return (mlxn_buffer **)a;
}

void mlxn_gemma3_activations_release(gemma3_activations *a)
{
    for (size_t i = 0; i < ACTIVATION_COUNT; i++)
        mlxn_buffer_release(as_array(a)[i]);
    *a = (gemma3_activations){0};
}

static mlxn_status create(const mlxn_model *m, mlxn_dtype dtype, int64_t rows, int64_t columns,
                          mlxn_buffer **out)
{
    const int64_t shape[] = {rows, columns};
    return mlxn_buffer_create(m->device, dtype, columns ? 2 : 1, shape, out);
}

/* The columns [start, start + heads * dim) of a matrix, as rows and as heads. */
static mlxn_status view_heads(mlxn_buffer *base, int64_t start, int64_t heads, int64_t dim,
                              mlxn_buffer **as_rows, mlxn_buffer **as_heads)
{
    const int64_t stride = mlxn_buffer_dim(base, 1);
    const int64_t shape[] = {mlxn_buffer_dim(base, 0), heads, dim}, strides[] = {stride, dim, 1};
    MLXN_TRY(mlxn_buffer_slice(base, 1, start, heads * dim, as_rows));
    return mlxn_buffer_view(base, MLXN_F32, 3, shape, strides, (size_t)start * sizeof(float),
                            as_heads);
}

static mlxn_status create_all(const mlxn_model *m, int64_t rows, gemma3_activations *a)
{
    const gemma3_config *c = &m->config;
    const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    MLXN_TRY(create(m, MLXN_I32, rows, 0, &a->ids));
    MLXN_TRY(create(m, MLXN_I32, rows, 0, &a->positions));
    MLXN_TRY(create(m, MLXN_I32, rows, 0, &a->slots_local));
    MLXN_TRY(create(m, MLXN_F32, rows, c->embedding, &a->hidden));
    MLXN_TRY(create(m, MLXN_F32, rows, c->embedding, &a->normed));
    MLXN_TRY(create(m, MLXN_F32, rows, c->embedding, &a->mixed));
    MLXN_TRY(create(m, MLXN_F32, rows, q + 2 * kv, &a->qkv));
    MLXN_TRY(view_heads(a->qkv, 0, c->heads, c->head_dim, &a->q_rows, &a->q));
    MLXN_TRY(view_heads(a->qkv, q, c->kv_heads, c->head_dim, &a->k_rows, &a->k));
    MLXN_TRY(view_heads(a->qkv, q + kv, c->kv_heads, c->head_dim, &a->v_rows, &a->v));
    MLXN_TRY(create(m, MLXN_F32, rows, q, &a->attended_rows));
    const int64_t heads[] = {rows, c->heads, c->head_dim};
    MLXN_TRY(mlxn_buffer_view(a->attended_rows, MLXN_F32, 3, heads, NULL, 0, &a->attended));
    return create(m, MLXN_F32, rows, c->feed_forward, &a->gated);
}

mlxn_status mlxn_gemma3_activations_create(const mlxn_model *model, int64_t rows,
                                           gemma3_activations *out)
{
    *out = (gemma3_activations){0};
    mlxn_status status = create_all(model, rows, out);
    if (status != MLXN_OK)
        mlxn_gemma3_activations_release(out);
    return status;
}

mlxn_status mlxn_gemma3_activations_slice(const gemma3_activations *a, int64_t start, int64_t count,
                                          gemma3_activations *out)
{
    gemma3_activations from = *a;
    *out = (gemma3_activations){0};
    for (size_t i = 0; i < ACTIVATION_COUNT; i++) {
        mlxn_status status =
            mlxn_buffer_slice(as_array(&from)[i], 0, start, count, &as_array(out)[i]);
        if (status != MLXN_OK) {
            mlxn_gemma3_activations_release(out);
            return status;
        }
    }
    return MLXN_OK;
}

static mlxn_status multiply(mlxn_encoder *encoder, const gemma3_pass *pass, mlxn_buffer *input,
                            mlxn_buffer *weight, mlxn_buffer *output)
{
    return mlxn_matmul(encoder, MLXN_DESC(mlxn_matmul_args, .input = input, .weight = weight,
                                          .output = output, .mode = pass->matmul));
}

/* q, k, v from the normed input; q normed and rotated in place, k and v into the cache. */
static mlxn_status record_qkv(mlxn_encoder *encoder, const gemma3_pass *pass, int64_t i,
                              const gemma3_activations *a)
{
    const mlxn_model *m = pass->model;
    const gemma3_layer *layer = &m->layers[i];
    const int global = mlxn_gemma3_is_global(&m->config, i);
    MLXN_TRY(mlxn_matmul_group(
        encoder,
        MLXN_DESC(mlxn_matmul_group_args, .input = a->normed,
                  .product = {{layer->q, a->q_rows}, {layer->k, a->k_rows}, {layer->v, a->v_rows}},
                  .count = 3, .mode = pass->matmul)));
    return m->prepare(
        encoder,
        MLXN_DESC(mlxn_qkv_prepare_args,
                  .q = {.input = a->q,
                        .output = a->q,
                        .weight = layer->q_norm,
                        .norm = MLXN_NORM_WEIGHTED,
                        .rope = MLXN_ROPE_NEOX},
                  .k = {.input = a->k,
                        .weight = layer->k_norm,
                        .cache = pass->caches[i].k,
                        .norm = MLXN_NORM_WEIGHTED,
                        .rope = MLXN_ROPE_NEOX},
                  .v = {.input = a->v,
                        .cache = pass->caches[i].v,
                        .norm = MLXN_NORM_NONE,
                        .rope = MLXN_ROPE_NONE},
                  .rotary_pairs = m->config.head_dim / 2, .positions = a->positions,
                  .freqs = global ? m->freqs_global : m->freqs_local, .attention_factor = 1,
                  .slots = global ? a->positions : a->slots_local, .eps = m->config.eps));
}

static mlxn_status record_attention(mlxn_encoder *encoder, const gemma3_pass *pass, int64_t i,
                                    const gemma3_activations *a)
{
    const gemma3_config *c = &pass->model->config;
    const int global = mlxn_gemma3_is_global(c, i);
    MLXN_TRY(mlxn_attention(
        encoder, MLXN_DESC(mlxn_attention_args, .q = a->q, .k = pass->caches[i].k,
                           .v = pass->caches[i].v, .output = a->attended, .positions = a->positions,
                           .slot_map = global ? MLXN_SLOTS_LINEAR : MLXN_SLOTS_RING,
                           .window = global ? 0 : c->window, .scale = c->attention_scale,
                           .max_keys = pass->context,
                           .precision = pass->matmul == MLXN_MATMUL_FAST ? MLXN_ATTENTION_FAST
                                                                         : MLXN_ATTENTION_EXACT)));
    return multiply(encoder, pass, a->attended_rows, pass->model->layers[i].attn_output, a->mixed);
}

/* hidden += norm(mixed) * weight; normed = norm(hidden) * next. */
static mlxn_status add_and_norm(mlxn_encoder *encoder, const gemma3_pass *pass,
                                const gemma3_activations *a, mlxn_buffer *weight, mlxn_buffer *next)
{
    return mlxn_norm_add(encoder,
                         MLXN_DESC(mlxn_norm_add_args, .input = a->mixed, .weight = weight,
                                   .residual = a->hidden, .output = a->hidden, .weight2 = next,
                                   .output_norm = a->normed, .eps = pass->model->config.eps));
}

static mlxn_status record_feed_forward(mlxn_encoder *encoder, const gemma3_pass *pass,
                                       const gemma3_layer *layer, const gemma3_activations *a)
{
    MLXN_TRY(mlxn_matmul_group(encoder,
                               MLXN_DESC(mlxn_matmul_group_args, .input = a->normed,
                                         .product = {{layer->gate, a->gated}, {layer->up, NULL}},
                                         .count = 2, .gate = 1, .mode = pass->matmul)));
    return multiply(encoder, pass, a->gated, layer->down, a->mixed);
}

mlxn_status mlxn_gemma3_record(mlxn_encoder *encoder, const gemma3_pass *pass,
                               const gemma3_activations *a, const gemma3_activations *tail)
{
    const mlxn_model *m = pass->model;
    const gemma3_config *c = &m->config;
    MLXN_TRY(
        mlxn_embedding(encoder, MLXN_DESC(mlxn_embedding_args, .table = m->embedding, .ids = a->ids,
                                          .output = a->hidden, .scale = c->embedding_scale)));
    MLXN_TRY(mlxn_rms_norm(encoder, MLXN_DESC(mlxn_rms_norm_args, .input = a->hidden,
                                              .weight = m->layers[0].attn_norm, .output = a->normed,
                                              .eps = c->eps)));
    for (int64_t i = 0; i < c->layers; i++) {
        const gemma3_layer *layer = &m->layers[i];
        const int last = i == c->layers - 1;
        MLXN_TRY(record_qkv(encoder, pass, i, a));
        if (last && !tail)
            return MLXN_OK;
        const gemma3_activations *rows = last ? tail : a;
        MLXN_TRY(record_attention(encoder, pass, i, rows));
        MLXN_TRY(add_and_norm(encoder, pass, rows, layer->post_attention_norm, layer->ffn_norm));
        MLXN_TRY(record_feed_forward(encoder, pass, layer, rows));
        MLXN_TRY(add_and_norm(encoder, pass, rows, layer->post_ffw_norm,
                              last ? m->output_norm : m->layers[i + 1].attn_norm));
    }
    return MLXN_OK;
}

mlxn_status mlxn_gemma3_record_logits(mlxn_encoder *encoder, const gemma3_pass *pass,
                                      mlxn_buffer *normed, mlxn_buffer *logits)
{
    const float cap = pass->model->config.final_softcap;
    MLXN_TRY(multiply(encoder, pass, normed, pass->model->output, logits));
    if (cap > 0)
        MLXN_TRY(mlxn_softcap(
            encoder, MLXN_DESC(mlxn_softcap_args, .input = logits, .output = logits, .cap = cap)));
    return MLXN_OK;
}
