/* tokenizer.c - text to ids and back: cutter.c cuts out what is a token as it stands, merger.c
 * encodes what lies between. */
#include "vocab.h"

enum { TEXT_BYTES_MAX = 1 << 30 };
static const uint32_t all_flags = MLXN_TOKENS_BOS | MLXN_TOKENS_SPECIAL;

mlxn_status mlxn_tokenizer_create(mlxn_gguf *gguf, mlxn_tokenizer **out)
{
    if (!gguf || !out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "tokenizer: gguf or out is NULL");
    mlxn_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return mlxn_fail(MLXN_ERR_MEMORY, "tokenizer");
    atomic_init(&t->references, 1);
    t->gguf = mlxn_gguf_retain(gguf);
    mlxn_status status = mlxn_vocab_load(t);
    if (status == MLXN_OK)
        *out = t;
    else
        mlxn_tokenizer_release(t);
    return status;
}

mlxn_tokenizer *mlxn_tokenizer_retain(mlxn_tokenizer *tokenizer)
{
    if (tokenizer)
        atomic_fetch_add_explicit(&tokenizer->references, 1, memory_order_relaxed);
    return tokenizer;
}

void mlxn_tokenizer_release(mlxn_tokenizer *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) != 1)
        return;
    mlxn_vocab_unload(t);
    mlxn_gguf_release(t->gguf);
    free(t);
}

int32_t mlxn_tokenizer_vocab_size(const mlxn_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->count : 0;
}

int32_t mlxn_tokenizer_bos(const mlxn_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->bos : -1;
}

int32_t mlxn_tokenizer_eos(const mlxn_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->eos : -1;
}

int mlxn_tokenizer_is_end(const mlxn_tokenizer *tokenizer, int32_t id)
{
    return tokenizer && id >= 0 && id < tokenizer->count && tokenizer->types[id] & TOKEN_ENDS;
}

/* What lies before, between and after the cuts.  A space prefix goes before every stretch of text
 * that follows a token that was cut out, or nothing. */
static mlxn_status encode_text(const mlxn_tokenizer *t, const char *text, size_t bytes,
                               const mlxn_cutter *cutter, mlxn_cut_work *cutting,
                               mlxn_merge_work *merging, mlxn_id_sink *sink)
{
    size_t done = 0, at = 0;
    while (done < bytes) {
        MLXN_TRY(mlxn_cutter_next(cutter, text, bytes, &at, cutting));
        for (size_t i = 0; i <= cutting->count; i++) {
            int last = i == cutting->count;
            if (last && cutting->count)
                break; /* there may be more cuts */
            size_t end = last ? bytes : cutting->cuts[i].start;
            if (end > done)
                MLXN_TRY(mlxn_merger_encode(t, text + done, end - done, t->add_space_prefix,
                                            merging, sink));
            done = end;
            if (last)
                break;
            mlxn_id_sink_put(sink, cutting->cuts[i].id);
            done += cutting->cuts[i].bytes;
        }
    }
    return MLXN_OK;
}

mlxn_status mlxn_tokenizer_encode(const mlxn_tokenizer *t, const char *text, size_t bytes,
                                  uint32_t flags, int32_t *ids, size_t capacity, size_t *count)
{
    if (!t || !count || (!text && bytes) || (!ids && capacity) || flags & ~all_flags)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "tokenizer encode: tokenizer, text, ids or count is NULL, or flags 0x%x",
                         (unsigned)flags);
    if (bytes > TEXT_BYTES_MAX)
        return mlxn_fail(MLXN_ERR_BOUNDS, "tokenizer encode: text has %zu bytes, at most %d go",
                         bytes, (int)TEXT_BYTES_MAX);
    mlxn_id_sink sink = {ids, capacity, 0};
    if (flags & MLXN_TOKENS_BOS) {
        if (t->bos < 0)
            return mlxn_fail(MLXN_ERR_NOT_FOUND, "tokenizer encode: %s names no BOS token",
                             mlxn_gguf_path(t->gguf));
        mlxn_id_sink_put(&sink, t->bos);
    }
    mlxn_cut_work cutting = {0};
    mlxn_merge_work merging = {0};
    const mlxn_cutter *cutter = flags & MLXN_TOKENS_SPECIAL ? &t->special : &t->user;
    mlxn_status status = encode_text(t, text, bytes, cutter, &cutting, &merging, &sink);
    mlxn_cut_work_free(&cutting);
    mlxn_merge_work_free(&merging);
    if (status != MLXN_OK)
        return status;
    *count = sink.count;
    if (capacity && sink.count > capacity)
        return mlxn_fail(MLXN_ERR_BOUNDS, "tokenizer encode: %zu ids, room is for %zu", sink.count,
                         capacity);
    return MLXN_OK;
}

static size_t longest_text(const mlxn_tokenizer *t, const int32_t *ids, size_t count)
{
    size_t most = 1;
    for (size_t i = 0; i < count; i++)
        most = t->texts[ids[i]].bytes > most ? t->texts[ids[i]].bytes : most;
    return most;
}

mlxn_status mlxn_tokenizer_decode(const mlxn_tokenizer *t, const int32_t *ids, size_t count,
                                  uint32_t flags, char *text, size_t capacity, size_t *bytes)
{
    if (!t || !bytes || (!ids && count) || (!text && capacity) || flags & ~all_flags)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "tokenizer decode: tokenizer, ids, text or bytes is NULL, or flags 0x%x",
                         (unsigned)flags);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= t->count)
            return mlxn_fail(MLXN_ERR_BOUNDS, "tokenizer decode: id %ld at %zu, %ld tokens",
                             (long)ids[i], i, (long)t->count);
    char *piece = malloc(longest_text(t, ids, count));
    if (!piece)
        return mlxn_fail(MLXN_ERR_MEMORY, "tokenizer decode");
    size_t total = 0;
    int strip = t->add_space_prefix;
    for (size_t i = 0; i < count; i++) {
        size_t n = mlxn_vocab_piece(t, ids[i], flags, piece), skip = 0;
        if (strip && !(i == 0 && ids[i] == t->bos)) {
            skip = n && *piece == ' ';
            strip = 0;
        }
        for (size_t k = skip; k < n; k++, total++)
            if (total < capacity)
                text[total] = piece[k];
    }
    free(piece);
    *bytes = total;
    if (capacity && total > capacity)
        return mlxn_fail(MLXN_ERR_BOUNDS, "tokenizer decode: %zu bytes, room is for %zu", total,
                         capacity);
    return MLXN_OK;
}
