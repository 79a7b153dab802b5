/* check.h - the checks that operators share, with one wording.
 *
 * Each takes the operator's name first and names the operand and both numbers on failure:
 * "rms_norm: weight has 512 elements, needs 640".  A checker leaves nothing behind. */
#ifndef MLXN_OPS_CHECK_H
#define MLXN_OPS_CHECK_H

#include "core/internal.h"

/* Sets of dtypes, as bits. */
#define DT(name)  (1u << MLXN_##name)
#define DT_FLOATS (DT(F32) | DT(F16) | DT(BF16))
#define DT_QUANTS \
    (DT(Q4_0) | DT(Q4_1) | DT(Q5_0) | DT(Q5_1) | DT(Q8_0) | DT(Q4_K) | DT(Q5_K) | DT(Q6_K))
#define DT_WEIGHTS (DT_FLOATS | DT_QUANTS)

/* Copies the caller's descriptor into a local of the library's own version. */
#define OP_ARGS(op, type, local, args) \
    type local;                        \
    MLXN_TRY(mlxn_desc_copy((op), &(local), sizeof(local), (args)))

typedef enum op_flags {
    OP_OPTIONAL = 1, /* NULL is fine */
    OP_PACKED = 2,   /* a prepared weight is fine */
} op_flags;

/* An operand and what messages call it. */
typedef struct op_named {
    const char *name;
    mlxn_buffer *buffer;
} op_named;

/* encoder given and recording; called first, so that `enc` may be used freely afterwards. */
mlxn_status mlxn_op_encoder(const char *op, const mlxn_encoder *enc);
/* Present (or optional), on the encoder's device, of one of the dtypes, not packed unless allowed.
 */
mlxn_status mlxn_op_operand(const char *op, const char *name, const mlxn_encoder *enc,
                            const mlxn_buffer *b, uint32_t dtypes, uint32_t flags);
/* Exactly this dtype. */
mlxn_status mlxn_op_dtype(const char *op, const char *name, const mlxn_buffer *b, mlxn_dtype dtype);
/* rank dimensions of the given extents (-1: any). */
mlxn_status mlxn_op_shape(const char *op, const char *name, const mlxn_buffer *b, int rank,
                          int64_t d0, int64_t d1, int64_t d2);
/* Any shape of exactly n elements, dense. */
mlxn_status mlxn_op_dense(const char *op, const char *name, const mlxn_buffer *b, int64_t n);
mlxn_status mlxn_op_same_shape(const char *op, const char *name, const mlxn_buffer *b,
                               const char *as_name, const mlxn_buffer *as);
/* The last dimension has stride 1 (or extent 1). */
mlxn_status mlxn_op_contiguous_last(const char *op, const char *name, const mlxn_buffer *b);

/* No two elements share an address: for outputs. */
mlxn_status mlxn_op_distinct(const char *op, const char *name, const mlxn_buffer *b);

/* A buffer seen as evenly spaced rows of contiguous elements. */
typedef struct op_rows {
    int64_t rows, dim, stride; /* stride in elements; dim if there is one row */
} op_rows;
mlxn_status mlxn_op_as_rows(const char *op, const char *name, const mlxn_buffer *b, op_rows *out);

/* The output shares no byte with an input.  With same_ok the two may also be the very same view
 * (address, shape and strides): in place. */
mlxn_status mlxn_op_disjoint(const char *op, const char *out_name, const mlxn_buffer *out,
                             const char *in_name, const mlxn_buffer *in, int same_ok);

/* A float argument within its domain; the text is the domain ("> 0"). */
mlxn_status mlxn_op_float(const char *op, const char *name, float value, int ok,
                          const char *domain);

#endif
