/* argmax.c - the argmax operator. */
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/sampling/sampling.h"
#include "ops/shared.h"

#define OP "argmax"

/* A largest value and its id for each (row, thread). */
size_t mlxn_argmax_shared(const void *params, uint32_t n_threads)
{
    const logits_params *p = params;
    return p->rows < n_threads ? (size_t)p->rows * n_threads * (sizeof(float) + sizeof(int32_t))
                               : 0;
}

mlxn_status mlxn_argmax(mlxn_encoder *encoder, const mlxn_argmax_args *args)
{
    logits_params params;
    MLXN_TRY(mlxn_op_encoder(OP, encoder));
    OP_ARGS(OP, mlxn_argmax_args, a, args);
    MLXN_TRY(mlxn_check_logits(OP, encoder, a.logits, &params));
    MLXN_TRY(mlxn_check_result(OP, "ids", encoder, a.ids, DT(I32), params.rows, a.logits));
    const mlxn_operand operands[] = {{a.logits, MLXN_READ}, {a.ids, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_argmax, operands, 2, &params, sizeof params, NULL);
}
