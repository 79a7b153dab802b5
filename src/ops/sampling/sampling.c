/* sampling.c - operand checks that the sampling operators share. */
#include "ops/sampling/sampling.h"
#include "ops/check.h"

static mlxn_status check_vocab(const char *op, int64_t vocab)
{
    if (vocab > INT32_MAX)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: logits has %lld ids a row, the most is %d", op,
                         (long long)vocab, INT32_MAX);
    return MLXN_OK;
}

mlxn_status mlxn_check_logits(const char *op, const mlxn_encoder *enc, const mlxn_buffer *logits,
                              logits_params *params)
{
    op_rows rows;
    MLXN_TRY(mlxn_op_operand(op, "logits", enc, logits, DT(F32), 0));
    if (logits->rank != 1 && logits->rank != 2)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: logits has %d dimensions, needs 1 or 2", op,
                         logits->rank);
    MLXN_TRY(mlxn_op_as_rows(op, "logits", logits, &rows));
    *params = (logits_params){.rows = rows.rows, .vocab = rows.dim, .stride = rows.stride};
    return check_vocab(op, params->vocab);
}

mlxn_status mlxn_check_result(const char *op, const char *name, const mlxn_encoder *enc,
                              const mlxn_buffer *b, uint32_t dtype, int64_t n,
                              const mlxn_buffer *logits)
{
    MLXN_TRY(mlxn_op_operand(op, name, enc, b, dtype, 0));
    MLXN_TRY(mlxn_op_dense(op, name, b, n));
    return mlxn_op_disjoint(op, name, b, "logits", logits, 0);
}

mlxn_status mlxn_check_flat_logits(const char *op, const mlxn_encoder *enc,
                                   const mlxn_buffer *logits)
{
    MLXN_TRY(mlxn_op_operand(op, "logits", enc, logits, DT(F32), 0));
    MLXN_TRY(mlxn_op_dense(op, "logits", logits, logits->elements));
    return check_vocab(op, logits->elements);
}

mlxn_status mlxn_check_cell(const char *op, const char *name, const mlxn_encoder *enc,
                            const mlxn_buffer *b, uint32_t flags)
{
    MLXN_TRY(mlxn_op_operand(op, name, enc, b, DT(I32), flags));
    return mlxn_op_dense(op, name, b, 1);
}
