/* qkv_prepare.h - the launch that qkv_prepare, rope and the fused_head_norm_rope pair share: what
 * the host side hands to the one CPU kernel behind them. */
#ifndef MLXN_OPS_ROPE_QKV_PREPARE_H
#define MLXN_OPS_ROPE_QKV_PREPARE_H

#include <mlxn/encoder.h>
#include <mlxn/ops/rope.h>
#include "ops/rope/qkv_params.h"

/* The pairs of a pairing for a head of dim, with its bounds checked: "rotary_pairs is 5, needs 8".
 * `name` is the pairing's own argument. */
mlxn_status mlxn_qkv_pairing(const char *op, const char *name, mlxn_rope_pairing pairing,
                             int64_t dim, int64_t rotary_pairs, qkv_part_params *part);

/* How many tokens a thread of the CPU works on together, so that their heads fill its vectors: at
 * most 16. */
int64_t mlxn_qkv_tokens_at_once(const qkv_params *params);

/* Records the launch; buffers by operand number, NULL where absent.  Decides about streaming. */
mlxn_status mlxn_qkv_launch(mlxn_encoder *encoder, qkv_params *params,
                            mlxn_buffer *const buffers[QKV_OPERANDS]);

#endif
