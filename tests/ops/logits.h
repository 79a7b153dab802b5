/* logits.h - what the tests of sampling share: rows of logits, and their ids in order. */
#ifndef MLXN_TESTS_OPS_LOGITS_H
#define MLXN_TESTS_OPS_LOGITS_H

#include "rig.h"

/* n normal numbers times `spread`, to free. */
float *logits_random(uint64_t seed, int64_t n, float spread);
mlxn_buffer *logits_buffer(const rig_device *on, int64_t rows, int64_t vocab, const float *x);
/* The ids of a row, largest logit first, ties by id, NaN last; to free. */
int32_t *logits_sorted(const float *x, int64_t n);

#endif
