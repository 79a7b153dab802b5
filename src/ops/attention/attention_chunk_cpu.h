/* attention_chunk_cpu.h - one chunk of attention_cpu.c: for each row of a run the scores of the
 * keys it sees, their weights e_j, and the sums m, l and o, into a record of `partial`.
 *
 * Scores have 16 keys in the lanes, so keys are transposed, 32 at a time, once for all rows; values
 * have the head in the lanes.  The order of every sum is at the head of attention_cpu.c. */
#ifndef MLXN_OPS_ATTENTION_ATTENTION_CHUNK_CPU_H
#define MLXN_OPS_ATTENTION_ATTENTION_CHUNK_CPU_H

#include <float.h>
#include "backends/cpu/math.h"
#include "backends/cpu/transpose.h"
#include "ops/attention/attention_keys_cpu.h"

/* Vectors of the head that the value sum keeps in registers for each of 4 rows, and vectors of keys
 * in the dot products. */
#if defined(MLXN_ISA_AVX512)
#define VALUE_VECTORS 4
#define KEY_VECTORS   2
#else
#define VALUE_VECTORS 1
#define KEY_VECTORS   1
#endif

/* ---- scores ---- */

/* The rows of a run as f32, four at a time: q[row / 4][d][row % 4].  Missing rows are left alone.
 */
CPU_INLINE void pack_queries_as(mlxn_dtype dtype, const job *j, const run *r)
{
    const attention_params *p = j->p;
    const void *q = j->call->ptr[ATTENTION_Q];
    for (int64_t row = 0; row < r->count * j->group; row++) {
        int64_t token = r->token + row / j->group, head = r->g * j->group + row % j->group;
        int64_t at = token * p->q_token + head * p->q_head;
        float *out = j->q + row / 4 * 4 * p->dim + row % 4, x[16];
        for (int64_t d = 0; d < p->dim; d += 16) {
            int n = (int)attention_min(16, p->dim - d);
            vf_store(x, vf_load_as_n(dtype, q, at + d, n));
            for (int i = 0; i < n; i++)
                out[(d + i) * 4] = x[i];
        }
    }
}

static void pack_queries(const job *j, const run *r)
{
    if (j->p->q_dtype == MLXN_F32)
        pack_queries_as(MLXN_F32, j, r);
    else if (j->p->q_dtype == MLXN_F16)
        pack_queries_as(MLXN_F16, j, r);
    else
        pack_queries_as(MLXN_BF16, j, r);
}

/* 16 keys from `first` on, transposed: out[d][key].  Keys that the run does not see read as 0. */
CPU_INLINE void transpose_keys_as(mlxn_dtype dtype, const void *k, const key_set *keys, int first,
                                  int64_t dim, float *out)
{
    int begin = keys->first > first ? keys->first - first : 0;
    int end = keys->last - first < 15 ? keys->last - first + 1 : 16;
    vf r[16];
    int64_t d = 0;
    if (begin == 0 && end == 16)
        for (; d + 16 <= dim; d += 16) {
            CPU_UNROLL
            for (int i = 0; i < 16; i++)
                r[i] = vf_load_as(dtype, k, keys->k[first + i] + d);
            vf_transpose(r);
            CPU_UNROLL
            for (int i = 0; i < 16; i++)
                vf_store(out + (d + i) * 16, r[i]);
        }
    for (; d < dim; d += 16) {
        int n = (int)attention_min(16, dim - d);
        for (int i = 0; i < 16; i++)
            r[i] = i < begin || i >= end ? vf_set(0)
                                         : vf_load_as_n(dtype, k, keys->k[first + i] + d, n);
        vf_transpose(r);
        for (int i = 0; i < n; i++)
            vf_store(out + (d + i) * 16, r[i]);
    }
}

static void transpose_keys(const job *j, const key_set *keys, int first, float *out)
{
    const void *k = j->call->ptr[ATTENTION_K];
    if (j->p->kv_dtype == MLXN_F32)
        transpose_keys_as(MLXN_F32, k, keys, first, j->p->dim, out);
    else if (j->p->kv_dtype == MLXN_F16)
        transpose_keys_as(MLXN_F16, k, keys, first, j->p->dim, out);
    else
        transpose_keys_as(MLXN_BF16, k, keys, first, j->p->dim, out);
}

/* scores[row][0 .. 16 * vectors) = q . k of `rows` (constant) rows. */
CPU_INLINE void dot_tile(int rows, int vectors, const float *q, const float *keys, int64_t dim,
                         float *scores)
{
    vf acc[4][KEY_VECTORS];
    CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        CPU_UNROLL
        for (int v = 0; v < vectors; v++)
            acc[r][v] = vf_set(0);
    }
    for (int64_t d = 0; d < dim; d++) {
        vf k[KEY_VECTORS];
        CPU_UNROLL
        for (int v = 0; v < vectors; v++)
            k[v] = vf_load(keys + (v * dim + d) * 16);
        CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            vf x = vf_set(q[d * 4 + r]);
            CPU_UNROLL
            for (int v = 0; v < vectors; v++)
                acc[r][v] = vf_fma(x, k[v], acc[r][v]);
        }
    }
    CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        CPU_UNROLL
        for (int v = 0; v < vectors; v++)
            vf_store(scores + r * CHUNK + 16 * v, acc[r][v]);
    }
}

static void dot_rows(int rows, const float *q, const float *keys, int64_t dim, float *scores)
{
    if (rows == 4)
        dot_tile(4, KEY_VECTORS, q, keys, dim, scores);
    else if (rows == 3)
        dot_tile(3, KEY_VECTORS, q, keys, dim, scores);
    else if (rows == 2)
        dot_tile(2, KEY_VECTORS, q, keys, dim, scores);
    else
        dot_tile(1, KEY_VECTORS, q, keys, dim, scores);
}

static void score_chunk(const job *j, const run *r, int64_t c, const key_set *keys)
{
    int64_t rows = r->count * j->group, dim = j->p->dim;
    for (int step = keys->first / STEP * STEP; step <= keys->last; step += STEP) {
        for (int v = 0; v < STEP / 16; v++)
            transpose_keys(j, keys, step + 16 * v, j->keys + v * dim * 16);
        for (int64_t row = 0; row < rows; row += 4) {
            int n = quad_rows(j, r, row), first, last;
            quad_keys(j, r, row, n, c, &first, &last);
            if (first >= step + STEP || last < step)
                continue;
            for (int v = 0; v < STEP / 16; v += KEY_VECTORS)
                dot_rows(n, j->q + row * dim, j->keys + v * dim * 16, dim,
                         j->scores + row * CHUNK + step + 16 * v);
        }
    }
}

/* Lanes of the vector at `at` that lie in [first, last]. */
static vm lanes_between(int at, int first, int last)
{
    vi lane = vi_add(vi_iota(), vi_set(at));
    return vm_and(vi_gt(lane, vi_set(first - 1)), vi_gt(vi_set(last + 1), lane));
}

/* Turns the dot products of a row into e_j; gives m and l. */
static void exp_row(const attention_params *p, float *s, int first, int last, float *m, float *l)
{
    const vf scale = vf_set(p->scale), cap = vf_set(p->softcap), lowest = vf_set(-FLT_MAX);
    int begin = first / 16 * 16;
    vf top = lowest, sum = vf_set(0);
    for (int i = begin; i <= last; i += 16) {
        vf x = vf_mul(scale, vf_load(s + i));
        if (p->softcap > 0)
            x = vf_mul(cap, vf_tanh(vf_div(x, cap)));
        vf_store(s + i, x);
        top = vf_max(top, vf_select(lanes_between(i, first, last), x, lowest));
    }
    *m = vf_max_all(top);
    for (int i = begin; i <= last; i += 16) {
        vf e = vf_exp(vf_sub(vf_load(s + i), vf_set(*m)));
        e = vf_select(lanes_between(i, first, last), e, vf_set(0));
        vf_store(s + i, e);
        sum = vf_add(sum, e);
    }
    *l = vf_sum(sum);
}

/* ---- values ---- */

/* o[row][0 .. 16 * vectors) += e_j * v_j for keys [first, last], of `rows` (constant) rows; the
 * last vector may be cut to n lanes (vectors is 1 then). */
CPU_INLINE void weigh(mlxn_dtype dtype, int rows, int vectors, int n, const void *v,
                      const int64_t *at, int first, int last, const float *e, float *o,
                      int64_t record)
{
    vf acc[4][VALUE_VECTORS];
    CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        CPU_UNROLL
        for (int i = 0; i < vectors; i++)
            acc[r][i] = vf_load(o + r * record + 16 * i);
    }
    for (int key = first; key <= last; key++) {
        vf x[VALUE_VECTORS];
        CPU_UNROLL
        for (int i = 0; i < vectors; i++)
            x[i] = n == 16 ? vf_load_as(dtype, v, at[key] + 16 * i)
                           : vf_load_as_n(dtype, v, at[key], n);
        CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            vf w = vf_set(e[r * CHUNK + key]);
            CPU_UNROLL
            for (int i = 0; i < vectors; i++)
                acc[r][i] = vf_fma(w, x[i], acc[r][i]);
        }
    }
    CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        CPU_UNROLL
        for (int i = 0; i < vectors; i++)
            vf_store(o + r * record + 16 * i, acc[r][i]);
    }
}

CPU_INLINE void weigh_head(mlxn_dtype dtype, int rows, const job *j, const key_set *keys, int first,
                           int last, const float *e, float *o)
{
    const char *v = j->call->ptr[ATTENTION_V];
    int64_t size = (int64_t)cpu_dtype_bytes(dtype), dim = j->p->dim, d = 0;
    int64_t record = j->plan.record;
    for (; d + 16 * VALUE_VECTORS <= dim; d += 16 * VALUE_VECTORS)
        weigh(dtype, rows, VALUE_VECTORS, 16, v + d * size, keys->v, first, last, e, o + d, record);
    for (; d + 16 <= dim; d += 16)
        weigh(dtype, rows, 1, 16, v + d * size, keys->v, first, last, e, o + d, record);
    if (d < dim)
        weigh(dtype, rows, 1, (int)(dim - d), v + d * size, keys->v, first, last, e, o + d, record);
}

CPU_INLINE void weigh_as(mlxn_dtype dtype, int rows, const job *j, const key_set *keys, int first,
                         int last, const float *e, float *o)
{
    if (rows == 4)
        weigh_head(dtype, 4, j, keys, first, last, e, o);
    else if (rows == 3)
        weigh_head(dtype, 3, j, keys, first, last, e, o);
    else if (rows == 2)
        weigh_head(dtype, 2, j, keys, first, last, e, o);
    else
        weigh_head(dtype, 1, j, keys, first, last, e, o);
}

static void weigh_rows(int rows, const job *j, const key_set *keys, int first, int last,
                       const float *e, float *o)
{
    if (first > last)
        return;
    if (j->p->kv_dtype == MLXN_F32)
        weigh_as(MLXN_F32, rows, j, keys, first, last, e, o);
    else if (j->p->kv_dtype == MLXN_F16)
        weigh_as(MLXN_F16, rows, j, keys, first, last, e, o);
    else
        weigh_as(MLXN_BF16, rows, j, keys, first, last, e, o);
}

/* The value sums of rows [row, row + n): the keys that all see together, the others row by row, in
 * ascending order for each row. */
static void weigh_quad(const job *j, const run *r, int64_t row, int n, int64_t c,
                       const key_set *keys)
{
    const float *e = j->scores + row * CHUNK;
    float *o = j->partial + row * j->plan.record;
    int first[4], last[4], common_first = 0, common_last = CHUNK - 1;
    for (int i = 0; i < n; i++) {
        query_keys(j, r, (row + i) / j->group, c, &first[i], &last[i]);
        common_first = first[i] > common_first ? first[i] : common_first;
        common_last = last[i] < common_last ? last[i] : common_last;
        memset(o + i * j->plan.record, 0, (size_t)j->plan.padded_dim * sizeof *o);
    }
    if (common_first > common_last) {
        for (int i = 0; i < n; i++)
            weigh_rows(1, j, keys, first[i], last[i], e + i * CHUNK, o + i * j->plan.record);
        return;
    }
    for (int i = 0; i < n; i++)
        weigh_rows(1, j, keys, first[i], common_first - 1, e + i * CHUNK, o + i * j->plan.record);
    weigh_rows(n, j, keys, common_first, common_last, e, o);
    for (int i = 0; i < n; i++)
        weigh_rows(1, j, keys, common_last + 1, last[i], e + i * CHUNK, o + i * j->plan.record);
}

/* ---- a chunk ---- */

/* Fills the records of `partial` for the rows of a run that see keys of chunk c. */
static void attend_chunk(const job *j, const run *r, int64_t c)
{
    key_set keys;
    int64_t rows = r->count * j->group;
    find_keys(j, r, c, &keys);
    score_chunk(j, r, c, &keys);
    for (int64_t row = 0; row < rows; row++) {
        float *record = j->partial + row * j->plan.record, *tail = record + j->plan.padded_dim;
        int first, last, ok = 1;
        query_keys(j, r, row / j->group, c, &first, &last);
        if (first > last)
            continue;
        exp_row(j->p, j->scores + row * CHUNK, first, last, &tail[ATTENTION_M], &tail[ATTENTION_L]);
        for (int i = first; keys.any_bad && i <= last; i++)
            ok &= !keys.bad[i];
        tail[ATTENTION_OK] = (float)ok;
    }
    for (int64_t row = 0; row < rows; row += 4)
        weigh_quad(j, r, row, quad_rows(j, r, row), c, &keys);
}

#endif
