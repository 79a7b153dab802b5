/* step_advance.c - the step_advance operator. */
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/sampling/sampling.h"

#define OP "step_advance"

static mlxn_status check_slots(const mlxn_encoder *enc, const char *name, const mlxn_buffer *slots,
                               int64_t capacity)
{
    MLXN_TRY(mlxn_check_cell(OP, name, enc, slots, OP_OPTIONAL));
    if (slots && (capacity <= 0 || capacity > INT32_MAX))
        return mlxn_fail(MLXN_ERR_ARGUMENT, OP ": the capacity of %s is %lld, needs 1 to %d", name,
                         (long long)capacity, INT32_MAX);
    return MLXN_OK;
}

mlxn_status mlxn_step_advance(mlxn_encoder *encoder, const mlxn_step_advance_args *args)
{
    static const char *const names[ADVANCE_OPERANDS] = {
        "token", "ids", "positions", "counter", "history", "slots_a", "slots_b"};
    MLXN_TRY(mlxn_op_encoder(OP, encoder));
    OP_ARGS(OP, mlxn_step_advance_args, a, args);
    const mlxn_operand operands[ADVANCE_OPERANDS] = {
        {a.token, MLXN_READ},         {a.ids, MLXN_WRITE},     {a.positions, MLXN_READ_WRITE},
        {a.counter, MLXN_READ_WRITE}, {a.history, MLXN_WRITE}, {a.slots_a, MLXN_WRITE},
        {a.slots_b, MLXN_WRITE}};
    for (int i = ADVANCE_TOKEN; i <= ADVANCE_COUNTER; i++)
        MLXN_TRY(mlxn_check_cell(OP, names[i], encoder, operands[i].buffer, 0));
    MLXN_TRY(mlxn_op_operand(OP, "history", encoder, a.history, DT(I32), OP_OPTIONAL));
    MLXN_TRY(mlxn_op_dense(OP, "history", a.history, a.history ? a.history->elements : 0));
    MLXN_TRY(check_slots(encoder, "slots_a", a.slots_a, a.capacity_a));
    MLXN_TRY(check_slots(encoder, "slots_b", a.slots_b, a.capacity_b));
    for (int i = 1; i < ADVANCE_OPERANDS; i++)
        for (int k = 0; k < i; k++)
            MLXN_TRY(mlxn_op_disjoint(OP, names[i], operands[i].buffer, names[k],
                                      operands[k].buffer, i == ADVANCE_IDS && k == ADVANCE_TOKEN));
    const advance_params params = {.length = a.history ? a.history->elements : 0,
                                   .capacity_a = a.slots_a ? a.capacity_a : 0,
                                   .capacity_b = a.slots_b ? a.capacity_b : 0};
    return mlxn_launch(encoder, MLXN_KERNEL_step_advance, operands, ADVANCE_OPERANDS, &params,
                       sizeof params, NULL);
}
