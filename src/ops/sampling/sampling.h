/* sampling.h - what the sampling operators share: checks of operands. */
#ifndef MLXN_OPS_SAMPLING_SAMPLING_H
#define MLXN_OPS_SAMPLING_SAMPLING_H

#include <mlxn/ops/sampling.h>
#include "core/internal.h"
#include "ops/sampling/sampling_params.h"

/* f32 [rows, V] or [V] with V that fits an id; fills rows, vocab and stride. */
mlxn_status mlxn_check_logits(const char *op, const mlxn_encoder *enc, const mlxn_buffer *logits,
                              logits_params *params);
/* A dense i32 or f32 buffer of n elements that does not overlap the logits. */
mlxn_status mlxn_check_result(const char *op, const char *name, const mlxn_encoder *enc,
                              const mlxn_buffer *b, uint32_t dtype, int64_t n,
                              const mlxn_buffer *logits);
/* A flat f32 [V] and an i32 [1]. */
mlxn_status mlxn_check_flat_logits(const char *op, const mlxn_encoder *enc,
                                   const mlxn_buffer *logits);
mlxn_status mlxn_check_cell(const char *op, const char *name, const mlxn_encoder *enc,
                            const mlxn_buffer *b, uint32_t flags);

#endif
