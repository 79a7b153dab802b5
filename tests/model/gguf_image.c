/* gguf_image.c - see gguf_image.h. */
#include "gguf_image.h"

#include <stdlib.h>
#include <string.h>

gguf_image gguf_image_of(gguf_writer *w)
{
    size_t bytes;
    unsigned char *data = gguf_finish(w, &bytes), *exact = malloc(bytes);
    if (!exact)
        abort();
    memcpy(exact, data, bytes);
    free(data);
    return (gguf_image){exact, bytes};
}

void gguf_sample(gguf_writer *w)
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
