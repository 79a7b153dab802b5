/* cache.h - compiled kernels on disk.
 *
 * A file is named by a hash of all that its contents depend on.  It is written beside its place and
 * renamed, so that other processes see all of it or nothing; on load the name, the size and a
 * checksum are compared, and what does not fit is as if it were not there.  A folder that cannot be
 * written is no failure.
 *
 * Files lie in $XDG_CACHE_HOME/mlxn/kernels (~/.cache without it), or in the folder that
 * MLXN_KERNEL_CACHE names; MLXN_KERNEL_CACHE=off turns the cache off. */
#ifndef MLXN_CUDA_CACHE_H
#define MLXN_CUDA_CACHE_H

#include <stdint.h>
#include "backends/cuda/nvrtc.h"

/* 128 bits: wide enough that two texts of one user never share a file.  Not for secrets. */
typedef struct mlxn_hash {
    uint64_t a, b;
} mlxn_hash;

#define MLXN_HASH_START                          \
    {                                            \
        0x243f6a8885a308d3u, 0x13198a2e03707344u \
    }
mlxn_hash mlxn_hash_add(mlxn_hash hash, const void *data, size_t bytes);
mlxn_hash mlxn_hash_text(mlxn_hash hash, const char *text); /* with its end */

/* Whether a valid file was found; its contents, with a zero behind them, are to be freed. */
int mlxn_kernel_cache_load(mlxn_hash key, mlxn_cuda_code *out);
void mlxn_kernel_cache_store(mlxn_hash key, const mlxn_cuda_code *code);

#endif
