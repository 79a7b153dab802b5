/* elementwise.c - gelu_mul, add, mul, softcap and softmax: checks and launches.  Formulas at the
 * public header, kernels in elementwise_cpu.c, softmax_cpu.c and the kernel texts beside them. */
#include <math.h>
#include <mlxn/ops/elementwise.h>
#include "ops/check.h"
#include "ops/elementwise/elementwise_params.h"
#include "ops/kernels.h"

/* Checks a, b (no name: there is none) and output, and launches the function's kernel. */
static mlxn_status elementwise(const char *op, mlxn_encoder *enc, elementwise_function f,
                               op_named a, op_named b, op_named out, float scalar)
{
    static const int kernels[] = {[ELEMENTWISE_GELU_MUL] = MLXN_KERNEL_gelu_mul,
                                  [ELEMENTWISE_ADD] = MLXN_KERNEL_add,
                                  [ELEMENTWISE_MUL] = MLXN_KERNEL_mul,
                                  [ELEMENTWISE_SOFTCAP] = MLXN_KERNEL_softcap};
    const op_named all[ELEMENTWISE_OPERANDS] = {a, b, out};
    elementwise_params p = {.function = (int32_t)f, .scalar = scalar};
    int dense = 1;
    for (int i = 0; i < ELEMENTWISE_OPERANDS; i++) {
        op_rows rows;
        if (!all[i].name)
            continue;
        MLXN_TRY(mlxn_op_operand(op, all[i].name, enc, all[i].buffer, DT_FLOATS, 0));
        MLXN_TRY(mlxn_op_dtype(op, all[i].name, all[i].buffer, a.buffer->dtype));
        MLXN_TRY(mlxn_op_same_shape(op, all[i].name, all[i].buffer, a.name, a.buffer));
        MLXN_TRY(mlxn_op_as_rows(op, all[i].name, all[i].buffer, &rows));
        p.rows = rows.rows;
        p.dim = rows.dim;
        p.stride[i] = rows.stride;
        dense &= rows.stride == rows.dim;
    }
    MLXN_TRY(mlxn_op_distinct(op, out.name, out.buffer));
    MLXN_TRY(mlxn_op_disjoint(op, out.name, out.buffer, a.name, a.buffer, 1));
    MLXN_TRY(mlxn_op_disjoint(op, out.name, out.buffer, b.name, b.buffer, 1));
    p.dtype = (int32_t)a.buffer->dtype;
    if (dense) {
        p.dim *= p.rows;
        p.rows = 1;
    }
    const mlxn_operand operands[ELEMENTWISE_OPERANDS] = {
        [ELEMENTWISE_A] = {a.buffer, MLXN_READ},
        [ELEMENTWISE_B] = {b.buffer, MLXN_READ},
        [ELEMENTWISE_OUTPUT] = {out.buffer, MLXN_WRITE}};
    return mlxn_launch(enc, kernels[f], operands, ELEMENTWISE_OPERANDS, &p, sizeof p, NULL);
}

mlxn_status mlxn_gelu_mul(mlxn_encoder *enc, const mlxn_gelu_mul_args *args)
{
    MLXN_TRY(mlxn_op_encoder("gelu_mul", enc));
    OP_ARGS("gelu_mul", mlxn_gelu_mul_args, a, args);
    return elementwise("gelu_mul", enc, ELEMENTWISE_GELU_MUL, (op_named){"gate", a.gate},
                       (op_named){"up", a.up}, (op_named){"output", a.output}, 0);
}

mlxn_status mlxn_add(mlxn_encoder *enc, const mlxn_binary_args *args)
{
    MLXN_TRY(mlxn_op_encoder("add", enc));
    OP_ARGS("add", mlxn_binary_args, a, args);
    return elementwise("add", enc, ELEMENTWISE_ADD, (op_named){"a", a.a}, (op_named){"b", a.b},
                       (op_named){"output", a.output}, 0);
}

mlxn_status mlxn_mul(mlxn_encoder *enc, const mlxn_binary_args *args)
{
    MLXN_TRY(mlxn_op_encoder("mul", enc));
    OP_ARGS("mul", mlxn_binary_args, a, args);
    return elementwise("mul", enc, ELEMENTWISE_MUL, (op_named){"a", a.a}, (op_named){"b", a.b},
                       (op_named){"output", a.output}, 0);
}

mlxn_status mlxn_softcap(mlxn_encoder *enc, const mlxn_softcap_args *args)
{
    MLXN_TRY(mlxn_op_encoder("softcap", enc));
    OP_ARGS("softcap", mlxn_softcap_args, a, args);
    MLXN_TRY(mlxn_op_float("softcap", "cap", a.cap, a.cap > 0 && isfinite(a.cap), "> 0, finite"));
    return elementwise("softcap", enc, ELEMENTWISE_SOFTCAP, (op_named){"input", a.input},
                       (op_named){NULL, NULL}, (op_named){"output", a.output}, a.cap);
}

mlxn_status mlxn_softmax(mlxn_encoder *enc, const mlxn_softmax_args *args)
{
    const char *op = "softmax";
    op_rows in, out;
    MLXN_TRY(mlxn_op_encoder(op, enc));
    OP_ARGS(op, mlxn_softmax_args, a, args);
    MLXN_TRY(mlxn_op_operand(op, "input", enc, a.input, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_operand(op, "output", enc, a.output, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_same_shape(op, "output", a.output, "input", a.input));
    MLXN_TRY(mlxn_op_as_rows(op, "input", a.input, &in));
    MLXN_TRY(mlxn_op_as_rows(op, "output", a.output, &out));
    MLXN_TRY(mlxn_op_distinct(op, "output", a.output));
    MLXN_TRY(mlxn_op_disjoint(op, "output", a.output, "input", a.input, 1));
    softmax_params p = {.rows = in.rows,
                        .dim = in.dim,
                        .input_stride = in.stride,
                        .output_stride = out.stride,
                        .input_dtype = (int32_t)a.input->dtype,
                        .output_dtype = (int32_t)a.output->dtype};
    const mlxn_operand operands[SOFTMAX_OPERANDS] = {
        [SOFTMAX_INPUT] = {a.input, MLXN_READ}, [SOFTMAX_OUTPUT] = {a.output, MLXN_WRITE}};
    return mlxn_launch(enc, MLXN_KERNEL_softmax, operands, SOFTMAX_OPERANDS, &p, sizeof p, NULL);
}
