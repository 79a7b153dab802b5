/* attention.h - causal attention over a key and value cache, with grouped heads and windows. */
#ifndef MLXN_OPS_ATTENTION_H
#define MLXN_OPS_ATTENTION_H

#include <mlxn/encoder.h>

MLXN_EXTERN_C_BEGIN

/* Where the key of absolute position p lives in the cache. */
typedef enum mlxn_slot_map {
    MLXN_SLOTS_LINEAR = 1, /* slot p */
    MLXN_SLOTS_RING = 2,   /* slot p mod slots */
    MLXN_SLOTS_TABLE = 3,  /* slot table[sequence, p] */
} mlxn_slot_map;

/* What a device may round on the way. */
typedef enum mlxn_attention_precision {
    MLXN_ATTENTION_EXACT = 0, /* nothing beyond f32, in the order below */
    MLXN_ATTENTION_FAST = 1,  /* queries and weights e_j to f16, in an order of the device's own,
                                 where that is faster: on tensor cores (docs/numerics.md) */
} mlxn_attention_precision;

/* For query t at position p = positions[t], head h, key head g = h / (Hq / Hkv):
 *   keys j = max(0, p - window + 1) .. p (window 0: all from 0), s_j = scale * q . k_j,
 *   with softcap c > 0: s_j = c * tanh(s_j / c);   output = sum softmax(s)_j * v_j.
 * A window of W is exactly W keys, the query's own among them.
 *
 * Reduction: q . k_j ascending fma over the head; keys in absolute chunks of 256 positions
 * [256c, 256c + 256): within a chunk m = max s, e_j = exp(s_j - m), l = sum e_j, o = sum e_j * v_j,
 * then chunks are merged in ascending order (the two-term rule of Milakov and Gimelshein 2018).
 * Results do not depend on how queries are split into calls, nor on the slots.
 *
 * Keys are read only at positions a query may see.  A position p with no valid slot (LINEAR: p >=
 * slots; RING: more than `slots` keys wanted; TABLE: entry outside the cache) is a fault. */
typedef struct mlxn_attention_args {
    size_t size;
    mlxn_buffer *q;         /* [tokens, Hq, D], f32, f16 or bf16; strides free but the last */
    mlxn_buffer *k;         /* cache [slots, Hkv, D], f32, f16 or bf16; strides free but the last */
    mlxn_buffer *v;         /* cache [slots, Hkv, D], dtype of k */
    mlxn_buffer *output;    /* [tokens, Hq, D], dtype of q; may not be q */
    mlxn_buffer *positions; /* i32 [tokens]: absolute position of each query; negative: the query
                               is padding and its output row is left alone */
    mlxn_buffer *sequences; /* i32 [tokens]: row of `table` of each query; NULL: row 0 */
    mlxn_buffer *table;     /* i32 [sequences, positions]; required with SLOTS_TABLE, else NULL */
    mlxn_slot_map slot_map;
    int64_t window;   /* keys a query sees at most; 0: no limit */
    float scale;      /* not 0 */
    float softcap;    /* 0: none */
    int64_t max_keys; /* capacity: upper bound of position + 1 over this call and all replays; sizes
                         scratch and the grid; a larger position is a fault */
    mlxn_attention_precision precision; /* 0: EXACT */
} mlxn_attention_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_attention(mlxn_encoder *encoder,
                                                    const mlxn_attention_args *args);

MLXN_EXTERN_C_END
#endif
