/* repeat_penalty_cpu.c - divides or multiplies the logit of each recent id once.  All threads copy
 * the logits where an output is given; the few dozen ids are then for one thread, with a bit for
 * each id that has been done. */
#include "backends/cpu/kernel.h"
#include "ops/sampling/sampling.h"

CPU_KERNEL(repeat_penalty)
{
    const penalty_params *p = call->args;
    float *logits = call->ptr[0];
    const int32_t *history = call->ptr[1];
    int64_t written = *(const int32_t *)call->ptr[2];
    uint8_t *done = call->shared;
    if (call->ptr[3]) {
        int64_t begin, end;
        cpu_split(call, p->vocab, &begin, &end);
        memcpy((float *)call->ptr[3] + begin, logits + begin,
               (size_t)(end - begin) * sizeof *logits);
        mlxn_cpu_barrier(call);
        logits = call->ptr[3];
    }
    if (call->thread)
        return;
    if (written < 0) {
        mlxn_cpu_fault(call, "repeat_penalty: negative counter", written, 0);
        return;
    }
    memset(done, 0, ((size_t)p->vocab + 7) / 8);
    for (int64_t i = written > p->last_n ? written - p->last_n : 0; i < written; i++) {
        int32_t id = history[i % p->length];
        if (id < 0 || id >= p->vocab) {
            mlxn_cpu_fault(call, "repeat_penalty: id against vocabulary", id, p->vocab);
            continue;
        }
        uint8_t bit = (uint8_t)(1 << id % 8);
        if (done[id / 8] & bit)
            continue;
        done[id / 8] |= bit;
        logits[id] = logits[id] > 0 ? logits[id] / p->penalty : logits[id] * p->penalty;
    }
}
