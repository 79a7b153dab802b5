/* gguf_walk.h - uses everything that a GGUF file offers, as the mutation test and the fuzzers do:
 * whatever the file holds, no call may crash, and what is answered must hang together. */
#ifndef MLXN_TEST_GGUF_WALK_H
#define MLXN_TEST_GGUF_WALK_H

#include <mlxn/tokenizer.h>

/* A text of what is inconsistent; NULL if nothing is. */
const char *gguf_walk(const mlxn_gguf *gguf);
/* Encodes the text with and without special tokens, decodes the ids at once and streaming. */
const char *tokenizer_walk(mlxn_tokenizer *tokenizer, const char *text, size_t bytes);

#endif
