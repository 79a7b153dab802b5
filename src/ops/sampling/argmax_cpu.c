/* argmax_cpu.c - the id of the largest logit of each row: the largest value first, NaN left out,
 * then the first id that has it.  Few rows are cut into one part a thread, many are done one a
 * thread. */
#include <math.h>
#include "backends/cpu/kernel.h"
#include "ops/sampling/sampling.h"

typedef struct best {
    float value;
    int32_t id; /* -1: only NaN */
} best;

static best best_of(const float *x, int64_t begin, int64_t end)
{
    best b = {-HUGE_VALF, -1};
    vf top[4];
    int64_t i = begin;
    for (int k = 0; k < 4; k++)
        top[k] = vf_set(b.value);
    for (; i + 64 <= end; i += 64)
        for (int k = 0; k < 4; k++) /* a NaN loses: vf_max gives the second if either is one */
            top[k] = vf_max(vf_load(x + i + 16 * k), top[k]);
    b.value = vf_max_all(vf_max(vf_max(top[0], top[1]), vf_max(top[2], top[3])));
    for (; i < end; i++)
        b.value = x[i] > b.value ? x[i] : b.value;

    vf value = vf_set(b.value);
    for (i = begin; i + 16 <= end && !vm_any(vf_eq(vf_load(x + i), value));)
        i += 16;
    for (; i < end && b.id < 0; i++)
        if (x[i] == b.value)
            b.id = (int32_t)i;
    return b;
}

CPU_KERNEL(argmax)
{
    const logits_params *p = call->args;
    const float *x = call->ptr[0];
    int32_t *ids = call->ptr[1];
    int64_t begin, end;
    if (p->rows >= call->n_threads) {
        cpu_split(call, p->rows, &begin, &end);
        for (int64_t r = begin; r < end; r++) {
            best b = best_of(x + r * p->stride, 0, p->vocab);
            ids[r] = b.id < 0 ? 0 : b.id;
        }
        return;
    }
    best *parts = call->shared;
    cpu_split(call, p->vocab, &begin, &end);
    for (int64_t r = 0; r < p->rows; r++)
        parts[r * call->n_threads + call->thread] = best_of(x + r * p->stride, begin, end);
    mlxn_cpu_barrier(call);
    if (call->thread >= p->rows)
        return;
    best b = {0, -1};
    for (uint32_t t = 0; t < call->n_threads; t++) { /* ascending ids: only a greater value wins */
        best part = parts[call->thread * call->n_threads + t];
        if (part.id >= 0 && (b.id < 0 || part.value > b.value))
            b = part;
    }
    ids[call->thread] = b.id < 0 ? 0 : b.id;
}
