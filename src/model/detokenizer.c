/* detokenizer.c - ids to text as they come, whole UTF-8 characters only.
 *
 * Bytes that cannot become a character give U+FFFD, one for each longest run of bytes that might
 * have begun one (Unicode 15, section 3.9, "substitution of maximal subparts"; table 3-7 says which
 * second bytes are right). */
#include "vocab.h"

struct mlxn_detokenizer {
    mlxn_tokenizer *tokenizer;
    uint32_t flags;
    size_t waiting, capacity; /* bytes of an unfinished character in `raw`, which has `capacity` */
    unsigned char *raw;
    char *text; /* 3 * capacity + 1 bytes */
};

enum { RAW_BYTES_MIN = 64 };

/* How many bytes from p on are a character (*whole = 1), the beginning of one that the end cuts off
 * (*whole = 0) or to be replaced (*whole = -1).  n > 0. */
static size_t scan(const unsigned char *p, size_t n, int *whole)
{
    unsigned char first = p[0], low = 0x80, high = 0xbf;
    *whole = first < 0x80 ? 1 : -1;
    if (first < 0xc2 || first > 0xf4)
        return 1;
    size_t length = mlxn_character_bytes(first);
    if (first == 0xe0)
        low = 0xa0; /* shorter forms exist */
    else if (first == 0xed)
        high = 0x9f; /* surrogates */
    else if (first == 0xf0)
        low = 0x90; /* shorter forms exist */
    else if (first == 0xf4)
        high = 0x8f; /* past U+10FFFF */
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf) {
        if (i == n) {
            *whole = 0;
            return n;
        }
        if (p[i] < low || p[i] > high)
            return i;
    }
    *whole = 1;
    return length;
}

static size_t put_replacement(char *out)
{
    memcpy(out, "\xef\xbf\xbd", 3);
    return 3;
}

/* Moves `bytes` raw bytes to text; an unfinished character at the end stays, moved to the front. */
static size_t put_whole(mlxn_detokenizer *d, size_t bytes)
{
    size_t at = 0, n = 0;
    d->waiting = 0;
    while (at < bytes) {
        int whole;
        size_t length = scan(d->raw + at, bytes - at, &whole);
        if (whole == 0) {
            memmove(d->raw, d->raw + at, length);
            d->waiting = length;
            break;
        }
        if (whole > 0)
            memcpy(d->text + n, d->raw + at, length);
        n += whole > 0 ? length : put_replacement(d->text + n);
        at += length;
    }
    d->text[n] = 0;
    return n;
}

static mlxn_status reserve(mlxn_detokenizer *d, size_t bytes)
{
    if (bytes <= d->capacity)
        return MLXN_OK;
    if (bytes > (SIZE_MAX - 1) / 3)
        return mlxn_fail(MLXN_ERR_OVERFLOW, "detokenizer: token of %zu bytes", bytes);
    unsigned char *raw = realloc(d->raw, bytes);
    if (raw)
        d->raw = raw;
    char *text = realloc(d->text, 3 * bytes + 1);
    if (text)
        d->text = text;
    if (!raw || !text)
        return mlxn_fail(MLXN_ERR_MEMORY, "detokenizer: token of %zu bytes", bytes);
    d->capacity = bytes;
    return MLXN_OK;
}

mlxn_status mlxn_detokenizer_create(mlxn_tokenizer *tokenizer, uint32_t flags,
                                    mlxn_detokenizer **out)
{
    if (!tokenizer || !out || flags & ~(uint32_t)(MLXN_TOKENS_BOS | MLXN_TOKENS_SPECIAL))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "detokenizer: tokenizer or out is NULL, or flags 0x%x",
                         (unsigned)flags);
    mlxn_detokenizer *d = calloc(1, sizeof *d);
    if (!d)
        return mlxn_fail(MLXN_ERR_MEMORY, "detokenizer");
    d->tokenizer = mlxn_tokenizer_retain(tokenizer);
    d->flags = flags;
    mlxn_status status = reserve(d, RAW_BYTES_MIN);
    if (status == MLXN_OK)
        *out = d;
    else
        mlxn_detokenizer_release(d);
    return status;
}

void mlxn_detokenizer_release(mlxn_detokenizer *d)
{
    if (!d)
        return;
    mlxn_tokenizer_release(d->tokenizer);
    free(d->raw);
    free(d->text);
    free(d);
}

mlxn_status mlxn_detokenizer_next(mlxn_detokenizer *d, int32_t id, const char **text, size_t *bytes)
{
    if (!d || !text || !bytes)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "detokenizer: detokenizer, text or bytes is NULL");
    const mlxn_tokenizer *t = d->tokenizer;
    if (id < 0 || id >= t->count)
        return mlxn_fail(MLXN_ERR_BOUNDS, "detokenizer: id %ld, %ld tokens", (long)id,
                         (long)t->count);
    MLXN_TRY(reserve(d, d->waiting + t->texts[id].bytes + 1));
    size_t piece = mlxn_vocab_piece(t, id, d->flags, (char *)d->raw + d->waiting);
    *bytes = put_whole(d, d->waiting + piece);
    *text = d->text;
    return MLXN_OK;
}

mlxn_status mlxn_detokenizer_finish(mlxn_detokenizer *d, const char **text, size_t *bytes)
{
    if (!d || !text || !bytes)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "detokenizer: detokenizer, text or bytes is NULL");
    *bytes = d->waiting ? put_replacement(d->text) : 0;
    d->text[*bytes] = 0;
    d->waiting = 0;
    *text = d->text;
    return MLXN_OK;
}
