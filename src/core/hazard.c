/* hazard.c - which dispatches touch the same bytes.
 *
 * A view is reduced to evenly pitched rows: `rows` runs of `row_bytes`, `pitch` apart.  Two such
 * sets of equal pitch, whose rows are shorter than the pitch, overlap exactly if their runs meet
 * modulo the pitch; for all other pairs the whole extents are compared, which may report an overlap
 * that is none. */
#include <stdlib.h>
#include "core/internal.h"

mlxn_range mlxn_buffer_range(const mlxn_buffer *b)
{
    mlxn_range range = {.address = b->storage->address + b->offset,
                        .row_bytes = b->bytes,
                        .pitch = b->bytes,
                        .rows = 1};
    int outer = 0;
    while (outer < b->rank && b->shape[outer] == 1)
        outer++;
    if (b->layout == MLXN_LAYOUT_PACKED || outer == b->rank)
        return range;
    /* dimensions that continue the outermost one evenly are rows too */
    int64_t rows = b->shape[outer], stride = b->strides[outer];
    int inner = outer + 1;
    while (inner < b->rank - 1 &&
           (b->shape[inner] == 1 || stride == b->strides[inner] * b->shape[inner])) {
        if (b->shape[inner] != 1) {
            rows *= b->shape[inner];
            stride = b->strides[inner];
        }
        inner++;
    }
    size_t block = mlxn_dtype_block_elements(b->dtype);
    size_t bytes = mlxn_dtype_block_bytes(b->dtype);
    size_t pitch = (size_t)stride / block * bytes;
    size_t row = b->bytes - (size_t)(rows - 1) * pitch;
    if (rows < 2 || (size_t)stride % block || (size_t)(rows - 1) * pitch >= b->bytes || row > pitch)
        return range;
    range.row_bytes = row;
    range.pitch = pitch;
    range.rows = (uint64_t)rows;
    return range;
}

static uint64_t extent(const mlxn_range *r)
{
    return (r->rows - 1) * r->pitch + r->row_bytes;
}

int mlxn_ranges_overlap(const mlxn_range *a, const mlxn_range *b)
{
    if (a->address + extent(a) <= b->address || b->address + extent(b) <= a->address)
        return 0;
    if (a->rows < 2 || b->rows < 2 || a->pitch != b->pitch)
        return 1;
    uint64_t pitch = a->pitch;
    uint64_t apart = a->address <= b->address ? (b->address - a->address) % pitch
                                              : (pitch - (a->address - b->address) % pitch) % pitch;
    return apart < a->row_bytes || apart + b->row_bytes > pitch;
}

const mlxn_node *mlxn_hazards_find(const mlxn_hazards *hazards, const mlxn_node *node, int *operand)
{
    for (int i = 0; i < node->n_operands; i++) {
        const mlxn_bound *bound = &node->operands[i];
        if (!bound->storage)
            continue;
        for (size_t k = hazards->count; k-- > 0;) {
            const struct mlxn_access_record *record = &hazards->records[k];
            if ((record->access | bound->access) & MLXN_WRITE &&
                mlxn_ranges_overlap(&record->range, &bound->range)) {
                *operand = i;
                return record->node;
            }
        }
    }
    return NULL;
}

mlxn_status mlxn_hazards_add(mlxn_hazards *hazards, const mlxn_node *node)
{
    size_t needed = hazards->count + (size_t)node->n_operands;
    if (needed > hazards->capacity) {
        size_t capacity = needed * 2 + 32;
        void *records = realloc(hazards->records, capacity * sizeof *hazards->records);
        if (!records)
            return mlxn_fail(MLXN_ERR_MEMORY, "encoder: no memory to track hazards");
        hazards->records = records;
        hazards->capacity = capacity;
    }
    for (int i = 0; i < node->n_operands; i++)
        if (node->operands[i].storage)
            hazards->records[hazards->count++] = (struct mlxn_access_record){
                node->operands[i].range, node->operands[i].access, node};
    return MLXN_OK;
}

void mlxn_hazards_clear(mlxn_hazards *hazards)
{
    hazards->count = 0;
}

void mlxn_hazards_free(mlxn_hazards *hazards)
{
    free(hazards->records);
    *hazards = (mlxn_hazards){0};
}
