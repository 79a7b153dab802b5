/* head_bench.h - the parts of `mlxn bench head-norm-rope`: what is measured of one shape (its
 * operands are made by head_operands.c, its runs recorded by head_records.c), and how it is printed
 * (head_output.c). */
#ifndef MLXN_CLI_HEAD_BENCH_H
#define MLXN_CLI_HEAD_BENCH_H

#include "args.h"
#include "head_baselines.h"
#include "load.h"
#include "measure.h"
#include "support.h"

enum { HEAD_OWNED_MAX = 128, HEAD_BUFFERS_MAX = 16 };
enum { HEAD_ANGLES_COMPUTED, HEAD_ANGLES_TABLES };

typedef struct head_values {
    common_values common;
    int_list tokens, heads, dims;
    int64_t kv_heads, buffers, repetitions;
    int dtype, angles, in_place, cache, baselines, output;
} head_values;

/* One shape: the operands of each of the buffers taken in turns. */
typedef struct head_shape {
    int64_t tokens, heads, kv_heads, dim;
    mlxn_dtype dtype;
    size_t bytes; /* of the heads, read and written */
} head_shape;

typedef struct head_bench {
    const head_values *v;
    mlxn_device *device;
    mlxn_device_info info;
    mlxn_encoder *encoder;
    head_shape shape;
    int buffers, rows_printed;
    mlxn_buffer *input[HEAD_BUFFERS_MAX], *output[HEAD_BUFFERS_MAX]; /* [tokens, all heads, dim] */
    mlxn_buffer *in[HEAD_BUFFERS_MAX][3], *out[HEAD_BUFFERS_MAX][3]; /* views of q, k, v */
    mlxn_buffer *weight, *positions, *freqs, *cos, *sin, *table;     /* table: of the baselines */
    mlxn_buffer *cache[2], *slots;                                   /* of k and v */
    mlxn_buffer *owned[HEAD_OWNED_MAX];
    int n_owned;
    uint32_t copy_groups;
} head_bench;

typedef struct head_times {
    measurement copy, fused, chain, baseline[HEAD_BASELINES];
    double calls[MEASURE_MAX];
} head_times;

/* ---- head_operands.c ---- */

/* Makes the operands of b->shape, b->buffers of each that is taken in turns. */
mlxn_status head_operands_make(head_bench *b);
void head_operands_release(head_bench *b);

/* ---- head_records.c: each records its i-th run ---- */

typedef struct head_baseline_context {
    const head_bench *bench;
    int which;
} head_baseline_context;

/* Registers the copy, and the baselines where they are wanted. */
mlxn_status head_kernels_register(const head_bench *b);
mlxn_status head_record_copy(mlxn_encoder *encoder, void *bench, int i);
mlxn_status head_record_fused(mlxn_encoder *encoder, void *bench, int i);
/* The single operators that it replaces, without the writing of the cache. */
mlxn_status head_record_chain(mlxn_encoder *encoder, void *bench, int i);
mlxn_status head_record_baseline(mlxn_encoder *encoder, void *baseline_context, int i);
/* Whether the baselines take this shape. */
int head_has_baselines(const head_bench *b);
/* The copy's grid: vectors each thread copies. */
void head_copy_grid(head_bench *b, uint32_t each);

/* ---- head_output.c ---- */

void head_print(const head_bench *b, const head_times *t);

#endif
