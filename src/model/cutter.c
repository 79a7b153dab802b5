/* cutter.c - cuts tokens out of a text before anything merges.
 *
 * The rule is llama.cpp's: the tokens take turns, the longest first (of equal length: the lowest id
 * first), and each cuts all its occurrences, leftmost first, out of what is left uncut.  Done like
 * that it costs text times tokens.  Here every place of the text names the longest token that
 * starts there; from a heap in the order (turn, place) each is cut if nothing overlaps it, and
 * otherwise tries again with the longest that fits before what was cut.  What was cut before is at
 * least as long, so that it overlaps only if it holds the first or the last byte.
 *
 * Groups of places that overlap each other are done one after another; most are a single one.
 *
 * The longest token at a place: tokens are sorted by text, so if any is a prefix of the rest of the
 * text, the last token not after that rest starts with it (or is it): binary search, then up the
 * chain of prefixes. */
#include "vocab.h"

static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_tokens(const void *a, const void *b)
{
    const mlxn_cut_token *x = a, *y = b;
    int order = compare_bytes(x->text.data, x->text.bytes, y->text.data, y->text.bytes);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* Longest first, then lowest id. */
static int compare_turns(const void *a, const void *b)
{
    const mlxn_cut_token *x = *(mlxn_cut_token *const *)a, *y = *(mlxn_cut_token *const *)b;
    if (x->text.bytes != y->text.bytes)
        return x->text.bytes < y->text.bytes ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static int is_cut_out(int type, int with_control)
{
    return type == TOKEN_USER_DEFINED ||
           (with_control && (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN));
}

static size_t collect(mlxn_cut_token *tokens, const mlxn_tokenizer *t, int with_control)
{
    size_t count = 0;
    for (int32_t id = 0; id < t->count; id++) {
        if (!is_cut_out(t->types[id] & TOKEN_TYPE_MASK, with_control) || !t->texts[id].bytes)
            continue;
        if (tokens)
            tokens[count] = (mlxn_cut_token){.text = t->texts[id], .id = id};
        count++;
    }
    return count;
}

/* Sorts by text, drops all but the first of equal ones, links prefixes. */
static void arrange(mlxn_cutter *cutter, size_t count)
{
    mlxn_cut_token *tokens = cutter->tokens;
    qsort(tokens, count, sizeof *tokens, compare_tokens);
    for (size_t i = 0; i < count; i++) {
        mlxn_cut_token token = tokens[i];
        size_t n = cutter->count;
        if (n && mlxn_string_equal(tokens[n - 1].text, token.text.data, token.text.bytes))
            continue;
        int64_t p = (int64_t)n - 1;
        while (p >= 0 && (tokens[p].text.bytes > token.text.bytes ||
                          memcmp(tokens[p].text.data, token.text.data, tokens[p].text.bytes)))
            p = tokens[p].prefix;
        token.prefix = p;
        tokens[cutter->count++] = token;
    }
    for (size_t byte = 0, i = 0; byte <= 256; byte++) {
        while (i < cutter->count && (unsigned char)tokens[i].text.data[0] < byte)
            i++;
        cutter->first[byte] = i;
    }
}

mlxn_status mlxn_cutter_create(mlxn_cutter *cutter, const mlxn_tokenizer *t, int with_control)
{
    size_t count = collect(NULL, t, with_control);
    if (count == 0)
        return MLXN_OK;
    mlxn_cut_token **turns = malloc(count * sizeof(mlxn_cut_token *));
    cutter->tokens = malloc(count * sizeof *cutter->tokens);
    if (!turns || !cutter->tokens) {
        free(turns);
        return mlxn_fail(MLXN_ERR_MEMORY, "%zu special tokens", count);
    }
    collect(cutter->tokens, t, with_control);
    arrange(cutter, count);
    for (size_t i = 0; i < cutter->count; i++)
        turns[i] = &cutter->tokens[i];
    qsort(turns, cutter->count, sizeof *turns, compare_turns);
    for (size_t i = 0; i < cutter->count; i++)
        turns[i]->rank = (uint32_t)i;
    free(turns);
    return MLXN_OK;
}

void mlxn_cutter_destroy(mlxn_cutter *cutter)
{
    free(cutter->tokens);
    cutter->tokens = NULL;
}

void mlxn_cut_work_free(mlxn_cut_work *work)
{
    free(work->cuts);
    free(work->candidates);
    free(work->covered);
    free(work->heap.items);
}

/* The longest token that `text` starts with; -1: none. */
static int64_t longest(const mlxn_cutter *cutter, const char *text, size_t bytes)
{
    size_t low = cutter->first[(unsigned char)*text];
    size_t high = cutter->first[(unsigned char)*text + 1], begin = low;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        mlxn_gguf_string token = cutter->tokens[middle].text;
        if (compare_bytes(token.data, token.bytes, text, bytes) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == begin)
        return -1;
    int64_t at = (int64_t)low - 1;
    mlxn_gguf_string last = cutter->tokens[at].text;
    size_t common = 1;
    while (common < bytes && common < last.bytes && text[common] == last.data[common])
        common++;
    while (at >= 0 && cutter->tokens[at].text.bytes > common)
        at = cutter->tokens[at].prefix;
    return at;
}

/* The table, with room for `count` elements of `size` bytes; NULL where there is no memory. */
static void *reserve(void *table, size_t *capacity, size_t count, size_t size)
{
    if (count <= *capacity)
        return table;
    size_t wanted = count < 32 ? 32 : count + count / 2;
    void *more = realloc(table, wanted * size);
    if (!more)
        mlxn_fail(MLXN_ERR_MEMORY, "%zu places to cut", wanted);
    else
        *capacity = wanted;
    return more;
}

static mlxn_status add_cut(const mlxn_cutter *cutter, mlxn_cut_candidate c, mlxn_cut_work *work)
{
    mlxn_cut *cuts = reserve(work->cuts, &work->cut_capacity, work->count + 1, sizeof *cuts);
    if (!cuts)
        return MLXN_ERR_MEMORY;
    const mlxn_cut_token *token = &cutter->tokens[c.token];
    work->cuts = cuts;
    cuts[work->count++] = (mlxn_cut){c.start, token->text.bytes, token->id};
    return MLXN_OK;
}

static mlxn_status add_candidate(mlxn_cut_work *work, size_t start, int64_t token)
{
    mlxn_cut_candidate *candidates = reserve(work->candidates, &work->candidate_capacity,
                                             work->candidate_count + 1, sizeof *candidates);
    if (!candidates)
        return MLXN_ERR_MEMORY;
    work->candidates = candidates;
    candidates[work->candidate_count++] = (mlxn_cut_candidate){start, token};
    return MLXN_OK;
}

static mlxn_status push(const mlxn_cutter *cutter, mlxn_cut_work *work, size_t place, int64_t token)
{
    uint32_t rank = cutter->tokens[token].rank;
    mlxn_heap_item item = {(uint64_t)rank << 32 | place, (uint32_t)place, (uint32_t)token};
    return mlxn_heap_push(&work->heap, item);
}

static int compare_cuts(const void *a, const void *b)
{
    const mlxn_cut *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* Decides between the candidates of a group, which covers [base, end) of the text. */
static mlxn_status resolve(const mlxn_cutter *cutter, const char *text, size_t base, size_t end,
                           mlxn_cut_work *work)
{
    unsigned char *covered = reserve(work->covered, &work->covered_capacity, end - base, 1);
    if (!covered)
        return MLXN_ERR_MEMORY;
    work->covered = memset(covered, 0, end - base);
    work->heap.count = 0;
    for (size_t i = 0; i < work->candidate_count; i++)
        MLXN_TRY(push(cutter, work, work->candidates[i].start - base, work->candidates[i].token));
    while (work->heap.count) {
        mlxn_heap_item item = mlxn_heap_pop(&work->heap);
        size_t place = item.a, bytes = cutter->tokens[item.b].text.bytes, room = 1;
        if (covered[place])
            continue;
        if (!covered[place + bytes - 1]) {
            memset(covered + place, 1, bytes);
            MLXN_TRY(add_cut(cutter, (mlxn_cut_candidate){base + place, item.b}, work));
            continue;
        }
        while (!covered[place + room])
            room++;
        int64_t token = longest(cutter, text + base + place, room);
        if (token >= 0)
            MLXN_TRY(push(cutter, work, place, token));
    }
    qsort(work->cuts, work->count, sizeof *work->cuts, compare_cuts);
    return MLXN_OK;
}

mlxn_status mlxn_cutter_next(const mlxn_cutter *cutter, const char *text, size_t bytes, size_t *at,
                             mlxn_cut_work *work)
{
    size_t place = *at, end = 0;
    work->count = work->candidate_count = 0;
    if (cutter->count == 0)
        place = bytes;
    for (; place < bytes && (!end || place < end); place++) {
        int64_t token = longest(cutter, text + place, bytes - place);
        if (token < 0)
            continue;
        size_t reach = place + cutter->tokens[token].text.bytes;
        end = reach > end ? reach : end;
        MLXN_TRY(add_candidate(work, place, token));
    }
    *at = place;
    if (work->candidate_count == 1)
        return add_cut(cutter, work->candidates[0], work);
    if (work->candidate_count == 0)
        return MLXN_OK;
    return resolve(cutter, text, work->candidates[0].start, end, work);
}
