/* fuzz_tokenizer.c - libFuzzer target: any text, and a vocabulary partly made of it.
 *
 * The input is lines; the first byte says how many of them are tokens to add to the tiny
 * vocabulary, each line's first byte giving type and score.  The rest is the text to encode.
 * Besides not crashing, decoding must give the text back where the vocabulary is the plain one and
 * the text holds no U+2581 (which comes back as a space) and no space inside a broken character
 * (which comes back as the bytes of U+2581). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/gguf_walk.h"
#include "model/tiny_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

/* Adds tokens from the input's lines; returns where the text starts. */
static size_t add_tokens(tiny_vocab *v, const uint8_t *data, size_t bytes)
{
    static const int types[] = {1, 4, 1, 3, 4, 2, 5, 0};
    size_t at = bytes ? 1 : 0;
    for (int lines = bytes ? data[0] % 32 : 0; lines && at < bytes; lines--) {
        const uint8_t *end = memchr(data + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end - data) - at : bytes - at;
        if (length) {
            int id = tiny_vocab_add(v, "", (float)(data[at] >> 3) - 10, types[data[at] & 7]);
            v->texts[id] = (mlxn_gguf_string){(const char *)data + at + 1, length - 1};
        }
        at += length + (end != NULL);
    }
    return at;
}

static void check_round_trip(mlxn_tokenizer *t, const char *text, size_t bytes)
{
    size_t count = 0, got = 0;
    int32_t *ids = malloc((4 * bytes + 1) * sizeof *ids);
    char *back = malloc(bytes + 1);
    if (!ids || !back)
        abort();
    check(mlxn_tokenizer_encode(t, text, bytes, 2, ids, 4 * bytes + 1, &count) == MLXN_OK,
          "encode");
    check(mlxn_tokenizer_decode(t, ids, count, 2, back, bytes + 1, &got) == MLXN_OK, "decode");
    check(got == bytes && !memcmp(back, text, bytes), "the text does not come back");
    free(ids);
    free(back);
}

static int comes_back(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        size_t length = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        for (size_t k = 1; k < length && i + k < bytes; k++)
            if (text[i + k] == ' ')
                return 0;
        if (bytes - i >= 3 && !memcmp(text + i, "\xe2\x96\x81", 3))
            return 0;
    }
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    tiny_vocab v;
    gguf_writer w;
    size_t file_bytes, at;
    mlxn_gguf *g = NULL;
    mlxn_tokenizer *t = NULL;
    tiny_vocab_begin(&v);
    int plain = v.count;
    at = add_tokens(&v, data, bytes);
    const char *text = (const char *)data + at;
    gguf_begin(&w);
    tiny_vocab_write(&v, &w);
    unsigned char *file = gguf_finish(&w, &file_bytes);
    check(mlxn_gguf_open_memory(file, file_bytes, "fuzz", &g) == MLXN_OK, mlxn_last_error());
    check(mlxn_tokenizer_create(g, &t) == MLXN_OK, mlxn_last_error());
    const char *wrong = tokenizer_walk(t, text, bytes - at);
    check(!wrong, wrong);
    if (v.count == plain && comes_back(text, bytes - at))
        check_round_trip(t, text, bytes - at);
    mlxn_tokenizer_release(t);
    mlxn_gguf_release(g);
    free(file);
    return 0;
}
