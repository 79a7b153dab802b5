/* attention_cpu.c - attention on the CPU.
 *
 * A row is one (query, head).  For each row and chunk of 256 absolute positions
 *   s_j = scale * (q . k_j), one ascending fma chain over the head; s_j = c * tanh(s_j / c)
 *   m = max s_j (at least -FLT_MAX), e_j = exp(s_j - m)
 *   l = sum e_j in 16 lanes, lane = position mod 16, each ascending, then the butterfly of vf_sum
 *   o = ascending fma chain of e_j * v_j
 * over the visible keys alone, and chunks are folded in ascending order: m' = max(m, m_c),
 * a = exp(m - m'), b = exp(m_c - m'), l = fma(l, a, l_c * b), o = fma(o, a, o_c * b) (Milakov and
 * Gimelshein 2018).  The output is o / l.  Nothing of this depends on how the work is cut.
 *
 * Scores have 16 keys in the lanes, so keys are transposed, 32 at a time, once for all rows of a
 * tile (queries of one key head); values have the head in the lanes.  An item of work is a tile
 * over all its chunks, or, when there are few queries, a tile and one chunk, merged at the end. */
#include <float.h>
#include "backends/cpu/kernel.h"
#include "backends/cpu/math.h"
#include "backends/cpu/transpose.h"
#include "ops/attention/attention.h"

#define CHUNK ATTENTION_CHUNK
#define STEP  ATTENTION_STEP

/* Vectors of the head that the value sum keeps in registers for each of 4 rows, and vectors of keys
 * in the dot products. */
#if defined(MLXN_ISA_AVX512)
#define VALUE_VECTORS 4
#define KEY_VECTORS   2
#else
#define VALUE_VECTORS 1
#define KEY_VECTORS   1
#endif

typedef struct job {
    const mlxn_cpu_call *call;
    const attention_params *p;
    attention_plan plan;
    int64_t group; /* heads that share a key head */
    const int32_t *positions, *sequences, *table;
    float *partials;
    /* this thread's own: */
    float *q;       /* [rows / 4][dim][4] */
    float *scores;  /* [rows][CHUNK] */
    float *keys;    /* [STEP / 16][dim][16] */
    float *partial; /* [rows] records: one chunk */
    float *state;   /* [rows] records: the chunks so far */
} job;

/* Queries of consecutive positions in one sequence, so that the keys they see are consecutive. */
typedef struct run {
    int64_t token, count, position, sequence;
    int64_t g; /* key head */
} run;

/* The keys of a chunk that a run sees, [first, last] within the chunk: elements from the start of
 * the cache.  `bad` marks positions without a valid slot. */
typedef struct key_set {
    int first, last, any_bad;
    int64_t k[CHUNK], v[CHUNK];
    uint8_t bad[CHUNK];
} key_set;

/* ---- who sees what ---- */

static int64_t first_key(const attention_params *p, int64_t position)
{
    return p->window && position >= p->window ? position - p->window + 1 : 0;
}

static int64_t sequence_of(const job *j, int64_t t)
{
    return j->sequences ? j->sequences[t] : 0;
}

/* Whether query t takes part; a position or sequence out of range is reported. */
static int query_valid(const job *j, int64_t t)
{
    const attention_params *p = j->p;
    int64_t position = j->positions[t], sequence = sequence_of(j, t);
    int64_t seen = position + 1 - first_key(p, position);
    if (position < 0)
        return 0;
    const char *what = NULL;
    int64_t value = position, limit = 0;
    if (position >= p->max_keys)
        what = "attention: position against max_keys", limit = p->max_keys;
    else if (p->slot_map == ATTENTION_LINEAR && position >= p->slots)
        what = "attention: position against cache slots", limit = p->slots;
    else if (p->slot_map == ATTENTION_RING && seen > p->slots)
        what = "attention: keys seen against slots of the ring", value = seen, limit = p->slots;
    else if (p->slot_map == ATTENTION_BY_TABLE && position >= p->table_columns)
        what = "attention: position against table columns", limit = p->table_columns;
    else if (p->slot_map == ATTENTION_BY_TABLE && (sequence < 0 || sequence >= p->table_rows))
        what = "attention: sequence against table rows", value = sequence, limit = p->table_rows;
    if (what)
        mlxn_cpu_fault(j->call, what, value, limit);
    return !what;
}

/* The next run of [*t, end); moves *t behind it.  0: there is none. */
static int next_run(const job *j, int64_t *t, int64_t end, run *r)
{
    while (*t < end && !query_valid(j, *t))
        ++*t;
    if (*t >= end)
        return 0;
    r->token = *t;
    r->position = j->positions[*t];
    r->sequence = sequence_of(j, *t);
    for (r->count = 1, ++*t; *t < end; r->count++, ++*t)
        if (j->positions[*t] != r->position + r->count || sequence_of(j, *t) != r->sequence ||
            !query_valid(j, *t))
            break;
    return 1;
}

/* The keys of chunk c that query i of the run sees, within the chunk; none: *first > *last. */
static void query_keys(const job *j, const run *r, int64_t i, int64_t c, int *first, int *last)
{
    int64_t position = r->position + i, lo = first_key(j->p, position) - c * CHUNK;
    int64_t hi = position - c * CHUNK;
    *first = lo > 0 ? (int)attention_min(lo, CHUNK) : 0;
    *last = hi < CHUNK ? (int)(hi < -1 ? -1 : hi) : CHUNK - 1;
}

static void find_keys(const job *j, const run *r, int64_t c, key_set *keys)
{
    const attention_params *p = j->p;
    int unused;
    query_keys(j, r, 0, c, &keys->first, &unused);
    query_keys(j, r, r->count - 1, c, &unused, &keys->last);
    keys->any_bad = 0;
    for (int i = keys->first; i <= keys->last; i++) {
        int64_t slot = c * CHUNK + i;
        if (p->slot_map == ATTENTION_RING)
            slot %= p->slots;
        else if (p->slot_map == ATTENTION_BY_TABLE)
            slot = j->table[r->sequence * p->table_columns + slot];
        keys->bad[i] = slot < 0 || slot >= p->slots;
        if (keys->bad[i]) {
            mlxn_cpu_fault(j->call, "attention: table entry against cache slots", slot, p->slots);
            keys->any_bad = 1;
            slot = 0; /* rows that see it are dropped */
        }
        keys->k[i] = slot * p->k_slot + r->g * p->k_head;
        keys->v[i] = slot * p->v_slot + r->g * p->v_head;
    }
}

/* ---- scores ---- */

static float lane0(vf v)
{
    float x[16];
    vf_store(x, v);
    return x[0];
}

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

/* Rows [row, row + n) of a run and the keys they see in a chunk, all of them together. */
static int quad_rows(const job *j, const run *r, int64_t row)
{
    return (int)attention_min(4, r->count * j->group - row);
}

static void quad_keys(const job *j, const run *r, int64_t row, int n, int64_t c, int *first,
                      int *last)
{
    int unused;
    query_keys(j, r, row / j->group, c, first, &unused);
    query_keys(j, r, (row + n - 1) / j->group, c, &unused, last);
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

/* ---- chunks ---- */

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

/* Adds the chunk of record b to the chunks before it in record a. */
static void fold(const attention_plan *plan, float *a, const float *b)
{
    float *at = a + plan->padded_dim;
    const float *bt = b + plan->padded_dim;
    float m = at[ATTENTION_M] > bt[ATTENTION_M] ? at[ATTENTION_M] : bt[ATTENTION_M];
    vf wa = vf_set(lane0(vf_exp(vf_set(at[ATTENTION_M] - m))));
    vf wb = vf_set(lane0(vf_exp(vf_set(bt[ATTENTION_M] - m))));
    vf l = vf_fma(vf_set(at[ATTENTION_L]), wa, vf_mul(vf_set(bt[ATTENTION_L]), wb));
    at[ATTENTION_M] = m;
    at[ATTENTION_L] = lane0(l);
    at[ATTENTION_OK] *= bt[ATTENTION_OK];
    for (int64_t d = 0; d < plan->padded_dim; d += 16)
        vf_store(a + d, vf_fma(vf_load(a + d), wa, vf_mul(vf_load(b + d), wb)));
}

/* Writes o / l, unless a key of the row had no slot. */
static void finish(const job *j, const float *record, int64_t token, int64_t head)
{
    const attention_params *p = j->p;
    const float *tail = record + j->plan.padded_dim;
    void *output = j->call->ptr[ATTENTION_OUTPUT];
    int64_t at = token * p->o_token + head * p->o_head;
    const vf l = vf_set(tail[ATTENTION_L]);
    if (tail[ATTENTION_OK] == 0)
        return;
    for (int64_t d = 0; d < p->dim; d += 16) {
        vf y = vf_div(vf_load(record + d), l);
        int n = (int)attention_min(16, p->dim - d);
        vf_store_as_n((mlxn_dtype)p->q_dtype, output, at + d, y, n);
    }
}

static void query_chunks(const job *j, int64_t position, int64_t *first, int64_t *last)
{
    *first = first_key(j->p, position) / CHUNK;
    *last = position / CHUNK;
}

/* All chunks of a run, from the first to the output. */
static void attend_run(const job *j, const run *r)
{
    int64_t rows = r->count * j->group, record = j->plan.record, begin, end, first, last;
    size_t bytes = (size_t)record * sizeof(float);
    query_chunks(j, r->position, &begin, &last);
    query_chunks(j, r->position + r->count - 1, &first, &end);
    pack_queries(j, r);
    for (int64_t c = begin; c <= end; c++) {
        attend_chunk(j, r, c);
        for (int64_t row = 0; row < rows; row++) {
            query_chunks(j, r->position + row / j->group, &first, &last);
            if (c == first)
                memcpy(j->state + row * record, j->partial + row * record, bytes);
            else if (c > first && c <= last)
                fold(&j->plan, j->state + row * record, j->partial + row * record);
        }
    }
    for (int64_t row = 0; row < rows; row++)
        finish(j, j->state + row * record, r->token + row / j->group,
               r->g * j->group + row % j->group);
}

/* ---- work ---- */

static void attend_tiles(job *j)
{
    int64_t items = j->plan.tiles * j->p->kv_heads;
    for (;;) {
        int64_t item = (int64_t)mlxn_cpu_next(j->call);
        if (item >= items)
            return;
        item = items - 1 - item; /* later positions see more keys: they go first */
        run r = {.g = item % j->p->kv_heads};
        int64_t t = item / j->p->kv_heads * j->plan.tile;
        int64_t end = attention_min(t + j->plan.tile, j->p->tokens);
        while (next_run(j, &t, end, &r))
            attend_run(j, &r);
    }
}

/* The record of chunk number i of those that a row sees. */
static float *chunk_record(const job *j, int64_t token, int64_t head, int64_t i)
{
    return j->partials + ((token * j->p->heads + head) * j->plan.chunks + i) * j->plan.record;
}

static void split_run(const job *j, const run *r, int64_t c)
{
    size_t bytes = (size_t)j->plan.record * sizeof(float);
    int64_t begin, end, first, last;
    query_chunks(j, r->position, &begin, &last);
    query_chunks(j, r->position + r->count - 1, &first, &end);
    if (c < begin || c > end)
        return;
    pack_queries(j, r);
    attend_chunk(j, r, c);
    for (int64_t row = 0; row < r->count * j->group; row++) {
        int64_t i = row / j->group;
        query_chunks(j, r->position + i, &first, &last);
        if (c >= first && c <= last)
            memcpy(chunk_record(j, r->token + i, r->g * j->group + row % j->group, c - first),
                   j->partial + row * j->plan.record, bytes);
    }
}

static void merge_rows(const job *j)
{
    int64_t begin, end, first, last;
    cpu_split(j->call, j->p->tokens * j->p->heads, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        int64_t t = row / j->p->heads, head = row % j->p->heads;
        if (!query_valid(j, t))
            continue;
        float *state = chunk_record(j, t, head, 0);
        query_chunks(j, j->positions[t], &first, &last);
        for (int64_t c = first + 1; c <= last; c++)
            fold(&j->plan, state, chunk_record(j, t, head, c - first));
        finish(j, state, t, head);
    }
}

static void attend_split(job *j)
{
    int64_t per_chunk = j->plan.tiles * j->p->kv_heads, lowest = INT64_MAX, highest = -1;
    for (int64_t t = 0; t < j->p->tokens; t++) {
        int64_t first, last;
        if (!query_valid(j, t))
            continue;
        query_chunks(j, j->positions[t], &first, &last);
        lowest = attention_min(lowest, first);
        highest = last > highest ? last : highest;
    }
    for (;;) {
        int64_t item = (int64_t)mlxn_cpu_next(j->call), c = lowest + item / per_chunk;
        if (highest < 0 || c > highest)
            break;
        run r = {.g = item % j->p->kv_heads};
        int64_t t = item % per_chunk / j->p->kv_heads * j->plan.tile;
        int64_t end = attention_min(t + j->plan.tile, j->p->tokens);
        while (next_run(j, &t, end, &r))
            split_run(j, &r, c);
    }
    mlxn_cpu_barrier(j->call);
    merge_rows(j);
}

CPU_KERNEL(attention)
{
    const attention_params *p = call->args;
    job j = {
        .call = call,
        .p = p,
        .plan = attention_make_plan(p, call->n_threads),
        .group = p->heads / p->kv_heads,
        .positions = call->ptr[ATTENTION_POSITIONS],
        .sequences = call->ptr[ATTENTION_SEQUENCES],
        .table = call->ptr[ATTENTION_TABLE],
    };
    int64_t rows = j.plan.rows;
    j.state = (float *)call->shared + j.plan.thread_floats * call->thread;
    j.partial = j.state + rows * j.plan.record;
    j.keys = j.partial + rows * j.plan.record;
    j.scores = j.keys + STEP * p->dim;
    j.q = j.scores + rows * CHUNK;
    j.partials = (float *)call->shared + j.plan.thread_floats * call->n_threads;
    if (j.plan.split)
        attend_split(&j);
    else
        attend_tiles(&j);
}
