/* logprob_cpu.c - (x_t - m) - log(sum exp(x_i - m)), m the largest logit of the row.
 *
 * The sum is taken in blocks of 1024 logits: 32 lanes, lane = id mod 32, each ascending, then the
 * butterfly of vf_sum32; block sums are summed in the same way, lane = number of the block mod 32.
 */
#include <math.h>
#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"
#include "ops/sampling/sampling.h"

static float largest(const float *x, int64_t begin, int64_t end)
{
    vf top = vf_set(-HUGE_VALF);
    for (int64_t i = begin; i < end; i += 16) {
        int n = end - i < 16 ? (int)(end - i) : 16;
        vf v = n == 16 ? vf_load(x + i)
                       : vf_select(vm_first(n), vf_load_n(x + i, n), vf_set(-HUGE_VALF));
        top = vf_max(v, top); /* NaN loses here; it comes back through exp */
    }
    return vf_max_all(top);
}

static vf exp_part(const float *x, int64_t i, int64_t end, vf m)
{
    if (i + 16 <= end)
        return vf_exp(vf_sub(vf_load(x + i), m));
    int n = i < end ? (int)(end - i) : 0;
    return vf_select(vm_first(n), vf_exp(vf_sub(vf_load_n(x + i, n), m)), vf_set(0));
}

static float block_sum(const float *x, int64_t begin, int64_t end, float m)
{
    vf a = vf_set(0), b = vf_set(0), top = vf_set(m);
    for (int64_t i = begin; i < end; i += 32) {
        a = vf_add(a, exp_part(x, i, end, top));
        b = vf_add(b, exp_part(x, i + 16, end, top));
    }
    return vf_sum32(a, b);
}

static float blocks_sum(const float *sums, int64_t blocks)
{
    float lanes[32] = {0};
    for (int64_t i = 0; i < blocks; i++)
        lanes[i % 32] += sums[i];
    return vf_sum32(vf_load(lanes), vf_load(lanes + 16));
}

static float row_maximum(const float *parts, uint32_t n)
{
    float m = parts[0];
    for (uint32_t t = 1; t < n; t++)
        m = parts[t] > m ? parts[t] : m;
    return m;
}

static float log_of(float x)
{
    float y[16];
    vf_store(y, vf_log(vf_set(x)));
    return y[0];
}

CPU_KERNEL(logprob)
{
    const logits_params *p = call->args;
    const float *x = call->ptr[0];
    const int32_t *targets = call->ptr[1];
    float *out = call->ptr[2], *maxima = call->shared, *sums = maxima + p->rows * call->n_threads;
    int64_t begin, end, blocks = sampling_blocks(p->vocab);
    cpu_split(call, p->vocab, &begin, &end);
    for (int64_t r = 0; r < p->rows; r++)
        maxima[r * call->n_threads + call->thread] = largest(x + r * p->stride, begin, end);
    mlxn_cpu_barrier(call);

    cpu_split(call, p->rows * blocks, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t r = i / blocks, from = i % blocks * SAMPLING_BLOCK, to = from + SAMPLING_BLOCK;
        float m = row_maximum(maxima + r * call->n_threads, call->n_threads);
        sums[i] = block_sum(x + r * p->stride, from, to < p->vocab ? to : p->vocab, m);
    }
    mlxn_cpu_barrier(call);

    cpu_split(call, p->rows, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        if (targets[r] < 0 || targets[r] >= p->vocab) {
            mlxn_cpu_fault(call, "logprob: target against vocabulary", targets[r], p->vocab);
            continue;
        }
        float m = row_maximum(maxima + r * call->n_threads, call->n_threads);
        out[r] =
            (x[r * p->stride + targets[r]] - m) - log_of(blocks_sum(sums + r * blocks, blocks));
    }
}
