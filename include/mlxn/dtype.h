/* dtype.h - element types, scalar and block-quantised.
 *
 * A block-quantised dtype stores `block_elements` consecutive elements of the last dimension in
 * `block_bytes` bytes, laid out as in GGUF.  Shapes and strides always count elements; the last
 * dimension of a block-quantised buffer is contiguous and a whole number of blocks. */
#ifndef MLXN_DTYPE_H
#define MLXN_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <mlxn/status.h>

MLXN_EXTERN_C_BEGIN

/* name, value, lower-case text, elements a block, bytes a block, GGUF type id (-1: none).
 * The one table of dtypes.  Values are ABI and never change. */
#define MLXN_DTYPE_MAP(X)             \
    X(F32, 1, "f32", 1, 4, 0)         \
    X(F16, 2, "f16", 1, 2, 1)         \
    X(BF16, 3, "bf16", 1, 2, 30)      \
    X(I8, 4, "i8", 1, 1, 24)          \
    X(I32, 5, "i32", 1, 4, 26)        \
    X(I64, 6, "i64", 1, 8, 27)        \
    X(U8, 7, "u8", 1, 1, -1)          \
    X(U16, 8, "u16", 1, 2, -1)        \
    X(U32, 9, "u32", 1, 4, -1)        \
    X(Q4_0, 16, "q4_0", 32, 18, 2)    \
    X(Q4_1, 17, "q4_1", 32, 20, 3)    \
    X(Q5_0, 18, "q5_0", 32, 22, 6)    \
    X(Q5_1, 19, "q5_1", 32, 24, 7)    \
    X(Q8_0, 20, "q8_0", 32, 34, 8)    \
    X(Q4_K, 21, "q4_k", 256, 144, 12) \
    X(Q5_K, 22, "q5_k", 256, 176, 13) \
    X(Q6_K, 23, "q6_k", 256, 210, 14)

typedef enum mlxn_dtype {
    MLXN_DTYPE_NONE = 0,
#define MLXN_DTYPE_ENUM(name, value, text, elements, bytes, gguf) MLXN_##name = value,
    MLXN_DTYPE_MAP(MLXN_DTYPE_ENUM)
#undef MLXN_DTYPE_ENUM
} mlxn_dtype;

/* "f32", "q4_k", ...; "none" for a value that is not a dtype. */
MLXN_API const char *mlxn_dtype_name(mlxn_dtype dtype);
/* The dtype of a name as above; MLXN_DTYPE_NONE if there is none. */
MLXN_API mlxn_dtype mlxn_dtype_from_name(const char *name);
/* The dtype of a GGUF tensor type id; MLXN_DTYPE_NONE if the library does not have it. */
MLXN_API mlxn_dtype mlxn_dtype_from_gguf(uint32_t type);
/* Elements and bytes of a block; 1 element for scalar dtypes, 0 for a value that is no dtype. */
MLXN_API size_t mlxn_dtype_block_elements(mlxn_dtype dtype);
MLXN_API size_t mlxn_dtype_block_bytes(mlxn_dtype dtype);

MLXN_EXTERN_C_END
#endif
