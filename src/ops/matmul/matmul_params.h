/* matmul_params.h - the parameters of the matmul family's kernel texts.  Strides count elements. */
#ifndef MLXN_OPS_MATMUL_PARAMS_H
#define MLXN_OPS_MATMUL_PARAMS_H

#include "kernels/types.h"

/* Virtual lanes of a sum: tile t of k goes to lane t mod MM_LANES. */
enum { MM_LANES = 16 };

/* Where the parts of a group of the packed layout lie; bytes. */
typedef struct mm_layout {
    int64_t tiles, group_bytes, super_offset, scale_offset;
} mm_layout;

/* weight_pack: packs the groups [first, first + count). */
typedef struct mm_pack_params {
    mm_layout to;
    int64_t rows, cols, row_bytes; /* the plain source */
    int64_t first, count;
} mm_pack_params;

/* matmul_input: rows of `cols` elements as f32 rows of whole tiles, zeros in what is added. */
typedef struct mm_input_params {
    int64_t rows, cols, tiles;
    int64_t input_stride;
    int32_t dtype;
} mm_input_params;

/* matvec, matmul: the input is f32 in rows of whole tiles, 16-byte aligned. */
typedef struct mm_params {
    mm_layout weight;
    int64_t rows, columns; /* of the output */
    int64_t input_stride, output_stride;
    int32_t output_dtype;
} mm_params;

typedef struct mm_embedding_params {
    mm_layout table;               /* packed */
    int64_t rows, cols, row_bytes; /* of the table; row_bytes: plain */
    int64_t ids, output_stride;
    int32_t output_dtype;
    int32_t wide; /* output rows are 16-byte aligned and whole tiles */
    float scale;
} mm_embedding_params;

#endif
