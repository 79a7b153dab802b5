/* tiny_vocab.h - a vocabulary of 308 tokens for tests: four special ones, 256 bytes, some pieces
 * with scores that tie and compete, and user-defined and control tokens that overlap. */
#ifndef MLXN_TEST_TINY_VOCAB_H
#define MLXN_TEST_TINY_VOCAB_H

#include "gguf_writer.h"

enum { TINY_TOKENS_MAX = 400 };

/* Its arrays, to be changed before they are written. */
typedef struct tiny_vocab {
    int count;
    mlxn_gguf_string texts[TINY_TOKENS_MAX];
    float scores[TINY_TOKENS_MAX];
    int32_t types[TINY_TOKENS_MAX];
    char bytes[256][8];
} tiny_vocab;

void tiny_vocab_begin(tiny_vocab *v);
/* Adds a token; returns its id. */
int tiny_vocab_add(tiny_vocab *v, const char *text, float score, int type);
/* Writes the keys: model "llama", tokens, scores, types, ids, no space prefix. */
void tiny_vocab_write(const tiny_vocab *v, gguf_writer *w);
/* All in one. */
void tiny_vocab_keys(gguf_writer *w);

#endif
