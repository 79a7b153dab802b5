/* detokenizer_test.c - text from ids one at a time: whole characters of UTF-8, against a plain
 * decoder. */
#include "test.h"

#include "tiny_tokenizer.h"

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
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
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
    REQUIRE_OK(tiny_tokenizer_of(&v, &memory, &t));
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
