/* gguf_refusals_test.c - the GGUF reader on broken files: what it refuses, and in which words; that
 * no mutation of a sound file gets through. */
#include "test.h"

#include "gguf_image.h"
#include "gguf_walk.h"
#include "model/string_index.h"
#include "tiny_vocab.h"

/* The writer's file must be refused with ERR_FORMAT and this text. */
static void expect_bad(gguf_writer *w, const char *text, int line)
{
    gguf_image file = gguf_image_of(w);
    mlxn_gguf *g = NULL;
    mlxn_status status = mlxn_gguf_open_memory(file.data, file.bytes, "t.gguf", &g);
    if (test_status(status, MLXN_ERR_FORMAT, __FILE__, line, "open") &&
        (!strstr(mlxn_last_error(), text) || !strstr(mlxn_last_error(), "t.gguf")))
        test_failed(__FILE__, line, "detail \"%s\" lacks \"%s\"", mlxn_last_error(), text);
    mlxn_gguf_release(g);
    free(file.data);
}
#define EXPECT_BAD(w, text) expect_bad((w), (text), __LINE__)

TEST(gguf_refuses_other_headers)
{
    static const struct {
        uint32_t version;
        const char *text;
    } versions[] = {{0, "version 0"},
                    {1, "version 1"},
                    {2, "version 2"},
                    {4, "version 4"},
                    {0x03000000, "big-endian"}};
    gguf_writer w;
    mlxn_gguf *g = NULL;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        gguf_sample(&w);
        w.version = versions[i].version;
        EXPECT_BAD(&w, versions[i].text);
    }
    CHECK_FAILS(mlxn_gguf_open_memory("GGML\3\0\0\0", 8, "x", &g), MLXN_ERR_FORMAT, "47 47 4d 4c");
    static const uint64_t counts[] = {4, 1000, 1u << 31, (uint64_t)1 << 60, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        gguf_sample(&w);
        w.tensor_count = counts[i];
        EXPECT_BAD(&w, "");
        gguf_sample(&w);
        w.key_count = counts[i] * (i ? 1 : 4); /* 4: the tensors are read as keys */
        EXPECT_BAD(&w, "");
    }
}

/* No beginning of a file is a file. */
TEST(gguf_refuses_every_truncation)
{
    gguf_writer w;
    gguf_sample(&w);
    gguf_image file = gguf_image_of(&w);
    for (size_t bytes = 0; bytes < file.bytes; bytes++) {
        unsigned char *part = malloc(bytes ? bytes : 1);
        mlxn_gguf *g = NULL;
        if (!part)
            abort();
        memcpy(part, file.data, bytes);
        CHECK_STATUS(mlxn_gguf_open_memory(part, bytes, "x", &g), MLXN_ERR_FORMAT);
        mlxn_gguf_release(g);
        free(part);
    }
    free(file.data);
}

static void begin_raw_key(gguf_writer *w, uint32_t type)
{
    gguf_begin(w);
    gguf_append_text(&w->keys, "k", 1);
    gguf_append_u32(&w->keys, type);
    w->key_count = 1;
}

TEST(gguf_refuses_broken_keys)
{
    gguf_writer w;
    begin_raw_key(&w, MLXN_GGUF_ARRAY); /* nested, and deep enough to overflow a recursion */
    for (int i = 0; i < 100000; i++) {
        gguf_append_u32(&w.keys, MLXN_GGUF_ARRAY);
        gguf_append_u64(&w.keys, 1);
    }
    EXPECT_BAD(&w, "key 'k': is an array of arrays");
    static const uint64_t counts[] = {65, (uint64_t)1 << 61, (uint64_t)1 << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        static const mlxn_gguf_type types[] = {MLXN_GGUF_U64, MLXN_GGUF_U8, MLXN_GGUF_STRING};
        for (int k = 0; k < 3; k++) {
            begin_raw_key(&w, MLXN_GGUF_ARRAY);
            gguf_append_u32(&w.keys, (uint32_t)types[k]);
            gguf_append_u64(&w.keys, counts[i]);
            gguf_append(&w.keys, NULL, 4);
            EXPECT_BAD(&w, "pass the file's end");
        }
        begin_raw_key(&w, MLXN_GGUF_STRING);
        gguf_append_u64(&w.keys, counts[i]);
        EXPECT_BAD(&w, "key 'k': needs");
        gguf_begin(&w);
        w.key_count = 1;
        gguf_append_u64(&w.keys, counts[i]); /* of the name */
        gguf_append(&w.keys, NULL, 8);
        EXPECT_BAD(&w, "key number 0: needs");
    }
    begin_raw_key(&w, 13);
    gguf_append_u64(&w.keys, 0);
    EXPECT_BAD(&w, "value type 13");
    begin_raw_key(&w, MLXN_GGUF_ARRAY);
    gguf_append_u32(&w.keys, 0xffffffff);
    gguf_append_u64(&w.keys, 0);
    EXPECT_BAD(&w, "value type 4294967295");
    gguf_begin(&w);
    gguf_key_bool(&w, "flag", 2);
    EXPECT_BAD(&w, "key 'flag': bool 0 is 2");
    gguf_begin(&w);
    gguf_key_array(&w, "flags", MLXN_GGUF_BOOL, "\0\1\1\xff", 4, 1);
    EXPECT_BAD(&w, "bool 3 is 255");
    gguf_begin(&w);
    gguf_key_u32(&w, "", 1);
    EXPECT_BAD(&w, "empty name");
    gguf_begin(&w);
    gguf_key_u32(&w, "twice", 1);
    gguf_key_u32(&w, "once", 1);
    gguf_key_text(&w, "twice", "2");
    EXPECT_BAD(&w, "key 'twice': is there twice, as number 0 and 2");
    gguf_begin(&w);
    gguf_key_bool(&w, "bad\n\xff name", 7);
    EXPECT_BAD(&w, "'bad?? name'");
}

TEST(gguf_alignment)
{
    static const uint32_t bad[] = {0, 1, 4, 24, 33, 0x80000001, UINT32_MAX};
    gguf_writer w;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gguf_sample(&w);
        gguf_key_u32(&w, "general.alignment", bad[i]);
        EXPECT_BAD(&w, "power of two");
    }
    gguf_sample(&w);
    gguf_key_u64(&w, "general.alignment", 32);
    EXPECT_BAD(&w, "is u64, must be u32");
    gguf_sample(&w);
    gguf_key_u32(&w, "general.alignment", 0x80000000);
    EXPECT_BAD(&w, "tensor data start at 2147483648");
    for (uint32_t alignment = 8; alignment <= 4096; alignment *= 2) {
        gguf_begin(&w);
        w.alignment = alignment;
        gguf_key_u32(&w, "general.alignment", alignment);
        gguf_tensor(&w, "a", 0, 1, (int64_t[]){1}, NULL, 4);
        gguf_tensor(&w, "b", 0, 1, (int64_t[]){1}, NULL, 4);
        gguf_image file = gguf_image_of(&w);
        mlxn_gguf *g = NULL;
        mlxn_gguf_tensor t = {.size = sizeof t};
        REQUIRE_OK(mlxn_gguf_open_memory(file.data, file.bytes, "x", &g));
        REQUIRE_OK(mlxn_gguf_get_tensor(g, 1, &t));
        CHECK(t.offset == mlxn_gguf_data_offset(g) + alignment && t.offset % alignment == 0);
        mlxn_gguf_release(g);
        free(file.data);
    }
}

TEST(gguf_refuses_broken_shapes)
{
    static const struct {
        uint32_t type;
        int rank;
        int64_t shape[5];
        const char *text;
    } shapes[] = {
        {0, 0, {1}, "rank is 0"},
        {0, 5, {1, 1, 1, 1, 1}, "rank is 5"},
        {0, 1, {0}, "dim 0 is 0"},
        {0, 3, {2, 0, 2}, "dim 1 is 0"},
        {0, 1, {-1}, "dim 0 is 18446744073709551615"},
        {0, 1, {INT64_MIN}, "dim 0 is 9223372036854775808"},
        {0, 2, {(int64_t)1 << 32, (int64_t)1 << 32}, "dim 1 is 4294967296"},
        {0, 4, {65536, 65536, 65536, 65536}, "dim 3 is 65536"},
        {0, 4, {4, (int64_t)1 << 62, 4, 4}, "dim 2 is"},
        {0, 1, {INT64_MAX / 2}, "overflow"},
        {0, 1, {INT64_MAX}, "overflow"},
        {0, 1, {(int64_t)1 << 40}, "pass the end"},
        {999, 2, {(int64_t)1 << 32, (int64_t)1 << 32}, "dim 1 is 4294967296"},
        {2, 2, {2, 16}, "a row of 16 elements is no whole number of q4_0 blocks of 32"},
        {2, 2, {16, 2}, "a row of 2 elements"},
        {12, 2, {2, 128}, "a row of 128 elements is no whole number of q4_k blocks of 256"},
        {8, 1, {33}, "a row of 33 elements"},
    };
    gguf_writer w;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        gguf_begin(&w);
        gguf_tensor(&w, "t", shapes[i].type, shapes[i].rank, shapes[i].shape, NULL, 1024);
        EXPECT_BAD(&w, shapes[i].text);
    }
    gguf_begin(&w);
    gguf_tensor(&w, "t", 0, 1, (int64_t[]){1}, NULL, 1024);
    memset(w.tensors.data + 9, 0xff, 4); /* rank 2^32 - 1 */
    EXPECT_BAD(&w, "tensor 't': rank is 4294967295");
    gguf_begin(&w);
    gguf_tensor(&w, "", 0, 1, (int64_t[]){1}, NULL, 1024);
    EXPECT_BAD(&w, "tensor number 0: has an empty name");
    gguf_begin(&w);
    gguf_tensor(&w, "t", 0, 1, (int64_t[]){1}, NULL, 4);
    gguf_tensor(&w, "t", 0, 1, (int64_t[]){1}, NULL, 4);
    EXPECT_BAD(&w, "tensor 't': is there twice");
}

TEST(gguf_refuses_broken_offsets)
{
    static const struct {
        uint64_t offset;
        const char *text;
    } offsets[] = {{4, "not a multiple of the alignment 32"},
                   {UINT64_MAX, "not a multiple"},
                   {UINT64_MAX - 31, "pass the end"},
                   {(uint64_t)1 << 63, "pass the end"},
                   {96, "pass the end of the 160 bytes"},
                   {160, "pass the end"},
                   {192, "pass the end"},
                   {0, "'b': starts at"},
                   {32, "inside 'a', which ends at"}};
    gguf_writer w;
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        gguf_begin(&w);
        gguf_tensor(&w, "a", 0, 1, (int64_t[]){10}, NULL, 40);
        gguf_tensor_at(&w, "b", 0, 1, (int64_t[]){20}, offsets[i].offset);
        gguf_append(&w.data, NULL, 120);
        EXPECT_BAD(&w, offsets[i].text);
    }
    /* Of an unknown type: its place counts, its size is not known. */
    for (uint64_t offset = 0; offset <= 160; offset += 32) {
        gguf_begin(&w);
        gguf_tensor(&w, "a", 0, 1, (int64_t[]){10}, NULL, 40);
        gguf_tensor_at(&w, "b", 999, 1, (int64_t[]){1000000}, offset);
        gguf_append(&w.data, NULL, 120);
        gguf_image file = gguf_image_of(&w);
        mlxn_gguf *g = NULL;
        CHECK_STATUS(mlxn_gguf_open_memory(file.data, file.bytes, "x", &g),
                     offset <= 32 || offset == 160 ? MLXN_ERR_FORMAT : MLXN_OK);
        mlxn_gguf_release(g);
        free(file.data);
    }
}

/* Names made to fall into one slot of the table are refused, not searched for ever. */
TEST(gguf_refuses_colliding_names)
{
    enum { COUNT = MLXN_PROBES_MAX + 8, SLOTS = 4096 };
    gguf_writer w;
    uint64_t word = 0;
    gguf_begin(&w);
    while (w.key_count < COUNT) {
        char name[9] = "";
        word++;
        for (int i = 0; i < 8; i++)
            name[i] = (char)('0' + (word >> 4 * i) % 16);
        if (mlxn_string_hash(name, 8) % SLOTS == 0)
            gguf_key_u32(&w, name, 0);
    }
    EXPECT_BAD(&w, "collides");
}

/* Bits flipped, bytes and absurd numbers put in, parts cut out or doubled, the end cut off. */
static gguf_image mutate(gguf_image from, uint64_t *state)
{
    static const uint64_t absurd[] = {0,
                                      1,
                                      0xff,
                                      0x7fffffff,
                                      0x80000000,
                                      UINT32_MAX,
                                      INT64_MAX,
                                      (uint64_t)1 << 63,
                                      UINT64_MAX,
                                      UINT64_MAX / 8,
                                      (uint64_t)1 << 32,
                                      31};
    unsigned char *data = malloc(2 * from.bytes);
    size_t bytes = from.bytes;
    if (!data)
        abort();
    memcpy(data, from.data, bytes);
    for (uint64_t n = 1 + test_random(state) % 3; n && bytes > 16; n--) {
        /* the header proper gets more than its share */
        uint64_t reach = test_random(state) % 4 ? bytes : 16;
        uint64_t value = absurd[test_random(state) % (sizeof absurd / sizeof *absurd)];
        size_t at = test_random(state) % reach, left = bytes - at;
        size_t size = 1 + test_random(state) % 32;
        size = size < left ? size : left;
        switch (test_random(state) % 6) {
        case 0:
            data[at] = (unsigned char)(data[at] ^ 1u << test_random(state) % 8);
            break;
        case 1:
            data[at] = (unsigned char)test_random(state);
            break;
        case 2:
            memcpy(data + at, &value, left < 8 ? left : 8);
            break;
        case 3:
            memcpy(data + at, &value, left < 4 ? left : 4);
            break;
        case 4:
            bytes = test_random(state) % 4 ? bytes : at;
            break;
        default:
            memmove(data + at, data + at + size, left - size);
            bytes -= size;
        }
    }
    gguf_image out = {malloc(bytes ? bytes : 1), bytes};
    if (!out.data)
        abort();
    memcpy(out.data, data, bytes);
    free(data);
    return out;
}

TEST(gguf_survives_mutations)
{
    static const char text[] =
        "the  abc\n\n\nh\xc3\xa9 <b><bb></s> \xe2\x96\x81 <x>aaaaaaa \xff ddcdd";
    int rounds = test_full() ? 100000 : 6000, opened = 0, tokenizers = 0;
    uint64_t state = 1;
    gguf_writer w;
    gguf_image bases[3];
    gguf_sample(&w);
    bases[0] = gguf_image_of(&w);
    gguf_sample(&w);
    tiny_vocab_keys(&w);
    bases[1] = gguf_image_of(&w);
    gguf_begin(&w);
    tiny_vocab_keys(&w);
    bases[2] = gguf_image_of(&w);
    for (int i = 0; i < rounds; i++) {
        gguf_image file = mutate(bases[i % 3], &state);
        mlxn_gguf *g = NULL;
        mlxn_tokenizer *t = NULL;
        const char *wrong = NULL;
        mlxn_status status = mlxn_gguf_open_memory(file.data, file.bytes, "x", &g);
        CHECK(status == MLXN_OK || status == MLXN_ERR_FORMAT);
        if (status == MLXN_OK) {
            opened++;
            wrong = gguf_walk(g);
            if (mlxn_tokenizer_create(g, &t) == MLXN_OK) {
                tokenizers++;
                wrong = wrong ? wrong : tokenizer_walk(t, text, sizeof text - 1);
            }
        }
        if (wrong)
            test_failed(__FILE__, __LINE__, "mutation %d: %s", i, wrong);
        mlxn_tokenizer_release(t);
        mlxn_gguf_release(g);
        free(file.data);
    }
    test_note("%d mutations, %d opened, %d tokenizers", rounds, opened, tokenizers);
    CHECK(opened > rounds / 20 && opened < rounds && tokenizers > rounds / 50);
    for (int i = 0; i < 3; i++)
        free(bases[i].data);
}
