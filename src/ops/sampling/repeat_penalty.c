/* repeat_penalty.c - the repeat_penalty operator. */
#include <math.h>
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/sampling/sampling.h"
#include "ops/shared.h"

#define OP "repeat_penalty"

/* A bit for each id. */
size_t mlxn_repeat_penalty_shared(const void *params, uint32_t n_threads)
{
    (void)n_threads;
    return ((size_t)((const penalty_params *)params)->vocab + 7) / 8;
}

mlxn_status mlxn_repeat_penalty(mlxn_encoder *encoder, const mlxn_repeat_penalty_args *args)
{
    MLXN_TRY(mlxn_op_encoder(OP, encoder));
    OP_ARGS(OP, mlxn_repeat_penalty_args, a, args);
    MLXN_TRY(mlxn_check_flat_logits(OP, encoder, a.logits));
    MLXN_TRY(mlxn_op_operand(OP, "history", encoder, a.history, DT(I32), 0));
    MLXN_TRY(mlxn_op_dense(OP, "history", a.history, a.history->elements));
    MLXN_TRY(mlxn_check_cell(OP, "counter", encoder, a.counter, 0));
    if (a.last_n <= 0 || a.last_n > a.history->elements)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         OP ": last_n is %lld, needs 1 to %lld, history's length",
                         (long long)a.last_n, (long long)a.history->elements);
    MLXN_TRY(mlxn_op_float(OP, "penalty", a.penalty, a.penalty > 0 && isfinite(a.penalty),
                           "> 0 and finite"));
    MLXN_TRY(mlxn_op_disjoint(OP, "logits", a.logits, "history", a.history, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "logits", a.logits, "counter", a.counter, 0));
    MLXN_TRY(mlxn_op_operand(OP, "output", encoder, a.output, DT(F32), OP_OPTIONAL));
    MLXN_TRY(mlxn_op_dense(OP, "output", a.output, a.logits->elements));
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a.output, "logits", a.logits, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a.output, "history", a.history, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a.output, "counter", a.counter, 0));
    const penalty_params params = {.vocab = a.logits->elements,
                                   .length = a.history->elements,
                                   .last_n = a.last_n,
                                   .penalty = a.penalty};
    const mlxn_operand operands[] = {{a.logits, a.output ? MLXN_READ : MLXN_READ_WRITE},
                                     {a.history, MLXN_READ},
                                     {a.counter, MLXN_READ},
                                     {a.output, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_repeat_penalty, operands, 4, &params, sizeof params,
                       NULL);
}
