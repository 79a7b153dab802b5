/* tokenizer_test.c - the tokenizer on a small vocabulary: against a plain reference, its rules one
 * by one, what is refused, several threads.  Other vocabularies: tokenizer_vocab_test.c and
 * tokenizer_real_test.c.
 *
 * The reference does what the rules say, step by step, in cubic time: each special token in turn
 * is searched through what is left of the text, then the best pair of neighbours is searched
 * through all of it, again and again. */
#include "test.h"

#include <pthread.h>
#include "tiny_tokenizer.h"

enum { TEXT_MAX = 256, IDS_MAX = 3 * TEXT_MAX + 16 };

static int find_text(const tiny_vocab *v, const char *text, size_t bytes)
{
    for (int id = 0; id < v->count; id++) {
        int type = v->types[id];
        if (type != 2 && type != 3 && type != 6 && v->texts[id].bytes == bytes &&
            !memcmp(v->texts[id].data, text, bytes))
            return id;
    }
    return -1;
}

static size_t reference_merge(const tiny_vocab *v, const char *raw, size_t raw_bytes, int *ids)
{
    char text[3 * TEXT_MAX];
    size_t bytes = 0, part[3 * TEXT_MAX + 1], parts = 0, n = 0;
    for (size_t i = 0; i < raw_bytes; i++) {
        memcpy(text + bytes, raw[i] == ' ' ? "\xe2\x96\x81" : raw + i, raw[i] == ' ' ? 3 : 1);
        bytes += raw[i] == ' ' ? 3 : 1;
    }
    for (size_t at = 0; at < bytes; parts++) {
        unsigned char c = (unsigned char)text[at];
        part[parts] = at;
        at += c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    }
    part[parts] = bytes;
    for (;;) {
        size_t best = parts;
        float score = 0;
        for (size_t i = 0; i + 1 < parts; i++) {
            int id = find_text(v, text + part[i], part[i + 2] - part[i]);
            if (id >= 0 && (best == parts || v->scores[id] > score)) {
                best = i;
                score = v->scores[id];
            }
        }
        if (best == parts)
            break;
        memmove(part + best + 1, part + best + 2, (parts - best - 1) * sizeof *part);
        parts--;
    }
    for (size_t i = 0; i < parts; i++) {
        int id = find_text(v, text + part[i], part[i + 1] - part[i]);
        if (id >= 0)
            ids[n++] = id;
        for (size_t k = part[i]; id < 0 && k < part[i + 1]; k++)
            ids[n++] = 4 + (unsigned char)text[k];
    }
    return n;
}

/* owner[i]: 0 where nothing was cut, 1 + id at a cut's first byte, -1 at its others */
static void reference_cut(const tiny_vocab *v, const char *text, size_t bytes, int special,
                          int *owner)
{
    memset(owner, 0, bytes * sizeof *owner);
    for (size_t length = bytes; length > 0; length--) {
        for (int id = 0; id < v->count; id++) {
            int type = v->types[id];
            int control = type == 2 || type == 3 || !strcmp(v->texts[id].data, "</s>");
            if (v->texts[id].bytes != length || (control ? !special : type != 4))
                continue;
            for (size_t at = 0; at + length <= bytes; at++) {
                size_t k = 0;
                while (k < length && !owner[at + k] && text[at + k] == v->texts[id].data[k])
                    k++;
                if (k < length)
                    continue;
                for (k = 0; k < length; k++)
                    owner[at + k] = k ? -1 : 1 + id;
            }
        }
    }
}

static size_t reference_encode(const tiny_vocab *v, const char *text, size_t bytes, int special,
                               int *ids)
{
    int owner[TEXT_MAX];
    size_t n = 0, from = 0;
    reference_cut(v, text, bytes, special, owner);
    for (size_t at = 0; at <= bytes; at++) {
        if (at < bytes && owner[at] == 0)
            continue;
        n += reference_merge(v, text + from, at - from, ids + n);
        if (at < bytes)
            ids[n++] = owner[at] - 1;
        while (at + 1 < bytes && owner[at + 1] < 0)
            at++;
        from = at + 1;
    }
    return n;
}

static size_t random_text(uint64_t *state, char *text)
{
    static const char *const alphabets[] = {
        "abc", "aa a",      "the ",           " \n",  "<b>b", "<bx>",
        "cdd", "a\xc3\xa9", "\xe2\x96\x81 t", "</s>x"};
    const char *letters = alphabets[test_random(state) % 10];
    size_t bytes = test_random(state) % (TEXT_MAX / 4), kinds = strlen(letters);
    for (size_t i = 0; i < bytes; i++)
        text[i] = test_random(state) % 50 ? letters[test_random(state) % kinds]
                                          : (char)test_random(state);
    return bytes;
}

static void compare_with_reference(const tiny_vocab *v, uint64_t seed, int rounds)
{
    unsigned char *memory;
    mlxn_tokenizer *t;
    uint64_t state = seed;
    REQUIRE_OK(tiny_tokenizer_of(v, &memory, &t));
    for (int i = 0; i < rounds; i++) {
        char text[TEXT_MAX];
        int want[IDS_MAX];
        int32_t got[IDS_MAX];
        size_t bytes = random_text(&state, text), count = 0;
        int special = (int)(test_random(&state) % 2);
        size_t n = reference_encode(v, text, bytes, special, want);
        CHECK_STATUS(mlxn_tokenizer_encode(t, text, bytes, special ? MLXN_TOKENS_SPECIAL : 0, got,
                                           IDS_MAX, &count),
                     MLXN_OK);
        if (n != count || memcmp(want, got, n * sizeof *want))
            test_failed(__FILE__, __LINE__, "case %d \"%.*s\": %zu ids, want %zu", i, (int)bytes,
                        text, count, n);
    }
    mlxn_tokenizer_release(t);
    free(memory);
}

TEST(tokenizer_is_the_reference)
{
    tiny_vocab v;
    tiny_vocab_begin(&v);
    compare_with_reference(&v, 7, test_full() ? 20000 : 1500);
}

/* Scores of both signs, and the two zeros, which are equal. */
TEST(tokenizer_orders_scores)
{
    static const float scores[] = {-2, -1, -0.0f, 0, 1, 2.5f, (float)INFINITY, (float)-INFINITY};
    tiny_vocab v;
    uint64_t state = 5;
    for (int round = 0; round < 20; round++) {
        tiny_vocab_begin(&v);
        for (int i = 260; i < v.count; i++)
            v.scores[i] = scores[test_random(&state) % 8];
        compare_with_reference(&v, state, test_full() ? 1000 : 60);
    }
}

#define EXPECT(text, flags, want) EXPECT_TOKENS(&v, t, (text), (flags), (want))
TEST(tokenizer_rules)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    tiny_vocab_begin(&v);
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
    CHECK(mlxn_tokenizer_vocab_size(t) == v.count && mlxn_tokenizer_bos(t) == 2 &&
          mlxn_tokenizer_eos(t) == 1);
    EXPECT("", 0, "");
    EXPECT("", MLXN_TOKENS_BOS, "<bos>");
    EXPECT("a", MLXN_TOKENS_BOS, "<bos> a");
    EXPECT("aaa", 0, "aa a"); /* leftmost of equals */
    EXPECT("abc", 0, "abc");
    EXPECT("z", 0, "<0x7A>");
    EXPECT("\xc3\xa9", 0, "\xc3\xa9");
    EXPECT("\xc3z", 0, "<0xC3> <0x7A>"); /* the lead byte takes the next with it */
    EXPECT("\xa9", 0, "<0xA9>");
    EXPECT("\xe4\xb8", 0, "<0xE4> <0xB8>");
    EXPECT(" a", 0, "\342\226\201a");
    EXPECT("  a", 0, "   a"); /* the token of two spaces, then a */
    EXPECT("\n\n\n\n", 0, "\n\n\n \n");
    EXPECT("<bb><b>", 0, "<bb> <b>");
    EXPECT("<b><", 0, "<b> <");
    EXPECT("b><b>", 0, "b > <b>"); /* not the leftmost: of equal length the lower id is first */
    EXPECT("cddc", 0, "cddc");
    EXPECT("<bos>", 0, "< b <0x6F> <0x73> >");
    EXPECT("<bos>a<unk>", MLXN_TOKENS_SPECIAL, "<bos> a <unk>");
    EXPECT("</s>", 0, "< / <0x73> >"); /* ends a generation, so it is a control token */
    EXPECT("</s>", MLXN_TOKENS_SPECIAL, "</s>");
    EXPECT("<end_of_turn>", MLXN_TOKENS_SPECIAL | MLXN_TOKENS_BOS, "<bos> <end_of_turn>");
    int ends = 0;
    for (int32_t id = -2; id < v.count + 2; id++)
        ends += mlxn_tokenizer_is_end(t, id) != 0;
    CHECK(ends == 3 && mlxn_tokenizer_is_end(t, 1) && !mlxn_tokenizer_is_end(t, 2));
    mlxn_tokenizer_release(t);
    free(memory);
}

TEST(tokenizer_short_room)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    int32_t ids[4] = {-7, -7, -7, -7}, outside[] = {-1, 100000};
    char text[4] = {'.', '.', '.', '.'};
    size_t n = 0;
    tiny_vocab_begin(&v);
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
    REQUIRE_OK(mlxn_tokenizer_encode(t, "cbc", 3, 1, NULL, 0, &n));
    CHECK(n == 3);
    CHECK_FAILS(mlxn_tokenizer_encode(t, "cbc", 3, 1, ids, 2, &n), MLXN_ERR_BOUNDS, "3 ids");
    CHECK(n == 3 && ids[0] == 2 && ids[1] >= 0 && ids[2] == -7);
    REQUIRE_OK(mlxn_tokenizer_encode(t, "cbc", 3, 1, ids, 3, &n));
    CHECK(ids[3] == -7);
    REQUIRE_OK(mlxn_tokenizer_encode(t, NULL, 0, 0, NULL, 0, &n));
    CHECK(n == 0);
    REQUIRE_OK(mlxn_tokenizer_decode(t, ids, 3, 0, NULL, 0, &n));
    CHECK(n == 3);
    CHECK_FAILS(mlxn_tokenizer_decode(t, ids, 3, 0, text, 2, &n), MLXN_ERR_BOUNDS, "3 bytes");
    CHECK(n == 3 && !memcmp(text, "cb..", 4));
    REQUIRE_OK(mlxn_tokenizer_decode(t, ids, 3, 2, text, 0, &n));
    CHECK(n == 8); /* <bos> too */
    CHECK_FAILS(mlxn_tokenizer_decode(t, outside, 1, 0, text, 4, &n), MLXN_ERR_BOUNDS, "id -1");
    CHECK_FAILS(mlxn_tokenizer_decode(t, outside + 1, 1, 0, text, 4, &n), MLXN_ERR_BOUNDS,
                "id 100000");
    mlxn_tokenizer_release(t);
    free(memory);
}

TEST(tokenizer_answers_null)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t, *other = NULL;
    mlxn_detokenizer *d = NULL;
    int32_t ids[4] = {0};
    char text[4];
    const char *stream;
    size_t n = 0;
    tiny_vocab_begin(&v);
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
    CHECK_STATUS(mlxn_tokenizer_encode(NULL, "a", 1, 0, ids, 4, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_encode(t, NULL, 1, 0, ids, 4, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_encode(t, "a", 1, 0, NULL, 4, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_encode(t, "a", 1, 0, ids, 4, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_encode(t, "a", 1, 4, ids, 4, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_encode(t, "a", SIZE_MAX, 0, ids, 4, &n), MLXN_ERR_BOUNDS);
    CHECK_STATUS(mlxn_tokenizer_decode(NULL, ids, 1, 0, text, 4, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_decode(t, NULL, 1, 0, text, 4, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_decode(t, ids, 1, 0, NULL, 4, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_decode(t, ids, 1, 0, text, 4, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_tokenizer_create(NULL, &other), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_detokenizer_create(NULL, 0, &d), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_detokenizer_create(t, 0, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_detokenizer_create(t, 8, &d), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_detokenizer_next(NULL, 0, &stream, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_detokenizer_finish(NULL, &stream, &n), MLXN_ERR_ARGUMENT);
    REQUIRE_OK(mlxn_detokenizer_create(t, 0, &d));
    CHECK_STATUS(mlxn_detokenizer_next(d, 0, NULL, &n), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_detokenizer_finish(d, &stream, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_detokenizer_next(d, -1, &stream, &n), MLXN_ERR_BOUNDS);
    CHECK_STATUS(mlxn_detokenizer_next(d, v.count, &stream, &n), MLXN_ERR_BOUNDS);
    CHECK(mlxn_tokenizer_retain(NULL) == NULL && mlxn_tokenizer_vocab_size(NULL) == 0);
    CHECK(mlxn_tokenizer_bos(NULL) == -1 && mlxn_tokenizer_eos(NULL) == -1);
    CHECK(!mlxn_tokenizer_is_end(NULL, 1));
    CHECK(mlxn_tokenizer_retain(t) == t);
    mlxn_tokenizer_release(t);
    mlxn_tokenizer_release(t); /* the detokenizer keeps it */
    REQUIRE_OK(mlxn_detokenizer_next(d, 260, &stream, &n));
    CHECK(n == 1 && !strcmp(stream, " "));
    mlxn_detokenizer_release(d);
    mlxn_detokenizer_release(NULL);
    mlxn_tokenizer_release(NULL);
    free(memory);
}

static void *encode_often(void *context)
{
    static const char text[] = "the  abc\n\n\nh\xc3\xa9 <b><bb></s> aaaaaaa ddcdd";
    int32_t first[64], again[64];
    size_t count = 0, n = 0;
    const char *wrong = NULL;
    if (mlxn_tokenizer_encode(context, text, sizeof text - 1, 3, first, 64, &count) != MLXN_OK)
        wrong = "no ids";
    for (int i = 0; i < 2000 && !wrong; i++)
        if (mlxn_tokenizer_encode(context, text, sizeof text - 1, 3, again, 64, &n) != MLXN_OK ||
            n != count || memcmp(first, again, n * sizeof *first))
            wrong = "other ids";
    return (void *)(uintptr_t)wrong;
}

TEST(tokenizer_in_threads)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    pthread_t threads[4];
    tiny_vocab_begin(&v);
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&threads[i], NULL, encode_often, t) == 0);
    for (int i = 0; i < 4; i++) {
        void *wrong = NULL;
        CHECK(pthread_join(threads[i], &wrong) == 0 && wrong == NULL);
    }
    mlxn_tokenizer_release(t);
    free(memory);
}
