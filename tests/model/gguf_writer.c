/* gguf_writer.c - the writer of gguf_writer.h. */
#include "gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gguf_begin(gguf_writer *w)
{
    memset(w, 0, sizeof *w);
    w->version = 3;
    w->alignment = 32;
}

void gguf_append(gguf_bytes *to, const void *data, size_t bytes)
{
    if (to->bytes + bytes > to->capacity) {
        to->capacity = 2 * (to->bytes + bytes);
        to->data = realloc(to->data, to->capacity);
        if (!to->data)
            abort();
    }
    if (bytes && data)
        memcpy(to->data + to->bytes, data, bytes);
    else if (bytes)
        memset(to->data + to->bytes, 0, bytes);
    to->bytes += bytes;
}

void gguf_append_u32(gguf_bytes *to, uint32_t value)
{
    unsigned char bytes[4];
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    gguf_append(to, bytes, sizeof bytes);
}

void gguf_append_u64(gguf_bytes *to, uint64_t value)
{
    gguf_append_u32(to, (uint32_t)value);
    gguf_append_u32(to, (uint32_t)(value >> 32));
}

void gguf_append_text(gguf_bytes *to, const char *text, size_t bytes)
{
    gguf_append_u64(to, bytes);
    gguf_append(to, text, bytes);
}

static void begin_key(gguf_writer *w, const char *key, mlxn_gguf_type type)
{
    gguf_append_text(&w->keys, key, strlen(key));
    gguf_append_u32(&w->keys, (uint32_t)type);
    w->key_count++;
}

static void begin_array(gguf_writer *w, const char *key, mlxn_gguf_type type, uint64_t count)
{
    begin_key(w, key, MLXN_GGUF_ARRAY);
    gguf_append_u32(&w->keys, (uint32_t)type);
    gguf_append_u64(&w->keys, count);
}

void gguf_key(gguf_writer *w, const char *key, mlxn_gguf_type type, const void *data, size_t bytes)
{
    begin_key(w, key, type);
    gguf_append(&w->keys, data, bytes);
}

void gguf_key_u32(gguf_writer *w, const char *key, uint32_t value)
{
    gguf_key(w, key, MLXN_GGUF_U32, &value, sizeof value);
}

void gguf_key_u64(gguf_writer *w, const char *key, uint64_t value)
{
    gguf_key(w, key, MLXN_GGUF_U64, &value, sizeof value);
}

void gguf_key_i32(gguf_writer *w, const char *key, int32_t value)
{
    gguf_key(w, key, MLXN_GGUF_I32, &value, sizeof value);
}

void gguf_key_f32(gguf_writer *w, const char *key, float value)
{
    gguf_key(w, key, MLXN_GGUF_F32, &value, sizeof value);
}

void gguf_key_bool(gguf_writer *w, const char *key, int value)
{
    unsigned char byte = (unsigned char)value;
    gguf_key(w, key, MLXN_GGUF_BOOL, &byte, 1);
}

void gguf_key_text(gguf_writer *w, const char *key, const char *text)
{
    begin_key(w, key, MLXN_GGUF_STRING);
    gguf_append_text(&w->keys, text, strlen(text));
}

void gguf_key_array(gguf_writer *w, const char *key, mlxn_gguf_type type, const void *data,
                    uint64_t count, size_t size)
{
    begin_array(w, key, type, count);
    gguf_append(&w->keys, data, (size_t)count * size);
}

void gguf_key_texts(gguf_writer *w, const char *key, const char *const *texts, uint64_t count)
{
    begin_array(w, key, MLXN_GGUF_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        gguf_append_text(&w->keys, texts[i], strlen(texts[i]));
}

void gguf_key_strings(gguf_writer *w, const char *key, const mlxn_gguf_string *strings,
                      uint64_t count)
{
    begin_array(w, key, MLXN_GGUF_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        gguf_append_text(&w->keys, strings[i].data, strings[i].bytes);
}

static void pad(gguf_bytes *to, size_t alignment)
{
    if (alignment && to->bytes % alignment)
        gguf_append(to, NULL, alignment - to->bytes % alignment);
}

void gguf_tensor_at(gguf_writer *w, const char *name, uint32_t type, int rank, const int64_t *shape,
                    uint64_t offset)
{
    gguf_append_text(&w->tensors, name, strlen(name));
    gguf_append_u32(&w->tensors, (uint32_t)rank);
    for (int i = rank - 1; i >= 0; i--)
        gguf_append_u64(&w->tensors, (uint64_t)shape[i]);
    gguf_append_u32(&w->tensors, type);
    gguf_append_u64(&w->tensors, offset);
    w->tensor_count++;
}

void gguf_tensor(gguf_writer *w, const char *name, uint32_t type, int rank, const int64_t *shape,
                 const void *data, size_t bytes)
{
    pad(&w->data, w->alignment);
    gguf_tensor_at(w, name, type, rank, shape, w->data.bytes);
    gguf_append(&w->data, data, bytes);
}

unsigned char *gguf_finish(gguf_writer *w, size_t *bytes)
{
    gguf_bytes file = {0};
    gguf_append(&file, "GGUF", 4);
    gguf_append_u32(&file, w->version);
    gguf_append_u64(&file, w->tensor_count);
    gguf_append_u64(&file, w->key_count);
    gguf_append(&file, w->keys.data, w->keys.bytes);
    gguf_append(&file, w->tensors.data, w->tensors.bytes);
    pad(&file, w->alignment);
    gguf_append(&file, w->data.data, w->data.bytes);
    free(w->keys.data);
    free(w->tensors.data);
    free(w->data.data);
    gguf_begin(w);
    *bytes = file.bytes;
    return file.data;
}

int gguf_finish_file(gguf_writer *w, const char *path)
{
    size_t bytes;
    unsigned char *data = gguf_finish(w, &bytes);
    FILE *file = fopen(path, "wb");
    int sound = file && fwrite(data, 1, bytes, file) == bytes;
    if (file && fclose(file))
        sound = 0;
    free(data);
    return sound;
}
