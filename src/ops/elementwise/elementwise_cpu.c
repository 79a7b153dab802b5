/* elementwise_cpu.c - gelu_mul, add, mul and softcap on the CPU.
 *
 * Threads take runs of elements over all rows.  A result depends on its own operands alone, so the
 * split does not show. */
#include "ops/elementwise/elementwise_params.h"
#include "ops/elementwise/gelu_cpu.h"

static inline vf apply(elementwise_function f, vf a, vf b, vf scalar)
{
    if (f == ELEMENTWISE_GELU_MUL)
        return vf_mul(vf_gelu(a), b);
    if (f == ELEMENTWISE_ADD)
        return vf_add(a, b);
    if (f == ELEMENTWISE_MUL)
        return vf_mul(a, b);
    return vf_mul(scalar, vf_tanh(vf_div(a, scalar)));
}

/* n elements from a, b (not read by ELEMENTWISE_SOFTCAP) and out. */
static inline void do_run(elementwise_function f, mlxn_dtype dtype, const char *a, const char *b,
                          char *out, int64_t n, vf scalar)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES) {
        vf x = vf_load_as(dtype, a, i), y = x;
        if (f != ELEMENTWISE_SOFTCAP)
            y = vf_load_as(dtype, b, i);
        vf_store_as(dtype, out, i, apply(f, x, y, scalar));
    }
    if (i < n) {
        int left = (int)(n - i);
        vf x = vf_load_as_n(dtype, a, i, left), y = x;
        if (f != ELEMENTWISE_SOFTCAP)
            y = vf_load_as_n(dtype, b, i, left);
        vf_store_as_n(dtype, out, i, apply(f, x, y, scalar), left);
    }
}

static inline void do_split(const mlxn_cpu_call *call, elementwise_function f, mlxn_dtype dtype)
{
    const elementwise_params *p = call->args;
    const int64_t bytes = (int64_t)cpu_dtype_bytes(dtype), total = p->rows * p->dim;
    const char *a = call->ptr[ELEMENTWISE_A], *b = call->ptr[ELEMENTWISE_B];
    char *out = call->ptr[ELEMENTWISE_OUTPUT];
    int64_t begin, end;
    cpu_split(call, (total + 63) / 64, &begin, &end); /* by whole cache lines */
    begin *= 64;
    end = end * 64 < total ? end * 64 : total;
    while (begin < end) {
        int64_t row = begin / p->dim, column = begin % p->dim;
        int64_t n = p->dim - column < end - begin ? p->dim - column : end - begin;
        int64_t at_a = (row * p->stride[ELEMENTWISE_A] + column) * bytes;
        int64_t at_b = (row * p->stride[ELEMENTWISE_B] + column) * bytes;
        int64_t at_out = (row * p->stride[ELEMENTWISE_OUTPUT] + column) * bytes;
        do_run(f, dtype, a + at_a, b ? b + at_b : a, out + at_out, n, vf_set(p->scalar));
        begin += n;
    }
}

/* A copy of the loops for each dtype. */
static inline void do_typed(const mlxn_cpu_call *call, elementwise_function f)
{
    switch (((const elementwise_params *)call->args)->dtype) {
    case MLXN_F32:
        do_split(call, f, MLXN_F32);
        break;
    case MLXN_F16:
        do_split(call, f, MLXN_F16);
        break;
    default:
        do_split(call, f, MLXN_BF16);
        break;
    }
}

CPU_KERNEL(gelu_mul)
{
    do_typed(call, ELEMENTWISE_GELU_MUL);
}

CPU_KERNEL(add)
{
    do_typed(call, ELEMENTWISE_ADD);
}

CPU_KERNEL(mul)
{
    do_typed(call, ELEMENTWISE_MUL);
}

CPU_KERNEL(softcap)
{
    do_typed(call, ELEMENTWISE_SOFTCAP);
}
