/* attention_params.h - what the host hands to the kernels behind attention: operand numbers and
 * parameter structs, functions of shapes and capacities only, so that a recorded launch may be
 * replayed for any positions; the same text for C and for kernel text. */
#ifndef MLXN_OPS_ATTENTION_ATTENTION_PARAMS_H
#define MLXN_OPS_ATTENTION_ATTENTION_PARAMS_H

#include "kernels/types.h"

enum {
    ATTENTION_Q,
    ATTENTION_K,
    ATTENTION_V,
    ATTENTION_OUTPUT,
    ATTENTION_POSITIONS,
    ATTENTION_SEQUENCES,
    ATTENTION_TABLE,
    ATTENTION_OPERANDS
};

/* Equal to mlxn_slot_map (asserted in attention.c). */
enum { ATTENTION_LINEAR = 1, ATTENTION_RING = 2, ATTENTION_BY_TABLE = 3 };

typedef struct attention_params {
    int64_t tokens, heads, kv_heads, dim, slots;
    int64_t q_token, q_head, k_slot, k_head, v_slot, v_head, o_token, o_head; /* strides */
    int64_t table_rows, table_columns;
    int64_t window, max_keys;
    float scale, softcap;
    int32_t slot_map;
    int32_t q_dtype, kv_dtype;
    int32_t fast; /* roundings of MLXN_ATTENTION_FAST are allowed */
} attention_params;

/* ---- on a GPU ---- */

enum {
    ATTENTION_KEYS = 32,          /* of a chunk */
    ATTENTION_SPAN = 8,           /* chunks of a span */
    ATTENTION_LANES = 4,          /* threads that share a key in attention.kernel */
    ATTENTION_TILES_ROWS = 16,    /* rows (query, head) that share a pass over the keys there, */
    ATTENTION_SPLIT_ROWS = 4,     /* in attention_decode.kernel */
    ATTENTION_STAGED = 256,       /* elements of the head that all rows of a tile keep at a time */
    ATTENTION_MANY = 128,         /* more chunks than these are split by span */
    ATTENTION_MERGED = 64,        /* elements of the head that a group of the merge works on */
    ATTENTION_BATCH = 32,         /* records that it works on at a time */
    ATTENTION_CUDA_ROWS = 16,     /* of attention_cuda.kernel: rows (query, head) of a group, */
    ATTENTION_CUDA_THREADS = 256, /* its threads */
    ATTENTION_DECODE_THREADS = 256, /* of attention_decode.kernel, */
    ATTENTION_DECODE_MERGERS = 256, /* of its merge */
};

/* A group's rows: `heads` heads of one key head from `head` on, of `queries` tokens. */
typedef struct attention_launch_params {
    attention_params p;
    int32_t queries, heads;
    int32_t head_blocks; /* a key head: its heads / heads, rounded up */
    int32_t sequences;   /* whether there are any; then queries is 1 */
    int32_t wide;        /* eight elements of a key, two of a value, are loaded at once */
    int32_t records;     /* split: of a (query, head), capacity */
    int32_t settled;     /* positions and sequences may be read before k_wait() */
    int32_t eight, k_step, v_step, k_head, v_head; /* bytes: of eight elements, strides */
    int64_t record; /* split: floats of a record: dim, up to a four, then m, l, ok */
} attention_launch_params;

/* Bits of the word of faults; texts in attention_plan.c. */
enum { ATTENTION_FAULT_POSITION = 1, ATTENTION_FAULT_SEQUENCE = 2, ATTENTION_FAULT_ENTRY = 4 };

#endif
