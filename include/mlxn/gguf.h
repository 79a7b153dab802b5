/* gguf.h - reads GGUF v3 files.
 *
 * Opening maps the file and checks all of the header before anything is used: counts, offsets,
 * strings, dims, alignment, overlaps, types.  A file is hostile until proven otherwise; whatever is
 * wrong with it is MLXN_ERR_FORMAT (or ERR_IO, ERR_MEMORY) with file, tensor or key, and numbers.
 * The file must not be changed or cut while it is open.
 * An open file is immutable and may be read by many threads.  Pointers it gives live as long as it.
 */
#ifndef MLXN_GGUF_H
#define MLXN_GGUF_H

#include <mlxn/buffer.h>

MLXN_EXTERN_C_BEGIN

typedef struct mlxn_gguf mlxn_gguf;

/* GGUF's own numbers. */
typedef enum mlxn_gguf_type {
    MLXN_GGUF_U8 = 0,
    MLXN_GGUF_I8 = 1,
    MLXN_GGUF_U16 = 2,
    MLXN_GGUF_I16 = 3,
    MLXN_GGUF_U32 = 4,
    MLXN_GGUF_I32 = 5,
    MLXN_GGUF_F32 = 6,
    MLXN_GGUF_BOOL = 7,
    MLXN_GGUF_STRING = 8,
    MLXN_GGUF_ARRAY = 9,
    MLXN_GGUF_U64 = 10,
    MLXN_GGUF_I64 = 11,
    MLXN_GGUF_F64 = 12,
} mlxn_gguf_type;

/* A string in the file: not NUL-terminated, any bytes. */
typedef struct mlxn_gguf_string {
    const char *data;
    size_t bytes;
} mlxn_gguf_string;

typedef struct mlxn_gguf_tensor {
    size_t size; /* set by the caller */
    mlxn_gguf_string name;
    uint32_t type;    /* GGUF's type id */
    mlxn_dtype dtype; /* NONE: a type this library does not have */
    int rank;         /* 1 to 4 */
    int64_t shape[4]; /* row-major: GGUF's dims reversed, [N, K] for a matrix */
    uint64_t offset;  /* in the file, of the first byte */
    uint64_t bytes;   /* 0 if dtype is NONE */
} mlxn_gguf_tensor;

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_open(const char *path, mlxn_gguf **out);
/* The same from memory, which must stay valid and unchanged; `name` stands for the file's name. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_open_memory(const void *data, size_t bytes,
                                                           const char *name, mlxn_gguf **out);
MLXN_API mlxn_gguf *mlxn_gguf_retain(mlxn_gguf *gguf);
MLXN_API void mlxn_gguf_release(mlxn_gguf *gguf);

MLXN_API const char *mlxn_gguf_path(const mlxn_gguf *gguf);
MLXN_API int mlxn_gguf_is_file(const mlxn_gguf *gguf); /* 0: opened from memory */
MLXN_API uint64_t mlxn_gguf_file_bytes(const mlxn_gguf *gguf);
MLXN_API const void *mlxn_gguf_data(const mlxn_gguf *gguf);     /* the file's first byte */
MLXN_API uint64_t mlxn_gguf_data_offset(const mlxn_gguf *gguf); /* where tensor data starts */

/* Metadata by index, 0 to count - 1, in file order; or by key (-1: not there).  At an index that is
 * not there: an empty key, type -1. */
MLXN_API int64_t mlxn_gguf_key_count(const mlxn_gguf *gguf);
MLXN_API int64_t mlxn_gguf_find_key(const mlxn_gguf *gguf, const char *key);
MLXN_API mlxn_gguf_string mlxn_gguf_key(const mlxn_gguf *gguf, int64_t index);
MLXN_API mlxn_gguf_type mlxn_gguf_key_type(const mlxn_gguf *gguf, int64_t index);
/* Arrays: the elements' type, and their number (-1 and 0 for a scalar). */
MLXN_API mlxn_gguf_type mlxn_gguf_array_type(const mlxn_gguf *gguf, int64_t index);
MLXN_API uint64_t mlxn_gguf_array_count(const mlxn_gguf *gguf, int64_t index);

/* A value by key.  Integers of any width and sign, and bools, convert where the value fits; f64 and
 * f32 convert.  MLXN_ERR_NOT_FOUND: no such key; MLXN_ERR_DTYPE: another kind of value;
 * MLXN_ERR_BOUNDS: the value does not fit.  On failure *out is untouched. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_u32(const mlxn_gguf *gguf, const char *key,
                                                       uint32_t *out);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_i64(const mlxn_gguf *gguf, const char *key,
                                                       int64_t *out);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_f64(const mlxn_gguf *gguf, const char *key,
                                                       double *out);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_bool(const mlxn_gguf *gguf, const char *key,
                                                        int *out);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_string(const mlxn_gguf *gguf, const char *key,
                                                          mlxn_gguf_string *out);
/* Elements of an array of scalars, as they lie in the file (little-endian, any alignment). */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_array(const mlxn_gguf *gguf, const char *key,
                                                         mlxn_gguf_type type, const void **out,
                                                         uint64_t *count);
/* All strings of an array of strings, into `out`, room for `capacity`; *count is their number
 * (pass capacity 0 to ask). */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_strings(const mlxn_gguf *gguf, const char *key,
                                                           mlxn_gguf_string *out, uint64_t capacity,
                                                           uint64_t *count);

MLXN_API int64_t mlxn_gguf_tensor_count(const mlxn_gguf *gguf);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_gguf_get_tensor(const mlxn_gguf *gguf, int64_t index,
                                                          mlxn_gguf_tensor *out);
/* -1: no tensor of that name */
MLXN_API int64_t mlxn_gguf_find_tensor(const mlxn_gguf *gguf, const char *name);

MLXN_EXTERN_C_END
#endif
