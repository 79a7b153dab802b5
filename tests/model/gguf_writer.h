/* gguf_writer.h - builds GGUF files in memory, sound or broken, for tests.
 *
 * Keys and tensors are added in order; gguf_finish() gives the file.  What a sound file cannot have
 * is made through the fields of the struct, or by appending raw bytes to `keys` and `tensors`. */
#ifndef MLXN_TEST_GGUF_WRITER_H
#define MLXN_TEST_GGUF_WRITER_H

#include <stddef.h>
#include <stdint.h>
#include <mlxn/gguf.h>

typedef struct gguf_bytes {
    unsigned char *data;
    size_t bytes, capacity;
} gguf_bytes;

typedef struct gguf_writer {
    uint32_t version, alignment; /* 3, 32: as written to the header and used for padding */
    uint64_t key_count, tensor_count;
    gguf_bytes keys, tensors, data; /* entries as in the file; the data section */
} gguf_writer;

void gguf_begin(gguf_writer *w);
/* The file, to be freed; the writer is empty afterwards. */
unsigned char *gguf_finish(gguf_writer *w, size_t *bytes);
/* The same into a file; 0 on failure. */
int gguf_finish_file(gguf_writer *w, const char *path);

/* Raw little-endian bytes, text with its length in front. */
void gguf_append(gguf_bytes *to, const void *data, size_t bytes);
void gguf_append_u32(gguf_bytes *to, uint32_t value);
void gguf_append_u64(gguf_bytes *to, uint64_t value);
void gguf_append_text(gguf_bytes *to, const char *text, size_t bytes);

/* One key.  `data` is in the host's byte order, which must be little-endian. */
void gguf_key(gguf_writer *w, const char *key, mlxn_gguf_type type, const void *data, size_t bytes);
void gguf_key_u32(gguf_writer *w, const char *key, uint32_t value);
void gguf_key_u64(gguf_writer *w, const char *key, uint64_t value);
void gguf_key_i32(gguf_writer *w, const char *key, int32_t value);
void gguf_key_f32(gguf_writer *w, const char *key, float value);
void gguf_key_bool(gguf_writer *w, const char *key, int value);
void gguf_key_text(gguf_writer *w, const char *key, const char *text);
/* An array of `count` scalars of `size` bytes; of NUL-terminated strings; of strings of any bytes.
 */
void gguf_key_array(gguf_writer *w, const char *key, mlxn_gguf_type type, const void *data,
                    uint64_t count, size_t size);
void gguf_key_texts(gguf_writer *w, const char *key, const char *const *texts, uint64_t count);
void gguf_key_strings(gguf_writer *w, const char *key, const mlxn_gguf_string *strings,
                      uint64_t count);

/* A tensor: `type` is GGUF's id, `shape` row-major.  Its data go to the next aligned offset of the
 * data section; NULL: `bytes` zeros.  gguf_tensor_at writes the entry alone. */
void gguf_tensor(gguf_writer *w, const char *name, uint32_t type, int rank, const int64_t *shape,
                 const void *data, size_t bytes);
void gguf_tensor_at(gguf_writer *w, const char *name, uint32_t type, int rank, const int64_t *shape,
                    uint64_t offset);

#endif
