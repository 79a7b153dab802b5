/* model.c - the weights of a model: found in its file by name, checked, packed for the device.
 *
 * Tensors are mapped one by one (a device that cannot use host memory gets a copy, made in pieces)
 * and matrices packed with their file pages given back, so that memory holds little more than one
 * copy.  Norm weights stay where they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/gemma3.h"

typedef struct loader {
    mlxn_model *model;
    const mlxn_model_desc *desc;
    uint64_t done;
} loader;

static mlxn_status fail_tensor(const loader *l, mlxn_status status, const char *name,
                               const char *what)
{
    return mlxn_fail(status, "%s: tensor %s: %s", mlxn_gguf_path(l->model->gguf), name, what);
}

static void release_gguf(void *context)
{
    mlxn_gguf_release(context);
}

/* The tensor's data: the file mapped anew, so that its pages can be dropped, or the memory that
 * the GGUF was opened from. */
static mlxn_status map_tensor(const mlxn_model *m, const mlxn_gguf_tensor *t, mlxn_buffer **out)
{
    if (mlxn_gguf_is_file(m->gguf))
        return mlxn_buffer_map_file(m->device, mlxn_gguf_path(m->gguf), t->offset, t->dtype,
                                    t->rank, t->shape, out);
    /* wrap takes writable memory; nothing here writes to it */
    union {
        const void *read;
        void *write;
    } memory = {.read = (const char *)mlxn_gguf_data(m->gguf) + t->offset};
    mlxn_gguf_retain(m->gguf);
    mlxn_status status = mlxn_buffer_wrap(m->device, memory.write, (size_t)t->bytes, t->dtype,
                                          t->rank, t->shape, release_gguf, m->gguf, out);
    if (status != MLXN_OK)
        mlxn_gguf_release(m->gguf);
    return status;
}

/* The tensor as it is in the file; rows 0: a vector of `columns`. */
static mlxn_status find(loader *l, const char *name, int64_t rows, int64_t columns,
                        mlxn_gguf_tensor *t, mlxn_buffer **out)
{
    const mlxn_gguf *gguf = l->model->gguf;
    char text[128];
    int64_t index = mlxn_gguf_find_tensor(gguf, name);
    int rank = rows ? 2 : 1;
    if (index < 0)
        return fail_tensor(l, MLXN_ERR_FORMAT, name, "is missing");
    t->size = sizeof *t;
    MLXN_TRY(mlxn_gguf_get_tensor(gguf, index, t));
    if (t->dtype == MLXN_DTYPE_NONE) {
        snprintf(text, sizeof text, "its type %u is not supported", t->type);
        return fail_tensor(l, MLXN_ERR_UNSUPPORTED, name, text);
    }
    if (t->rank != rank || t->shape[rank - 1] != columns || (rows > 0 && t->shape[0] != rows)) {
        snprintf(text, sizeof text, "has shape [%lld, %lld] (rank %d), needs [%lld, %lld]",
                 (long long)t->shape[0], (long long)(t->rank > 1 ? t->shape[1] : 1), t->rank,
                 (long long)(rows ? rows : columns), (long long)(rows ? columns : 1));
        return fail_tensor(l, MLXN_ERR_FORMAT, name, text);
    }
    return map_tensor(l->model, t, out);
}

static mlxn_status advance(loader *l, const mlxn_gguf_tensor *t)
{
    l->done += t->bytes;
    if (l->desc->progress &&
        l->desc->progress(l->desc->progress_context, l->done, l->model->weight_bytes))
        return mlxn_fail(MLXN_ERR_CANCELLED, "loading was cancelled");
    return MLXN_OK;
}

static mlxn_status load_matrix(loader *l, const char *name, int64_t rows, int64_t columns,
                               mlxn_buffer **out)
{
    mlxn_gguf_tensor t;
    mlxn_buffer *view = NULL;
    MLXN_TRY(find(l, name, rows, columns, &t, &view));
    mlxn_status status =
        mlxn_weight_prepare(view, MLXN_WEIGHT_MATMUL | MLXN_WEIGHT_DROP_SOURCE, out);
    if (status != MLXN_OK)
        fail_tensor(l, status, name, mlxn_last_error());
    mlxn_buffer_release(view);
    return status == MLXN_OK ? advance(l, &t) : status;
}

static mlxn_status load_vector(loader *l, const char *name, int64_t columns, mlxn_buffer **out)
{
    mlxn_gguf_tensor t;
    MLXN_TRY(find(l, name, 0, columns, &t, out));
    if (t.dtype != MLXN_F32 && t.dtype != MLXN_F16 && t.dtype != MLXN_BF16)
        return fail_tensor(l, MLXN_ERR_FORMAT, name, "a norm weight must be f32, f16 or bf16");
    return advance(l, &t);
}

static mlxn_status load_layer(loader *l, int64_t i)
{
    const gemma3_config *c = &l->model->config;
    gemma3_layer *layer = &l->model->layers[i];
    const int64_t e = c->embedding, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct {
        const char *name;
        int64_t rows, columns;
        mlxn_buffer **out;
    } tensors[] = {
        {"attn_norm", 0, e, &layer->attn_norm},
        {"attn_q", q, e, &layer->q},
        {"attn_k", kv, e, &layer->k},
        {"attn_v", kv, e, &layer->v},
        {"attn_q_norm", 0, c->head_dim, &layer->q_norm},
        {"attn_k_norm", 0, c->head_dim, &layer->k_norm},
        {"attn_output", e, q, &layer->attn_output},
        {"post_attention_norm", 0, e, &layer->post_attention_norm},
        {"ffn_norm", 0, e, &layer->ffn_norm},
        {"ffn_gate", c->feed_forward, e, &layer->gate},
        {"ffn_up", c->feed_forward, e, &layer->up},
        {"ffn_down", e, c->feed_forward, &layer->down},
        {"post_ffw_norm", 0, e, &layer->post_ffw_norm},
    };
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)i, tensors[k].name);
        if (tensors[k].rows)
            MLXN_TRY(load_matrix(l, name, tensors[k].rows, tensors[k].columns, tensors[k].out));
        else
            MLXN_TRY(load_vector(l, name, tensors[k].columns, tensors[k].out));
    }
    return MLXN_OK;
}

/* The matrix as it lies in the file. */
static mlxn_status load_plain(loader *l, const char *name, int64_t rows, int64_t columns,
                              mlxn_buffer **out)
{
    mlxn_gguf_tensor t;
    MLXN_TRY(find(l, name, rows, columns, &t, out));
    return advance(l, &t);
}

/* The screen of the output matrix: from its file, or made and kept there. */
static mlxn_status load_screen(loader *l, const char *name)
{
    mlxn_model *m = l->model;
    const char *path = l->desc->screen_path, *key = l->desc->screen_key;
    if (m->config.final_softcap > 0)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: a screen of logits with a soft cap",
                         mlxn_gguf_path(m->gguf));
    mlxn_status status = mlxn_screen_load(m->output, path, key, &m->screen);
    if (status == MLXN_ERR_DTYPE)
        return fail_tensor(l, status, name, mlxn_last_error());
    if (status != MLXN_ERR_NOT_FOUND && status != MLXN_ERR_FORMAT)
        return status;
    MLXN_TRY(mlxn_screen_create(m->output, &m->screen));
    return mlxn_screen_save(m->screen, path, key);
}

/* The embedding's rows are the vocabulary; without an output matrix it is both. */
static mlxn_status load_ends(loader *l)
{
    mlxn_model *m = l->model;
    int64_t index = mlxn_gguf_find_tensor(m->gguf, "token_embd.weight");
    mlxn_gguf_tensor t = {.size = sizeof t};
    if (index < 0)
        return fail_tensor(l, MLXN_ERR_FORMAT, "token_embd.weight", "is missing");
    MLXN_TRY(mlxn_gguf_get_tensor(m->gguf, index, &t));
    m->config.vocab = t.shape[0];
    if (t.rank != 2 || t.shape[0] > INT32_MAX)
        return fail_tensor(l, MLXN_ERR_FORMAT, "token_embd.weight",
                           "is no [vocabulary, embedding]");
    const int tied = mlxn_gguf_find_tensor(m->gguf, "output.weight") < 0;
    mlxn_status (*load_output)(loader *, const char *, int64_t, int64_t, mlxn_buffer **) =
        l->desc->screen_path ? load_plain : load_matrix;
    MLXN_TRY((tied ? load_output : load_matrix)(l, "token_embd.weight", t.shape[0],
                                                m->config.embedding, &m->embedding));
    if (tied)
        m->output = mlxn_buffer_retain(m->embedding);
    else
        MLXN_TRY(load_output(l, "output.weight", t.shape[0], m->config.embedding, &m->output));
    if (l->desc->screen_path)
        MLXN_TRY(load_screen(l, tied ? "token_embd.weight" : "output.weight"));
    return load_vector(l, "output_norm.weight", m->config.embedding, &m->output_norm);
}

static mlxn_status make_freqs(mlxn_model *m, double theta, double scale, mlxn_buffer **out)
{
    const int64_t pairs = m->config.head_dim / 2, shape[] = {pairs, 2};
    MLXN_TRY(mlxn_buffer_create(m->device, MLXN_F32, 2, shape, out));
    return mlxn_rope_freqs(m->device, MLXN_DESC(mlxn_rope_freqs_args, .output = *out,
                                                .exponent_dim = m->config.head_dim, .theta = theta,
                                                .scale = scale));
}

static mlxn_status sum_tensors(mlxn_model *m)
{
    for (int64_t i = 0; i < mlxn_gguf_tensor_count(m->gguf); i++) {
        mlxn_gguf_tensor t = {.size = sizeof t};
        uint64_t elements = 1;
        MLXN_TRY(mlxn_gguf_get_tensor(m->gguf, i, &t));
        for (int d = 0; d < t.rank; d++)
            elements *= (uint64_t)t.shape[d];
        m->parameters += elements;
        m->weight_bytes += t.bytes;
    }
    return MLXN_OK;
}

static mlxn_status load(loader *l)
{
    mlxn_model *m = l->model;
    MLXN_TRY(mlxn_gemma3_read_config(m->gguf, &m->config));
    MLXN_TRY(sum_tensors(m));
    m->layers = calloc((size_t)m->config.layers, sizeof *m->layers);
    if (!m->layers)
        return mlxn_fail(MLXN_ERR_MEMORY, "model_create: out of memory");
    for (int64_t i = 0; i < m->config.layers; i++)
        MLXN_TRY(load_layer(l, i));
    MLXN_TRY(load_ends(l));
    MLXN_TRY(make_freqs(m, m->config.theta_global, m->config.scale_global, &m->freqs_global));
    return make_freqs(m, m->config.theta_local, 1, &m->freqs_local);
}

mlxn_status mlxn_model_create(const mlxn_model_desc *desc, mlxn_model **out)
{
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "model_create: out is NULL");
    *out = NULL;
    mlxn_model_desc d;
    MLXN_TRY(mlxn_desc_copy("model_create", &d, sizeof d, desc));
    if (!d.device || !d.gguf)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "model_create: %s is NULL",
                         d.device ? "gguf" : "device");
    mlxn_model *model = calloc(1, sizeof *model);
    if (!model)
        return mlxn_fail(MLXN_ERR_MEMORY, "model_create: out of memory");
    atomic_init(&model->refs, 1);
    model->device = mlxn_device_retain(d.device);
    model->gguf = mlxn_gguf_retain(d.gguf);
    model->prepare = mlxn_qkv_prepare;
    loader l = {.model = model, .desc = &d};
    mlxn_status status = load(&l);
    if (status != MLXN_OK) {
        mlxn_model_release(model);
        return status;
    }
    *out = model;
    return MLXN_OK;
}

mlxn_model *mlxn_model_retain(mlxn_model *model)
{
    if (model)
        atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    return model;
}

static void release_layer(gemma3_layer *layer)
{
    mlxn_buffer *all[] = {
        layer->attn_norm,    layer->q,        layer->k,    layer->v,
        layer->q_norm,       layer->k_norm,   layer->gate, layer->post_attention_norm,
        layer->attn_output,  layer->ffn_norm, layer->up,   layer->down,
        layer->post_ffw_norm};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}

void mlxn_model_release(mlxn_model *model)
{
    if (!model || atomic_fetch_sub_explicit(&model->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (int64_t i = 0; model->layers && i < model->config.layers; i++)
        release_layer(&model->layers[i]);
    free(model->layers);
    mlxn_screen_release(model->screen);
    mlxn_buffer *all[] = {model->embedding, model->output, model->output_norm, model->freqs_global,
                          model->freqs_local};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
    mlxn_gguf_release(model->gguf);
    mlxn_device_release(model->device);
    free(model);
}

mlxn_status mlxn_model_get_info(const mlxn_model *model, mlxn_model_info *info)
{
    if (!model)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "model_get_info: model is NULL");
    MLXN_TRY(mlxn_info_check("model_get_info", info, sizeof *info));
    const gemma3_config *c = &model->config;
    *info = (mlxn_model_info){.size = sizeof *info,
                              .architecture = "gemma3",
                              .vocab_size = (int32_t)c->vocab,
                              .layers = (int32_t)c->layers,
                              .embedding = (int32_t)c->embedding,
                              .heads = (int32_t)c->heads,
                              .kv_heads = (int32_t)c->kv_heads,
                              .head_dim = (int32_t)c->head_dim,
                              .feed_forward = (int32_t)c->feed_forward,
                              .context = c->context,
                              .parameters = model->parameters,
                              .weight_bytes = model->weight_bytes};
    return MLXN_OK;
}
