/* embedded.h - PTX of the library's kernel texts, for machines without NVRTC. */
#ifndef MLXN_CUDA_EMBEDDED_H
#define MLXN_CUDA_EMBEDDED_H

#include <mlxn/status.h>

/* The PTX that was made from this very text, to be freed; NULL where there is none. */
mlxn_status mlxn_cuda_embedded(const char *text, char **out);

#endif
