/* lzma.h - decodes a .lzma file (LZMA 1) in memory, for the PTX that the library embeds.
 *
 * Only what cmake/ptx.py writes: literal contexts of 3 bits and no position bits (lc = 3, lp = 0,
 * pb = 0: the setting for text), ended by the end marker.  Anything else, and what is damaged so
 * that it leads outside of either buffer, is refused.  The format is that of the LZMA specification
 * of the LZMA SDK (lzma-specification.txt, public domain). */
#ifndef MLXN_CUDA_LZMA_H
#define MLXN_CUDA_LZMA_H

#include <stddef.h>

/* The contents, of *bytes, with a zero behind them, to be freed; NULL where they cannot be decoded
 * or there is no memory. */
char *mlxn_lzma_decode(const unsigned char *file, size_t file_bytes, size_t *bytes);

#endif
