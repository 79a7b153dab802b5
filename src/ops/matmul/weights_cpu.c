/* weights_cpu.c - packs groups of 16 rows of a weight; see packed.h. */
#include "ops/matmul/dispatch.h"
#include "ops/matmul/pack.h"

CPU_KERNEL(weight_pack)
{
    const weight_pack_params *p = call->args;
    const matmul_weight *w = &p->weight;
    const packed_format f = packed_format_of((mlxn_dtype)w->dtype);
    const size_t group_bytes = packed_group_bytes(f, packed_tiles(w->cols));
    const uint8_t *src = call->ptr[0];
    uint8_t *dst = call->ptr[1];
    int64_t begin, end;
    cpu_split(call, p->count, &begin, &end);
    for (int64_t g = p->first + begin; g < p->first + end; g++) {
        const int64_t row = g * PACKED_ROWS, left = w->rows - row;
        pack_group((mlxn_dtype)w->dtype, src + row * w->row_bytes, w->row_bytes,
                   left < PACKED_ROWS ? (int)left : PACKED_ROWS, w->cols,
                   dst + (size_t)g * group_bytes);
    }
}
