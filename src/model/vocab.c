/* vocab.c - the vocabulary in a GGUF file: `tokenizer.ggml.tokens`, `.scores`, `.token_type` and
 * the ids of special tokens.
 *
 * Texts stay in the file.  One walk over them sorts out types, fills the index of what merging may
 * make (control, unknown and byte tokens are none of it) and marks every pair of neighbouring
 * characters inside these: a text can be cut between two characters that no token has side by
 * side, without changing how it merges.
 *
 * Tokens whose text says that they end a generation do so, and are control tokens, whatever type
 * the file gives them: converters get it wrong, and llama.cpp corrects it in this way. */
#include "vocab.h"

#include <stdio.h>
#include "gguf_file.h"

static const char *const end_texts[] = {
    "</s>",       "<eos>",   "<end_of_turn>", "<|eot_id|>",      "<|eom_id|>",
    "<|im_end|>", "<|end|>", "<EOT>",         "<|end_of_text|>", "<|endoftext|>",
};

static int is_text(mlxn_gguf_string text, const char *other)
{
    return mlxn_string_equal(text, other, strlen(other));
}

static int ends_generation(mlxn_gguf_string text)
{
    if (text.bytes < 4 || text.data[0] != '<')
        return 0;
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++)
        if (is_text(text, end_texts[i]))
            return 1;
    return 0;
}

static mlxn_status check_model(const mlxn_gguf *g)
{
    mlxn_gguf_string model = {NULL, 0};
    MLXN_TRY(mlxn_gguf_get_string(g, "tokenizer.ggml.model", &model));
    if (!is_text(model, "llama"))
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: tokenizer model '%s'; only 'llama' is known",
                         mlxn_gguf_path(g), mlxn_gguf_printable(model).text);
    return MLXN_OK;
}

static mlxn_status load_texts(mlxn_tokenizer *t)
{
    uint64_t count = 0;
    MLXN_TRY(mlxn_gguf_get_strings(t->gguf, "tokenizer.ggml.tokens", NULL, 0, &count));
    if (count == 0 || count > INT32_MAX)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: a vocabulary of %llu tokens",
                         mlxn_gguf_path(t->gguf), (unsigned long long)count);
    t->count = (int32_t)count;
    t->texts = malloc((size_t)count * sizeof *t->texts);
    t->types = malloc((size_t)count);
    t->pairs = calloc((size_t)1 << (PAIR_BITS - 6), sizeof *t->pairs);
    if (!t->texts || !t->types || !t->pairs)
        return mlxn_fail(MLXN_ERR_MEMORY, "vocabulary of %llu tokens", (unsigned long long)count);
    return mlxn_gguf_get_strings(t->gguf, "tokenizer.ggml.tokens", t->texts, count, &count);
}

/* An array of one element a token; NULL where the file has none. */
static mlxn_status load_array(const mlxn_tokenizer *t, const char *key, mlxn_gguf_type type,
                              const unsigned char **out)
{
    const void *data = NULL;
    uint64_t count = 0;
    *out = NULL;
    if (mlxn_gguf_find_key(t->gguf, key) < 0)
        return MLXN_OK;
    MLXN_TRY(mlxn_gguf_get_array(t->gguf, key, type, &data, &count));
    if (count != (uint64_t)t->count)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: %s has %llu elements, the vocabulary %ld tokens",
                         mlxn_gguf_path(t->gguf), key, (unsigned long long)count, (long)t->count);
    *out = data;
    return MLXN_OK;
}

static mlxn_status load_scores(mlxn_tokenizer *t)
{
    MLXN_TRY(load_array(t, "tokenizer.ggml.scores", MLXN_GGUF_F32, &t->scores));
    for (int32_t i = 0; t->scores && i < t->count; i++)
        if ((mlxn_load_u32(t->scores + 4 * (size_t)i) & 0x7fffffff) > 0x7f800000)
            return mlxn_fail(MLXN_ERR_FORMAT, "%s: the score of token %ld is not a number",
                             mlxn_gguf_path(t->gguf), (long)i);
    return MLXN_OK;
}

static mlxn_status load_types(mlxn_tokenizer *t)
{
    const unsigned char *types = NULL;
    MLXN_TRY(load_array(t, "tokenizer.ggml.token_type", MLXN_GGUF_I32, &types));
    for (int32_t i = 0; i < t->count; i++) {
        uint32_t type = types ? mlxn_load_u32(types + 4 * (size_t)i) : TOKEN_NORMAL;
        if (type > TOKEN_BYTE)
            return mlxn_fail(MLXN_ERR_FORMAT, "%s: token %ld is of type %ld, not of 0 to %d",
                             mlxn_gguf_path(t->gguf), (long)i, (long)(int32_t)type,
                             (int)TOKEN_BYTE);
        t->types[i] = (uint8_t)type;
        if (ends_generation(t->texts[i]))
            t->types[i] = TOKEN_CONTROL | TOKEN_ENDS;
    }
    return MLXN_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The value of a byte token, written <0x0A>; -1 for any other text. */
static int byte_value(mlxn_gguf_string text)
{
    if (text.bytes != 6 || memcmp(text.data, "<0x", 3) || text.data[5] != '>')
        return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static void mark_pairs(mlxn_tokenizer *t, mlxn_gguf_string text)
{
    size_t at = 0;
    uint32_t left = mlxn_character_next(text.data, text.bytes, &at);
    while (at < text.bytes) {
        uint32_t right = mlxn_character_next(text.data, text.bytes, &at);
        uint32_t bit = mlxn_pair_bit(left, right);
        t->pairs[bit / 64] |= (uint64_t)1 << bit % 64;
        left = right;
    }
}

static mlxn_status index_token(mlxn_tokenizer *t, int32_t id)
{
    mlxn_gguf_string text = t->texts[id];
    uint32_t holder;
    switch (t->types[id] & TOKEN_TYPE_MASK) {
    case TOKEN_BYTE: {
        int value = byte_value(text);
        if (value < 0)
            return mlxn_fail(MLXN_ERR_FORMAT, "%s: byte token %ld is '%s', not like <0x0A>",
                             mlxn_gguf_path(t->gguf), (long)id, mlxn_gguf_printable(text).text);
        if (t->byte_ids[value] < 0)
            t->byte_ids[value] = id;
        return MLXN_OK;
    }
    case TOKEN_UNKNOWN:
        if (t->unknown < 0)
            t->unknown = id;
        return MLXN_OK;
    case TOKEN_CONTROL:
        return MLXN_OK;
    default:
        if (text.bytes == 0)
            return MLXN_OK;
        mark_pairs(t, text);
        return mlxn_string_index_insert(&t->index, (uint32_t)id, &holder);
    }
}

static mlxn_status index_tokens(mlxn_tokenizer *t)
{
    MLXN_TRY(mlxn_string_index_create(&t->index, t->texts, (uint64_t)t->count));
    for (int i = 0; i < 256; i++)
        t->byte_ids[i] = -1;
    for (int32_t id = 0; id < t->count; id++)
        MLXN_TRY(index_token(t, id));
    /* Files without types: their byte tokens are known by their text. */
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        if (t->byte_ids[i] < 0)
            t->byte_ids[i] = (int32_t)mlxn_string_index_find(&t->index, text, 6);
    }
    return MLXN_OK;
}

/* An id under a key: -1 where there is no key, or it holds 2^32 - 1. */
static mlxn_status load_id(const mlxn_tokenizer *t, const char *key, int32_t *out)
{
    int64_t id = -1;
    *out = -1;
    if (mlxn_gguf_find_key(t->gguf, key) < 0)
        return MLXN_OK;
    MLXN_TRY(mlxn_gguf_get_i64(t->gguf, key, &id));
    if (id == -1 || id == UINT32_MAX)
        return MLXN_OK;
    if (id < 0 || id >= t->count)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: %s is %lld, the vocabulary has %ld tokens",
                         mlxn_gguf_path(t->gguf), key, (long long)id, (long)t->count);
    *out = (int32_t)id;
    return MLXN_OK;
}

static mlxn_status load_ids(mlxn_tokenizer *t)
{
    static const char *const end_keys[] = {"tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.eot_token_id",
                                           "tokenizer.ggml.eom_token_id"};
    int32_t unknown = -1;
    for (size_t i = 0; i < sizeof end_keys / sizeof *end_keys; i++) {
        int32_t id = -1;
        MLXN_TRY(load_id(t, end_keys[i], &id));
        if (id >= 0)
            t->types[id] |= TOKEN_ENDS;
        if (i == 0)
            t->eos = id;
    }
    MLXN_TRY(load_id(t, "tokenizer.ggml.bos_token_id", &t->bos));
    MLXN_TRY(load_id(t, "tokenizer.ggml.unknown_token_id", &unknown));
    if (unknown >= 0)
        t->unknown = unknown;
    t->add_space_prefix = 1; /* where the file does not say, as llama.cpp has it */
    if (mlxn_gguf_find_key(t->gguf, "tokenizer.ggml.add_space_prefix") < 0)
        return MLXN_OK;
    return mlxn_gguf_get_bool(t->gguf, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix);
}

mlxn_status mlxn_vocab_load(mlxn_tokenizer *t)
{
    t->bos = t->eos = t->unknown = -1;
    MLXN_TRY(check_model(t->gguf));
    MLXN_TRY(load_texts(t));
    MLXN_TRY(load_scores(t));
    MLXN_TRY(load_types(t));
    MLXN_TRY(index_tokens(t));
    MLXN_TRY(load_ids(t));
    MLXN_TRY(mlxn_cutter_create(&t->user, t, 0));
    return mlxn_cutter_create(&t->special, t, 1);
}

void mlxn_vocab_unload(mlxn_tokenizer *t)
{
    mlxn_cutter_destroy(&t->user);
    mlxn_cutter_destroy(&t->special);
    mlxn_string_index_destroy(&t->index);
    free(t->texts);
    free(t->types);
    free(t->pairs);
}

/* U+2581 gives a space. */
static size_t unescape(mlxn_gguf_string text, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < text.bytes; n++) {
        int space = text.bytes - i >= 3 && !memcmp(text.data + i, "\xe2\x96\x81", 3);
        out[n] = space ? ' ' : text.data[i];
        i += space ? 3 : 1;
    }
    return n;
}

size_t mlxn_vocab_piece(const mlxn_tokenizer *t, int32_t id, uint32_t flags, char *out)
{
    mlxn_gguf_string text = t->texts[id];
    switch (t->types[id] & TOKEN_TYPE_MASK) {
    case TOKEN_NORMAL:
        return unescape(text, out);
    case TOKEN_BYTE:
        *out = (char)byte_value(text);
        return 1;
    case TOKEN_CONTROL:
    case TOKEN_UNKNOWN:
        if (!(flags & MLXN_TOKENS_SPECIAL))
            return 0;
        break;
    case TOKEN_USER_DEFINED:
        break;
    default: /* undefined and unused tokens have no text */
        return 0;
    }
    if (text.bytes)
        memcpy(out, text.data, text.bytes);
    return text.bytes;
}
