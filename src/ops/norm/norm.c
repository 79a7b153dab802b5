/* norm.c - rms_norm, norm_add and residual_norm: checks and launches.  Formulas at the public
 * header, kernels in norm_cpu.c. */
#include <math.h>
#include <mlxn/ops/norm.h>
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/norm/norm_params.h"

/* A data operand: of the first one's dtype and shape, in evenly spaced rows. */
static mlxn_status check_data(const char *op, mlxn_encoder *enc, op_named first, op_named b,
                              int64_t *stride, uint32_t flags)
{
    op_rows rows;
    MLXN_TRY(mlxn_op_operand(op, b.name, enc, b.buffer, DT_FLOATS, flags));
    if (!b.buffer)
        return MLXN_OK;
    MLXN_TRY(mlxn_op_dtype(op, b.name, b.buffer, first.buffer->dtype));
    MLXN_TRY(mlxn_op_same_shape(op, b.name, b.buffer, first.name, first.buffer));
    MLXN_TRY(mlxn_op_as_rows(op, b.name, b.buffer, &rows));
    *stride = rows.stride;
    return MLXN_OK;
}

/* The input, which sets rows and dim. */
static mlxn_status check_input(const char *op, mlxn_encoder *enc, mlxn_buffer *input,
                               norm_params *p)
{
    op_rows rows;
    MLXN_TRY(mlxn_op_operand(op, "input", enc, input, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_as_rows(op, "input", input, &rows));
    p->rows = rows.rows;
    p->dim = rows.dim;
    p->stride[0] = rows.stride;
    p->dtype = (int32_t)input->dtype;
    return MLXN_OK;
}

static mlxn_status check_weight(const char *op, mlxn_encoder *enc, op_named w, int64_t dim,
                                int32_t *dtype)
{
    MLXN_TRY(mlxn_op_operand(op, w.name, enc, w.buffer, DT_FLOATS, OP_OPTIONAL));
    MLXN_TRY(mlxn_op_shape(op, w.name, w.buffer, 1, dim, 0, 0));
    MLXN_TRY(mlxn_op_contiguous_last(op, w.name, w.buffer));
    *dtype = w.buffer ? (int32_t)w.buffer->dtype : MLXN_F32;
    return MLXN_OK;
}

static mlxn_status check_scalars(const char *op, float eps, float bias, int weighted,
                                 norm_params *p)
{
    p->eps = eps;
    p->weight_bias = bias;
    MLXN_TRY(mlxn_op_float(op, "eps", eps, eps >= 0 && isfinite(eps), ">= 0, finite"));
    MLXN_TRY(mlxn_op_float(op, "weight_bias", bias, isfinite(bias), "a finite number"));
    return mlxn_op_float(op, "weight_bias", bias, weighted || bias == 0, "0 without a weight");
}

/* `out` against each input; bit i of same_ok: it may be the very view of inputs[i]. */
static mlxn_status check_overlap(const char *op, op_named out, const op_named *inputs, int n,
                                 uint32_t same_ok)
{
    MLXN_TRY(mlxn_op_distinct(op, out.name, out.buffer));
    for (int i = 0; i < n; i++)
        MLXN_TRY(mlxn_op_disjoint(op, out.name, out.buffer, inputs[i].name, inputs[i].buffer,
                                  (int)(same_ok >> i & 1)));
    return MLXN_OK;
}

mlxn_status mlxn_rms_norm(mlxn_encoder *enc, const mlxn_rms_norm_args *args)
{
    const char *op = "rms_norm";
    norm_params p = {0};
    MLXN_TRY(mlxn_op_encoder(op, enc));
    OP_ARGS(op, mlxn_rms_norm_args, a, args);
    op_named in = {"input", a.input}, w = {"weight", a.weight}, out = {"output", a.output};
    MLXN_TRY(check_input(op, enc, a.input, &p));
    MLXN_TRY(check_weight(op, enc, w, p.dim, &p.weight_dtype));
    MLXN_TRY(check_data(op, enc, in, out, &p.stride[RMS_NORM_OUTPUT], 0));
    MLXN_TRY(check_scalars(op, a.eps, a.weight_bias, a.weight != NULL, &p));
    MLXN_TRY(check_overlap(op, out, (op_named[]){in, w}, 2, 1));
    const mlxn_operand operands[RMS_NORM_OPERANDS] = {[RMS_NORM_INPUT] = {a.input, MLXN_READ},
                                                      [RMS_NORM_WEIGHT] = {a.weight, MLXN_READ},
                                                      [RMS_NORM_OUTPUT] = {a.output, MLXN_WRITE}};
    return mlxn_launch(enc, MLXN_KERNEL_rms_norm, operands, RMS_NORM_OPERANDS, &p, sizeof p, NULL);
}

mlxn_status mlxn_norm_add(mlxn_encoder *enc, const mlxn_norm_add_args *args)
{
    const char *op = "norm_add";
    norm_params p = {0};
    MLXN_TRY(mlxn_op_encoder(op, enc));
    OP_ARGS(op, mlxn_norm_add_args, a, args);
    op_named in = {"input", a.input}, w = {"weight", a.weight}, w2 = {"weight2", a.weight2};
    op_named residual = {"residual", a.residual}, out = {"output", a.output};
    op_named second = {"output_norm", a.output_norm};
    MLXN_TRY(check_input(op, enc, a.input, &p));
    MLXN_TRY(check_weight(op, enc, w, p.dim, &p.weight_dtype));
    MLXN_TRY(check_data(op, enc, in, residual, &p.stride[NORM_ADD_RESIDUAL], 0));
    MLXN_TRY(check_data(op, enc, in, out, &p.stride[NORM_ADD_OUTPUT], 0));
    MLXN_TRY(check_data(op, enc, in, second, &p.stride[NORM_ADD_OUTPUT_NORM], OP_OPTIONAL));
    if (a.weight2 && !a.output_norm)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: weight2 is given, output_norm is not", op);
    MLXN_TRY(check_weight(op, enc, w2, p.dim, &p.weight2_dtype));
    MLXN_TRY(check_scalars(op, a.eps, a.weight_bias, a.weight || a.weight2, &p));
    MLXN_TRY(check_overlap(op, out, (op_named[]){residual, in, w, w2}, 4, 1));
    MLXN_TRY(check_overlap(op, second, (op_named[]){in, residual, w, w2, out}, 5, 1));
    const mlxn_operand operands[NORM_ADD_OPERANDS] = {
        [NORM_ADD_INPUT] = {a.input, MLXN_READ},
        [NORM_ADD_WEIGHT] = {a.weight, MLXN_READ},
        [NORM_ADD_RESIDUAL] = {a.residual, MLXN_READ},
        [NORM_ADD_OUTPUT] = {a.output, MLXN_WRITE},
        [NORM_ADD_WEIGHT2] = {a.weight2, MLXN_READ},
        [NORM_ADD_OUTPUT_NORM] = {a.output_norm, MLXN_WRITE}};
    return mlxn_launch(enc, MLXN_KERNEL_norm_add, operands, NORM_ADD_OPERANDS, &p, sizeof p, NULL);
}

mlxn_status mlxn_residual_norm(mlxn_encoder *enc, const mlxn_residual_norm_args *args)
{
    const char *op = "residual_norm";
    norm_params p = {.residual_first = 1};
    MLXN_TRY(mlxn_op_encoder(op, enc));
    OP_ARGS(op, mlxn_residual_norm_args, a, args);
    op_named in = {"input", a.input}, w = {"weight", a.weight}, residual = {"residual", a.residual};
    op_named out = {"output", a.output}, sum = {"sum", a.sum};
    MLXN_TRY(check_input(op, enc, a.input, &p));
    MLXN_TRY(check_weight(op, enc, w, p.dim, &p.weight_dtype));
    MLXN_TRY(check_data(op, enc, in, residual, &p.stride[RESIDUAL_NORM_RESIDUAL], 0));
    MLXN_TRY(check_data(op, enc, in, out, &p.stride[RESIDUAL_NORM_OUTPUT], 0));
    MLXN_TRY(check_data(op, enc, in, sum, &p.stride[RESIDUAL_NORM_SUM], OP_OPTIONAL));
    MLXN_TRY(check_scalars(op, a.eps, a.weight_bias, a.weight != NULL, &p));
    MLXN_TRY(check_overlap(op, out, (op_named[]){in, residual, w}, 3, 1));
    MLXN_TRY(check_overlap(op, sum, (op_named[]){in, residual, w, out}, 4, 3));
    const mlxn_operand operands[RESIDUAL_NORM_OPERANDS] = {
        [RESIDUAL_NORM_INPUT] = {a.input, MLXN_READ},
        [RESIDUAL_NORM_RESIDUAL] = {a.residual, MLXN_READ},
        [RESIDUAL_NORM_WEIGHT] = {a.weight, MLXN_READ},
        [RESIDUAL_NORM_OUTPUT] = {a.output, MLXN_WRITE},
        [RESIDUAL_NORM_SUM] = {a.sum, MLXN_WRITE}};
    return mlxn_launch(enc, MLXN_KERNEL_residual_norm, operands, RESIDUAL_NORM_OPERANDS, &p,
                       sizeof p, NULL);
}
