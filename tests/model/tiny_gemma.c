/* tiny_gemma.c - see tiny_gemma.h. */
#include "tiny_gemma.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "test.h"
#include "tiny_vocab.h"

static void fill(float *x, size_t n, float center, float spread, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        x[i] = center + spread * test_normal(state);
}

tiny_gemma *tiny_gemma_make(void)
{
    tiny_gemma *t = malloc(sizeof *t);
    uint64_t state = 99;
    if (!t)
        return NULL;
    fill(&t->embedding[0][0], VOCAB * EMBEDDING, 0, 0.3f, &state);
    fill(t->output_norm, EMBEDDING, 1, 0.2f, &state);
    for (int i = 0; i < LAYERS; i++) {
        struct tiny_gemma_layer *l = &t->layers[i];
        fill(&l->q[0][0], (sizeof l->q + sizeof l->k + sizeof l->v) / sizeof(float), 0, 0.15f,
             &state);
        fill(&l->o[0][0],
             (sizeof l->o + sizeof l->gate + sizeof l->up + sizeof l->down) / sizeof(float), 0,
             0.15f, &state);
        fill(l->attn_norm,
             (sizeof l->attn_norm * 4 + sizeof l->q_norm + sizeof l->k_norm) / sizeof(float), 1,
             0.2f, &state);
    }
    return t;
}

static void put(gguf_writer *w, int layer, const char *name, const float *x, int64_t rows,
                int64_t columns)
{
    char full[80];
    const int64_t shape[] = {rows ? rows : columns, columns};
    if (layer < 0)
        snprintf(full, sizeof full, "%s.weight", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s.weight", layer, name);
    gguf_tensor(w, full, 0, rows ? 2 : 1, shape, x,
                (size_t)(rows ? rows : 1) * (size_t)columns * sizeof *x);
}

static void put_keys(gguf_writer *w)
{
    gguf_key_text(w, "general.architecture", "gemma3");
    gguf_key_u32(w, "gemma3.context_length", CONTEXT);
    gguf_key_u32(w, "gemma3.block_count", LAYERS);
    gguf_key_u32(w, "gemma3.embedding_length", EMBEDDING);
    gguf_key_u32(w, "gemma3.feed_forward_length", FORWARD);
    gguf_key_u32(w, "gemma3.attention.head_count", HEADS);
    gguf_key_u32(w, "gemma3.attention.head_count_kv", KV_HEADS);
    gguf_key_u32(w, "gemma3.attention.key_length", DIM);
    gguf_key_u32(w, "gemma3.attention.value_length", DIM);
    gguf_key_f32(w, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_key_f32(w, "gemma3.rope.freq_base", 1e6f);
    gguf_key_u32(w, "gemma3.attention.sliding_window", WINDOW);
    tiny_vocab_keys(w);
}

static void put_layer(gguf_writer *w, const tiny_gemma *t, int i, const char *without)
{
    const struct tiny_gemma_layer *l = &t->layers[i];
    const struct {
        const char *name;
        const float *x;
        int64_t rows, columns;
    } all[] = {
        {"attn_q", &l->q[0][0], HEADS * DIM, EMBEDDING},
        {"attn_k", &l->k[0][0], KV_HEADS * DIM, EMBEDDING},
        {"attn_v", &l->v[0][0], KV_HEADS * DIM, EMBEDDING},
        {"attn_output", &l->o[0][0], EMBEDDING, HEADS * DIM},
        {"ffn_gate", &l->gate[0][0], FORWARD, EMBEDDING},
        {"ffn_up", &l->up[0][0], FORWARD, EMBEDDING},
        {"ffn_down", &l->down[0][0], EMBEDDING, FORWARD},
        {"attn_norm", l->attn_norm, 0, EMBEDDING},
        {"attn_q_norm", l->q_norm, 0, DIM},
        {"attn_k_norm", l->k_norm, 0, DIM},
        {"post_attention_norm", l->post_attention, 0, EMBEDDING},
        {"ffn_norm", l->ffn_norm, 0, EMBEDDING},
        {"post_ffw_norm", l->post_ffw, 0, EMBEDDING},
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        if (!without || strcmp(without, all[k].name) != 0)
            put(w, i, all[k].name, all[k].x, all[k].rows, all[k].columns);
}

unsigned char *tiny_gemma_file(const tiny_gemma *t, const char *without, size_t *bytes)
{
    gguf_writer w;
    gguf_begin(&w);
    put_keys(&w);
    put(&w, -1, "token_embd", &t->embedding[0][0], VOCAB, EMBEDDING);
    put(&w, -1, "output_norm", t->output_norm, 0, EMBEDDING);
    for (int i = 0; i < LAYERS; i++)
        put_layer(&w, t, i, i == 3 ? without : NULL);
    return gguf_finish(&w, bytes);
}

/* ---- the reference ---- */

static void norm64(const double *x, const float *weight, int n, double *out)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < n; i++)
        out[i] = x[i] / sqrt(sum / n + 1e-6) * (double)weight[i];
}

static void matvec64(const float *w, const double *x, int rows, int columns, double *out)
{
    for (int r = 0; r < rows; r++) {
        out[r] = 0;
        for (int c = 0; c < columns; c++)
            out[r] += (double)w[r * columns + c] * x[c];
    }
}

static void rope64(double *x, int position, double theta)
{
    for (int i = 0; i < DIM / 2; i++) {
        double a = position * pow(theta, -2.0 * i / DIM), lo = x[i], hi = x[i + DIM / 2];
        x[i] = lo * cos(a) - hi * sin(a);
        x[i + DIM / 2] = hi * cos(a) + lo * sin(a);
    }
}

typedef struct cache64 {
    double k[LAYERS][TOKENS][KV_HEADS * DIM], v[LAYERS][TOKENS][KV_HEADS * DIM];
} cache64;

static void attend64(const cache64 *cache, int layer, int position, int first, const double *q,
                     double *out)
{
    for (int h = 0; h < HEADS; h++) {
        const int g = h / (HEADS / KV_HEADS) * DIM;
        double e[TOKENS], top = -HUGE_VAL, total = 0;
        for (int j = first; j <= position; j++) {
            e[j] = 0;
            for (int d = 0; d < DIM; d++)
                e[j] += q[h * DIM + d] * cache->k[layer][j][g + d];
            e[j] /= sqrt(DIM);
            top = e[j] > top ? e[j] : top;
        }
        for (int j = first; j <= position; j++)
            total += e[j] = exp(e[j] - top);
        for (int d = 0; d < DIM; d++) {
            out[h * DIM + d] = 0;
            for (int j = first; j <= position; j++)
                out[h * DIM + d] += e[j] / total * cache->v[layer][j][g + d];
        }
    }
}

static void layer64(const tiny_gemma *t, cache64 *cache, int i, int position, double *h)
{
    const struct tiny_gemma_layer *l = &t->layers[i];
    const int global = i % 6 == 5;
    const double theta = global ? 1e6 : 1e4;
    double n[EMBEDDING], q[HEADS * DIM], a[HEADS * DIM], m[EMBEDDING], g[FORWARD], u[FORWARD];
    double *k = cache->k[i][position];
    norm64(h, l->attn_norm, EMBEDDING, n);
    matvec64(&l->q[0][0], n, HEADS * DIM, EMBEDDING, q);
    matvec64(&l->k[0][0], n, KV_HEADS * DIM, EMBEDDING, k);
    matvec64(&l->v[0][0], n, KV_HEADS * DIM, EMBEDDING, cache->v[i][position]);
    for (int j = 0; j < HEADS; j++) {
        norm64(q + j * DIM, l->q_norm, DIM, q + j * DIM);
        rope64(q + j * DIM, position, theta);
    }
    for (int j = 0; j < KV_HEADS; j++) {
        norm64(k + j * DIM, l->k_norm, DIM, k + j * DIM);
        rope64(k + j * DIM, position, theta);
    }
    attend64(cache, i, position, global || position < WINDOW ? 0 : position - WINDOW + 1, q, a);
    matvec64(&l->o[0][0], a, EMBEDDING, HEADS * DIM, m);
    norm64(m, l->post_attention, EMBEDDING, m);
    for (int d = 0; d < EMBEDDING; d++)
        h[d] += m[d];
    norm64(h, l->ffn_norm, EMBEDDING, n);
    matvec64(&l->gate[0][0], n, FORWARD, EMBEDDING, g);
    matvec64(&l->up[0][0], n, FORWARD, EMBEDDING, u);
    for (int d = 0; d < FORWARD; d++)
        g[d] = 0.5 * g[d] *
               (1 + tanh(sqrt(2 / acos(-1)) * (g[d] + 0.044715 * g[d] * g[d] * g[d]))) * u[d];
    matvec64(&l->down[0][0], g, EMBEDDING, FORWARD, m);
    norm64(m, l->post_ffw, EMBEDDING, m);
    for (int d = 0; d < EMBEDDING; d++)
        h[d] += m[d];
}

void tiny_gemma_forward(const tiny_gemma *t, const int32_t *ids, double (*logits)[VOCAB])
{
    cache64 *cache = calloc(1, sizeof *cache);
    double h[EMBEDDING], n[EMBEDDING];
    for (int p = 0; cache && p < TOKENS; p++) {
        for (int d = 0; d < EMBEDDING; d++)
            h[d] = sqrt(EMBEDDING) * (double)t->embedding[ids[p]][d];
        for (int i = 0; i < LAYERS; i++)
            layer64(t, cache, i, p, h);
        norm64(h, t->output_norm, EMBEDDING, n);
        matvec64(&t->embedding[0][0], n, VOCAB, EMBEDDING, logits[p]);
    }
    free(cache);
}
