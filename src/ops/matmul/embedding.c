/* embedding.c - rows of a table by id: checks and launch.  See mlxn/ops/matmul.h. */
#include <math.h>
#include <mlxn/ops/matmul.h>
#include "ops/matmul/weight.h"
#include "ops/matmul/packed.h"
#include "ops/kernels.h"
#include "ops/shared.h"

size_t mlxn_embedding_shared(const void *args, uint32_t n_threads)
{
    const embedding_params *p = args;
    const packed_format f = packed_format_of((mlxn_dtype)p->table.dtype);
    return p->table.packed ? 0 : n_threads * packed_group_bytes(f, packed_tiles(p->table.cols));
}

mlxn_status mlxn_embedding(mlxn_encoder *encoder, const mlxn_embedding_args *args)
{
    MLXN_TRY(mlxn_op_encoder("embedding", encoder));
    OP_ARGS("embedding", mlxn_embedding_args, a, args);
    MLXN_TRY(mlxn_op_operand("embedding", "table", encoder, a.table, DT_WEIGHTS, OP_PACKED));
    MLXN_TRY(mlxn_op_operand("embedding", "ids", encoder, a.ids, DT(I32) | DT(U32), 0));
    MLXN_TRY(mlxn_op_operand("embedding", "output", encoder, a.output, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_float("embedding", "scale", a.scale, isfinite(a.scale) && a.scale != 0.0f,
                           "finite and not 0"));
    embedding_params p = {.output_dtype = (int32_t)a.output->dtype, .scale = a.scale};
    op_rows out;
    MLXN_TRY(mlxn_matmul_weight_of("embedding", "table", a.table, &p.table));
    MLXN_TRY(mlxn_op_dense("embedding", "ids", a.ids, a.ids->elements));
    MLXN_TRY(mlxn_op_as_rows("embedding", "output", a.output, &out));
    if (out.dim != p.table.cols)
        return mlxn_fail(MLXN_ERR_SHAPE,
                         "embedding: output has rows of %lld, table has rows of %lld",
                         (long long)out.dim, (long long)p.table.cols);
    if (out.rows != a.ids->elements)
        return mlxn_fail(MLXN_ERR_SHAPE, "embedding: output has %lld rows, ids has %lld elements",
                         (long long)out.rows, (long long)a.ids->elements);
    p.ids = out.rows;
    p.output_stride = out.stride;
    MLXN_TRY(mlxn_op_disjoint("embedding", "output", a.output, "ids", a.ids, 0));
    MLXN_TRY(mlxn_op_disjoint("embedding", "output", a.output, "table", a.table, 0));
    const mlxn_operand operands[] = {
        {a.table, MLXN_READ}, {a.ids, MLXN_READ}, {a.output, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_embedding, operands, 3, &p, sizeof p, NULL);
}
