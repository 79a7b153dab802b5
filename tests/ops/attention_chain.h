/* attention_chain.h - qkv_prepare as the chain of single operators that it stands for. */
#ifndef MLXN_TESTS_OPS_ATTENTION_CHAIN_H
#define MLXN_TESTS_OPS_ATTENTION_CHAIN_H

#include <mlxn/mlxn.h>

/* Records norms, then rotations, then cache writes, a dispatch for each part that has one; the bits
 * are those of mlxn_qkv_prepare in match_unfused.  Normed values lie in work[q, k, v]; work NULL:
 * in the part's output, where it has one, else over its input.  A part with an output must have a
 * norm or a rotation. */
mlxn_status attention_chain(mlxn_encoder *encoder, const mlxn_qkv_prepare_args *args,
                            mlxn_buffer *const work[3]);

#endif
