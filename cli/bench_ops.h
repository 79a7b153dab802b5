/* bench_ops.h - the operators that `mlxn bench ops` measures, at a model's shapes. */
#ifndef MLXN_CLI_BENCH_OPS_H
#define MLXN_CLI_BENCH_OPS_H

#include <mlxn/mlxn.h>

enum { JOB_LAYERS_MAX = 128, JOB_OWNED_MAX = 16 };

/* Where the operands come from and how large they are. */
typedef struct job_model {
    mlxn_device *device;
    const mlxn_gguf *gguf;
    const char *path;
    mlxn_matmul_mode mode;
    int64_t layers, embedding, heads, kv_heads, head_dim, feed_forward, vocab;
    int64_t rows, keys; /* tokens at once; of the cache */
} job_model;

/* One operator: `record` puts its i-th dispatch, of `count`, into the encoder. */
typedef struct job {
    const job_model *model;
    const char *name;
    char shape[48];
    const char *dtype;
    uint64_t bytes; /* of one dispatch: what it must read and write at least once */
    double flops;
    int count;
    mlxn_status (*record)(mlxn_encoder *encoder, struct job *j, int i);
    mlxn_buffer *weights[2][JOB_LAYERS_MAX];
    mlxn_buffer *owned[JOB_OWNED_MAX];
    int n_owned;
    union {
        mlxn_rms_norm_args norm;
        mlxn_norm_add_args norm_add;
        mlxn_qkv_prepare_args qkv;
        mlxn_attention_args attention;
        mlxn_gelu_mul_args gelu;
        mlxn_matmul_args matmul;
        mlxn_matmul_group_args group;
        mlxn_embedding_args embedding;
        mlxn_argmax_args argmax;
        mlxn_top_k_args top_k;
        mlxn_sample_args sample;
    } args;
} job;

extern const int job_count;

/* Makes the operands of operator `index`, below job_count.  job_close also after a failure. */
mlxn_status job_open(const job_model *model, int index, job *out);
void job_close(job *j);

/* f32 [rows, columns] of uniform values in [-1, 1). */
mlxn_status job_random(mlxn_device *device, int64_t rows, int64_t columns, mlxn_buffer **out);

#endif
