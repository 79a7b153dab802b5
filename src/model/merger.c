/* merger.c - SentencePiece's merging by scores, as llama.cpp does it.
 *
 * The text, its spaces written as U+2581, is split into characters.  Of all neighbours whose joint
 * text is a token, those with the best score merge, the leftmost of equals, until none are left.
 * What is then a token gives its id; what is not gives the tokens of its bytes.
 *
 * The text is first cut wherever no token holds the two characters around the cut side by side
 * (vocab.c): no merge crosses, so the parts are merged on their own, most of them a word long and
 * in the nearest cache.  Pairs wait in a heap; an entry whose parts have changed since is dropped
 * when its turn comes.  A part of n characters costs O(n log n). */
#include "vocab.h"

#include "gguf_file.h"

#define NONE UINT32_MAX /* no symbol */

/* Sorts scores downwards: the larger the float, the smaller the key. */
static uint32_t score_key(const mlxn_tokenizer *t, int32_t id)
{
    if (!t->scores)
        return 0;
    uint32_t bits = mlxn_load_u32(t->scores + 4 * (size_t)id);
    if (bits == 0x80000000)
        bits = 0; /* -0 is 0 */
    return bits >> 31 ? bits : 0x7fffffff - bits;
}

/* Queues the merge of a symbol with the next, if their text is a token. */
static mlxn_status consider(const mlxn_tokenizer *t, const char *text, mlxn_merge_work *work,
                            uint32_t left)
{
    const mlxn_symbol *l = &work->symbols[left];
    if (l->next == NONE)
        return MLXN_OK;
    uint32_t bytes = l->bytes + work->symbols[l->next].bytes;
    int32_t id = (int32_t)mlxn_string_index_find(&t->index, text + l->start, bytes);
    if (id < 0)
        return MLXN_OK;
    /* The bytes tell, when its turn comes, whether both parts are still what they are now. */
    mlxn_heap_item item = {(uint64_t)score_key(t, id) << 32 | left, bytes, (uint32_t)id};
    return mlxn_heap_push(&work->heap, item);
}

static mlxn_status merge_all(const mlxn_tokenizer *t, const char *text, mlxn_merge_work *work)
{
    mlxn_symbol *s = work->symbols;
    work->heap.count = 0;
    for (uint32_t i = 0; i + 1 < work->count; i++)
        MLXN_TRY(consider(t, text, work, i));
    while (work->heap.count) {
        mlxn_heap_item item = mlxn_heap_pop(&work->heap);
        uint32_t left = (uint32_t)item.key, right = s[left].next;
        if (!s[left].bytes || right == NONE || s[left].bytes + s[right].bytes != item.a)
            continue;
        s[left].bytes = item.a;
        s[left].id = (int32_t)item.b;
        s[left].next = s[right].next;
        s[right].bytes = 0;
        if (s[left].next != NONE)
            s[s[left].next].previous = left;
        if (s[left].previous != NONE)
            MLXN_TRY(consider(t, text, work, s[left].previous));
        MLXN_TRY(consider(t, text, work, left));
    }
    return MLXN_OK;
}

static mlxn_status put_symbol(const mlxn_tokenizer *t, const char *text, const mlxn_symbol *symbol,
                              mlxn_id_sink *sink)
{
    const char *bytes = text + symbol->start;
    int32_t id = symbol->id;
    if (id < 0)
        id = (int32_t)mlxn_string_index_find(&t->index, bytes, symbol->bytes);
    if (id >= 0) {
        mlxn_id_sink_put(sink, id);
        return MLXN_OK;
    }
    for (uint32_t i = 0; i < symbol->bytes; i++) {
        id = t->byte_ids[(unsigned char)bytes[i]];
        if (id < 0)
            id = (int32_t)mlxn_string_index_find(&t->index, bytes + i, 1);
        if (id < 0)
            id = t->unknown;
        if (id < 0)
            return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                             "%s: the vocabulary has no token for byte 0x%02x and none for unknown",
                             mlxn_gguf_path(t->gguf), (unsigned char)bytes[i]);
        mlxn_id_sink_put(sink, id);
    }
    return MLXN_OK;
}

/* Merges the symbols gathered and starts anew. */
static mlxn_status flush(const mlxn_tokenizer *t, const char *text, mlxn_merge_work *work,
                         mlxn_id_sink *sink)
{
    if (work->count == 0)
        return MLXN_OK;
    work->symbols[work->count - 1].next = NONE;
    if (work->count > 1)
        MLXN_TRY(merge_all(t, text, work));
    for (uint32_t i = 0; i != NONE; i = work->symbols[i].next)
        MLXN_TRY(put_symbol(t, text, &work->symbols[i], sink));
    work->count = 0;
    return MLXN_OK;
}

static mlxn_status add_symbol(mlxn_merge_work *work, size_t start, size_t bytes)
{
    if (work->count == work->capacity) {
        size_t capacity = work->capacity ? 2 * work->capacity : 64;
        mlxn_symbol *symbols = realloc(work->symbols, capacity * sizeof *symbols);
        if (!symbols)
            return mlxn_fail(MLXN_ERR_MEMORY, "text of %zu characters", capacity);
        work->symbols = symbols;
        work->capacity = capacity;
    }
    uint32_t i = (uint32_t)work->count++;
    work->symbols[i] = (mlxn_symbol){(uint32_t)start, (uint32_t)bytes, i ? i - 1 : NONE, i + 1, -1};
    return MLXN_OK;
}

/* Writes spaces as U+2581; *text and *bytes become the result's. */
static mlxn_status escape(mlxn_merge_work *work, const char **text, size_t *bytes, int space)
{
    size_t spaces = space ? 1 : 0, n = 0;
    for (size_t i = 0; i < *bytes; i++)
        spaces += (*text)[i] == ' ';
    if (!spaces)
        return MLXN_OK;
    size_t needed = *bytes + 3 * spaces;
    if (needed > work->escaped_capacity) {
        free(work->escaped);
        work->escaped_capacity = 0;
        work->escaped = malloc(needed);
        if (!work->escaped)
            return mlxn_fail(MLXN_ERR_MEMORY, "text of %zu bytes", needed);
        work->escaped_capacity = needed;
    }
    if (space) {
        memcpy(work->escaped, "\xe2\x96\x81", 3);
        n = 3;
    }
    for (size_t i = 0; i < *bytes; i++) {
        if ((*text)[i] == ' ') {
            memcpy(work->escaped + n, "\xe2\x96\x81", 3);
            n += 3;
        } else {
            work->escaped[n++] = (*text)[i];
        }
    }
    *text = work->escaped;
    *bytes = n;
    return MLXN_OK;
}

mlxn_status mlxn_merger_encode(const mlxn_tokenizer *t, const char *text, size_t bytes, int space,
                               mlxn_merge_work *work, mlxn_id_sink *sink)
{
    uint32_t left = 0;
    MLXN_TRY(escape(work, &text, &bytes, space));
    for (size_t at = 0; at < bytes;) {
        size_t start = at;
        uint32_t right = mlxn_character_next(text, bytes, &at);
        uint32_t bit = mlxn_pair_bit(left, right);
        if (!(t->pairs[bit / 64] >> bit % 64 & 1))
            MLXN_TRY(flush(t, text, work, sink));
        MLXN_TRY(add_symbol(work, start, at - start));
        left = right;
    }
    return flush(t, text, work, sink);
}

void mlxn_merge_work_free(mlxn_merge_work *work)
{
    free(work->symbols);
    free(work->escaped);
    free(work->heap.items);
}
