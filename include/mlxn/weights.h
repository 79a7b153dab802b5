/* weights.h - weights in the layout the device's matmul wants.
 *
 * A prepared weight is a buffer with the dtype and shape of its source and a private layout: a
 * lossless re-encoding, so every result is bit for bit that of the source.  mlxn_matmul and
 * mlxn_embedding take both; prepared ones are faster.  Views of a prepared weight are refused, and
 * so is host access: its bytes mean nothing outside the library. */
#ifndef MLXN_WEIGHTS_H
#define MLXN_WEIGHTS_H

#include <mlxn/buffer.h>

MLXN_EXTERN_C_BEGIN

typedef enum mlxn_weight_use {
    MLXN_WEIGHT_MATMUL = 1,       /* [N, K]: rows are outputs */
    MLXN_WEIGHT_DROP_SOURCE = 16, /* give the pages of a mapped file back while packing */
} mlxn_weight_use;

/* Packs `weight`, a dense [N, K] buffer of any weight dtype (ops/matmul.h), with all threads of its
 * device, and waits for the result.  `use` is MLXN_WEIGHT_MATMUL, and DROP_SOURCE if wanted: what
 * was written to the mapping may be lost then. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_weight_prepare(mlxn_buffer *weight, uint32_t use,
                                                         mlxn_buffer **out);
MLXN_API int mlxn_weight_is_prepared(const mlxn_buffer *buffer);

MLXN_EXTERN_C_END
#endif
