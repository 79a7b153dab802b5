/* tiny_tokenizer.h - tokenizers of small vocabularies in memory, for tests. */
#ifndef MLXN_TEST_TINY_TOKENIZER_H
#define MLXN_TEST_TINY_TOKENIZER_H

#include <mlxn/tokenizer.h>
#include "tiny_vocab.h"

/* Opens what the writer holds; *memory is to be freed after the tokenizer. */
mlxn_status tiny_tokenizer_open(gguf_writer *w, unsigned char **memory, mlxn_tokenizer **t);
/* The same of a vocabulary with all its keys. */
mlxn_status tiny_tokenizer_of(const tiny_vocab *v, unsigned char **memory, mlxn_tokenizer **t);

/* The tokens of `text` must be these, their texts one after another with spaces between. */
#define EXPECT_TOKENS(v, t, text, flags, want) \
    tiny_tokenizer_expect((v), (t), (text), (flags), (want), __FILE__, __LINE__)
void tiny_tokenizer_expect(const tiny_vocab *v, mlxn_tokenizer *t, const char *text, uint32_t flags,
                           const char *want, const char *file, int line);

#endif
