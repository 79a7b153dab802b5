/* logprob.c - the logprob operator. */
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/sampling/sampling.h"
#include "ops/shared.h"

#define OP "logprob"

/* A maximum for each (row, thread), then a sum for each block of each row. */
size_t mlxn_logprob_shared(const void *params, uint32_t n_threads)
{
    const logits_params *p = params;
    return (size_t)p->rows * (n_threads + (size_t)sampling_blocks(p->vocab)) * sizeof(float);
}

mlxn_status mlxn_logprob(mlxn_encoder *encoder, const mlxn_logprob_args *args)
{
    logits_params params;
    MLXN_TRY(mlxn_op_encoder(OP, encoder));
    OP_ARGS(OP, mlxn_logprob_args, a, args);
    MLXN_TRY(mlxn_check_logits(OP, encoder, a.logits, &params));
    MLXN_TRY(mlxn_op_operand(OP, "targets", encoder, a.targets, DT(I32), 0));
    MLXN_TRY(mlxn_op_dense(OP, "targets", a.targets, params.rows));
    MLXN_TRY(
        mlxn_check_result(OP, "logprobs", encoder, a.logprobs, DT(F32), params.rows, a.logits));
    MLXN_TRY(mlxn_op_disjoint(OP, "logprobs", a.logprobs, "targets", a.targets, 0));
    const mlxn_operand operands[] = {
        {a.logits, MLXN_READ}, {a.targets, MLXN_READ}, {a.logprobs, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_logprob, operands, 3, &params, sizeof params, NULL);
}
