/* embedded.h - PTX of the library's kernel texts, for machines without NVRTC.
 *
 * It is megabytes, so it is part of a build only where MLXN_CUDA_PTX names the NVRTC that makes it
 * (cmake/ptx.py).  The driver compiles it for the device. */
#ifndef MLXN_CUDA_EMBEDDED_H
#define MLXN_CUDA_EMBEDDED_H

typedef struct mlxn_cuda_ptx {
    const char *text, *ptx;
} mlxn_cuda_ptx;

/* Ends with NULLs; made by cmake/ptx.py. */
extern const mlxn_cuda_ptx mlxn_cuda_ptx_table[];

/* The PTX of this very text (told apart by address), NULL where there is none. */
const char *mlxn_cuda_embedded(const char *text);

#endif
