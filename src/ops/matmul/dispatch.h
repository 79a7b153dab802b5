/* dispatch.h - what a recorded dispatch of the matmul family carries: its argument bytes. */
#ifndef MLXN_OPS_MATMUL_DISPATCH_H
#define MLXN_OPS_MATMUL_DISPATCH_H

#include <stdint.h>
#include <mlxn/dtype.h>

/* A [rows, cols] weight as a kernel sees it. */
typedef struct matmul_weight {
    int64_t rows, cols;
    int64_t row_bytes; /* plain: from one row to the next */
    int32_t dtype;
    int32_t packed;
} matmul_weight;

typedef struct matmul_params {
    matmul_weight weight;
    int64_t rows; /* of input and output */
    int64_t input_stride, output_stride;
    int32_t input_dtype, output_dtype;
    int32_t fast;
} matmul_params;

/* Several products of one input: operand 0 is the input, 1 + 2i the weight and 2 + 2i the output of
 * product i.  gate: output 0 = gelu(product 0) * product 1, output 1 is absent. */
enum { MATMUL_GROUP_MAX = 4, MATMUL_GROUP_OPERANDS = 1 + 2 * MATMUL_GROUP_MAX };
typedef struct matmul_group_params {
    int64_t rows, input_stride;
    int32_t input_dtype;
    int32_t fast;
    int32_t count, gate;
    struct matmul_group_product {
        matmul_weight weight;
        int64_t output_stride;
        int32_t output_dtype;
    } product[MATMUL_GROUP_MAX];
} matmul_group_params;

/* Product i, as a product of its own. */
static inline matmul_params matmul_product_of(const matmul_group_params *g, int i)
{
    return (matmul_params){.weight = g->product[i].weight,
                           .rows = g->rows,
                           .input_stride = g->input_stride,
                           .output_stride = g->product[i].output_stride,
                           .input_dtype = g->input_dtype,
                           .output_dtype = g->product[i].output_dtype,
                           .fast = g->fast};
}

static inline matmul_group_params matmul_group_of(const matmul_params *p)
{
    return (matmul_group_params){.rows = p->rows,
                                 .input_stride = p->input_stride,
                                 .input_dtype = p->input_dtype,
                                 .fast = p->fast,
                                 .count = 1,
                                 .product = {{p->weight, p->output_stride, p->output_dtype}}};
}

/* Packs the groups [first, first + count) of 16 rows. */
typedef struct weight_pack_params {
    matmul_weight weight; /* the plain source */
    int64_t first, count;
} weight_pack_params;

typedef struct embedding_params {
    matmul_weight table;
    int64_t ids;
    int64_t output_stride;
    int32_t output_dtype;
    float scale;
} embedding_params;

#endif
