/* embedded.c - see embedded.h. */
#include "backends/cuda/embedded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cache.h"
#include "backends/cuda/lzma.h"
#include "core/internal.h"
#include "kernels/text.h"

#define DECLARE(name)                                    \
    extern const unsigned char mlxn_kernel_ptx_##name[]; \
    extern const size_t mlxn_kernel_ptx_bytes_##name;
MLXN_KERNEL_TEXTS(DECLARE)

#define ROW(name) \
    {#name, mlxn_kernel_text_##name, mlxn_kernel_ptx_##name, &mlxn_kernel_ptx_bytes_##name},
const mlxn_cuda_ptx mlxn_cuda_ptx_table[] = {MLXN_KERNEL_TEXTS(ROW)};
const size_t mlxn_cuda_ptx_count = sizeof mlxn_cuda_ptx_table / sizeof *mlxn_cuda_ptx_table;

/* The first line of the PTX of this text. */
static void first_line(const char *text, char line[80])
{
    const mlxn_hash start = MLXN_HASH_START, hash = mlxn_hash_text(start, text);
    snprintf(line, 80, "// of kernel text %016llx%016llx\n", (unsigned long long)hash.a,
             (unsigned long long)hash.b);
}

mlxn_status mlxn_cuda_ptx_load(const mlxn_cuda_ptx *row, char **ptx)
{
    char line[80];
    size_t bytes;
    *ptx = NULL;
    if (!*row->bytes)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "the library has no PTX of %s", row->name);
    char *found = mlxn_lzma_decode(row->file, *row->bytes, &bytes);
    if (!found)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "the library's PTX of %s cannot be decoded",
                         row->name);
    first_line(row->text, line);
    if (strncmp(found, line, strlen(line))) {
        free(found);
        return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                         "the library's PTX of %s is that of another version of it", row->name);
    }
    *ptx = found;
    return MLXN_OK;
}

mlxn_status mlxn_cuda_embedded(const char *text, char **ptx)
{
    *ptx = NULL;
    for (size_t i = 0; i < mlxn_cuda_ptx_count; i++)
        if (mlxn_cuda_ptx_table[i].text == text)
            return mlxn_cuda_ptx_load(&mlxn_cuda_ptx_table[i], ptx);
    return mlxn_fail(MLXN_ERR_UNSUPPORTED, "the library has PTX of its own kernels alone");
}
