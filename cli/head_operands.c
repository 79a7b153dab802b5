/* head_operands.c - the operands of one shape of `mlxn bench head-norm-rope`. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "head_bench.h"

enum { FIRST_POSITION = 1000 };

static mlxn_status own(head_bench *b, mlxn_dtype dtype, int rank, const int64_t *shape,
                       mlxn_buffer **out)
{
    MLXN_TRY(mlxn_buffer_create(b->device, dtype, rank, shape, out));
    b->owned[b->n_owned++] = *out;
    return MLXN_OK;
}

/* Values in [-1, 1), as f32 or cut off to bf16. */
static mlxn_status own_random(head_bench *b, mlxn_dtype dtype, int rank, const int64_t *shape,
                              mlxn_buffer **out)
{
    uint64_t random = 1;
    MLXN_TRY(own(b, dtype, rank, shape, out));
    size_t n = (size_t)mlxn_buffer_elements(*out), size = mlxn_dtype_block_bytes(dtype);
    char *values = malloc(n * size);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench: no memory for %zu values", n);
    for (size_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        float value = (float)(random >> 40) * (1.0f / 8388608.0f) - 1.0f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits >>= dtype == MLXN_BF16 ? 16 : 0;
        memcpy(values + i * size, &bits, size); /* little-endian, as everything mlxn runs on */
    }
    mlxn_status status = mlxn_buffer_write(*out, 0, values, n * size);
    free(values);
    return status;
}

/* first, first + 1, ...: one a token. */
static mlxn_status own_ascending(head_bench *b, mlxn_dtype dtype, uint32_t first, mlxn_buffer **out)
{
    const size_t n = (size_t)b->shape.tokens;
    MLXN_TRY(own(b, dtype, 1, &b->shape.tokens, out));
    uint32_t *values = malloc(n * sizeof *values);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench: no memory for %zu values", n);
    for (size_t t = 0; t < n; t++)
        values[t] = first + (uint32_t)t;
    mlxn_status status = mlxn_buffer_write(*out, 0, values, n * sizeof *values);
    free(values);
    return status;
}

static mlxn_status make_angles(head_bench *b)
{
    const int64_t pairs = b->shape.dim / 2, table[2] = {b->shape.tokens, pairs};
    size_t n = (size_t)(b->shape.tokens * pairs);
    MLXN_TRY(own_ascending(b, MLXN_U32, FIRST_POSITION, &b->positions));
    if (head_has_baselines(b))
        MLXN_TRY(own_random(b, MLXN_BF16, 2,
                            (int64_t[]){b->shape.tokens + FIRST_POSITION, b->shape.dim},
                            &b->table));
    MLXN_TRY(own(b, MLXN_F32, 2, (int64_t[]){pairs, 2}, &b->freqs));
    MLXN_TRY(mlxn_rope_freqs(b->device,
                             MLXN_DESC(mlxn_rope_freqs_args, .output = b->freqs,
                                       .exponent_dim = b->shape.dim, .theta = 1e4, .scale = 1)));
    if (b->v->angles != HEAD_ANGLES_TABLES)
        return MLXN_OK;
    MLXN_TRY(own(b, MLXN_F32, 2, table, &b->cos));
    MLXN_TRY(own(b, MLXN_F32, 2, table, &b->sin));
    float *values = malloc(2 * n * sizeof *values);
    if (!values)
        return mlxn_fail(MLXN_ERR_MEMORY, "bench: no memory for the tables");
    for (size_t i = 0; i < n; i++) {
        double position = FIRST_POSITION + (double)(i / (size_t)pairs),
               pair = (double)(i % (size_t)pairs);
        double angle = position * pow(1e4, -2 * pair / (double)b->shape.dim);
        values[i] = (float)cos(angle);
        values[n + i] = (float)sin(angle);
    }
    mlxn_status status = mlxn_buffer_write(b->cos, 0, values, n * sizeof *values);
    if (status == MLXN_OK)
        status = mlxn_buffer_write(b->sin, 0, values + n, n * sizeof *values);
    free(values);
    return status;
}

/* The views of q, k and v in a packed buffer. */
static mlxn_status slice_parts(head_bench *b, mlxn_buffer *packed, mlxn_buffer *parts[3])
{
    const int64_t count[3] = {b->shape.heads, b->shape.kv_heads, b->shape.kv_heads};
    int64_t first = 0;
    for (int p = 0; p < 3 && count[p]; first += count[p++]) {
        MLXN_TRY(mlxn_buffer_slice(packed, 1, first, count[p], &parts[p]));
        b->owned[b->n_owned++] = parts[p];
    }
    return MLXN_OK;
}

mlxn_status head_operands_make(head_bench *b)
{
    const head_shape *s = &b->shape;
    const int64_t shape[3] = {s->tokens, s->heads + 2 * s->kv_heads, s->dim};
    MLXN_TRY(own_random(b, s->dtype, 1, &s->dim, &b->weight));
    for (int i = 0; i < b->buffers; i++) {
        MLXN_TRY(own_random(b, s->dtype, 3, shape, &b->input[i]));
        b->output[i] = b->input[i];
        if (!b->v->in_place)
            MLXN_TRY(own_random(b, s->dtype, 3, shape, &b->output[i]));
        MLXN_TRY(slice_parts(b, b->input[i], b->in[i]));
        MLXN_TRY(slice_parts(b, b->output[i], b->out[i]));
    }
    for (int k = 0; k < 2 && b->v->cache && s->kv_heads; k++)
        MLXN_TRY(own(b, s->dtype, 3, (int64_t[]){s->tokens, s->kv_heads, s->dim}, &b->cache[k]));
    if (b->cache[0])
        MLXN_TRY(own_ascending(b, MLXN_I32, 0, &b->slots));
    return make_angles(b);
}

void head_operands_release(head_bench *b)
{
    while (b->n_owned)
        mlxn_buffer_release(b->owned[--b->n_owned]);
    b->slots = b->cache[0] = b->cache[1] = NULL;
}
