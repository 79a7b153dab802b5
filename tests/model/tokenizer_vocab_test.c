/* tokenizer_vocab_test.c - vocabularies that are broken, which are refused with the key at fault,
 * and odd ones, which have a meaning all the same. */
#include "test.h"

#include "gguf_walk.h"
#include "tiny_tokenizer.h"

/* The vocabulary must be refused. */
static void expect_refused(gguf_writer *w, mlxn_status want, const char *text, int line)
{
    unsigned char *memory;
    mlxn_tokenizer *t;
    mlxn_status status = tiny_tokenizer_open(w, &memory, &t);
    if (test_status(status, want, __FILE__, line, "tokenizer create") &&
        !strstr(mlxn_last_error(), text))
        test_failed(__FILE__, line, "detail \"%s\" lacks \"%s\"", mlxn_last_error(), text);
    CHECK(t == NULL);
    mlxn_tokenizer_release(t);
    free(memory);
}
#define EXPECT_REFUSED(w, want, text) expect_refused((w), (want), (text), __LINE__)

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

TEST(tokenizer_refuses_broken_keys)
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
}

TEST(tokenizer_refuses_broken_ids)
{
    static const char *const ids[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                      "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
                                      "tokenizer.ggml.unknown_token_id"};
    tiny_vocab v;
    gguf_writer w;
    tiny_vocab_begin(&v);
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
}

TEST(tokenizer_refuses_broken_tokens)
{
    static const int32_t types[] = {7, 99, -1, INT32_MIN, INT32_MAX};
    static const char *const bad_bytes[] = {"", "<0xGG>", "<0x1>", "0x41", "<0x001>", "<0xA1}"};
    tiny_vocab v;
    gguf_writer w;
    tiny_vocab_begin(&v);
    v.scores[300] = NAN;
    write_without(&w, &v, "");
    EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "score of token 300");
    v.scores[300] = 0;
    for (int i = 0; i < 5; i++) {
        v.types[200] = types[i];
        write_without(&w, &v, "");
        EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "token 200 is of type");
    }
    v.types[200] = 6;
    for (int i = 0; i < 6; i++) {
        v.texts[200] = (mlxn_gguf_string){bad_bytes[i], strlen(bad_bytes[i])};
        write_without(&w, &v, "");
        EXPECT_REFUSED(&w, MLXN_ERR_FORMAT, "byte token 200");
    }
}

/* ---- odd, with a meaning all the same ---- */

#define EXPECT(text, flags, want) EXPECT_TOKENS(&v, t, (text), (flags), (want))

TEST(tokenizer_without_a_key)
{
    static const char *const missing[] = {"scores", "types", "prefix"};
    tiny_vocab v;
    gguf_writer w;
    unsigned char *memory;
    mlxn_tokenizer *t;
    int32_t ids[16];
    size_t n;
    char text[16];
    tiny_vocab_begin(&v);
    for (int i = 0; i < 3; i++) {
        write_without(&w, &v, missing[i]);
        REQUIRE_OK(tiny_tokenizer_open(&w, &memory, &t));
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
}

/* Empty and doubled tokens: the first of equals is the one. */
TEST(tokenizer_with_doubled_tokens)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    int32_t ids[16];
    size_t n;
    tiny_vocab_begin(&v);
    for (int type = 0; type <= 5; type++) {
        tiny_vocab_add(&v, "", 1, type);
        tiny_vocab_add(&v, "ab", 100, 1);
        tiny_vocab_add(&v, "\n\n", 100, 4);
    }
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
    REQUIRE_OK(mlxn_tokenizer_encode(t, "ab\n\nab", 6, 0, ids, 16, &n));
    CHECK(n == 3 && ids[0] == ids[2] && ids[0] < 300 && ids[1] < 305);
    CHECK(tokenizer_walk(t, "ab \n\n", 5) == NULL);
    mlxn_tokenizer_release(t);
    free(memory);
}

/* The unknown token stands for a byte without a token; without it that is an error. */
TEST(tokenizer_without_byte_tokens)
{
    tiny_vocab v;
    unsigned char *memory;
    mlxn_tokenizer *t;
    int32_t ids[16];
    size_t n;
    tiny_vocab_begin(&v);
    for (int i = 4; i < 260; i++) {
        v.types[i] = 5;
        v.texts[i] = (mlxn_gguf_string){"", 0};
    }
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
    EXPECT("az", 0, "a <unk>");
    mlxn_tokenizer_release(t);
    free(memory);
    v.types[3] = 3;
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
    CHECK_FAILS(mlxn_tokenizer_encode(t, "az", 2, 0, ids, 16, &n), MLXN_ERR_UNSUPPORTED, "0x7a");
    mlxn_tokenizer_release(t);
    free(memory);
}

TEST(tokenizer_with_infinite_scores)
{
    tiny_vocab v;
    gguf_writer w;
    unsigned char *memory;
    mlxn_tokenizer *t;
    tiny_vocab_begin(&v);
    v.count = 0;
    tiny_vocab_add(&v, "a", 0, 1);
    tiny_vocab_add(&v, "aa", (float)INFINITY, 1);
    tiny_vocab_add(&v, "aaa", (float)-INFINITY, 1);
    write_without(&w, &v, "");
    REQUIRE_OK(tiny_tokenizer_open(&w, &memory, &t));
    EXPECT("aaaaa", 0, "aa aaa");
    mlxn_tokenizer_release(t);
    free(memory);
}
