/* softmax_cpu.c - softmax over the rows on the CPU.
 *
 * Threads take rows.  Three passes: the maximum; the sum of e = exp(x - max) in 32 virtual lanes
 * (element i to lane i mod 32, ascending, then the butterfly of vf_sum32); e / sum.  An f32 output
 * holds e between the last two, for other dtypes e is computed again. */
#include <math.h>
#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"
#include "ops/elementwise/elementwise_params.h"

typedef struct softmax_row {
    const char *input;
    char *output;
    mlxn_dtype input_dtype, output_dtype;
    vf max, sum;
} softmax_row;

/* Lanes past n are -Inf: they change no maximum, and their e is 0. */
static inline vf load(const softmax_row *row, int64_t i, int n)
{
    if (n == VF_LANES)
        return vf_load_as(row->input_dtype, row->input, i);
    return vf_select(vm_first(n), vf_load_as_n(row->input_dtype, row->input, i, n),
                     vf_set(-HUGE_VALF));
}

static inline void store(const softmax_row *row, int64_t i, vf v, int n)
{
    if (n == VF_LANES)
        vf_store_as(row->output_dtype, row->output, i, v);
    else
        vf_store_as_n(row->output_dtype, row->output, i, v, n);
}

static inline vf exponential(const softmax_row *row, int64_t i, int n, int keep)
{
    vf e = vf_exp(vf_sub(load(row, i, n), row->max));
    if (keep)
        store(row, i, e, n);
    return e;
}

static inline vf row_max(const softmax_row *row, int64_t dim)
{
    vf max = vf_set(-HUGE_VALF);
    int64_t i = 0;
    for (; i + VF_LANES <= dim; i += VF_LANES)
        max = vf_max(load(row, i, VF_LANES), max);
    if (i < dim)
        max = vf_max(load(row, i, (int)(dim - i)), max);
    return vf_set(vf_max_all(max));
}

static inline vf row_sum(const softmax_row *row, int64_t dim, int keep)
{
    vf first = vf_set(0.0f), second = first;
    int64_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        first = vf_add(first, exponential(row, i, VF_LANES, keep));
        second = vf_add(second, exponential(row, i + VF_LANES, VF_LANES, keep));
    }
    if (i < dim) {
        int left = (int)(dim - i);
        first = vf_add(first, exponential(row, i, left < VF_LANES ? left : VF_LANES, keep));
        if (left > VF_LANES)
            second = vf_add(second, exponential(row, i + VF_LANES, left - VF_LANES, keep));
    }
    return vf_set(vf_sum32(first, second));
}

static inline void divide(const softmax_row *row, int64_t i, int n, int kept)
{
    vf e;
    if (!kept)
        e = exponential(row, i, n, 0);
    else if (n == VF_LANES)
        e = vf_load((const float *)row->output + i);
    else
        e = vf_load_n((const float *)row->output + i, n);
    store(row, i, vf_div(e, row->sum), n);
}

CPU_KERNEL(softmax)
{
    const softmax_params *p = call->args;
    softmax_row row = {.input_dtype = (mlxn_dtype)p->input_dtype,
                       .output_dtype = (mlxn_dtype)p->output_dtype};
    const int64_t in_step = p->input_stride * (int64_t)cpu_dtype_bytes(row.input_dtype);
    const int64_t out_step = p->output_stride * (int64_t)cpu_dtype_bytes(row.output_dtype);
    const int keep = row.output_dtype == MLXN_F32;
    int64_t begin, end;
    cpu_split(call, p->rows, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        int64_t i = 0;
        row.input = (const char *)call->ptr[SOFTMAX_INPUT] + t * in_step;
        row.output = (char *)call->ptr[SOFTMAX_OUTPUT] + t * out_step;
        row.max = row_max(&row, p->dim);
        row.sum = row_sum(&row, p->dim, keep);
        for (; i + VF_LANES <= p->dim; i += VF_LANES)
            divide(&row, i, VF_LANES, keep);
        if (i < p->dim)
            divide(&row, i, (int)(p->dim - i), keep);
    }
}
