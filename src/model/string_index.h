/* string_index.h - from a string to its position in an array of strings: a flat hash table of
 * 8-byte slots with linear probing, at most half full.  The strings stay where they are; nothing is
 * allocated a string.  No probe goes further than MLXN_PROBES_MAX slots: strings made to collide
 * are refused on insertion, so that hostile names cost linear time. */
#ifndef MLXN_STRING_INDEX_H
#define MLXN_STRING_INDEX_H

#include <string.h>
#include <mlxn/gguf.h>

enum { MLXN_PROBES_MAX = 1024 };

typedef struct mlxn_string_slot {
    uint32_t tag;      /* bits of the hash that did not choose the slot */
    uint32_t position; /* plus 1; 0: free */
} mlxn_string_slot;

typedef struct mlxn_string_index {
    const mlxn_gguf_string *strings;
    mlxn_string_slot *slots; /* owned */
    uint64_t mask;
} mlxn_string_index;

/* Room for `count` of the strings; none is inserted yet. */
mlxn_status mlxn_string_index_create(mlxn_string_index *index, const mlxn_gguf_string *strings,
                                     uint64_t count);
void mlxn_string_index_destroy(mlxn_string_index *index);
/* Inserts strings[position]; *holder is the position that holds this text: an equal string that was
 * there before stays. */
mlxn_status mlxn_string_index_insert(mlxn_string_index *index, uint32_t position, uint32_t *holder);

static inline uint64_t mlxn_string_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* Eight bytes a step; the last step takes what is left, overlapping itself. */
static inline uint64_t mlxn_string_hash(const char *data, size_t bytes)
{
    uint64_t hash = bytes, word;
    for (; bytes > 8; data += 8, bytes -= 8) {
        memcpy(&word, data, 8);
        hash = mlxn_string_mix(hash, word);
    }
    if (bytes >= 4) {
        uint32_t low, high;
        memcpy(&low, data, 4);
        memcpy(&high, data + bytes - 4, 4);
        word = low | (uint64_t)high << 32;
    } else {
        const unsigned char *p = (const unsigned char *)data;
        word = bytes ? p[0] | (uint64_t)p[bytes / 2] << 8 | (uint64_t)p[bytes - 1] << 16 : 0;
    }
    return mlxn_string_mix(mlxn_string_mix(hash, word), 0);
}

static inline int mlxn_string_equal(mlxn_gguf_string a, const char *data, size_t bytes)
{
    return a.bytes == bytes && (bytes == 0 || !memcmp(a.data, data, bytes));
}

/* The position of a string; -1 if it is not there. */
static inline int64_t mlxn_string_index_find(const mlxn_string_index *index, const char *data,
                                             size_t bytes)
{
    uint64_t hash = mlxn_string_hash(data, bytes);
    for (uint64_t i = 0; i < MLXN_PROBES_MAX; i++) {
        mlxn_string_slot slot = index->slots[(hash + i) & index->mask];
        if (slot.position == 0)
            return -1;
        if (slot.tag == (uint32_t)(hash >> 32) &&
            mlxn_string_equal(index->strings[slot.position - 1], data, bytes))
            return (int64_t)slot.position - 1;
    }
    return -1;
}

#endif
