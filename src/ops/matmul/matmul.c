/* matmul.c - products with weights: checks and launch.  See mlxn/ops/matmul.h. */
#include <stdio.h>
#include <string.h>
#include <mlxn/ops/matmul.h>
#include "ops/kernels.h"
#include "ops/matmul/weight.h"

mlxn_status mlxn_matmul_weight_of(const char *op, const char *name, const mlxn_buffer *b,
                                  matmul_weight *out)
{
    MLXN_TRY(mlxn_op_shape(op, name, b, 2, -1, -1, -1));
    *out = (matmul_weight){.rows = b->shape[0],
                           .cols = b->shape[1],
                           .dtype = (int32_t)b->dtype,
                           .packed = b->layout == MLXN_LAYOUT_PACKED};
    if (out->packed)
        return MLXN_OK;
    op_rows rows;
    MLXN_TRY(mlxn_op_as_rows(op, name, b, &rows));
    out->row_bytes = rows.stride / (int64_t)mlxn_dtype_block_elements(b->dtype) *
                     (int64_t)mlxn_dtype_block_bytes(b->dtype);
    return MLXN_OK;
}

/* The words for product i's operands: "weight", or "product[1].weight". */
typedef struct product_names {
    char weight[24], output[24];
} product_names;

static product_names names_of(const char *op, int i)
{
    product_names n = {"weight", "output"};
    if (strcmp(op, "matmul")) {
        snprintf(n.weight, sizeof n.weight, "product[%d].weight", i);
        snprintf(n.output, sizeof n.output, "product[%d].output", i);
    }
    return n;
}

static mlxn_status check_shapes(const char *op, const product_names *names,
                                const mlxn_buffer *input, const mlxn_matmul_product *product,
                                matmul_params *p)
{
    op_rows in, out;
    MLXN_TRY(mlxn_matmul_weight_of(op, names->weight, product->weight, &p->weight));
    MLXN_TRY(mlxn_op_as_rows(op, "input", input, &in));
    if (in.dim != p->weight.cols)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: input has rows of %lld, %s has rows of %lld", op,
                         (long long)in.dim, names->weight, (long long)p->weight.cols);
    p->rows = in.rows;
    p->input_stride = in.stride;
    if (!product->output)
        return MLXN_OK;
    MLXN_TRY(mlxn_op_as_rows(op, names->output, product->output, &out));
    if (out.dim != p->weight.rows)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has rows of %lld, %s has %lld rows", op,
                         names->output, (long long)out.dim, names->weight,
                         (long long)p->weight.rows);
    if (in.rows != out.rows)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: input has %lld rows, %s has %lld", op,
                         (long long)in.rows, names->output, (long long)out.rows);
    p->output_stride = out.stride;
    p->output_dtype = (int32_t)product->output->dtype;
    return MLXN_OK;
}

/* One product, as a parameter; without an output its stride and dtype are 0. */
static mlxn_status check_product(const char *op, int i, mlxn_encoder *encoder, mlxn_buffer *input,
                                 const mlxn_matmul_product *product, int has_output,
                                 matmul_params *p)
{
    const product_names names = names_of(op, i);
    MLXN_TRY(mlxn_op_operand(op, "input", encoder, input, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_operand(op, names.weight, encoder, product->weight, DT_WEIGHTS, OP_PACKED));
    if (!has_output && product->output)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is given, a gate has one output", op,
                         names.output);
    if (has_output)
        MLXN_TRY(mlxn_op_operand(op, names.output, encoder, product->output, DT_FLOATS, 0));
    p->input_dtype = (int32_t)input->dtype;
    MLXN_TRY(check_shapes(op, &names, input, product, p));
    if (!has_output)
        return MLXN_OK;
    return mlxn_op_disjoint(op, names.output, product->output, "input", input, 0);
}

static mlxn_status check_mode(const char *op, mlxn_matmul_mode mode)
{
    if (mode == MLXN_MATMUL_EXACT || mode == MLXN_MATMUL_FAST)
        return MLXN_OK;
    return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: mode is %d, needs exact (1) or fast (2)", op,
                     (int)mode);
}

mlxn_status mlxn_matmul(mlxn_encoder *encoder, const mlxn_matmul_args *args)
{
    MLXN_TRY(mlxn_op_encoder("matmul", encoder));
    OP_ARGS("matmul", mlxn_matmul_args, a, args);
    const mlxn_matmul_product product = {a.weight, a.output};
    matmul_params p = {.fast = a.mode == MLXN_MATMUL_FAST};
    MLXN_TRY(check_mode("matmul", a.mode));
    MLXN_TRY(check_product("matmul", 0, encoder, a.input, &product, 1, &p));
    MLXN_TRY(mlxn_op_disjoint("matmul", "output", a.output, "weight", a.weight, 0));
    const mlxn_operand operands[] = {
        {a.input, MLXN_READ}, {a.weight, MLXN_READ}, {a.output, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_matmul, operands, 3, &p, sizeof p, NULL);
}

/* ---- several products ---- */

static mlxn_status check_count(const mlxn_matmul_group_args *a)
{
    if (a->count < 1 || a->count > MLXN_MATMUL_GROUP_MAX)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "matmul_group: count is %d, needs 1 to %d", a->count,
                         MLXN_MATMUL_GROUP_MAX);
    if (a->gate && a->count != 2)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "matmul_group: count is %d, a gate needs 2", a->count);
    return MLXN_OK;
}

/* No output shares a byte with a weight, or with another output. */
static mlxn_status check_overlaps(const mlxn_matmul_group_args *a)
{
    const char *op = "matmul_group";
    for (int i = 0; i < a->count; i++) {
        const product_names names = names_of(op, i);
        for (int j = 0; a->product[i].output && j < a->count; j++) {
            const product_names others = names_of(op, j);
            MLXN_TRY(mlxn_op_disjoint(op, names.output, a->product[i].output, others.weight,
                                      a->product[j].weight, 0));
            if (j < i)
                MLXN_TRY(mlxn_op_disjoint(op, names.output, a->product[i].output, others.output,
                                          a->product[j].output, 0));
        }
    }
    return MLXN_OK;
}

mlxn_status mlxn_matmul_group(mlxn_encoder *encoder, const mlxn_matmul_group_args *args)
{
    const char *op = "matmul_group";
    MLXN_TRY(mlxn_op_encoder(op, encoder));
    OP_ARGS(op, mlxn_matmul_group_args, a, args);
    MLXN_TRY(check_mode(op, a.mode));
    MLXN_TRY(check_count(&a));
    matmul_group_params g = {
        .fast = a.mode == MLXN_MATMUL_FAST, .count = a.count, .gate = a.gate != 0};
    mlxn_operand operands[MATMUL_GROUP_OPERANDS] = {{a.input, MLXN_READ}};
    for (int i = 0; i < a.count; i++) {
        matmul_params p = {.fast = g.fast};
        MLXN_TRY(check_product(op, i, encoder, a.input, &a.product[i], !a.gate || i == 0, &p));
        g.rows = p.rows;
        g.input_stride = p.input_stride;
        g.input_dtype = p.input_dtype;
        g.product[i].weight = p.weight;
        g.product[i].output_stride = p.output_stride;
        g.product[i].output_dtype = p.output_dtype;
        operands[1 + 2 * i] = (mlxn_operand){a.product[i].weight, MLXN_READ};
        operands[2 + 2 * i] = (mlxn_operand){a.product[i].output, MLXN_WRITE};
    }
    if (a.gate && g.product[0].weight.rows != g.product[1].weight.rows)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: a gate's weights have %lld and %lld rows", op,
                         (long long)g.product[0].weight.rows, (long long)g.product[1].weight.rows);
    MLXN_TRY(check_overlaps(&a));
    return mlxn_launch(encoder, MLXN_KERNEL_matmul_group, operands, 1 + 2 * a.count, &g, sizeof g,
                       NULL);
}
