/* embedded.c - see embedded.h. */
#include "backends/cuda/embedded.h"

#include <stddef.h>

#if !defined(MLXN_CUDA_PTX)
const mlxn_cuda_ptx mlxn_cuda_ptx_table[] = {{NULL, NULL}};
#endif

const char *mlxn_cuda_embedded(const char *text)
{
    for (const mlxn_cuda_ptx *row = mlxn_cuda_ptx_table; row->text; row++)
        if (row->text == text)
            return row->ptx;
    return NULL;
}
