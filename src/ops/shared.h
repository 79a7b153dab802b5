/* shared.h - the functions that size the CPU scratch of kernels, and those that name early reads,
 * as in kernels.def. */
#ifndef MLXN_OPS_SHARED_H
#define MLXN_OPS_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include "core/internal.h"

size_t mlxn_attention_shared(const void *args, uint32_t n_threads);
size_t mlxn_qkv_prepare_shared(const void *params, uint32_t n_threads);
size_t mlxn_matmul_shared(const void *args, uint32_t n_threads);
size_t mlxn_matmul_group_shared(const void *args, uint32_t n_threads);
size_t mlxn_embedding_shared(const void *args, uint32_t n_threads);
size_t mlxn_screen_pack_shared(const void *args, uint32_t n_threads);
size_t mlxn_screened_matmul_shared(const void *args, uint32_t n_threads);

size_t mlxn_argmax_shared(const void *params, uint32_t n_threads);
size_t mlxn_top_k_shared(const void *params, uint32_t n_threads);
size_t mlxn_logprob_shared(const void *params, uint32_t n_threads);
size_t mlxn_repeat_penalty_shared(const void *params, uint32_t n_threads);
size_t mlxn_sample_list_shared(const void *params, uint32_t n_threads);
size_t mlxn_sample_all_shared(const void *params, uint32_t n_threads);

int mlxn_matmul_early(const void *args, uint32_t thread, uint32_t n_threads, mlxn_early_read *out);
int mlxn_matmul_group_early(const void *args, uint32_t thread, uint32_t n_threads,
                            mlxn_early_read *out);

#endif
