/* attention.c - the attention operator: checks what the host can know and records the launch.
 *
 * Positions, sequences and table entries live in device buffers; the kernel bounds them. */
#include <math.h>
#include <mlxn/ops/attention.h>
#include "ops/attention/attention.h"
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/shared.h"

#define OP "attention"

_Static_assert((int)ATTENTION_LINEAR == MLXN_SLOTS_LINEAR &&
                   (int)ATTENTION_RING == MLXN_SLOTS_RING &&
                   (int)ATTENTION_BY_TABLE == MLXN_SLOTS_TABLE,
               "attention_params.h follows mlxn_slot_map");

static mlxn_status check_data(const mlxn_encoder *enc, const mlxn_attention_args *a)
{
    MLXN_TRY(mlxn_op_operand(OP, "q", enc, a->q, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_operand(OP, "k", enc, a->k, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_operand(OP, "v", enc, a->v, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_operand(OP, "output", enc, a->output, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_dtype(OP, "v", a->v, a->k->dtype));
    MLXN_TRY(mlxn_op_dtype(OP, "output", a->output, a->q->dtype));
    MLXN_TRY(mlxn_op_shape(OP, "q", a->q, 3, -1, -1, -1));
    MLXN_TRY(mlxn_op_shape(OP, "k", a->k, 3, -1, -1, a->q->shape[2]));
    MLXN_TRY(mlxn_op_same_shape(OP, "v", a->v, "k", a->k));
    MLXN_TRY(mlxn_op_same_shape(OP, "output", a->output, "q", a->q));
    MLXN_TRY(mlxn_op_contiguous_last(OP, "q", a->q));
    MLXN_TRY(mlxn_op_contiguous_last(OP, "k", a->k));
    MLXN_TRY(mlxn_op_contiguous_last(OP, "v", a->v));
    MLXN_TRY(mlxn_op_contiguous_last(OP, "output", a->output));
    if (a->q->shape[1] % a->k->shape[1])
        return mlxn_fail(MLXN_ERR_SHAPE, OP ": %lld heads of q are no multiple of %lld heads of k",
                         (long long)a->q->shape[1], (long long)a->k->shape[1]);
    if (a->k->shape[0] > INT32_MAX)
        return mlxn_fail(MLXN_ERR_SHAPE, OP ": k has %lld slots, the most is %d",
                         (long long)a->k->shape[0], INT32_MAX);
    return MLXN_OK;
}

static mlxn_status check_indices(const mlxn_encoder *enc, const mlxn_attention_args *a)
{
    int64_t tokens = a->q->shape[0];
    MLXN_TRY(mlxn_op_operand(OP, "positions", enc, a->positions, DT(I32), 0));
    MLXN_TRY(mlxn_op_operand(OP, "sequences", enc, a->sequences, DT(I32), OP_OPTIONAL));
    MLXN_TRY(mlxn_op_operand(OP, "table", enc, a->table, DT(I32), OP_OPTIONAL));
    MLXN_TRY(mlxn_op_dense(OP, "positions", a->positions, tokens));
    MLXN_TRY(mlxn_op_dense(OP, "sequences", a->sequences, tokens));
    if (a->slot_map != MLXN_SLOTS_LINEAR && a->slot_map != MLXN_SLOTS_RING &&
        a->slot_map != MLXN_SLOTS_TABLE)
        return mlxn_fail(MLXN_ERR_ARGUMENT, OP ": slot_map is %d, which is none of mlxn_slot_map",
                         (int)a->slot_map);
    if (a->slot_map == MLXN_SLOTS_TABLE && !a->table)
        return mlxn_fail(MLXN_ERR_ARGUMENT, OP ": table is NULL, SLOTS_TABLE needs one");
    if (a->slot_map != MLXN_SLOTS_TABLE && (a->table || a->sequences))
        return mlxn_fail(MLXN_ERR_ARGUMENT, OP ": %s is given, but slot_map is not SLOTS_TABLE",
                         a->table ? "table" : "sequences");
    if (a->table) {
        MLXN_TRY(mlxn_op_shape(OP, "table", a->table, 2, -1, -1, -1));
        MLXN_TRY(mlxn_op_dense(OP, "table", a->table, a->table->elements));
    }
    return MLXN_OK;
}

static mlxn_status check_scalars(const mlxn_attention_args *a)
{
    MLXN_TRY(mlxn_op_float(OP, "scale", a->scale, a->scale != 0 && isfinite(a->scale),
                           "a finite number other than 0"));
    MLXN_TRY(mlxn_op_float(OP, "softcap", a->softcap, a->softcap >= 0 && isfinite(a->softcap),
                           ">= 0 and finite"));
    if (a->precision != MLXN_ATTENTION_EXACT && a->precision != MLXN_ATTENTION_FAST)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         OP ": precision is %d, which is none of mlxn_attention_precision",
                         (int)a->precision);
    if (a->window < 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT, OP ": window is %lld, needs >= 0",
                         (long long)a->window);
    if (a->max_keys <= 0 || a->max_keys > (int64_t)INT32_MAX + 1)
        return mlxn_fail(MLXN_ERR_ARGUMENT, OP ": max_keys is %lld, needs 1 to 2^31",
                         (long long)a->max_keys);
    return MLXN_OK;
}

static mlxn_status check_overlap(const mlxn_attention_args *a)
{
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a->output, "q", a->q, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a->output, "k", a->k, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a->output, "v", a->v, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a->output, "positions", a->positions, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "output", a->output, "sequences", a->sequences, 0));
    return mlxn_op_disjoint(OP, "output", a->output, "table", a->table, 0);
}

size_t mlxn_attention_shared(const void *args, uint32_t n_threads)
{
    attention_plan plan = attention_make_plan(args, n_threads);
    return (plan.thread_floats * n_threads + plan.partial_floats) * sizeof(float);
}

mlxn_status mlxn_attention(mlxn_encoder *encoder, const mlxn_attention_args *args)
{
    MLXN_TRY(mlxn_op_encoder(OP, encoder));
    OP_ARGS(OP, mlxn_attention_args, a, args);
    MLXN_TRY(check_data(encoder, &a));
    MLXN_TRY(check_indices(encoder, &a));
    MLXN_TRY(check_scalars(&a));
    MLXN_TRY(check_overlap(&a));

    const attention_params params = {
        .tokens = a.q->shape[0],
        .heads = a.q->shape[1],
        .dim = a.q->shape[2],
        .slots = a.k->shape[0],
        .kv_heads = a.k->shape[1],
        .q_token = a.q->strides[0],
        .q_head = a.q->strides[1],
        .k_slot = a.k->strides[0],
        .k_head = a.k->strides[1],
        .v_slot = a.v->strides[0],
        .v_head = a.v->strides[1],
        .o_token = a.output->strides[0],
        .o_head = a.output->strides[1],
        .table_rows = a.table ? a.table->shape[0] : 0,
        .table_columns = a.table ? a.table->shape[1] : 0,
        .window = a.window,
        .max_keys = a.max_keys,
        .scale = a.scale,
        .softcap = a.softcap,
        .slot_map = (int32_t)a.slot_map,
        .q_dtype = (int32_t)a.q->dtype,
        .kv_dtype = (int32_t)a.k->dtype,
        .fast = a.precision == MLXN_ATTENTION_FAST,
    };
    const mlxn_operand operands[ATTENTION_OPERANDS] = {
        [ATTENTION_Q] = {a.q, MLXN_READ},
        [ATTENTION_K] = {a.k, MLXN_READ},
        [ATTENTION_V] = {a.v, MLXN_READ},
        [ATTENTION_OUTPUT] = {a.output, MLXN_WRITE},
        [ATTENTION_POSITIONS] = {a.positions, MLXN_READ},
        [ATTENTION_SEQUENCES] = {a.sequences, MLXN_READ},
        [ATTENTION_TABLE] = {a.table, MLXN_READ},
    };
    return mlxn_launch(encoder, MLXN_KERNEL_attention, operands, ATTENTION_OPERANDS, &params,
                       sizeof params, NULL);
}
