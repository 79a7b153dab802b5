/* norm_cpu.c - rms_norm, norm_add and residual_norm on the CPU.
 *
 * Threads take rows.  A row is read once for each sum and once for the result, and what a pass
 * needs is computed again from the operands rather than kept: a row stays in the cache, nothing
 * rounded is read back, and an element is read before it is overwritten, so in place is safe. */
#include "ops/norm/norm_params.h"
#include "ops/norm/rms_cpu.h"

/* One row: its operands' addresses, and r of the norms computed so far. */
typedef struct norm_row {
    const norm_params *p;
    const char *input, *residual, *weight, *weight2;
    char *output, *second;
    vf r, r2;
} norm_row;

CPU_INLINE char *advance(char *base, int64_t bytes)
{
    return base ? base + bytes : NULL;
}

CPU_INLINE vf load(mlxn_dtype dtype, const char *base, int64_t i, int n)
{
    return n == VF_LANES ? vf_load_as(dtype, base, i) : vf_load_as_n(dtype, base, i, n);
}

CPU_INLINE void store(mlxn_dtype dtype, char *base, int64_t i, vf v, int n)
{
    if (n == VF_LANES)
        vf_store_as(dtype, base, i, v);
    else
        vf_store_as_n(dtype, base, i, v, n);
}

CPU_INLINE vf weigh(norm_row row, const char *weight, int32_t dtype, vf v, int64_t i, int n)
{
    if (!weight)
        return v;
    vf w = load((mlxn_dtype)dtype, weight, i, n);
    return vf_mul(v, vf_add(w, vf_set(row.p->weight_bias)));
}

/* The values that are summed or stored, elements i to i + n - 1 of the row. */
typedef enum norm_value {
    VALUE_INPUT,      /* x */
    VALUE_SUM,        /* residual + x */
    VALUE_NORM,       /* norm(x) */
    VALUE_NORM_ADDED, /* residual + norm(x) */
} norm_value;

CPU_INLINE vf value(norm_row row, mlxn_dtype dtype, norm_value which, int64_t i, int n)
{
    vf v = load(dtype, row.input, i, n);
    if (which == VALUE_SUM)
        return vf_add(load(dtype, row.residual, i, n), v);
    if (which == VALUE_INPUT)
        return v;
    v = weigh(row, row.weight, row.p->weight_dtype, vf_mul(v, row.r), i, n);
    return which == VALUE_NORM ? v : vf_add(load(dtype, row.residual, i, n), v);
}

/* r of a value over the row. */
CPU_INLINE vf row_scale(norm_row row, mlxn_dtype dtype, norm_value which)
{
    int64_t dim = row.p->dim, i = 0;
    rms_lanes sum = rms_zero();
    for (; i + 32 <= dim; i += 32)
        rms_add(&sum, value(row, dtype, which, i, VF_LANES),
                value(row, dtype, which, i + VF_LANES, VF_LANES));
    if (i < dim) {
        int left = (int)(dim - i);
        vf first = value(row, dtype, which, i, left < VF_LANES ? left : VF_LANES);
        vf second = vf_set(0.0f);
        if (left > VF_LANES)
            second = value(row, dtype, which, i + VF_LANES, left - VF_LANES);
        rms_add(&sum, first, second);
    }
    return rms_scale(vf_set(rms_total(sum)), dim, row.p->eps);
}

typedef enum norm_op { OP_RMS_NORM, OP_NORM_ADD, OP_RESIDUAL_NORM } norm_op;

CPU_INLINE void emit(norm_row row, mlxn_dtype dtype, norm_op op, int64_t i, int n)
{
    const norm_params *p = row.p;
    if (op == OP_RMS_NORM) {
        store(dtype, row.output, i, value(row, dtype, VALUE_NORM, i, n), n);
    } else if (op == OP_NORM_ADD) {
        vf s = value(row, dtype, VALUE_NORM_ADDED, i, n);
        store(dtype, row.output, i, s, n);
        if (row.second)
            store(dtype, row.second, i,
                  weigh(row, row.weight2, p->weight2_dtype, vf_mul(s, row.r2), i, n), n);
    } else {
        vf s = value(row, dtype, VALUE_SUM, i, n);
        if (row.second)
            store(dtype, row.second, i, s, n);
        store(dtype, row.output, i, weigh(row, row.weight, p->weight_dtype, vf_mul(s, row.r), i, n),
              n);
    }
}

CPU_INLINE void do_row(norm_row row, mlxn_dtype dtype, norm_op op)
{
    int64_t dim = row.p->dim, i = 0;
    row.r = row_scale(row, dtype, op == OP_RESIDUAL_NORM ? VALUE_SUM : VALUE_INPUT);
    if (op == OP_NORM_ADD && row.second)
        row.r2 = row_scale(row, dtype, VALUE_NORM_ADDED);
    for (; i + VF_LANES <= dim; i += VF_LANES)
        emit(row, dtype, op, i, VF_LANES);
    if (i < dim)
        emit(row, dtype, op, i, (int)(dim - i));
}

CPU_INLINE void do_rows(const mlxn_cpu_call *call, mlxn_dtype dtype, norm_op op)
{
    static const int8_t at[3][6] = {
        /* input, residual, weight, weight2, output, second: operand numbers, -1: none */
        {RMS_NORM_INPUT, -1, RMS_NORM_WEIGHT, -1, RMS_NORM_OUTPUT, -1},
        {NORM_ADD_INPUT, NORM_ADD_RESIDUAL, NORM_ADD_WEIGHT, NORM_ADD_WEIGHT2, NORM_ADD_OUTPUT,
         NORM_ADD_OUTPUT_NORM},
        {RESIDUAL_NORM_INPUT, RESIDUAL_NORM_RESIDUAL, RESIDUAL_NORM_WEIGHT, -1,
         RESIDUAL_NORM_OUTPUT, RESIDUAL_NORM_SUM},
    };
    const norm_params *p = call->args;
    char *base[6];
    int64_t step[6], begin, end;
    for (int i = 0; i < 6; i++) {
        base[i] = at[op][i] < 0 ? NULL : call->ptr[at[op][i]];
        step[i] = base[i] ? p->stride[at[op][i]] * (int64_t)cpu_dtype_bytes(dtype) : 0;
    }
    cpu_split(call, p->rows, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        norm_row row = {.p = p,
                        .input = advance(base[0], t * step[0]),
                        .residual = advance(base[1], t * step[1]),
                        .weight = base[2],
                        .weight2 = base[3],
                        .output = advance(base[4], t * step[4]),
                        .second = advance(base[5], t * step[5])};
        do_row(row, dtype, op);
    }
}

/* A copy of the loops for each dtype. */
CPU_INLINE void do_typed(const mlxn_cpu_call *call, norm_op op)
{
    switch (((const norm_params *)call->args)->dtype) {
    case MLXN_F32:
        do_rows(call, MLXN_F32, op);
        break;
    case MLXN_F16:
        do_rows(call, MLXN_F16, op);
        break;
    default:
        do_rows(call, MLXN_BF16, op);
        break;
    }
}

CPU_KERNEL(rms_norm)
{
    do_typed(call, OP_RMS_NORM);
}

CPU_KERNEL(norm_add)
{
    do_typed(call, OP_NORM_ADD);
}

CPU_KERNEL(residual_norm)
{
    do_typed(call, OP_RESIDUAL_NORM);
}
