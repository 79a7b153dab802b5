/* gguf_test.c - the GGUF reader: what sound files say.  Broken ones: gguf_refusals_test.c. */
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>
#include "gguf_image.h"
#include "gguf_walk.h"
#include "real_model.h"

TEST(gguf_reads_every_type)
{
    gguf_writer w;
    gguf_sample(&w);
    gguf_image file = gguf_image_of(&w);
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
    gguf_sample(&w);
    gguf_image file = gguf_image_of(&w);
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
    gguf_sample(&w);
    gguf_image file = gguf_image_of(&w);
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

/* A vocabulary alone is a file too, even if nothing pads its end. */
TEST(gguf_without_tensors)
{
    gguf_writer w;
    gguf_begin(&w);
    w.alignment = 0;
    gguf_key_text(&w, "k", "value");
    gguf_image file = gguf_image_of(&w);
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
    gguf_image file = gguf_image_of(&w);
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

TEST(gguf_opens_files)
{
    char directory[] = "/tmp/mlxn-test-XXXXXX", path[64];
    REQUIRE(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/a.gguf", directory);
    gguf_writer w;
    mlxn_gguf *g = NULL;
    CHECK_FAILS(mlxn_gguf_open(path, &g), MLXN_ERR_IO, "a.gguf: cannot open");
    CHECK_FAILS(mlxn_gguf_open(directory, &g), MLXN_ERR_IO, "not a regular file");
    REQUIRE(!mkfifo(path, 0600)); /* whose writer is not waited for */
    CHECK_FAILS(mlxn_gguf_open(path, &g), MLXN_ERR_IO, "not a regular file");
    unlink(path);
    gguf_sample(&w);
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
