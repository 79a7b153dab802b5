/* gemma3.h - the parts of a Gemma 3 model: what the file says, the weights, and the recording of a
 * forward pass.  Internal to the model layer, which uses the library's public headers only. */
#ifndef MLXN_MODEL_GEMMA3_H
#define MLXN_MODEL_GEMMA3_H

#include <stdatomic.h>
#include <mlxn/mlxn.h>

enum { GEMMA3_MAX_LAYERS = 512 };

/* ---- config.c ---- */

typedef struct gemma3_config {
    int64_t context, layers, embedding, feed_forward, heads, kv_heads, head_dim, vocab;
    int64_t window, window_pattern; /* every window_pattern-th layer is global */
    float eps, attention_scale, embedding_scale;
    float final_softcap; /* 0: none */
    double theta_global, theta_local, scale_global;
} gemma3_config;

mlxn_status mlxn_gemma3_read_config(const mlxn_gguf *gguf, gemma3_config *config);
/* Whether layer i sees all keys; the others see `window` of them. */
int mlxn_gemma3_is_global(const gemma3_config *config, int64_t layer);

/* ---- model.c ---- */

typedef struct gemma3_layer {
    mlxn_buffer *attn_norm, *q, *k, *v, *q_norm, *k_norm, *attn_output, *post_attention_norm;
    mlxn_buffer *ffn_norm, *gate, *up, *down, *post_ffw_norm;
} gemma3_layer;

struct mlxn_model {
    atomic_int refs;
    mlxn_device *device;
    mlxn_gguf *gguf;
    gemma3_config config;
    uint64_t parameters, weight_bytes;
    gemma3_layer *layers;
    mlxn_buffer *embedding, *output, *output_norm; /* output may be the embedding */
    mlxn_screen *screen;                           /* of output, or NULL */
    mlxn_buffer *freqs_global, *freqs_local;
    /* mlxn_qkv_prepare; tests put the chain of single operators in its place */
    mlxn_status (*prepare)(mlxn_encoder *encoder, const mlxn_qkv_prepare_args *args);
};

/* ---- forward.c ---- */

/* The buffers of a forward pass over up to `rows` tokens, and their views of the first n rows. */
typedef struct gemma3_activations {
    mlxn_buffer *ids, *positions, *slots_local; /* i32 [rows] */
    mlxn_buffer *hidden, *normed, *mixed;       /* f32 [rows, embedding] */
    mlxn_buffer *qkv;                           /* f32 [rows, (heads + 2 kv_heads) head_dim] */
    mlxn_buffer *q, *k, *v;                     /* views of qkv, [rows, heads, head_dim] */
    mlxn_buffer *q_rows, *k_rows, *v_rows;      /* the same as [rows, heads * head_dim] */
    mlxn_buffer *attended;                      /* f32 [rows, heads, head_dim] */
    mlxn_buffer *attended_rows;                 /* the same as [rows, heads * head_dim] */
    mlxn_buffer *gated;                         /* f32 [rows, feed_forward]: gelu(g) * u */
} gemma3_activations;

typedef struct gemma3_cache {
    mlxn_buffer *k, *v; /* [slots, kv_heads, head_dim] */
} gemma3_cache;

typedef struct gemma3_pass {
    const mlxn_model *model;
    mlxn_matmul_mode matmul;
    int64_t context, local_slots;
    gemma3_cache *caches; /* one a layer */
} gemma3_pass;

mlxn_status mlxn_gemma3_activations_create(const mlxn_model *model, int64_t rows,
                                           gemma3_activations *out);
/* Views of rows [start, start + count). */
mlxn_status mlxn_gemma3_activations_slice(const gemma3_activations *a, int64_t start, int64_t count,
                                          gemma3_activations *out);
void mlxn_gemma3_activations_release(gemma3_activations *a);

/* Records embedding, all layers and the final norm for the tokens of `a`; `tail` holds the last
 * tokens of `a`, the ones whose final norm (tail->normed) is wanted: the last layer is computed for
 * them alone.  NULL: only the cache is wanted. */
mlxn_status mlxn_gemma3_record(mlxn_encoder *encoder, const gemma3_pass *pass,
                               const gemma3_activations *a, const gemma3_activations *tail);
/* Records logits = output matrix times normed, soft-capped where the model says so. */
mlxn_status mlxn_gemma3_record_logits(mlxn_encoder *encoder, const gemma3_pass *pass,
                                      mlxn_buffer *normed, mlxn_buffer *logits);

#endif
