/* shared.h - the functions that size the CPU scratch of kernels, and those that name early reads,
 * as in kernels.def. */
#ifndef MLXN_OPS_SHARED_H
#define MLXN_OPS_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include "core/internal.h"

#define MLXN_SHARED(name) size_t mlxn_##name##_shared(const void *args, uint32_t n_threads)
#define MLXN_EARLY(name)                                                           \
    int mlxn_##name##_early(const void *args, uint32_t thread, uint32_t n_threads, \
                            mlxn_early_read *out)

MLXN_SHARED(attention);
MLXN_SHARED(qkv_prepare);
MLXN_SHARED(matmul);
MLXN_SHARED(matmul_group);
MLXN_SHARED(embedding);
MLXN_SHARED(screen_pack);
MLXN_SHARED(screened_matmul);
MLXN_SHARED(argmax);
MLXN_SHARED(top_k);
MLXN_SHARED(logprob);
MLXN_SHARED(repeat_penalty);
MLXN_SHARED(sample_list);
MLXN_SHARED(sample_all);

MLXN_EARLY(matmul);
MLXN_EARLY(matmul_group);

#endif
