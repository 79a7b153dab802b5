/* step_advance_cpu.c - moves the cells of a decode step; one thread.  A counter or position that
 * cannot go up is a fault, and nothing moves. */
#include "backends/cpu/kernel.h"
#include "ops/sampling/sampling.h"

CPU_KERNEL(step_advance)
{
    const advance_params *p = call->args;
    int32_t *const *cells = (int32_t *const *)call->ptr;
    if (call->thread)
        return;
    int32_t token = *cells[ADVANCE_TOKEN], counter = *cells[ADVANCE_COUNTER];
    int32_t position = *cells[ADVANCE_POSITIONS];
    if (counter < 0 || counter == INT32_MAX) {
        mlxn_cpu_fault(call, "step_advance: counter", counter, INT32_MAX);
        return;
    }
    if (position < 0 || position == INT32_MAX) {
        mlxn_cpu_fault(call, "step_advance: position", position, INT32_MAX);
        return;
    }
    position++;
    if (cells[ADVANCE_HISTORY])
        cells[ADVANCE_HISTORY][counter % p->length] = token;
    if (cells[ADVANCE_SLOTS_A])
        *cells[ADVANCE_SLOTS_A] = (int32_t)(position % p->capacity_a);
    if (cells[ADVANCE_SLOTS_B])
        *cells[ADVANCE_SLOTS_B] = (int32_t)(position % p->capacity_b);
    *cells[ADVANCE_IDS] = token;
    *cells[ADVANCE_POSITIONS] = position;
    *cells[ADVANCE_COUNTER] = counter + 1;
}
