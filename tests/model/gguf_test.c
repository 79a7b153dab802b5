/* gguf_test.c - the GGUF reader: what sound files say, and that no broken one gets through.
 *
 * Files are copied to memory of exactly their size, so that a sanitizer sees a read past the end.
 */
#include "test.h"

#include <unistd.h>
#include "gguf_walk.h"
#include "model/string_index.h"
#include "real_model.h"
#include "tiny_vocab.h"

typedef struct image {
    unsigned char *data;
    size_t bytes;
} image;

static image finish(gguf_writer *w)
{
    size_t bytes;
    unsigned char *data = gguf_finish(w, &bytes), *exact = malloc(bytes);
    if (!exact)
        abort();
    memcpy(exact, data, bytes);
    free(data);
    return (image){exact, bytes};
}

/* The writer's file must be refused with ERR_FORMAT and this text. */
static void expect_bad(gguf_writer *w, const char *text, int line)
{
    image file = finish(w);
    mlxn_gguf *g = NULL;
    mlxn_status status = mlxn_gguf_open_memory(file.data, file.bytes, "t.gguf", &g);
    if (test_status(status, MLXN_ERR_FORMAT, __FILE__, line, "open") &&
        (!strstr(mlxn_last_error(), text) || !strstr(mlxn_last_error(), "t.gguf")))
        test_failed(__FILE__, line, "detail \"%s\" lacks \"%s\"", mlxn_last_error(), text);
    mlxn_gguf_release(g);
    free(file.data);
}
#define EXPECT_BAD(w, text) expect_bad((w), (text), __LINE__)

/* A file with a key of each type, arrays and some tensors. */
static void write_sample(gguf_writer *w)
{
    static const int8_t i8 = -8;
    static const uint8_t u8 = 200;
    static const int16_t i16 = -1600;
    static const uint16_t u16 = 60000;
    static const int64_t i64 = -5000000000;
    static const double f64 = 0.1;
    static const float floats[] = {1, 2.5f, -3};
    static const char *const texts[] = {"one", "", "three"};
    static const unsigned char block[36] = {1};
    gguf_begin(w);
    gguf_key_text(w, "general.architecture", "test");
    gguf_key(w, "i8", MLXN_GGUF_I8, &i8, 1);
    gguf_key(w, "u8", MLXN_GGUF_U8, &u8, 1);
    gguf_key(w, "i16", MLXN_GGUF_I16, &i16, 2);
    gguf_key(w, "u16", MLXN_GGUF_U16, &u16, 2);
    gguf_key_i32(w, "i32", -320000);
    gguf_key_u32(w, "u32", 4000000000u);
    gguf_key(w, "i64", MLXN_GGUF_I64, &i64, 8);
    gguf_key_u64(w, "u64", UINT64_MAX);
    gguf_key_f32(w, "f32", 0.5f);
    gguf_key(w, "f64", MLXN_GGUF_F64, &f64, 8);
    gguf_key_bool(w, "yes", 1);
    gguf_key_array(w, "floats", MLXN_GGUF_F32, floats, 3, 4);
    gguf_key_texts(w, "texts", texts, 3);
    gguf_key_array(w, "empty", MLXN_GGUF_U8, NULL, 0, 1);
    gguf_tensor(w, "blocks", 2, 2, (int64_t[]){2, 32}, block, 36);
    gguf_tensor(w, "strange", 999, 1, (int64_t[]){7}, NULL, 5);
    gguf_tensor(w, "deep", 0, 4, (int64_t[]){2, 3, 1, 5}, NULL, 120);
}

TEST(gguf_reads_every_type)
{
    gguf_writer w;
    write_sample(&w);
    image file = finish(&w);
    mlxn_gguf *g = NULL;
    REQUIRE_OK(mlxn_gguf_open_memory(file.data, file.bytes, NULL, &g));
    static const struct {
        const char *key;
        int64_t value;
    } integers[] = {{"i8", -8},       {"u8", 200},         {"i16", -1600},       {"u16", 60000},
                    {"i32", -320000}, {"u32", 4000000000}, {"i64", -5000000000}, {"yes", 1}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        int64_t value = 77;
        uint32_t small = 77;
        CHECK_STATUS(mlxn_gguf_get_i64(g, integers[i].key, &value), MLXN_OK);
        CHECK(value == integers[i].value);
        int fits = value >= 0 && value <= UINT32_MAX;
        CHECK_STATUS(mlxn_gguf_get_u32(g, integers[i].key, &small),
                     fits ? MLXN_OK : MLXN_ERR_BOUNDS);
        CHECK(small == (fits ? (uint32_t)value : 77));
    }
    int64_t value = 77;
    int flag = 77;
    double real = 77;
    mlxn_gguf_string text;
    CHECK_FAILS(mlxn_gguf_get_i64(g, "u64", &value), MLXN_ERR_BOUNDS, "18446744073709551615");
    CHECK_FAILS(mlxn_gguf_get_bool(g, "u8", &flag), MLXN_ERR_BOUNDS, "200");
    CHECK_FAILS(mlxn_gguf_get_i64(g, "f32", &value), MLXN_ERR_DTYPE, "f32");
    CHECK_FAILS(mlxn_gguf_get_f64(g, "i32", &real), MLXN_ERR_DTYPE, "i32");
    CHECK_FAILS(mlxn_gguf_get_f64(g, "floats", &real), MLXN_ERR_DTYPE, "array of f32");
    CHECK_FAILS(mlxn_gguf_get_string(g, "i32", &text), MLXN_ERR_DTYPE, "i32");
    CHECK_FAILS(mlxn_gguf_get_i64(g, "none", &value), MLXN_ERR_NOT_FOUND, "'none'");
    CHECK(value == 77 && flag == 77 && real == 77);
    REQUIRE_OK(mlxn_gguf_get_bool(g, "yes", &flag));
    CHECK(flag == 1);
    REQUIRE_OK(mlxn_gguf_get_f64(g, "f32", &real));
    CHECK(real == 0.5);
    REQUIRE_OK(mlxn_gguf_get_f64(g, "f64", &real));
    CHECK(real == 0.1);
    REQUIRE_OK(mlxn_gguf_get_string(g, "general.architecture", &text));
    CHECK(text.bytes == 4 && !memcmp(text.data, "test", 4));
    CHECK(!strcmp(mlxn_gguf_path(g), "memory") && gguf_walk(g) == NULL);
    CHECK(mlxn_gguf_key_count(g) == 15 && mlxn_gguf_find_key(g, "i16") == 3);
    CHECK(mlxn_gguf_key(g, 3).bytes == 3 && mlxn_gguf_key_type(g, 3) == MLXN_GGUF_I16);
    CHECK(mlxn_gguf_key(g, 15).bytes == 0 && mlxn_gguf_key(g, -1).bytes == 0);
    CHECK((int)mlxn_gguf_key_type(g, 15) == -1 && (int)mlxn_gguf_array_type(g, 3) == -1);
    mlxn_gguf_release(g);
    free(file.data);
}

TEST(gguf_reads_arrays_and_tensors)
{
    gguf_writer w;
    write_sample(&w);
    image file = finish(&w);
    mlxn_gguf *g = NULL;
    REQUIRE_OK(mlxn_gguf_open_memory(file.data, file.bytes, "x", &g));
    const void *data = NULL;
    uint64_t count = 77;
    float floats[3];
    mlxn_gguf_string texts[3];
    REQUIRE_OK(mlxn_gguf_get_array(g, "floats", MLXN_GGUF_F32, &data, &count));
    memcpy(floats, data, sizeof floats);
    CHECK(count == 3 && floats[0] == 1 && floats[1] == 2.5f && floats[2] == -3);
    CHECK(mlxn_gguf_array_type(g, 12) == MLXN_GGUF_F32 && mlxn_gguf_array_count(g, 12) == 3);
    REQUIRE_OK(mlxn_gguf_get_array(g, "empty", MLXN_GGUF_U8, &data, &count));
    CHECK(count == 0);
    REQUIRE_OK(mlxn_gguf_get_strings(g, "texts", NULL, 0, &count));
    CHECK(count == 3);
    REQUIRE_OK(mlxn_gguf_get_strings(g, "texts", texts, 3, &count));
    CHECK(texts[0].bytes == 3 && texts[1].bytes == 0 && !memcmp(texts[2].data, "three", 5));
    CHECK_FAILS(mlxn_gguf_get_strings(g, "texts", texts, 2, &count), MLXN_ERR_BOUNDS, "3 strings");
    CHECK_STATUS(mlxn_gguf_get_strings(g, "floats", texts, 3, &count), MLXN_ERR_DTYPE);
    CHECK_STATUS(mlxn_gguf_get_array(g, "floats", MLXN_GGUF_I32, &data, &count), MLXN_ERR_DTYPE);
    CHECK_STATUS(mlxn_gguf_get_array(g, "f32", MLXN_GGUF_F32, &data, &count), MLXN_ERR_DTYPE);
    CHECK_STATUS(mlxn_gguf_get_array(g, "texts", MLXN_GGUF_STRING, &data, &count),
                 MLXN_ERR_ARGUMENT);

    mlxn_gguf_tensor t = {.size = sizeof t};
    CHECK(mlxn_gguf_tensor_count(g) == 3 && mlxn_gguf_find_tensor(g, "deep") == 2);
    CHECK(mlxn_gguf_find_tensor(g, "shallow") == -1);
    REQUIRE_OK(mlxn_gguf_get_tensor(g, 0, &t));
    CHECK(t.dtype == MLXN_Q4_0 && t.type == 2 && t.rank == 2 && t.shape[0] == 2 &&
          t.shape[1] == 32 && t.bytes == 36 && t.offset == mlxn_gguf_data_offset(g) &&
          t.offset % 32 == 0 && file.data[t.offset] == 1);
    REQUIRE_OK(mlxn_gguf_get_tensor(g, 1, &t));
    CHECK(t.dtype == MLXN_DTYPE_NONE && t.type == 999 && t.bytes == 0 && t.size == sizeof t);
    REQUIRE_OK(mlxn_gguf_get_tensor(g, 2, &t));
    CHECK(t.rank == 4 && t.shape[0] == 2 && t.shape[1] == 3 && t.shape[2] == 1 && t.shape[3] == 5 &&
          t.bytes == 120 && t.offset + 120 == file.bytes);
    CHECK_STATUS(mlxn_gguf_get_tensor(g, 3, &t), MLXN_ERR_BOUNDS);
    CHECK_STATUS(mlxn_gguf_get_tensor(g, -1, &t), MLXN_ERR_BOUNDS);
    t.size = 8;
    CHECK_STATUS(mlxn_gguf_get_tensor(g, 0, &t), MLXN_ERR_ARGUMENT);
    mlxn_gguf_release(g);
    free(file.data);
}

TEST(gguf_answers_null)
{
    mlxn_gguf *g = NULL;
    uint32_t u32;
    const void *data;
    uint64_t count;
    CHECK_STATUS(mlxn_gguf_open(NULL, &g), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_open("x", NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_open_memory(NULL, 5, "x", &g), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_open_memory("GGUF", 4, "x", NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_open_memory(NULL, 0, "x", &g), MLXN_ERR_FORMAT);
    CHECK_STATUS(mlxn_gguf_get_u32(NULL, "x", &u32), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_get_array(NULL, "x", MLXN_GGUF_U8, &data, &count), MLXN_ERR_ARGUMENT);
    CHECK(g == NULL && mlxn_gguf_retain(NULL) == NULL && mlxn_gguf_key_count(NULL) == 0);
    CHECK(mlxn_gguf_find_key(NULL, "x") == -1 && mlxn_gguf_find_tensor(NULL, "x") == -1);
    CHECK(mlxn_gguf_tensor_count(NULL) == 0 && mlxn_gguf_file_bytes(NULL) == 0);
    CHECK(mlxn_gguf_data(NULL) == NULL && mlxn_gguf_data_offset(NULL) == 0);
    CHECK(mlxn_gguf_path(NULL)[0] == 0 && mlxn_gguf_key(NULL, 0).bytes == 0);
    mlxn_gguf_release(NULL);
    gguf_writer w;
    write_sample(&w);
    image file = finish(&w);
    REQUIRE_OK(mlxn_gguf_open_memory(file.data, file.bytes, "x", &g));
    CHECK_STATUS(mlxn_gguf_get_u32(g, NULL, &u32), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_get_u32(g, "u32", NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_get_array(g, "floats", MLXN_GGUF_F32, NULL, &count), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_get_array(g, "floats", MLXN_GGUF_F32, &data, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_get_strings(g, "texts", NULL, 3, &count), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_get_strings(g, "texts", NULL, 0, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_gguf_get_tensor(g, 0, NULL), MLXN_ERR_ARGUMENT);
    CHECK(mlxn_gguf_find_key(g, NULL) == -1 && mlxn_gguf_find_tensor(g, NULL) == -1);
    CHECK(mlxn_gguf_retain(g) == g);
    mlxn_gguf_release(g);
    CHECK(gguf_walk(g) == NULL);
    mlxn_gguf_release(g);
    free(file.data);
}

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
        write_sample(&w);
        w.version = versions[i].version;
        EXPECT_BAD(&w, versions[i].text);
    }
    CHECK_FAILS(mlxn_gguf_open_memory("GGML\3\0\0\0", 8, "x", &g), MLXN_ERR_FORMAT, "47 47 4d 4c");
    static const uint64_t counts[] = {4, 1000, 1u << 31, (uint64_t)1 << 60, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        write_sample(&w);
        w.tensor_count = counts[i];
        EXPECT_BAD(&w, "");
        write_sample(&w);
        w.key_count = counts[i] * (i ? 1 : 4); /* 4: the tensors are read as keys */
        EXPECT_BAD(&w, "");
    }
}

/* No beginning of a file is a file. */
TEST(gguf_refuses_every_truncation)
{
    gguf_writer w;
    write_sample(&w);
    image file = finish(&w);
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
        write_sample(&w);
        gguf_key_u32(&w, "general.alignment", bad[i]);
        EXPECT_BAD(&w, "power of two");
    }
    write_sample(&w);
    gguf_key_u64(&w, "general.alignment", 32);
    EXPECT_BAD(&w, "is u64, must be u32");
    write_sample(&w);
    gguf_key_u32(&w, "general.alignment", 0x80000000);
    EXPECT_BAD(&w, "tensor data start at 2147483648");
    for (uint32_t alignment = 8; alignment <= 4096; alignment *= 2) {
        gguf_begin(&w);
        w.alignment = alignment;
        gguf_key_u32(&w, "general.alignment", alignment);
        gguf_tensor(&w, "a", 0, 1, (int64_t[]){1}, NULL, 4);
        gguf_tensor(&w, "b", 0, 1, (int64_t[]){1}, NULL, 4);
        image file = finish(&w);
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
        image file = finish(&w);
        mlxn_gguf *g = NULL;
        CHECK_STATUS(mlxn_gguf_open_memory(file.data, file.bytes, "x", &g),
                     offset <= 32 || offset == 160 ? MLXN_ERR_FORMAT : MLXN_OK);
        mlxn_gguf_release(g);
        free(file.data);
    }
}

/* A vocabulary alone is a file too, even if nothing pads its end. */
TEST(gguf_without_tensors)
{
    gguf_writer w;
    gguf_begin(&w);
    w.alignment = 0;
    gguf_key_text(&w, "k", "value");
    image file = finish(&w);
    mlxn_gguf *g = NULL;
    REQUIRE_OK(mlxn_gguf_open_memory(file.data, file.bytes, "x", &g));
    CHECK(mlxn_gguf_tensor_count(g) == 0 && mlxn_gguf_data_offset(g) == file.bytes);
    mlxn_gguf_release(g);
    free(file.data);
}

TEST(gguf_many_names)
{
    enum { COUNT = 50000 };
    gguf_writer w;
    char name[32];
    gguf_begin(&w);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "key.%d", i);
        gguf_key_u32(&w, name, (uint32_t)i);
        snprintf(name, sizeof name, "blk.%d.weight", COUNT - i);
        gguf_tensor(&w, name, 0, 1, (int64_t[]){1}, NULL, 4);
    }
    image file = finish(&w);
    mlxn_gguf *g = NULL;
    REQUIRE_OK(mlxn_gguf_open_memory(file.data, file.bytes, "x", &g));
    for (int i = 0; i < COUNT; i += 7) {
        uint32_t value = 0;
        snprintf(name, sizeof name, "key.%d", i);
        CHECK_STATUS(mlxn_gguf_get_u32(g, name, &value), MLXN_OK);
        CHECK(value == (uint32_t)i);
        snprintf(name, sizeof name, "blk.%d.weight", COUNT - i);
        CHECK(mlxn_gguf_find_tensor(g, name) == i);
    }
    mlxn_gguf_release(g);
    free(file.data);
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

TEST(gguf_opens_files)
{
    char directory[] = "/tmp/mlxn-test-XXXXXX", path[64];
    REQUIRE(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/a.gguf", directory);
    gguf_writer w;
    mlxn_gguf *g = NULL;
    CHECK_FAILS(mlxn_gguf_open(path, &g), MLXN_ERR_IO, "a.gguf: cannot open");
    CHECK_FAILS(mlxn_gguf_open(directory, &g), MLXN_ERR_IO, "not a regular file");
    write_sample(&w);
    CHECK(gguf_finish_file(&w, path));
    if (test_status(mlxn_gguf_open(path, &g), MLXN_OK, __FILE__, __LINE__, "open")) {
        CHECK(gguf_walk(g) == NULL && !strcmp(mlxn_gguf_path(g), path));
        CHECK(!memcmp(mlxn_gguf_data(g), "GGUF", 4));
        mlxn_gguf_release(g);
    }
    FILE *file = fopen(path, "wb");
    CHECK(file && fclose(file) == 0);
    CHECK_FAILS(mlxn_gguf_open(path, &g), MLXN_ERR_FORMAT, "empty");
    unlink(path);
    rmdir(directory);
}

TEST(gguf_opens_the_real_model)
{
    mlxn_gguf *g = real_model();
    mlxn_gguf_tensor t = {.size = sizeof t};
    REQUIRE(g);
    CHECK(mlxn_gguf_key_count(g) == 33 && mlxn_gguf_tensor_count(g) == 236);
    CHECK(mlxn_gguf_data_offset(g) == 6525120 && mlxn_gguf_file_bytes(g) == 253113024);
    REQUIRE_OK(mlxn_gguf_get_tensor(g, mlxn_gguf_find_tensor(g, "token_embd.weight"), &t));
    CHECK(t.dtype == MLXN_Q8_0 && t.rank == 2 && t.shape[0] == 262144 && t.shape[1] == 640);
    uint32_t window = 0;
    double epsilon = 0;
    CHECK_STATUS(mlxn_gguf_get_u32(g, "gemma3.attention.sliding_window", &window), MLXN_OK);
    CHECK_STATUS(mlxn_gguf_get_f64(g, "gemma3.attention.layer_norm_rms_epsilon", &epsilon),
                 MLXN_OK);
    CHECK(window == 512 && fabs(epsilon - 1e-6) < 1e-12);
    CHECK(gguf_walk(g) == NULL);
}

/* Bits flipped, bytes and absurd numbers put in, parts cut out or doubled, the end cut off. */
static image mutate(image from, uint64_t *state)
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
    image out = {malloc(bytes ? bytes : 1), bytes};
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
    image bases[3];
    write_sample(&w);
    bases[0] = finish(&w);
    write_sample(&w);
    tiny_vocab_keys(&w);
    bases[1] = finish(&w);
    gguf_begin(&w);
    tiny_vocab_keys(&w);
    bases[2] = finish(&w);
    for (int i = 0; i < rounds; i++) {
        image file = mutate(bases[i % 3], &state);
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
