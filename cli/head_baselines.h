/* head_baselines.h - the head norm and rotation in the layouts of other engines, to measure beside
 * ours: a warp a head, bf16, in place on packed heads, q and k only. */
#ifndef MLXN_CLI_HEAD_BASELINES_H
#define MLXN_CLI_HEAD_BASELINES_H

#include <mlxn/mlxn.h>

typedef struct head_baseline {
    mlxn_buffer *heads;     /* bf16 [tokens, heads, dim], dim 128 or 256 */
    mlxn_buffer *weight;    /* bf16 [dim] */
    mlxn_buffer *table;     /* bf16 [positions, dim]: a row's cosines, then its sines */
    mlxn_buffer *positions; /* u32 [tokens] */
    int64_t tokens, heads_all, heads_rotated, dim;
} head_baseline;

enum { HEAD_BASELINES = 2 };
extern const char *const head_baseline_names[HEAD_BASELINES];

/* Registers them; CUDA only. */
mlxn_status head_baselines_register(mlxn_device *device);
mlxn_status head_baseline_record(mlxn_encoder *encoder, int which, const head_baseline *h);

#endif
