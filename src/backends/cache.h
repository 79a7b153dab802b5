/* cache.h - compiled kernels on disk.
 *
 * A file is named by a hash of all that its contents depend on.  It is written beside its place and
 * renamed, so that other processes see all of it or nothing; on load the name, the size and a
 * checksum are compared, and what does not fit is as if it were not there.  A folder that cannot be
 * written is no failure.
 *
 * Files lie in $XDG_CACHE_HOME/mlxn/kernels (~/.cache without it), or in the folder that
 * MLXN_KERNEL_CACHE names; MLXN_KERNEL_CACHE=off turns the cache off. */
#ifndef MLXN_BACKENDS_CACHE_H
#define MLXN_BACKENDS_CACHE_H

#include <stddef.h>
#include <stdint.h>

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

/* Compiled code (CUDA: machine code or PTX), in memory to be freed. */
typedef struct mlxn_code {
    void *data;
    size_t bytes;
} mlxn_code;

int mlxn_kernel_cache_is_on(void);
/* Whether a valid file was found; its contents, with a zero behind them, are to be freed. */
int mlxn_kernel_cache_load(mlxn_hash key, mlxn_code *out);
void mlxn_kernel_cache_store(mlxn_hash key, const mlxn_code *code);

/* Files that a library of the system writes and reads by their path, in its own format.  The hash
 * of one's contents is an entry of the cache: a file that does not have it is as if it were not
 * there. */
enum { MLXN_CACHE_PATH = 4096 };
/* The path of the file of this key; 0: there is none that can be trusted. */
int mlxn_kernel_cache_find(mlxn_hash key, char path[MLXN_CACHE_PATH]);
/* A path where nothing is yet, to write the file to; 0: there is to be no file. */
int mlxn_kernel_cache_begin(mlxn_hash key, char path[MLXN_CACHE_PATH]);
/* The file that was written there becomes that of the key; one that cannot be read is removed. */
void mlxn_kernel_cache_keep(mlxn_hash key, const char *path);

#endif
