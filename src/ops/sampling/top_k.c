/* top_k.c - the top_k operator. */
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/sampling/sampling.h"
#include "ops/shared.h"

#define OP "top_k"

/* A list of k for each thread, or for each (row, thread). */
size_t mlxn_top_k_shared(const void *params, uint32_t n_threads)
{
    const logits_params *p = params;
    size_t rows = p->rows < n_threads ? (size_t)p->rows : 1;
    return rows * n_threads * (size_t)p->k * sizeof(uint64_t);
}

mlxn_status mlxn_top_k(mlxn_encoder *encoder, const mlxn_top_k_args *args)
{
    logits_params params;
    MLXN_TRY(mlxn_op_encoder(OP, encoder));
    OP_ARGS(OP, mlxn_top_k_args, a, args);
    MLXN_TRY(mlxn_check_logits(OP, encoder, a.logits, &params));
    MLXN_TRY(mlxn_op_operand(OP, "ids", encoder, a.ids, DT(I32), 0));
    int64_t rows = params.rows, k = a.ids->elements / rows;
    int64_t most = params.vocab < SAMPLING_K_MAX ? params.vocab : SAMPLING_K_MAX;
    params.k = k;
    if (k < 1 || k > most)
        return mlxn_fail(MLXN_ERR_SHAPE, OP ": ids has room for %lld a row, needs 1 to %lld",
                         (long long)k, (long long)most);
    MLXN_TRY(mlxn_check_result(OP, "ids", encoder, a.ids, DT(I32), rows * k, a.logits));
    MLXN_TRY(mlxn_check_result(OP, "values", encoder, a.values, DT(F32), rows * k, a.logits));
    MLXN_TRY(mlxn_op_disjoint(OP, "values", a.values, "ids", a.ids, 0));
    const mlxn_operand operands[] = {
        {a.logits, MLXN_READ}, {a.ids, MLXN_WRITE}, {a.values, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_top_k, operands, 3, &params, sizeof params, NULL);
}
