/* string_index.c - building the table of string_index.h. */
#include "string_index.h"

#include <stdlib.h>

mlxn_status mlxn_string_index_create(mlxn_string_index *index, const mlxn_gguf_string *strings,
                                     uint64_t count)
{
    uint64_t slots = 16;
    if (count > INT32_MAX)
        return mlxn_fail(MLXN_ERR_FORMAT, "%llu strings are more than can be indexed",
                         (unsigned long long)count);
    while (slots < 2 * count)
        slots *= 2;
    index->strings = strings;
    index->mask = slots - 1;
    index->slots = calloc((size_t)slots, sizeof *index->slots);
    if (!index->slots)
        return mlxn_fail(MLXN_ERR_MEMORY, "index of %llu strings", (unsigned long long)count);
    return MLXN_OK;
}

void mlxn_string_index_destroy(mlxn_string_index *index)
{
    free(index->slots);
    index->slots = NULL;
}

mlxn_status mlxn_string_index_insert(mlxn_string_index *index, uint32_t position, uint32_t *holder)
{
    mlxn_gguf_string text = index->strings[position];
    uint64_t hash = mlxn_string_hash(text.data, text.bytes);
    for (uint64_t i = 0; i < MLXN_PROBES_MAX; i++) {
        mlxn_string_slot *slot = &index->slots[(hash + i) & index->mask];
        if (slot->position == 0) {
            slot->tag = (uint32_t)(hash >> 32);
            slot->position = position + 1;
            *holder = position;
            return MLXN_OK;
        }
        if (slot->tag == (uint32_t)(hash >> 32) &&
            mlxn_string_equal(index->strings[slot->position - 1], text.data, text.bytes)) {
            *holder = slot->position - 1;
            return MLXN_OK;
        }
    }
    return mlxn_fail(MLXN_ERR_FORMAT, "string %lu collides with %d others, as if made to",
                     (unsigned long)position, (int)MLXN_PROBES_MAX);
}
