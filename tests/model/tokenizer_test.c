/* tokenizer_test.c - the tokenizer against a plain reference, on hostile vocabularies, and against
 * recorded ids on the real model.
 *
 * The reference does what the rules say, step by step, in cubic time: each special token in turn
 * is searched through what is left of the text, then the best pair of neighbours is searched
 * through all of it, again and again. */
#include "test.h"

#include <pthread.h>
#include <time.h>
#include "gguf_walk.h"
#include "json.h"
#include "real_model.h"
#include "tiny_vocab.h"

enum { TEXT_MAX = 256, IDS_MAX = 3 * TEXT_MAX + 16 };

/* Opens what the writer holds; *memory is to be freed after the tokenizer. */
static mlxn_status open_tokenizer(gguf_writer *w, unsigned char **memory, mlxn_tokenizer **t)
{
    size_t bytes;
    mlxn_gguf *g = NULL;
    *memory = gguf_finish(w, &bytes);
    *t = NULL;
    mlxn_status status = mlxn_gguf_open_memory(*memory, bytes, "t.gguf", &g);
    if (status == MLXN_OK)
        status = mlxn_tokenizer_create(g, t);
    mlxn_gguf_release(g); /* the tokenizer keeps it */
    return status;
}

static mlxn_status open_vocab(const tiny_vocab *v, unsigned char **memory, mlxn_tokenizer **t)
{
    gguf_writer w;
    gguf_begin(&w);
    tiny_vocab_write(v, &w);
    return open_tokenizer(&w, memory, t);
}

/* The vocabulary must be refused. */
static void expect_refused(gguf_writer *w, mlxn_status want, const char *text, int line)
{
    unsigned char *memory;
    mlxn_tokenizer *t;
    mlxn_status status = open_tokenizer(w, &memory, &t);
    if (test_status(status, want, __FILE__, line, "tokenizer create") &&
        !strstr(mlxn_last_error(), text))
        test_failed(__FILE__, line, "detail \"%s\" lacks \"%s\"", mlxn_last_error(), text);
    CHECK(t == NULL);
    mlxn_tokenizer_release(t);
    free(memory);
}
#define EXPECT_REFUSED(w, want, text) expect_refused((w), (want), (text), __LINE__)

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
    REQUIRE_OK(open_vocab(v, &memory, &t));
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

/* The ids of a text must be these, written as one space-separated line of token texts. */
static void expect_pieces(const tiny_vocab *v, mlxn_tokenizer *t, const char *text, uint32_t flags,
                          const char *want, int line)
{
    int32_t ids[IDS_MAX];
    size_t count = 0;
    char got[2048] = "";
    mlxn_status status = mlxn_tokenizer_encode(t, text, strlen(text), flags, ids, IDS_MAX, &count);
    if (!test_status(status, MLXN_OK, __FILE__, line, text))
        return;
    for (size_t i = 0; i < count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "",
                 v->texts[ids[i]].data);
    if (strcmp(got, want))
        test_failed(__FILE__, line, "\"%s\" gives \"%s\", want \"%s\"", text, got, want);
}
#define EXPECT(text, flags, want) expect_pieces(&v, t, (text), (flags), (want), __LINE__)

TEST(tokenizer_rules)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    tiny_vocab_begin(&v);
    REQUIRE_OK(open_vocab(&v, &memory, &t));
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

TEST(tokenizer_answers_null_and_short_room)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t, *other = NULL;
    mlxn_detokenizer *d = NULL;
    int32_t ids[4] = {-7, -7, -7, -7}, outside[] = {-1, 100000};
    char text[4] = {'.', '.', '.', '.'};
    const char *stream;
    size_t n = 0;
    tiny_vocab_begin(&v);
    REQUIRE_OK(open_vocab(&v, &memory, &t));
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

/* Keys changed or left out one at a time. */
static void write_without(gguf_writer *w, const tiny_vocab *v, const char *left_out)
{
    gguf_begin(w);
    if (strcmp(left_out, "model"))
        gguf_key_text(w, "tokenizer.ggml.model", "llama");
    if (strcmp(left_out, "tokens"))
        gguf_key_strings(w, "tokenizer.ggml.tokens", v->texts, (uint64_t)v->count);
    if (strcmp(left_out, "scores"))
        gguf_key_array(w, "tokenizer.ggml.scores", MLXN_GGUF_F32, v->scores, (uint64_t)v->count, 4);
    if (strcmp(left_out, "types"))
        gguf_key_array(w, "tokenizer.ggml.token_type", MLXN_GGUF_I32, v->types, (uint64_t)v->count,
                       4);
    if (strcmp(left_out, "prefix"))
        gguf_key_bool(w, "tokenizer.ggml.add_space_prefix", 0);
}

TEST(tokenizer_refuses_broken_vocabularies)
{
    tiny_vocab v;
    gguf_writer w;
    tiny_vocab_begin(&v);
    write_without(&w, &v, "model");
    EXPECT_REFUSED(&w, MLXN_ERR_NOT_FOUND, "tokenizer.ggml.model");
    write_without(&w, &v, "model");
    gguf_key_text(&w, "tokenizer.ggml.model", "gpt2");
    EXPECT_REFUSED(&w, MLXN_ERR_UNSUPPORTED, "'gpt2'");
    write_without(&w, &v, "model");
    gguf_key_u32(&w, "tokenizer.ggml.model", 1);
    EXPECT_REFUSED(&w, MLXN_ERR_DTYPE, "tokenizer.ggml.model");
    write_without(&w, &v, "tokens");
    EXPECT_REFUSED(&w, MLXN_ERR_NOT_FOUND, "tokenizer.ggml.tokens");
    write_without(&w, &v, "tokens");
    gguf_key_array(&w, "tokenizer.ggml.tokens", MLXN_GGUF_I32, v.types, 4, 4);
    EXPECT_REFUSED(&w, MLXN_ERR_DTYPE, "array of i32");
    write_without(&w, &v, "tokens");
    gguf_key_strings(&w, "tokenizer.ggml.tokens", v.texts, 0);
    EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "of 0 tokens");
    write_without(&w, &v, "scores");
    gguf_key_array(&w, "tokenizer.ggml.scores", MLXN_GGUF_F32, v.scores, 10, 4);
    EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "scores has 10 elements");
    write_without(&w, &v, "scores");
    gguf_key_array(&w, "tokenizer.ggml.scores", MLXN_GGUF_F32, v.scores, (uint64_t)v.count + 1, 4);
    EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "the vocabulary");
    write_without(&w, &v, "scores");
    gguf_key_array(&w, "tokenizer.ggml.scores", MLXN_GGUF_I32, v.types, (uint64_t)v.count, 4);
    EXPECT_REFUSED(&w, MLXN_ERR_DTYPE, "array of i32");
    write_without(&w, &v, "types");
    gguf_key_array(&w, "tokenizer.ggml.token_type", MLXN_GGUF_I32, v.types, 3, 4);
    EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "token_type has 3 elements");
    write_without(&w, &v, "types");
    gguf_key_u32(&w, "tokenizer.ggml.token_type", 1);
    EXPECT_REFUSED(&w, MLXN_ERR_DTYPE, "token_type");
    write_without(&w, &v, "prefix");
    gguf_key_u32(&w, "tokenizer.ggml.add_space_prefix", 2);
    EXPECT_REFUSED(&w, MLXN_ERR_BOUNDS, "add_space_prefix");
    static const char *const ids[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                      "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
                                      "tokenizer.ggml.unknown_token_id"};
    for (int i = 0; i < 5; i++) {
        write_without(&w, &v, "");
        gguf_key_u32(&w, ids[i], (uint32_t)v.count);
        EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, ids[i]);
        write_without(&w, &v, "");
        gguf_key_i32(&w, ids[i], -2);
        EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "is -2");
        write_without(&w, &v, "");
        gguf_key_text(&w, ids[i], "2");
        EXPECT_REFUSED(&w, MLXN_ERR_DTYPE, ids[i]);
    }
    v.scores[300] = NAN;
    write_without(&w, &v, "");
    EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "score of token 300");
    v.scores[300] = 0;
    static const int32_t types[] = {7, 99, -1, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 5; i++) {
        v.types[200] = types[i];
        write_without(&w, &v, "");
        EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "token 200 is of type");
    }
    v.types[200] = 6;
    static const char *const bad_bytes[] = {"", "<0xGG>", "<0x1>", "0x41", "<0x001>", "<0xA1}"};
    for (int i = 0; i < 6; i++) {
        v.texts[200] = (mlxn_gguf_string){bad_bytes[i], strlen(bad_bytes[i])};
        write_without(&w, &v, "");
        EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "byte token 200");
    }
}

/* Odd vocabularies that have a meaning all the same. */
TEST(tokenizer_takes_odd_vocabularies)
{
    tiny_vocab v;
    gguf_writer w;
    unsigned char *memory;
    mlxn_tokenizer *t;
    int32_t ids[16];
    size_t n;
    char text[16];
    tiny_vocab_begin(&v);
    static const char *const missing[] = {"scores", "types", "prefix"};
    for (int i = 0; i < 3; i++) {
        write_without(&w, &v, missing[i]);
        REQUIRE_OK(open_tokenizer(&w, &memory, &t));
        CHECK(tokenizer_walk(t, "the \xff\n\n<b>aaaa", 14) == NULL);
        CHECK(mlxn_tokenizer_bos(t) == -1 && mlxn_tokenizer_eos(t) == -1);
        CHECK_FAILS(mlxn_tokenizer_encode(t, "a", 1, MLXN_TOKENS_BOS, ids, 16, &n),
                    MLXN_ERR_NOT_FOUND, "BOS");
        if (i == 0)
            EXPECT("aaa", 0, "aa a");
        if (i == 1)
            EXPECT("z", 0, "<0x7A>"); /* bytes are known by their text */
        if (i == 2) {
            EXPECT("a", 0, "\342\226\201a"); /* no word of a prefix: there is one */
            EXPECT("the<b>a", 0, "\xe2\x96\x81the <b> \342\226\201a");
            REQUIRE_OK(mlxn_tokenizer_encode(t, "the", 3, 0, ids, 16, &n));
            REQUIRE_OK(mlxn_tokenizer_decode(t, ids, n, 0, text, 16, &n));
            CHECK(n == 3 && !memcmp(text, "the", 3));
        }
        mlxn_tokenizer_release(t);
        free(memory);
    }
    /* Empty and doubled tokens: the first of equals is the one. */
    tiny_vocab_begin(&v);
    for (int type = 0; type <= 5; type++) {
        tiny_vocab_add(&v, "", 1, type);
        tiny_vocab_add(&v, "ab", 100, 1);
        tiny_vocab_add(&v, "\n\n", 100, 4);
    }
    REQUIRE_OK(open_vocab(&v, &memory, &t));
    REQUIRE_OK(mlxn_tokenizer_encode(t, "ab\n\nab", 6, 0, ids, 16, &n));
    CHECK(n == 3 && ids[0] == ids[2] && ids[0] < 300 && ids[1] < 305);
    CHECK(tokenizer_walk(t, "ab \n\n", 5) == NULL);
    mlxn_tokenizer_release(t);
    free(memory);
    /* No byte tokens: the unknown token; without it an error. */
    tiny_vocab_begin(&v);
    for (int i = 4; i < 260; i++)
        v.types[i] = 5;
    for (int i = 4; i < 260; i++)
        v.texts[i] = (mlxn_gguf_string){"", 0};
    REQUIRE_OK(open_vocab(&v, &memory, &t));
    EXPECT("az", 0, "a <unk>");
    mlxn_tokenizer_release(t);
    free(memory);
    v.types[3] = 3;
    REQUIRE_OK(open_vocab(&v, &memory, &t));
    CHECK_FAILS(mlxn_tokenizer_encode(t, "az", 2, 0, ids, 16, &n), MLXN_ERR_UNSUPPORTED, "0x7a");
    mlxn_tokenizer_release(t);
    free(memory);
    /* One token, and infinite scores. */
    v.count = 0;
    tiny_vocab_add(&v, "a", 0, 1);
    tiny_vocab_add(&v, "aa", (float)INFINITY, 1);
    tiny_vocab_add(&v, "aaa", (float)-INFINITY, 1);
    write_without(&w, &v, "");
    REQUIRE_OK(open_tokenizer(&w, &memory, &t));
    EXPECT("aaaaa", 0, "aa aaa");
    mlxn_tokenizer_release(t);
    free(memory);
}

/* Decoding in one go, apart from the library: characters by RFC 3629's grammar, one at a time. */
static size_t reference_utf8(const unsigned char *p, size_t n, char *out)
{
    size_t at = 0, count = 0;
    while (at < n) {
        size_t need = p[at] < 0x80 ? 0 : p[at] >> 5 == 6 ? 1 : p[at] >> 4 == 14 ? 2 : 3, used = 1;
        uint32_t code = p[at] & (need == 0 ? 0x7f : need == 1 ? 0x1f : need == 2 ? 0xf : 7);
        int sound = p[at] < 0x80 || (p[at] >= 0xc2 && p[at] <= 0xf4);
        while (sound && used <= need) {
            /* the range that completing this prefix must be able to reach */
            if (at + used == n || p[at + used] >> 6 != 2)
                break;
            uint32_t next = code << 6 | (p[at + used] & 0x3f), shift = 6 * (uint32_t)(need - used);
            uint32_t low = next << shift, high = low | ((1u << shift) - 1);
            uint32_t least = need == 1 ? 0x80 : need == 2 ? 0x800 : 0x10000;
            if (high < least || low > 0x10ffff || (low >= 0xd800 && high <= 0xdfff))
                break;
            code = next;
            used++;
        }
        sound = sound && used == need + 1;
        memcpy(out + count, sound ? (const char *)p + at : "\xef\xbf\xbd", sound ? used : 3);
        count += sound ? used : 3;
        at += used;
    }
    return count;
}

static int is_utf8(const char *text, size_t bytes)
{
    char out[256];
    return bytes <= 64 && reference_utf8((const unsigned char *)text, bytes, out) == bytes &&
           !memcmp(out, text, bytes);
}

TEST(detokenizer_gives_whole_characters)
{
    static const unsigned char leads[] = {0x41, 0x80, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xed, 0xef,
                                          0xf0, 0xf4, 0xf5, 0xff, 0x9f, 0xa0, 0x8f, 0x90, 0xe2};
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    mlxn_detokenizer *d = NULL;
    uint64_t state = 3;
    tiny_vocab_begin(&v);
    REQUIRE_OK(open_vocab(&v, &memory, &t));
    REQUIRE_OK(mlxn_detokenizer_create(t, 0, &d));
    for (int i = 0; i < 20000; i++) {
        unsigned char raw[64];
        char want[256], got[256];
        size_t n = 0, count = 0, bytes;
        const char *text;
        for (size_t k = test_random(&state) % 12; k > 0; k--) {
            int32_t id = 4 + leads[test_random(&state) % sizeof leads];
            if (test_random(&state) % 8 == 0)
                id = 260 + (int32_t)(test_random(&state) % 28);
            REQUIRE_OK(
                mlxn_tokenizer_decode(t, &id, 1, 0, (char *)raw + n, sizeof raw - n, &bytes));
            n += bytes;
            REQUIRE_OK(mlxn_detokenizer_next(d, id, &text, &bytes));
            CHECK(is_utf8(text, bytes) && text[bytes] == 0);
            memcpy(got + count, text, bytes);
            count += bytes;
        }
        REQUIRE_OK(mlxn_detokenizer_finish(d, &text, &bytes));
        memcpy(got + count, text, bytes);
        count += bytes;
        size_t expected = reference_utf8(raw, n, want);
        if (expected != count || memcmp(want, got, count))
            test_failed(__FILE__, __LINE__, "case %d: %zu bytes, want %zu", i, count, expected);
    }
    mlxn_detokenizer_release(d);
    mlxn_tokenizer_release(t);
    free(memory);
}

TEST(detokenizer_waits_for_the_rest)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    mlxn_detokenizer *d = NULL;
    const char *text;
    size_t bytes;
    tiny_vocab_begin(&v);
    REQUIRE_OK(open_vocab(&v, &memory, &t));
    REQUIRE_OK(mlxn_detokenizer_create(t, MLXN_TOKENS_SPECIAL, &d));
    static const int emoji[] = {0xf0, 0x9f, 0x98, 0x80};
    for (int i = 0; i < 4; i++) {
        REQUIRE_OK(mlxn_detokenizer_next(d, 4 + emoji[i], &text, &bytes));
        CHECK(bytes == (i == 3 ? 4 : 0));
    }
    CHECK(!strcmp(text, "\xf0\x9f\x98\x80"));
    REQUIRE_OK(mlxn_detokenizer_next(d, 4 + 0xe2, &text, &bytes));
    REQUIRE_OK(mlxn_detokenizer_next(d, 2, &text, &bytes));
    CHECK(!strcmp(text, "\xef\xbf\xbd<bos>"));
    REQUIRE_OK(mlxn_detokenizer_next(d, 4 + 0xf0, &text, &bytes));
    REQUIRE_OK(mlxn_detokenizer_finish(d, &text, &bytes));
    CHECK(bytes == 3 && !strcmp(text, "\xef\xbf\xbd"));
    REQUIRE_OK(mlxn_detokenizer_finish(d, &text, &bytes));
    CHECK(bytes == 0 && !*text);
    mlxn_detokenizer_release(d);
    mlxn_tokenizer_release(t);
    free(memory);
}

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
    REQUIRE_OK(open_vocab(&v, &memory, &t));
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&threads[i], NULL, encode_often, t) == 0);
    for (int i = 0; i < 4; i++) {
        void *wrong = NULL;
        CHECK(pthread_join(threads[i], &wrong) == 0 && wrong == NULL);
    }
    mlxn_tokenizer_release(t);
    free(memory);
}
