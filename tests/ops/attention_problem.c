/* attention_problem.c - see attention_problem.h.
 *
 * The bound.  u = 2^-24, p_j the exact weights, x_j = scale * sum q_d k_jd.
 *   s_j: D roundings of the fma chain, one of the scaling, with a softcap one division, tanh of 2
 * ulp (4u) and one product, |tanh'| <= 1:  d_j = u (D |scale| sum |q_d k_jd| + |x_j|) and with a
 * cap d_j + u (|x_j| + 5 |s_j|); e_j: exp(s_j - m): the subtraction u |s_j - m|, exp of 1 ulp (2u);
 * and over chunks of the fold exp(m_c - m'): u |m - m'| + 2u a fold, the |m - m'| adding up to at
 * most the spread S of the scores: relative error r_j = d_j + u (S + 2 + (S + 2 chunks)); l:   16
 * additions in a lane, 4 of the butterfly, 2 a fold;  o: n_c <= 256 of the chain, 2 a fold. With A
 * = sum p_j |v_j|: |error of o/l| <= sum p_j r_j |v_j| + |y| sum p_j r_j + u A (256 + 20 + 4 chunks
 * + 1), to which the store adds half an ulp of the output's dtype.  Second order terms:
 * factor 1.01.
 *
 * MLXN_ATTENTION_FAST on tensor cores adds: q to f16, 2^-11 |q_d| or 2^-25, and products summed 16
 * at a time, each of 17 terms taken as cut at 2^-23 of the largest:
 *   d_j += |scale| ((2^-11 + 17 D/16 2^-23) sum |q_d k_jd| + 2^-25 sum |k_jd|);
 * e_j to f16, in l as in o: 2^-11 of it or 2^-25 of the largest, and l >= 1:  r_j += 2^-11, and
 * 2^-25 to p_j r_j;  a tile of 16 keys adds 17 terms cut alike and the four roundings of the tile's
 * factor, l's five of its sum, for n/16 + 2 tiles, and the merge of eight parts 20 more. */
#include "attention_problem.h"

static double rounded(mlxn_dtype dtype, double x)
{
    uint8_t bytes[4];
    test_store(dtype, bytes, 0, x);
    return test_load(dtype, bytes, 0);
}

static double *random_data(uint64_t *seed, mlxn_dtype dtype, int64_t n)
{
    double *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = rounded(dtype, (double)test_normal(seed));
    return x;
}

static int64_t first_visible(const problem *p, int64_t position)
{
    return p->s.window && position >= p->s.window ? position - p->s.window + 1 : 0;
}

static int64_t slot_of(const problem *p, int64_t position)
{
    return p->s.map == MLXN_SLOTS_LINEAR ? position
           : p->s.map == MLXN_SLOTS_RING ? position % p->slots
                                         : p->table[position];
}

void problem_make(problem *p, const attention_spec *s, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    p->s = *s;
    if (p->s.scale == 0)
        p->s.scale = (float)(1 / sqrt((double)s->dim));
    p->keys = s->start + s->tokens;
    p->max_keys = p->keys;
    p->slots = s->slots ? s->slots : p->keys;
    p->q = random_data(&seed, s->q_dtype, s->tokens * s->heads * s->dim);
    p->k = random_data(&seed, s->kv_dtype, p->keys * s->kv_heads * s->dim);
    p->v = random_data(&seed, s->kv_dtype, p->keys * s->kv_heads * s->dim);
    p->positions = malloc((size_t)s->tokens * sizeof(int32_t));
    p->table = malloc((size_t)p->keys * sizeof(int32_t));
    for (int64_t t = 0; t < s->tokens; t++)
        p->positions[t] = (int32_t)(s->start + t);
    if (s->map == MLXN_SLOTS_TABLE) {
        p->slots = p->keys + 5;
        for (int64_t i = 0; i < p->keys; i++)
            p->table[i] = (int32_t)i + 3;
        for (int64_t i = p->keys - 1; i > 0; i--) {
            int64_t other = (int64_t)(test_random(&seed) % (uint64_t)(i + 1));
            int32_t swap = p->table[i];
            p->table[i] = p->table[other];
            p->table[other] = swap;
        }
    }
}

void problem_free(problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->positions);
    free(p->table);
}

/* ---- the reference ---- */

/* Output of one (query, head), and the bound on each element's error before the store. */
static void reference(const problem *p, int64_t t, int64_t h, double *y, double *bound)
{
    const double u = 0x1p-24, D = (double)p->s.dim;
    int64_t position = p->positions[t], lo = first_visible(p, position), dim = p->s.dim;
    int64_t n = position - lo + 1, g = h / (p->s.heads / p->s.kv_heads);
    const int fast = p->precision == MLXN_ATTENTION_FAST;
    const double tiles = fast ? (2 * 17 + 4 + 5) * ((double)n / 16 + 2) + 20 : 0;
    double chunks = (double)(position / 256 - lo / 256 + 1);
    double *s = malloc((size_t)n * sizeof *s), *d = malloc((size_t)n * sizeof *d);
    double top = -HUGE_VAL, low = HUGE_VAL, total = 0, mean_r = 0;
    const double *q = p->q + (t * p->s.heads + h) * dim, c = (double)p->s.softcap;
    for (int64_t j = 0; j < n; j++) {
        const double *k = p->k + ((lo + j) * p->s.kv_heads + g) * dim;
        double dot = 0, size = 0, keys = 0, scale = (double)p->s.scale;
        for (int64_t i = 0; i < dim; i++)
            dot += q[i] * k[i], size += fabs(q[i] * k[i]), keys += fabs(k[i]);
        double x = scale * dot;
        s[j] = c > 0 ? c * tanh(x / c) : x;
        d[j] = u * (D * fabs(scale) * size + fabs(x));
        if (c > 0)
            d[j] += u * (fabs(x) + 5 * fabs(s[j]));
        if (fast)
            d[j] += fabs(scale) * ((0x1p-11 + 17 * D / 16 * 0x1p-23) * size + 0x1p-25 * keys);
        top = fmax(top, s[j]), low = fmin(low, s[j]);
    }
    for (int64_t j = 0; j < n; j++)
        total += exp(s[j] - top);
    for (int64_t j = 0; j < n; j++) {
        s[j] = exp(s[j] - top) / total;
        d[j] += u * (2 * (top - low) + 2 + 2 * chunks);
        d[j] = s[j] * (d[j] + (fast ? 0x1p-11 : 0)) + (fast ? 0x1p-25 : 0);
        mean_r += d[j];
    }
    for (int64_t i = 0; i < dim; i++) {
        double sum = 0, size = 0, errors = 0;
        for (int64_t j = 0; j < n; j++) {
            double v = p->v[((lo + j) * p->s.kv_heads + g) * dim + i];
            sum += s[j] * v, size += s[j] * fabs(v), errors += d[j] * fabs(v);
        }
        y[i] = sum;
        bound[i] = 1.01 * (errors + fabs(sum) * mean_r + u * size * (277 + 4 * chunks + tiles));
    }
    free(s);
    free(d);
}

/* ---- running ---- */

mlxn_buffer *problem_cache(mlxn_device *device, const problem *p, const double *data,
                           int64_t lowest, int64_t highest)
{
    int64_t width = p->s.kv_heads * p->s.dim, pitch = width + 8, n = p->slots * pitch;
    size_t size = mlxn_dtype_block_bytes(p->s.kv_dtype);
    uint8_t *bytes = malloc((size_t)n * size);
    mlxn_buffer *all = NULL, *view = NULL;
    for (int64_t i = 0; i < n; i++)
        test_store(p->s.kv_dtype, bytes, (size_t)i, (double)NAN);
    for (int64_t j = lowest; j <= highest; j++)
        for (int64_t i = 0; i < width && slot_of(p, j) >= 0 && slot_of(p, j) < p->slots; i++)
            test_store(p->s.kv_dtype, bytes, (size_t)(slot_of(p, j) * pitch + i),
                       data[j * width + i]);
    CHECK_STATUS(mlxn_buffer_create(device, p->s.kv_dtype, 1, &n, &all), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_write(all, 0, bytes, (size_t)n * size), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_view(all, p->s.kv_dtype, 3,
                                  (int64_t[]){p->slots, p->s.kv_heads, p->s.dim},
                                  (int64_t[]){pitch, p->s.dim, 1}, 0, &view),
                 MLXN_OK);
    mlxn_buffer_release(all);
    free(bytes);
    return view;
}

mlxn_status problem_finish(mlxn_encoder *encoder)
{
    mlxn_status status = mlxn_encoder_commit(encoder);
    if (status == MLXN_OK)
        status = mlxn_encoder_wait(encoder);
    mlxn_encoder_release(encoder);
    return status;
}

mlxn_status problem_run_part(mlxn_device *device, const problem *p, int64_t from, int64_t count,
                             uint8_t *out)
{
    const attention_spec *s = &p->s;
    size_t size = mlxn_dtype_block_bytes(s->q_dtype);
    int64_t row = s->heads * s->dim, lowest = INT64_MAX, highest = -1;
    uint8_t *q = malloc((size_t)(count * row) * size);
    mlxn_encoder *encoder = NULL;
    for (int64_t i = 0; i < count * row; i++)
        test_store(s->q_dtype, q, (size_t)i, p->q[from * row + i]);
    for (int64_t t = from; t < from + count; t++)
        if (p->positions[t] >= 0 && p->positions[t] < p->keys) {
            int64_t lo = first_visible(p, p->positions[t]);
            lowest = lo < lowest ? lo : lowest;
            highest = p->positions[t] > highest ? p->positions[t] : highest;
        }
    const int64_t shape[] = {count, s->heads, s->dim};
    mlxn_buffer *bq = rig_buffer(device, s->q_dtype, 3, shape, q);
    mlxn_buffer *bo = rig_buffer(device, s->q_dtype, 3, shape, out + (size_t)(from * row) * size);
    mlxn_buffer *bp = rig_buffer(device, MLXN_I32, 1, &count, p->positions + from);
    mlxn_buffer *bt = s->map == MLXN_SLOTS_TABLE
                          ? rig_buffer(device, MLXN_I32, 2, (int64_t[]){1, p->keys}, p->table)
                          : NULL;
    mlxn_buffer *bk = problem_cache(device, p, p->k, lowest, highest);
    mlxn_buffer *bv = problem_cache(device, p, p->v, lowest, highest);
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    CHECK_STATUS(
        mlxn_attention(encoder,
                       MLXN_DESC(mlxn_attention_args, .q = bq, .k = bk, .v = bv, .output = bo,
                                 .positions = bp, .table = bt, .slot_map = s->map,
                                 .window = s->window, .scale = s->scale, .softcap = s->softcap,
                                 .max_keys = p->max_keys, .precision = p->precision)),
        MLXN_OK);
    mlxn_status status = problem_finish(encoder);
    rig_read_part(bo, 0, out + (size_t)(from * row) * size, (size_t)(count * row) * size);
    mlxn_buffer *all[] = {bq, bo, bp, bt, bk, bv};
    for (int i = 0; i < 6; i++)
        mlxn_buffer_release(all[i]);
    free(q);
    return status;
}

size_t problem_bytes(const problem *p)
{
    return (size_t)(p->s.tokens * p->s.heads * p->s.dim) * mlxn_dtype_block_bytes(p->s.q_dtype);
}

uint8_t *problem_run(mlxn_device *device, const problem *p, int64_t piece)
{
    uint8_t *out = malloc(problem_bytes(p));
    memset(out, 0x77, problem_bytes(p));
    if (!piece)
        piece = p->s.tokens;
    for (int64_t t = 0; t < p->s.tokens; t += piece)
        CHECK_STATUS(
            problem_run_part(device, p, t, t + piece < p->s.tokens ? piece : p->s.tokens - t, out),
            MLXN_OK);
    return out;
}

double problem_worst(const problem *p, const uint8_t *out)
{
    double y[1024], bound[1024], worst = 0;
    for (int64_t t = 0; t < p->s.tokens; t++)
        for (int64_t h = 0; h < p->s.heads && p->positions[t] >= 0; h++) {
            reference(p, t, h, y, bound);
            for (int64_t i = 0; i < p->s.dim; i++) {
                size_t at = (size_t)((t * p->s.heads + h) * p->s.dim + i);
                double got = test_load(p->s.q_dtype, out, at), half = 0;
                if (p->s.q_dtype != MLXN_F32) /* half an ulp of the store */
                    half = 0.5 /
                           test_ulp(fabs(y[i]) + bound[i], 0, fabs(y[i]) + bound[i], p->s.q_dtype) *
                           (fabs(y[i]) + bound[i]);
                double error = fabs(got - y[i]) / (bound[i] + half);
                worst = error <= worst ? worst : isnan(got) ? HUGE_VAL : error;
            }
        }
    return worst;
}

void problem_check_all(const attention_spec *specs, size_t count, uint64_t seed)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    for (size_t i = 0; i < count; i++) {
        problem p;
        problem_make(&p, &specs[i], seed + i);
        uint8_t *first = problem_run(devices[0].device, &p, 0);
        const double worst = problem_worst(&p, first);
        test_note("%s: %.3f of the bound", p.s.name, worst);
        if (!(worst <= 1))
            test_failed(__FILE__, __LINE__, "%s: %g times the bound", p.s.name, worst);
        for (int d = 1; d < n; d++) {
            uint8_t *other = problem_run(devices[d].device, &p, 0);
            if (memcmp(first, other, problem_bytes(&p)) != 0)
                test_failed(__FILE__, __LINE__, "%s: %s, %d threads: other bits", p.s.name,
                            devices[d].path, (int)devices[d].threads);
            free(other);
        }
        free(first);
        problem_free(&p);
    }
}
