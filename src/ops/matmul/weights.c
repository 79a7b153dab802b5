/* weights.c - preparing weights: see mlxn/weights.h, and packed.h for the layout.
 *
 * The rows are packed in pieces.  With DROP_SOURCE the pages of a mapped file that hold a piece are
 * given back as soon as it is packed, so that source and copy are not both in memory. */
#include <mlxn/weights.h>
#include "ops/matmul/weight.h"
#include "ops/matmul/packed.h"
#include "ops/kernels.h"

enum { PIECE_BYTES = 8 << 20 }; /* of the source, where pages are dropped */

int mlxn_weight_is_prepared(const mlxn_buffer *buffer)
{
    return buffer && buffer->layout == MLXN_LAYOUT_PACKED;
}

static mlxn_status check_source(mlxn_encoder *encoder, mlxn_buffer *weight, matmul_weight *w)
{
    MLXN_TRY(mlxn_op_operand("weight_prepare", "weight", encoder, weight, DT_WEIGHTS, 0));
    MLXN_TRY(mlxn_matmul_weight_of("weight_prepare", "weight", weight, w));
    return mlxn_op_dense("weight_prepare", "weight", weight, w->rows * w->cols);
}

static mlxn_status create_packed(const mlxn_buffer *weight, const matmul_weight *w,
                                 mlxn_buffer **out)
{
    const packed_format f = packed_format_of((mlxn_dtype)w->dtype);
    const size_t group = packed_group_bytes(f, packed_tiles(w->cols));
    size_t bytes;
    if (mlxn_mul_overflows(group, (size_t)packed_groups(w->rows), &bytes))
        return mlxn_fail(MLXN_ERR_OVERFLOW, "weight_prepare: the packed size passes 64 bits");
    return mlxn_buffer_create_packed(weight, bytes, out);
}

static mlxn_status run_piece(mlxn_encoder *encoder, mlxn_buffer *weight, mlxn_buffer *packed,
                             const weight_pack_params *p)
{
    const mlxn_operand operands[] = {{weight, MLXN_READ}, {packed, MLXN_WRITE}};
    MLXN_TRY(mlxn_encoder_reset(encoder));
    MLXN_TRY(mlxn_launch(encoder, MLXN_KERNEL_weight_pack, operands, 2, p, sizeof *p, NULL));
    MLXN_TRY(mlxn_encoder_commit(encoder));
    return mlxn_encoder_wait(encoder);
}

static mlxn_status pack_all(mlxn_encoder *encoder, mlxn_buffer *weight, const matmul_weight *w,
                            int drop, mlxn_buffer *packed)
{
    const int64_t groups = packed_groups(w->rows), group_bytes = w->row_bytes * PACKED_ROWS;
    int64_t piece = groups;
    if (drop)
        piece = group_bytes < PIECE_BYTES ? PIECE_BYTES / group_bytes : 1;
    for (int64_t first = 0; first < groups; first += piece) {
        const int64_t count = groups - first < piece ? groups - first : piece;
        const weight_pack_params p = {.weight = *w, .first = first, .count = count};
        MLXN_TRY(run_piece(encoder, weight, packed, &p));
        const int64_t end = (first + count) * PACKED_ROWS;
        if (drop) /* from the start each time, so that no page between two pieces is left */
            mlxn_storage_drop(weight->storage, weight->offset,
                              (size_t)((end < w->rows ? end : w->rows) * w->row_bytes));
    }
    return MLXN_OK;
}

static mlxn_status prepare(mlxn_encoder *encoder, mlxn_buffer *weight, int drop, mlxn_buffer **out)
{
    matmul_weight w;
    mlxn_buffer *packed = NULL;
    MLXN_TRY(check_source(encoder, weight, &w));
    MLXN_TRY(create_packed(weight, &w, &packed));
    mlxn_status status = pack_all(encoder, weight, &w, drop, packed);
    if (status != MLXN_OK) {
        mlxn_buffer_release(packed);
        return status;
    }
    *out = packed;
    return MLXN_OK;
}

mlxn_status mlxn_weight_prepare(mlxn_buffer *weight, uint32_t use, mlxn_buffer **out)
{
    mlxn_encoder *encoder = NULL;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "weight_prepare: out is NULL");
    *out = NULL;
    if (!weight)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "weight_prepare: weight is NULL");
    if ((use & ~(uint32_t)MLXN_WEIGHT_DROP_SOURCE) != MLXN_WEIGHT_MATMUL)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "weight_prepare: use is %u, needs matmul (%d)%s", use,
                         MLXN_WEIGHT_MATMUL, " with or without drop_source");
    MLXN_TRY(mlxn_encoder_create(weight->storage->device, &encoder));
    const int drop = use & MLXN_WEIGHT_DROP_SOURCE && weight->storage->flags & MLXN_STORAGE_FILE;
    mlxn_status status = prepare(encoder, weight, drop, out);
    mlxn_encoder_release(encoder);
    return status;
}
