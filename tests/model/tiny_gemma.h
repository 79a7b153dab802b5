/* tiny_gemma.h - a small random Gemma 3 for tests, and its forward pass in float64, written from
 * the formulas of the model's report.
 *
 * The model has 7 layers (the sixth global), 4 heads over 2 key heads, a window of 8 keys: every
 * path of the real one, at a size where all of it can be computed again plainly. */
#ifndef MLXN_TEST_TINY_GEMMA_H
#define MLXN_TEST_TINY_GEMMA_H

#include <stddef.h>
#include <stdint.h>

enum {
    LAYERS = 7,
    EMBEDDING = 64,
    HEADS = 4,
    KV_HEADS = 2,
    DIM = 32,
    FORWARD = 96,
    VOCAB = 308,
    WINDOW = 8,
    CONTEXT = 64,
    TOKENS = 40,
};

typedef struct tiny_gemma {
    float embedding[VOCAB][EMBEDDING], output_norm[EMBEDDING];
    struct tiny_gemma_layer {
        float q[HEADS * DIM][EMBEDDING], k[KV_HEADS * DIM][EMBEDDING], v[KV_HEADS * DIM][EMBEDDING];
        float o[EMBEDDING][HEADS * DIM], gate[FORWARD][EMBEDDING], up[FORWARD][EMBEDDING];
        float down[EMBEDDING][FORWARD];
        float attn_norm[EMBEDDING], q_norm[DIM], k_norm[DIM], post_attention[EMBEDDING];
        float ffn_norm[EMBEDDING], post_ffw[EMBEDDING];
    } layers[LAYERS];
} tiny_gemma;

/* Random weights, to be freed; NULL: no memory. */
tiny_gemma *tiny_gemma_make(void);
/* The file in memory, to be freed; `without`: a tensor of layer 3 that is left out, or NULL. */
unsigned char *tiny_gemma_file(const tiny_gemma *t, const char *without, size_t *bytes);
/* Logits after each of TOKENS tokens. */
void tiny_gemma_forward(const tiny_gemma *t, const int32_t *ids, double (*logits)[VOCAB]);

#endif
