/* quant_ref.h - GGUF weight rows taken apart by their published formulas, element by element, and
 * the products with them that mlxn/ops/matmul.h states; shares no code with the library. */
#ifndef MLXN_TESTS_QUANT_REF_H
#define MLXN_TESTS_QUANT_REF_H

#include "test.h"

/* A row of k elements: weight i is s*u + t.  Float rows: s 1, t 0, u the weight. */
typedef struct quant_row {
    int64_t k;
    int has_offset, is_float, halves; /* halves: a scale for each 16 elements */
    float *u, *s, *t;                 /* k each */
} quant_row;

extern const mlxn_dtype quant_dtypes[11];

int quant_is_float(mlxn_dtype dtype);
size_t quant_row_bytes(mlxn_dtype dtype, int64_t k);
void quant_decode(mlxn_dtype dtype, const void *bytes, int64_t k, quant_row *row);
void quant_row_free(quant_row *row);
/* Random weights: all bit patterns of the quants; scales around `size`, of both signs, with zeros,
 * subnormals and the largest among them if `extreme`. */
void quant_fill(mlxn_dtype dtype, void *bytes, int64_t rows, int64_t k, float size, int extreme,
                uint64_t *seed);

/* The header's formulas on x[k], one rounding at a time.  lanes: of the sum over blocks, a power of
 * two up to 16; 1 on the CPU. */
float quant_dot_exact(const quant_row *w, const float *x, int lanes);
float quant_dot_fast(const quant_row *w, const float *x);
/* In float64, with the bound of what a formula may differ from it before the store. */
typedef enum quant_input {
    QUANT_INPUT_KEPT,
    QUANT_INPUT_INT8,   /* quant_dot_fast */
    QUANT_INPUT_TENSOR, /* the sum of two bf16, summed by tensor cores in an order of their own */
} quant_input;
double quant_dot(const quant_row *w, const float *x, quant_input input, double *bound);

#endif
