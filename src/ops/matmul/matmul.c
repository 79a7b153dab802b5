/* matmul.c - products with weights: checks and launch.  See mlxn/ops/matmul.h. */
#include <mlxn/ops/matmul.h>
#include "ops/matmul/weight.h"
#include "ops/matmul/plan.h"
#include "ops/kernels.h"
#include "ops/shared.h"

mlxn_status matmul_weight_of(const char *op, const char *name, const mlxn_buffer *b,
                             matmul_weight *out)
{
    MLXN_TRY(op_shape(op, name, b, 2, -1, -1, -1));
    *out = (matmul_weight){.rows = b->shape[0],
                           .cols = b->shape[1],
                           .dtype = (int32_t)b->dtype,
                           .packed = b->layout == MLXN_LAYOUT_PACKED};
    if (out->packed)
        return MLXN_OK;
    op_rows rows;
    MLXN_TRY(op_as_rows(op, name, b, &rows));
    out->row_bytes = rows.stride / (int64_t)mlxn_dtype_block_elements(b->dtype) *
                     (int64_t)mlxn_dtype_block_bytes(b->dtype);
    return MLXN_OK;
}

size_t mlxn_matmul_shared(const void *args, uint32_t n_threads)
{
    const matmul_plan m = plan_of(args);
    return m.shared_activations + m.thread_bytes * n_threads;
}

static mlxn_status check_shapes(const mlxn_matmul_args *a, matmul_params *p)
{
    op_rows in, out;
    MLXN_TRY(matmul_weight_of("matmul", "weight", a->weight, &p->weight));
    MLXN_TRY(op_as_rows("matmul", "input", a->input, &in));
    MLXN_TRY(op_as_rows("matmul", "output", a->output, &out));
    if (in.dim != p->weight.cols)
        return mlxn_fail(MLXN_ERR_SHAPE, "matmul: input has rows of %lld, weight has rows of %lld",
                         (long long)in.dim, (long long)p->weight.cols);
    if (out.dim != p->weight.rows)
        return mlxn_fail(MLXN_ERR_SHAPE, "matmul: output has rows of %lld, weight has %lld rows",
                         (long long)out.dim, (long long)p->weight.rows);
    if (in.rows != out.rows)
        return mlxn_fail(MLXN_ERR_SHAPE, "matmul: input has %lld rows, output has %lld",
                         (long long)in.rows, (long long)out.rows);
    p->rows = in.rows;
    p->input_stride = in.stride;
    p->output_stride = out.stride;
    return MLXN_OK;
}

mlxn_status mlxn_matmul(mlxn_encoder *encoder, const mlxn_matmul_args *args)
{
    MLXN_TRY(op_encoder("matmul", encoder));
    OP_ARGS("matmul", mlxn_matmul_args, a, args);
    MLXN_TRY(op_operand("matmul", "input", encoder, a.input, DT_FLOATS, 0));
    MLXN_TRY(op_operand("matmul", "weight", encoder, a.weight, DT_WEIGHTS, OP_PACKED));
    MLXN_TRY(op_operand("matmul", "output", encoder, a.output, DT_FLOATS, 0));
    if (a.mode != MLXN_MATMUL_EXACT && a.mode != MLXN_MATMUL_FAST)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "matmul: mode is %d, needs exact (1) or fast (2)",
                         (int)a.mode);
    matmul_params p = {.input_dtype = (int32_t)a.input->dtype,
                       .output_dtype = (int32_t)a.output->dtype,
                       .fast = a.mode == MLXN_MATMUL_FAST};
    MLXN_TRY(check_shapes(&a, &p));
    MLXN_TRY(op_disjoint("matmul", "output", a.output, "input", a.input, 0));
    MLXN_TRY(op_disjoint("matmul", "output", a.output, "weight", a.weight, 0));
    const mlxn_operand operands[] = {
        {a.input, MLXN_READ}, {a.weight, MLXN_READ}, {a.output, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_matmul, operands, 3, &p, sizeof p, NULL);
}
