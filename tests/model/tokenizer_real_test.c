/* tokenizer_real_test.c - the tokenizer on the vocabulary of the real model: recorded ids, and
 * texts of the worst kinds. */
#include "test.h"

#include <time.h>
#include "json.h"
#include "real_model.h"

typedef struct real_case {
    mlxn_tokenizer *t;
    const char *text;
    size_t bytes;
    uint32_t flags;
} real_case;

/* The ids, checked against the recorded ones; NULL (after failing) if they differ. */
static int32_t *expect_ids(real_case c, const json_value *want, size_t *count)
{
    size_t room = 4 * c.bytes + 8;
    int32_t *ids = malloc(room * sizeof *ids);
    int *recorded = malloc(room * sizeof *recorded);
    if (!ids || !recorded)
        abort();
    size_t n = json_ids(want, recorded, room);
    mlxn_status status = mlxn_tokenizer_encode(c.t, c.text, c.bytes, c.flags, ids, room, count);
    if (status != MLXN_OK || n != *count || memcmp(ids, recorded, n * sizeof *ids))
        test_failed(__FILE__, __LINE__, "\"%s\" (flags %u): %zu ids, recorded are %zu", c.text,
                    (unsigned)c.flags, *count, n);
    free(recorded);
    return ids;
}

static void check_back(real_case c, const int32_t *ids, size_t count, const json_value *back)
{
    const char *want = back ? back->string : c.text;
    size_t want_bytes = back ? back->bytes : c.bytes, bytes = 0;
    char *text = malloc(want_bytes + 1);
    if (!text)
        abort();
    mlxn_status status =
        mlxn_tokenizer_decode(c.t, ids, count, c.flags, text, want_bytes + 1, &bytes);
    if (status != MLXN_OK || bytes != want_bytes || memcmp(text, want, bytes))
        test_failed(__FILE__, __LINE__, "\"%s\" comes back as %zu bytes", c.text, bytes);
    free(text);
}

TEST(tokenizer_real_strings)
{
    mlxn_gguf *g = real_model();
    mlxn_tokenizer *t = NULL;
    json_document *d = json_load("gemma3_tokenizer_dev.json");
    const json_value *rows = json_get(json_root(d), "rows");
    size_t strings = 0, count;
    REQUIRE(g && rows);
    REQUIRE_OK(mlxn_tokenizer_create(g, &t));
    for (const json_value *row = rows->first; row; row = row->next, strings++) {
        const json_value *s = json_get(row, "s"), *special = json_get(row, "ids_special");
        REQUIRE(s && s->kind == JSON_STRING && json_get(row, "ids"));
        real_case c = {t, s->string, s->bytes, 0};
        int32_t *ids = expect_ids(c, json_get(row, "ids"), &count);
        check_back(c, ids, count, json_get(row, "back"));
        free(ids);
        c.flags = MLXN_TOKENS_SPECIAL;
        ids = expect_ids(c, special ? special : json_get(row, "ids"), &count);
        check_back(c, ids, count, json_get(row, "back"));
        free(ids);
    }
    CHECK(strings >= 100);
    json_free(d);
    d = json_load("gemma3_greedy_dev.json");
    const json_value *prompts = json_get(json_root(d), "prompts");
    REQUIRE(prompts && prompts->count);
    for (const json_value *p = prompts->first; p; p = p->next) {
        const json_value *s = json_get(p, "prompt");
        real_case c = {t, s->string, s->bytes, MLXN_TOKENS_BOS | MLXN_TOKENS_SPECIAL};
        free(expect_ids(c, json_get(p, "ids"), &count));
    }
    json_free(d);
    mlxn_tokenizer_release(t);
}

TEST(tokenizer_real_vocabulary)
{
    mlxn_gguf *g = real_model();
    mlxn_tokenizer *t = NULL;
    int32_t sum = 0;
    int ends = 0;
    REQUIRE(g);
    REQUIRE_OK(mlxn_tokenizer_create(g, &t));
    CHECK(mlxn_tokenizer_vocab_size(t) == 262144);
    CHECK(mlxn_tokenizer_bos(t) == 2 && mlxn_tokenizer_eos(t) == 1);
    for (int32_t id = 0; id < 262144; id++)
        if (mlxn_tokenizer_is_end(t, id)) {
            sum += id;
            ends++;
        }
    CHECK(ends == 3 && sum == 1 + 106 + 212 && mlxn_tokenizer_is_end(t, 106));
    mlxn_tokenizer_release(t);
}

static double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Texts of the worst kinds: nothing may take quadratic time, which would be hours. */
TEST(tokenizer_real_worst_cases)
{
    enum { BYTES = 1000000 };
    static const char *const units[] = {"a", " ", "\n", "<", "\xe2\x96\x81", "\xe2", " \n", "<b"};
    mlxn_gguf *g = real_model();
    mlxn_tokenizer *t = NULL;
    char *text = malloc(BYTES), *back = malloc(BYTES + 1);
    int32_t *ids = malloc(BYTES * sizeof *ids);
    size_t count = 0, bytes = 0, kinds = test_full() ? 9 : 2;
    uint64_t state = 11;
    REQUIRE(g && text && back && ids);
    REQUIRE_OK(mlxn_tokenizer_create(g, &t));
    for (size_t k = 0; k < kinds; k++) {
        for (size_t i = 0; i < BYTES; i++)
            text[i] = k < 8 ? units[k][i % strlen(units[k])] : (char)test_random(&state);
        double start = seconds();
        for (uint32_t flags = 0; flags < 3; flags += 2)
            CHECK_STATUS(mlxn_tokenizer_encode(t, text, BYTES, flags, ids, BYTES, &count), MLXN_OK);
        double took = seconds() - start;
        if (took > 20)
            test_failed(__FILE__, __LINE__, "text %zu takes %.1f s", k, took);
        if (k == 4 || k == 8)
            continue; /* U+2581 comes back as a space, and a space inside a broken character not */
        CHECK_STATUS(mlxn_tokenizer_decode(t, ids, count, 2, back, BYTES + 1, &bytes), MLXN_OK);
        CHECK(bytes == BYTES && !memcmp(back, text, BYTES));
    }
    mlxn_tokenizer_release(t);
    free(text);
    free(back);
    free(ids);
}
