/* publish.h - what publish_cuda.kernel is told: a board of lines of 16 words in pinned memory,
 * whose first word counts; which line each source goes to, and how many words it has. */
#ifndef MLXN_CUDA_PUBLISH_H
#define MLXN_CUDA_PUBLISH_H

#include "kernels/types.h"

struct publish_args {
    uint32_t line[4], words[4]; /* 0 words: the source is absent */
};

#endif
