/* gguf_walk.c - the walks of gguf_walk.h. */
#include "gguf_walk.h"

#include <stdlib.h>
#include <string.h>

static volatile unsigned char sink;

/* Touches first and last byte: a sanitizer sees what lies outside. */
static void touch(const void *data, size_t bytes)
{
    if (bytes)
        sink = (unsigned char)(((const unsigned char *)data)[0] ^
                               ((const unsigned char *)data)[bytes - 1]);
}

static const char *walk_strings(const mlxn_gguf *g, const char *key, uint64_t expected)
{
    uint64_t count = 0;
    if (mlxn_gguf_get_strings(g, key, NULL, 0, &count) != MLXN_OK || count != expected)
        return "an array of strings tells two numbers";
    mlxn_gguf_string *strings = malloc((size_t)(count ? count : 1) * sizeof *strings);
    if (!strings)
        abort();
    mlxn_status status = mlxn_gguf_get_strings(g, key, strings, count, &count);
    for (uint64_t i = 0; status == MLXN_OK && i < count; i++)
        touch(strings[i].data, strings[i].bytes);
    free(strings);
    return status == MLXN_OK ? NULL : "strings cannot be read";
}

static const char *walk_key(const mlxn_gguf *g, int64_t index)
{
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    mlxn_gguf_string name = mlxn_gguf_key(g, index), text;
    mlxn_gguf_type type = mlxn_gguf_key_type(g, index);
    uint32_t u32;
    int64_t i64;
    double f64;
    int boolean, read = 0;
    touch(name.data, name.bytes);
    if (memchr(name.data, 0, name.bytes))
        return mlxn_gguf_find_key(g, name.data) == index ? "a name with NUL was found" : NULL;
    char *key = malloc(name.bytes + 1);
    if (!key)
        abort();
    memcpy(key, name.data, name.bytes);
    key[name.bytes] = 0;
    const char *wrong = mlxn_gguf_find_key(g, key) == index ? NULL : "a key is not found";
    read += mlxn_gguf_get_u32(g, key, &u32) == MLXN_OK;
    read += mlxn_gguf_get_bool(g, key, &boolean) == MLXN_OK;
    read += mlxn_gguf_get_i64(g, key, &i64) == MLXN_OK;
    read += mlxn_gguf_get_f64(g, key, &f64) == MLXN_OK;
    if (mlxn_gguf_get_string(g, key, &text) == MLXN_OK) {
        touch(text.data, text.bytes);
        read++;
    }
    if (type == MLXN_GGUF_ARRAY) {
        mlxn_gguf_type inner = mlxn_gguf_array_type(g, index);
        uint64_t count = mlxn_gguf_array_count(g, index), got = 0;
        const void *data = NULL;
        if (inner == MLXN_GGUF_STRING)
            wrong = wrong ? wrong : walk_strings(g, key, count);
        else if (mlxn_gguf_get_array(g, key, inner, &data, &got) != MLXN_OK || got != count)
            wrong = "an array cannot be read";
        else
            touch(data, (size_t)got * sizes[inner]);
    } else if (!read && type != MLXN_GGUF_U64) {
        wrong = "a scalar cannot be read";
    }
    free(key);
    return wrong;
}

static const char *walk_tensor(const mlxn_gguf *g, int64_t index)
{
    mlxn_gguf_tensor t = {.size = sizeof t};
    if (mlxn_gguf_get_tensor(g, index, &t) != MLXN_OK)
        return "a tensor cannot be read";
    int64_t elements = 1;
    for (int i = 0; i < t.rank; i++)
        elements *= t.shape[i];
    if (t.rank < 1 || t.rank > 4 || elements < 1)
        return "a tensor has no shape";
    if (t.offset > mlxn_gguf_file_bytes(g) || t.bytes > mlxn_gguf_file_bytes(g) - t.offset ||
        t.offset < mlxn_gguf_data_offset(g))
        return "a tensor lies outside the data";
    if (t.dtype != MLXN_DTYPE_NONE && t.bytes != (uint64_t)elements /
                                                     mlxn_dtype_block_elements(t.dtype) *
                                                     mlxn_dtype_block_bytes(t.dtype))
        return "a tensor's bytes are not its shape's";
    touch(t.name.data, t.name.bytes);
    touch((const char *)mlxn_gguf_data(g) + t.offset, (size_t)t.bytes);
    return NULL;
}

const char *gguf_walk(const mlxn_gguf *g)
{
    const char *wrong = NULL;
    for (int64_t i = 0; !wrong && i < mlxn_gguf_key_count(g); i++)
        wrong = walk_key(g, i);
    for (int64_t i = 0; !wrong && i < mlxn_gguf_tensor_count(g); i++)
        wrong = walk_tensor(g, i);
    return wrong;
}

/* Streams the ids; the text must be as long as the whole decoding where that is valid UTF-8. */
static const char *walk_stream(mlxn_tokenizer *t, const int32_t *ids, size_t count, uint32_t flags)
{
    mlxn_detokenizer *d = NULL;
    const char *text, *wrong = NULL;
    size_t bytes;
    if (mlxn_detokenizer_create(t, flags, &d) != MLXN_OK)
        return "no detokenizer";
    for (size_t i = 0; i < count && !wrong; i++)
        if (mlxn_detokenizer_next(d, ids[i], &text, &bytes) != MLXN_OK || strlen(text) > bytes)
            wrong = "a token does not stream";
    if (!wrong && mlxn_detokenizer_finish(d, &text, &bytes) != MLXN_OK)
        wrong = "a stream does not end";
    mlxn_detokenizer_release(d);
    return wrong;
}

static const char *walk_ids(mlxn_tokenizer *t, const int32_t *ids, size_t count, uint32_t flags)
{
    size_t bytes = 0, again = 0;
    if (mlxn_tokenizer_decode(t, ids, count, flags, NULL, 0, &bytes) != MLXN_OK)
        return "ids do not decode";
    char *text = malloc(bytes + 1);
    if (!text)
        abort();
    mlxn_status status = mlxn_tokenizer_decode(t, ids, count, flags, text, bytes, &again);
    free(text);
    if (status != MLXN_OK || again != bytes)
        return "decoding tells two lengths";
    return walk_stream(t, ids, count, flags);
}

const char *tokenizer_walk(mlxn_tokenizer *t, const char *text, size_t bytes)
{
    const char *wrong = NULL;
    for (uint32_t flags = 0; flags < 4 && !wrong; flags++) {
        size_t count = 0, again = 0;
        if (mlxn_tokenizer_encode(t, text, bytes, flags, NULL, 0, &count) != MLXN_OK)
            continue; /* no BOS, or bytes that the vocabulary lacks */
        int32_t *ids = malloc((count + 1) * sizeof *ids);
        if (!ids)
            abort();
        if (mlxn_tokenizer_encode(t, text, bytes, flags, ids, count, &again) != MLXN_OK ||
            again != count)
            wrong = "encoding tells two numbers";
        for (size_t i = 0; !wrong && i < count; i++)
            if (ids[i] < 0 || ids[i] >= mlxn_tokenizer_vocab_size(t))
                wrong = "an id is outside the vocabulary";
        if (!wrong)
            wrong = walk_ids(t, ids, count, flags);
        free(ids);
    }
    return wrong;
}
