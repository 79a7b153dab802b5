/* embedded.h - PTX of the library's kernel texts, for machines without NVRTC.
 *
 * src/backends/cuda/ptx has it, a compressed file a text, made by cmake/ptx.py with the NVRTC of
 * CUDA 11.8 for compute_75: every driver and GPU that the backend takes can compile that.  Its
 * first line is a comment with the hash of the text that it was made from; PTX of another text is
 * never used.  MLXN_EMBED_PTX=OFF builds the library without (it is half a megabyte). */
#ifndef MLXN_CUDA_EMBEDDED_H
#define MLXN_CUDA_EMBEDDED_H

#include <stddef.h>
#include <mlxn/status.h>

/* A file of that folder; bytes is 0 where there is none. */
typedef struct mlxn_cuda_ptx {
    const char *name, *text;
    const unsigned char *file;
    const size_t *bytes;
} mlxn_cuda_ptx;

extern const mlxn_cuda_ptx mlxn_cuda_ptx_table[];
extern const size_t mlxn_cuda_ptx_count;

/* The PTX of a file, in memory to be freed.  MLXN_ERR_UNSUPPORTED where it is that of another text,
 * is damaged, or is not there. */
mlxn_status mlxn_cuda_ptx_load(const mlxn_cuda_ptx *row, char **ptx);
/* The same for this very text of the library, told apart by address. */
mlxn_status mlxn_cuda_embedded(const char *text, char **ptx);

#endif
