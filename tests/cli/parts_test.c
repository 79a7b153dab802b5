/* parts_test.c - the command's parts: SHA-256, a model's sha256 from the cache, JSON, top K. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "../test.h"
#include "cli/cache.h"
#include "cli/json.h"
#include "cli/sha256.h"
#include "cli/topk.h"

static void check_digest(const char *text, size_t repeat, size_t piece, const char *want)
{
    char hex[SHA256_HEX];
    sha256 s;
    size_t bytes = strlen(text);
    sha256_init(&s);
    for (size_t r = 0; r < repeat; r++)
        for (size_t at = 0; at < bytes; at += piece)
            sha256_update(&s, text + at, bytes - at < piece ? bytes - at : piece);
    sha256_final(&s, hex);
    if (strcmp(hex, want))
        test_failed(__FILE__, __LINE__, "sha256 of \"%.20s\" x %zu: %s, want %s", text, repeat, hex,
                    want);
}

/* The vectors of FIPS 180-4's examples and of NIST's SHAVS; pieces of every awkward length. */
TEST(cli_sha256_vectors)
{
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    check_digest("", 1, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_digest("abc", 1, 64, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (size_t piece = 1; piece <= 56; piece++)
        check_digest(two_blocks, 1, piece,
                     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check_digest(
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklm"
        "nopqrlmnopqrsmnopqrstnopqrstu",
        1, 112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    check_digest("aaaaaaaaaa", 100000, 7,
                 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static int write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return 0;
    const int written = fputs(text, file) >= 0;
    return !fclose(file) && written;
}

static void check_identity(const char *model, const char *path, const char *want)
{
    char hex[SHA256_HEX] = "";
    CHECK_STATUS(cache_identify(model, path, hex), MLXN_OK);
    CHECK(!strcmp(hex, want));
}

/* A file that took the place of a known model is another one, whatever its name: the model's sha256
 * stands for it only where a later screen says that it was read. */
TEST(cli_known_model_is_read_unless_its_screen_is_later)
{
    const char *abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const known_model *known = cache_known(DEFAULT_MODEL);
    const time_t now = time(NULL);
    const struct timespec before[2] = {{now - 60, 0}, {now - 60, 0}};
    const struct timespec after[2] = {{now + 60, 0}, {now + 60, 0}};
    char folder[] = "/tmp/mlxn-test-XXXXXX", *path, *screen;
    REQUIRE(mkdtemp(folder));
    setenv("XDG_CACHE_HOME", folder, 1);
    REQUIRE_OK(cache_path("models", known->file, &path));
    REQUIRE_OK(cache_path("screens", known->sha256, &screen));
    CHECK_STATUS(cache_make_parents(path), MLXN_OK);
    CHECK_STATUS(cache_make_parents(screen), MLXN_OK);
    CHECK(write_text(path, "abc"));
    check_identity(NULL, path, abc);
    CHECK(write_text(screen, "") && !utimensat(AT_FDCWD, screen, before, 0));
    check_identity(DEFAULT_MODEL, path, abc);
    CHECK(!utimensat(AT_FDCWD, path, before, 0)); /* a move keeps its times, but for ctime */
    check_identity(DEFAULT_MODEL, path, abc);
    CHECK(!utimensat(AT_FDCWD, screen, after, 0));
    check_identity(DEFAULT_MODEL, path, known->sha256);
    check_identity(path, path, abc);
    usleep(20000); /* more than a tick of the clock that files have */
    CHECK(!unlink(screen) && write_text(screen, ""));
    check_identity(DEFAULT_MODEL, path, known->sha256);
    unsetenv("XDG_CACHE_HOME");
    unlink(path);
    unlink(screen);
    for (int i = 0; i < 2; i++) {
        char *file = i ? screen : path;
        *strrchr(file, '/') = 0;
        rmdir(file);
        *strrchr(file, '/') = 0;
        rmdir(file);
        free(file);
    }
    rmdir(folder);
}

/* What a writer makes of `text`. */
static void check_string(const char *text, size_t bytes, const char *want)
{
    char got[256];
    FILE *file = fmemopen(got, sizeof got, "w");
    REQUIRE(file);
    json_string(file, text, bytes);
    fclose(file);
    if (strcmp(got, want))
        test_failed(__FILE__, __LINE__, "wrote %s, want %s", got, want);
}

TEST(cli_json_strings)
{
    check_string("", 0, "\"\"");
    check_string("a\"\\/\n\t\x01\x7f", 8, "\"a\\\"\\\\/\\n\\u0009\\u0001\\u007f\"");
    check_string("a\0b", 3, "\"a\\u0000b\"");
    check_string("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9,
                 "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
    /* stray and missing continuation, overlong, surrogate, past U+10FFFF: each byte by itself */
    check_string("\x80z", 2, "\"\\ufffdz\"");
    check_string("\xe2\x82", 2, "\"\\ufffd\\ufffd\"");
    check_string("\xc0\xaf", 2, "\"\\ufffd\\ufffd\"");
    check_string("\xe0\x9f\xbf", 3, "\"\\ufffd\\ufffd\\ufffd\"");
    check_string("\xed\xa0\x80", 3, "\"\\ufffd\\ufffd\\ufffd\"");
    check_string("\xf4\x90\x80\x80", 4, "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
    check_string("\xff", 1, "\"\\ufffd\"");
}

static void check_number(int is_float, double value, const char *want)
{
    char got[64];
    FILE *file = fmemopen(got, sizeof got, "w");
    REQUIRE(file);
    if (is_float)
        json_float(file, (float)value);
    else
        json_double(file, value);
    fclose(file);
    if (strcmp(got, want))
        test_failed(__FILE__, __LINE__, "wrote %s, want %s", got, want);
}

TEST(cli_json_numbers)
{
    check_number(1, (double)NAN, "null");
    check_number(1, (double)INFINITY, "null");
    check_number(0, -(double)INFINITY, "null");
    check_number(1, 0.1, "0.100000001");
    check_number(1, -16.5, "-16.5");
    check_number(0, 0.1, "0.10000000000000001");
    uint64_t state = 7;
    for (int i = 0; i < 1000; i++) { /* what was written reads back as the same float */
        float value = test_normal(&state) * 20;
        char text[64];
        FILE *file = fmemopen(text, sizeof text, "w");
        REQUIRE(file);
        json_float(file, value);
        fclose(file);
        CHECK(strtof(text, NULL) == value);
    }
}

TEST(cli_json_reads_ids)
{
    static const struct {
        const char *text;
        size_t count;
        int32_t last;
    } good[] = {{"[]", 0, 0},
                {" [ ]\n", 0, 0},
                {"[0]", 1, 0},
                {"[1,-2 , 30]", 3, 30},
                {"[2147483647]", 1, INT32_MAX}};
    static const char *const bad[] = {
        "",    "[",     "]",      "[1",      "[1,",          "[1,]",  "[,1]",
        "1",   "[1.5]", "[1e3]",  "[01]",    "[--1]",        "[1] 2", "[[1]]",
        "[-]", "{}",    "[true]", "[\"1\"]", "[2147483648]", "[1 2]",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int32_t *ids = NULL;
        size_t count = 99;
        REQUIRE_OK(json_read_ids("x", good[i].text, strlen(good[i].text), &ids, &count));
        CHECK(count == good[i].count && (!count || ids[count - 1] == good[i].last));
        free(ids);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t *ids = NULL;
        size_t count = 99;
        CHECK_FAILS(json_read_ids("file.json", bad[i], strlen(bad[i]), &ids, &count),
                    MLXN_ERR_FORMAT, "file.json: byte ");
        CHECK(!ids && count == 99);
    }
}

TEST(cli_top_k_against_sorting)
{
    enum { N = 200 };
    uint64_t state = 3;
    for (int round = 0; round < 50; round++) {
        float logits[N];
        scored_id top[N + 5];
        char used[N] = {0};
        for (int i = 0; i < N; i++) /* few values: many ties; some NaN */
            logits[i] = test_random(&state) % 11 ? (float)(test_random(&state) % 13) : NAN;
        size_t k = test_random(&state) % (N + 5), got = topk_select(logits, N, k, top);
        CHECK(got == (k < N ? k : N));
        for (size_t j = 0; j < got; j++) {
            int best = -1;
            for (int i = 0; i < N; i++)
                if (!used[i] && (best < 0 || (isnan(logits[best]) && !isnan(logits[i])) ||
                                 logits[i] > logits[best]))
                    best = i;
            used[best] = 1;
            CHECK(top[j].id == best);
        }
    }
}
