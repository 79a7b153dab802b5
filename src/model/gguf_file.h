/* gguf_file.h - what an open GGUF file consists of, shared by gguf.c (opening) and gguf_get.c
 * (reading values).  Nothing here changes after opening, but the count of references. */
#ifndef MLXN_GGUF_FILE_H
#define MLXN_GGUF_FILE_H

#include <stdatomic.h>
#include "string_index.h"

typedef struct mlxn_gguf_entry {
    mlxn_gguf_type type, array_type; /* array_type: -1 where type is not ARRAY */
    uint64_t count;                  /* elements of an array; 0 for a scalar */
    const unsigned char *value;      /* an array's: its first element */
} mlxn_gguf_entry;

struct mlxn_gguf {
    atomic_int references;
    char *path;
    const unsigned char *data;
    size_t bytes;
    int mapped; /* `data` is a mapping of ours */
    uint64_t alignment, data_offset;

    int64_t key_count, tensor_count;
    mlxn_gguf_string *keys, *tensor_names;
    mlxn_gguf_entry *entries;
    mlxn_gguf_tensor *tensors;
    mlxn_string_index key_index, tensor_index;
};

static inline uint32_t mlxn_load_u32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t mlxn_load_u64(const unsigned char *p)
{
    return mlxn_load_u32(p) | (uint64_t)mlxn_load_u32(p + 4) << 32;
}

/* Bytes of a scalar type; 0 for strings, arrays and what is no type. */
size_t mlxn_gguf_type_bytes(mlxn_gguf_type type);
const char *mlxn_gguf_type_name(mlxn_gguf_type type);

/* A name as it may stand in an error text: at most 60 bytes of printable ASCII. */
typedef struct mlxn_gguf_name {
    char text[64];
} mlxn_gguf_name;
mlxn_gguf_name mlxn_gguf_printable(mlxn_gguf_string name);

#endif
