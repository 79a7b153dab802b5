/* attention_test.c - attention against a float64 reference, bit equality over everything that must
 * not matter (paths, threads, batch splits, slot maps), windows, poison, faults, checks.
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
#include "rig.h"

typedef struct spec {
    const char *name;
    int64_t tokens, heads, kv_heads, dim;
    int64_t start; /* position of the first query */
    int64_t slots; /* 0: just enough */
    int64_t window;
    float scale, softcap;
    mlxn_dtype q_dtype, kv_dtype;
    mlxn_slot_map map;
} spec;

/* A spec with data: keys and values by position, slot of each position. */
typedef struct problem {
    spec s;
    int64_t keys, slots, max_keys;
    double *q, *k, *v; /* [tokens, heads, dim], [keys, kv_heads, dim] */
    int32_t *positions, *table;
    mlxn_attention_precision precision; /* EXACT if not set */
} problem;

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

static void make_problem(problem *p, const spec *s, uint64_t seed)
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

static void free_problem(problem *p)
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

/* The best path with so many threads; the last device where there is none. */
static mlxn_device *device_of(uint32_t threads)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int i = 0; i < n; i++)
        if (devices[i].threads == threads)
            return devices[i].device;
    return devices[n - 1].device;
}

/* Views into storage with gaps between slots; every element that is not the key of a visible
 * position, gaps included, is NaN. */
static mlxn_buffer *cache_buffer(mlxn_device *device, const problem *p, const double *data,
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

/* Commits, waits, and gives the result of the wait. */
static mlxn_status finish_encoder(mlxn_encoder *encoder)
{
    mlxn_status status = mlxn_encoder_commit(encoder);
    if (status == MLXN_OK)
        status = mlxn_encoder_wait(encoder);
    mlxn_encoder_release(encoder);
    return status;
}

/* Runs queries [from, from + count) of a problem in one call; writes their output bytes.  The
 * output starts as the bytes that are in `out`. */
static mlxn_status run_part(mlxn_device *device, const problem *p, int64_t from, int64_t count,
                            uint8_t *out)
{
    const spec *s = &p->s;
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
    mlxn_buffer *bk = cache_buffer(device, p, p->k, lowest, highest);
    mlxn_buffer *bv = cache_buffer(device, p, p->v, lowest, highest);
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    CHECK_STATUS(
        mlxn_attention(encoder,
                       MLXN_DESC(mlxn_attention_args, .q = bq, .k = bk, .v = bv, .output = bo,
                                 .positions = bp, .table = bt, .slot_map = s->map,
                                 .window = s->window, .scale = s->scale, .softcap = s->softcap,
                                 .max_keys = p->max_keys, .precision = p->precision)),
        MLXN_OK);
    mlxn_status status = finish_encoder(encoder);
    rig_read_part(bo, 0, out + (size_t)(from * row) * size, (size_t)(count * row) * size);
    mlxn_buffer *all[] = {bq, bo, bp, bt, bk, bv};
    for (int i = 0; i < 6; i++)
        mlxn_buffer_release(all[i]);
    free(q);
    return status;
}

/* The whole problem in calls of `piece` queries (0: all in one). */
static uint8_t *run(mlxn_device *device, const problem *p, int64_t piece)
{
    size_t bytes =
        (size_t)(p->s.tokens * p->s.heads * p->s.dim) * mlxn_dtype_block_bytes(p->s.q_dtype);
    uint8_t *out = malloc(bytes);
    memset(out, 0x77, bytes);
    if (!piece)
        piece = p->s.tokens;
    for (int64_t t = 0; t < p->s.tokens; t += piece)
        CHECK_STATUS(run_part(device, p, t, t + piece < p->s.tokens ? piece : p->s.tokens - t, out),
                     MLXN_OK);
    return out;
}

static size_t output_bytes(const problem *p)
{
    return (size_t)(p->s.tokens * p->s.heads * p->s.dim) * mlxn_dtype_block_bytes(p->s.q_dtype);
}

/* The largest error over its bound. */
static double worst_error(const problem *p, const uint8_t *out)
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

#define F32  MLXN_F32
#define F16  MLXN_F16
#define BF16 MLXN_BF16
#define LIN  MLXN_SLOTS_LINEAR
#define RING MLXN_SLOTS_RING
#define TAB  MLXN_SLOTS_TABLE

static const spec specs[] = {
    {"one key", 1, 1, 1, 1, 0, 0, 0, 1, 0, F32, F32, LIN},
    {"gemma decode", 1, 4, 1, 256, 700, 0, 0, 0, 0, F32, F16, LIN},
    {"gemma decode, window", 1, 4, 1, 256, 700, 512, 512, 0, 0, F32, F16, RING},
    {"gemma prefill", 40, 4, 1, 256, 0, 0, 0, 0.0625f, 0, F32, F16, LIN},
    {"window over chunks", 70, 4, 1, 64, 230, 0, 40, 0, 0, F32, F16, LIN},
    {"ring", 9, 8, 2, 80, 600, 299, 290, 0, 0, F32, F32, RING},
    {"table", 33, 6, 3, 33, 250, 0, 0, 0, 0, F32, BF16, TAB},
    {"softcap", 20, 2, 2, 16, 260, 0, 0, 4, 5, F32, F32, LIN},
    {"f16 out", 12, 5, 5, 7, 100, 0, 13, 0, 0, F16, F16, LIN},
    {"bf16", 12, 3, 1, 128, 20, 0, 0, 0, 0, BF16, BF16, LIN},
    {"large head", 3, 2, 1, 1024, 40, 0, 0, 0, 0, F32, F16, LIN},
    {"odd head", 7, 1, 1, 337, 255, 0, 2, 0, 0, F32, F32, LIN},
    {"many heads", 2, 71, 1, 64, 30, 0, 0, 0, 0, F32, BF16, TAB},
    {"window of one", 20, 1, 1, 32, 250, 0, 1, 0, 0, F32, F32, LIN},
    {"negative scale", 5, 1, 1, 48, 0, 0, 0, -0.3f, 0, F32, F32, LIN},
    {"steep", 6, 2, 1, 64, 600, 0, 0, 40, 0, F32, F32, LIN},
};

TEST(attention_reference_and_paths)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        problem p;
        make_problem(&p, &specs[i], 100 + i);
        uint8_t *first = run(devices[0].device, &p, 0);
        double worst = worst_error(&p, first);
        test_note("%s: %.3f of the bound", p.s.name, worst);
        if (!(worst <= 1))
            test_failed(__FILE__, __LINE__, "%s: %g times the bound", p.s.name, worst);
        for (int d = 1; d < n; d++) {
            uint8_t *other = run(devices[d].device, &p, 0);
            if (memcmp(first, other, output_bytes(&p)) != 0)
                test_failed(__FILE__, __LINE__, "%s: %s, %d threads: other bits", p.s.name,
                            devices[d].path, (int)devices[d].threads);
            free(other);
        }
        free(first);
        free_problem(&p);
    }
}

/* Where attention may be fast, results have a bound in place of bits, on whatever device; padding
 * and queries without a slot are left alone all the same, with no effect on their neighbours. */
TEST(attention_fast)
{
    static const spec fast[] = {
        {"prefill", 37, 4, 1, 256, 0, 0, 0, 0.0625f, 0, F32, F16, LIN},
        {"ring", 18, 4, 1, 256, 300, 90, 70, 0, 0, F32, F16, RING},
        {"three heads", 21, 6, 2, 128, 130, 0, 0, 0, 0, F16, F16, LIN},
        {"many heads", 16, 20, 1, 128, 5, 0, 9, 0, 0, BF16, F16, LIN},
        {"steep", 16, 1, 1, 128, 200, 0, 0, 3, 0, F32, F16, LIN},
    };
    int n;
    const rig_device *devices = rig_devices(&n);
    for (size_t i = 0; i < sizeof fast / sizeof *fast; i++) {
        problem p;
        make_problem(&p, &fast[i], 400 + i);
        p.precision = MLXN_ATTENTION_FAST;
        p.positions[3] = -7;
        const size_t row = output_bytes(&p) / (size_t)p.s.tokens;
        for (int d = 0; d < n; d++) {
            uint8_t *out = run(devices[d].device, &p, 0);
            const double worst = worst_error(&p, out);
            test_note("%s, %s: %.3f of the bound", p.s.name, devices[d].path, worst);
            if (!(worst <= 1))
                test_failed(__FILE__, __LINE__, "%s, %s: %g times the bound", p.s.name,
                            devices[d].path, worst);
            for (size_t b = 0; b < row; b++)
                CHECK(out[3 * row + b] == 0x77);
            free(out);
        }
        p.positions[5] = (int32_t)p.max_keys; /* a fault; the others are computed */
        uint8_t *out = malloc(output_bytes(&p));
        memset(out, 0x77, output_bytes(&p));
        CHECK_STATUS(run_part(devices[0].device, &p, 0, p.s.tokens, out), MLXN_ERR_FAULT);
        for (size_t b = 0; b < row; b++)
            CHECK(out[5 * row + b] == 0x77);
        p.positions[5] = -1;
        CHECK(worst_error(&p, out) <= 1);
        free(out);
        free_problem(&p);
    }
}

TEST(attention_batch_splits)
{
    static const int64_t pieces[] = {1, 2, 7, 16, 31};
    mlxn_device *devices[] = {device_of(1), device_of(2)};
    const spec *cases[] = {&specs[4], &specs[5], &specs[6]};
    for (int i = 0; i < 3; i++) {
        problem p;
        make_problem(&p, cases[i], 200 + (uint64_t)i);
        uint8_t *whole = run(devices[0], &p, 0);
        for (int d = 0; d < 1 + (devices[1] != devices[0]); d++)
            for (int k = 0; k < 5; k++) {
                uint8_t *parts = run(devices[d], &p, pieces[k]);
                if (memcmp(whole, parts, output_bytes(&p)) != 0)
                    test_failed(__FILE__, __LINE__, "%s: other bits in pieces of %d", p.s.name,
                                (int)pieces[k]);
                free(parts);
            }
        free(whole);
        free_problem(&p);
    }
}

TEST(attention_slot_maps)
{
    mlxn_device *device = device_of(2);
    spec s = {"maps", 21, 4, 2, 48, 300, 0, 100, 0, 0, F32, F16, LIN};
    problem p;
    make_problem(&p, &s, 7);
    uint8_t *linear = run(device, &p, 0);
    static const mlxn_slot_map maps[] = {RING, TAB};
    for (int i = 0; i < 2; i++) {
        problem other;
        s.map = maps[i];
        s.slots = maps[i] == RING ? 120 : 0; /* window + tokens - 1: each key still there */
        make_problem(&other, &s, 7);
        uint8_t *out = run(device, &other, 0);
        CHECK(!memcmp(linear, out, output_bytes(&p)));
        free(out);
        free_problem(&other);
    }
    free(linear);
    free_problem(&p);
}

/* With q = 0 all visible keys weigh the same; with v_j the unit vector of j the output shows which
 * they are: 1/W for each of exactly W keys, the query's own the last, and exactly 0 elsewhere. */
TEST(attention_window_is_exact)
{
    static const int64_t windows[] = {1, 2, 16, 17, 256, 257, 300};
    mlxn_device *device = device_of(2);
    for (int w = 0; w < 7; w++)
        for (int tokens = 1; tokens <= 5; tokens += 4) {
            spec s = {"window", tokens, 1, 1, 512, 400, 0, windows[w], 1, 0, F32, F32, LIN};
            problem p;
            make_problem(&p, &s, 1);
            memset(p.q, 0, (size_t)(s.tokens * s.dim) * sizeof *p.q);
            for (int64_t j = 0; j < p.keys; j++)
                for (int64_t i = 0; i < s.dim; i++)
                    p.v[j * s.dim + i] = i == j;
            uint8_t *out = run(device, &p, 0);
            for (int64_t t = 0; t < tokens; t++)
                for (int64_t i = 0; i < s.dim; i++) {
                    int64_t age = s.start + t - i;
                    float want = age >= 0 && age < s.window ? 1.0f / (float)s.window : 0;
                    CHECK((float)test_load(F32, out, (size_t)(t * s.dim + i)) == want);
                }
            free(out);
            free_problem(&p);
        }
}

/* Rows of padding and rows with a value out of range are left alone; the others are computed. */
static void check_untouched(mlxn_device *device, const problem *p, mlxn_status want,
                            const uint8_t *touched)
{
    size_t bytes = output_bytes(p), row = bytes / (size_t)p->s.tokens;
    uint8_t *out = malloc(bytes);
    memset(out, 0x77, bytes);
    CHECK_STATUS(run_part(device, p, 0, p->s.tokens, out), want);
    for (int64_t t = 0; t < p->s.tokens; t++) {
        int same = 1;
        for (size_t i = 0; i < row; i++)
            same &= out[(size_t)t * row + i] == 0x77;
        if (same == touched[t])
            test_failed(__FILE__, __LINE__, "row %d is %s", (int)t, same ? "missing" : "written");
    }
    free(out);
}

TEST(attention_padding_and_faults)
{
    mlxn_device *devices[] = {device_of(1), device_of(2)};
    spec s = {"faults", 4, 2, 1, 16, 300, 0, 0, 0, 0, F32, F32, LIN};
    for (int d = 0; d < 2; d++) {
        mlxn_device *device = devices[d];
        problem p;
        s.map = LIN;
        s.window = 0;
        s.slots = 0;
        make_problem(&p, &s, 3);
        p.positions[1] = -1;
        p.positions[3] = INT32_MIN;
        check_untouched(device, &p, MLXN_OK, (const uint8_t[]){1, 0, 1, 0});
        p.positions[1] = (int32_t)p.max_keys;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){1, 0, 1, 0});
        p.max_keys = 1000; /* more than the linear cache holds */
        p.positions[3] = INT32_MAX;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){1, 0, 1, 0});
        free_problem(&p);

        s.map = RING;
        s.slots = 310; /* B9, B18: more keys wanted than the ring has */
        make_problem(&p, &s, 3);
        p.max_keys = 1000;
        p.slots = 302;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){1, 1, 0, 0});
        free_problem(&p);

        s.map = TAB;
        s.window = 100;
        make_problem(&p, &s, 3);
        p.positions[0] = 310; /* past the table */
        p.max_keys = 1000;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){0, 1, 1, 1});
        p.positions[0] = 300; /* the first two queries see position 202, the others do not */
        p.table[202] = -1;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){0, 0, 1, 1});
        p.table[202] = (int32_t)p.slots;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){0, 0, 1, 1});
        p.table[202] = INT32_MAX;
        p.table[5] = INT32_MIN; /* nobody sees it */
        p.positions[0] = p.positions[1] = -1;
        check_untouched(device, &p, MLXN_OK, (const uint8_t[]){0, 0, 1, 1});
        free_problem(&p);
    }
}

/* Scores of +-1e4 do not overflow, a score of -inf weighs nothing. */
TEST(attention_extreme_scores)
{
    mlxn_device *device = device_of(2);
    const spec s = {"extreme", 2, 1, 1, 16, 600, 0, 0, 1, 0, F32, F32, LIN};
    problem p;
    make_problem(&p, &s, 9);
    for (int64_t i = 0; i < 32; i++)
        p.q[i] = i % 16 == 0 ? 1e4 : 0;
    for (int64_t j = 0; j < p.keys; j++)
        p.k[j * 16] = j == 77 ? 1 : -1;
    p.k[80 * 16] = -3e38; /* times 1e4: -inf */
    uint8_t *out = run(device, &p, 0);
    for (int64_t i = 0; i < 32; i++)
        CHECK(test_load(F32, out, (size_t)i) == p.v[77 * 16 + i % 16]);
    free(out);
    free_problem(&p);
}

/* Queries of different sequences in one call, each with a row of the table of its own, give what
 * each gives alone. */
TEST(attention_sequences)
{
    enum { SEQUENCES = 3, COLUMNS = 320, DIM = 32, SLOTS = SEQUENCES * COLUMNS };
    static const int32_t positions[] = {10, 300, 301, 5, 257, 302};
    static const int32_t sequences[] = {2, 0, 0, 1, 2, 0};
    mlxn_device *device = device_of(2);
    uint64_t seed = 4;
    float *q = malloc(6 * DIM * sizeof *q), *kv = malloc(SLOTS * DIM * sizeof *kv);
    int32_t *table = malloc(SLOTS * sizeof *table);
    for (int i = 0; i < 6 * DIM; i++)
        q[i] = test_normal(&seed);
    for (int i = 0; i < SLOTS * DIM; i++)
        kv[i] = test_normal(&seed);
    for (int i = 0; i < SLOTS; i++) /* interleaved: 7 and 960 have no common factor */
        table[i] = i * 7 % SLOTS;
    float out[7][6 * DIM] = {{0}}; /* all at once, then each alone */
    mlxn_buffer *bk = rig_buffer(device, F32, 3, (int64_t[]){SLOTS, 1, DIM}, kv);
    mlxn_buffer *bt = rig_buffer(device, MLXN_I32, 2, (int64_t[]){SEQUENCES, COLUMNS}, table);
    for (int i = 0; i < 7; i++) {
        int64_t n = i ? 1 : 6, from = i ? i - 1 : 0;
        mlxn_buffer *bq = rig_buffer(device, F32, 3, (int64_t[]){n, 1, DIM}, q + from * DIM);
        mlxn_buffer *bo = rig_buffer(device, F32, 3, (int64_t[]){n, 1, DIM}, NULL);
        mlxn_buffer *bp = rig_buffer(device, MLXN_I32, 1, &n, positions + from);
        mlxn_buffer *bs = rig_buffer(device, MLXN_I32, 1, &n, sequences + from);
        mlxn_encoder *encoder = NULL;
        CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
        CHECK_STATUS(
            mlxn_attention(encoder,
                           MLXN_DESC(mlxn_attention_args, .q = bq, .k = bk, .v = bk, .output = bo,
                                     .positions = bp, .sequences = bs, .table = bt, .slot_map = TAB,
                                     .scale = 0.2f, .max_keys = COLUMNS)),
            MLXN_OK);
        CHECK_STATUS(finish_encoder(encoder), MLXN_OK);
        rig_read_part(bo, 0, out[i], (size_t)n * DIM * sizeof(float));
        mlxn_buffer *all[] = {bq, bo, bp, bs};
        for (int k = 0; k < 4; k++)
            mlxn_buffer_release(all[k]);
        if (i)
            CHECK(!memcmp(out[0] + from * DIM, out[i], DIM * sizeof(float)));
    }
    CHECK(memcmp(out[0] + DIM, out[0] + 2 * DIM, DIM * sizeof(float)) != 0);
    mlxn_buffer_release(bk);
    mlxn_buffer_release(bt);
    free(q);
    free(kv);
    free(table);
}

/* One recorded launch replayed while the position moves gives what fresh launches give. */
TEST(attention_replay)
{
    mlxn_device *device = device_of(2);
    const spec s = {"replay", 300, 4, 1, 64, 0, 0, 200, 0, 0, F32, F16, LIN};
    problem p;
    make_problem(&p, &s, 5);
    uint8_t *want = run(device, &p, 0);
    const int64_t one = 1, shape[] = {1, 4, 64}, row = 4 * 64;
    float *q = malloc((size_t)(s.tokens * row) * sizeof *q), got[4 * 64];
    for (int64_t i = 0; i < s.tokens * row; i++)
        q[i] = (float)p.q[i];
    mlxn_buffer *b[] = {
        rig_buffer(device, F32, 3, shape, NULL), cache_buffer(device, &p, p.k, 0, 299),
        cache_buffer(device, &p, p.v, 0, 299), rig_buffer(device, F32, 3, shape, NULL),
        rig_buffer(device, MLXN_I32, 1, &one, NULL)};
    mlxn_encoder *encoder = NULL;
    mlxn_graph *graph = NULL;
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    CHECK_STATUS(mlxn_attention(encoder, MLXN_DESC(mlxn_attention_args, .q = b[0], .k = b[1],
                                                   .v = b[2], .output = b[3], .positions = b[4],
                                                   .slot_map = LIN, .window = s.window,
                                                   .scale = p.s.scale, .max_keys = s.tokens)),
                 MLXN_OK);
    REQUIRE_OK(mlxn_graph_capture(encoder, &graph));
    for (int32_t t = 0; t < s.tokens; t += 23) {
        CHECK_STATUS(mlxn_buffer_write(b[0], 0, q + t * row, sizeof got), MLXN_OK);
        CHECK_STATUS(mlxn_buffer_write(b[4], 0, &t, sizeof t), MLXN_OK);
        CHECK_STATUS(mlxn_graph_replay(encoder, graph), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
        rig_read_part(b[3], 0, got, sizeof got);
        CHECK(!memcmp(got, want + (size_t)t * sizeof got, sizeof got));
        CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    }
    mlxn_encoder_release(encoder);
    mlxn_graph_release(graph);
    for (int i = 0; i < 5; i++)
        mlxn_buffer_release(b[i]);
    free(q);
    free(want);
    free_problem(&p);
}

/* ---- what the host refuses ---- */

TEST(attention_checks)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    mlxn_device *device = devices[0].device, *elsewhere = devices[1].device;
    const int64_t n4 = 4, n5 = 5, qs[] = {4, 2, 8}, ks[] = {10, 1, 8};
    mlxn_buffer *q = rig_buffer(device, F32, 3, qs, NULL),
                *o = rig_buffer(device, F32, 3, qs, NULL);
    mlxn_buffer *k = rig_buffer(device, F16, 3, ks, NULL),
                *v = rig_buffer(device, F16, 3, ks, NULL);
    mlxn_buffer *pos = rig_buffer(device, MLXN_I32, 1, &n4, NULL);
    mlxn_buffer *pos5 = rig_buffer(device, MLXN_I32, 1, &n5, NULL);
    mlxn_buffer *fpos = rig_buffer(device, F32, 1, &n4, NULL);
    mlxn_buffer *table = rig_buffer(device, MLXN_I32, 2, (int64_t[]){1, 10}, NULL);
    mlxn_buffer *kf = rig_buffer(device, F32, 3, ks, NULL);
    mlxn_buffer *k7 = rig_buffer(device, F16, 3, (int64_t[]){10, 1, 7}, NULL);
    mlxn_buffer *k3 = rig_buffer(device, F16, 3, (int64_t[]){10, 3, 8}, NULL);
    mlxn_buffer *v9 = rig_buffer(device, F16, 3, (int64_t[]){9, 1, 8}, NULL);
    mlxn_buffer *o3 = rig_buffer(device, F32, 3, (int64_t[]){3, 2, 8}, NULL);
    mlxn_buffer *q2 = rig_buffer(device, F32, 2, (int64_t[]){4, 16}, NULL);
    mlxn_buffer *far = rig_buffer(elsewhere, F32, 3, qs, NULL), *overlap = NULL, *strided = NULL;
    mlxn_encoder *e = NULL;
    CHECK_STATUS(mlxn_encoder_create(device, &e), MLXN_OK);
    const int64_t wide[] = {4, 3, 8};
    mlxn_buffer *room = rig_buffer(device, F32, 3, wide, NULL);
    CHECK_STATUS(mlxn_buffer_view(room, F32, 3, qs, (int64_t[]){16, 8, 1}, 0, &overlap), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_view(room, F32, 3, qs, (int64_t[]){17, 1, 2}, 0, &strided), MLXN_OK);
    mlxn_buffer *room_k = NULL, *room_o = NULL; /* two views of the same storage */
    CHECK_STATUS(mlxn_buffer_view(room, F32, 3, ks, NULL, 0, &room_k), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_view(room, F32, 3, qs, NULL, 128, &room_o), MLXN_OK);
    const mlxn_attention_args good = {.size = sizeof good,
                                      .q = q,
                                      .k = k,
                                      .v = v,
                                      .output = o,
                                      .positions = pos,
                                      .slot_map = LIN,
                                      .scale = 1,
                                      .max_keys = 10};
    mlxn_attention_args a;
#define REFUSED(status, text, ...)                                   \
    do {                                                             \
        a = good;                                                    \
        __VA_ARGS__;                                                 \
        CHECK_FAILS(mlxn_attention(e, &a), MLXN_ERR_##status, text); \
    } while (0)
    CHECK_FAILS(mlxn_attention(NULL, &good), MLXN_ERR_ARGUMENT, "encoder");
    CHECK_FAILS(mlxn_attention(e, NULL), MLXN_ERR_ARGUMENT, "attention");
    REFUSED(ARGUMENT, "size", a.size = 0);
    REFUSED(ARGUMENT, "q is NULL", a.q = NULL);
    REFUSED(ARGUMENT, "k is NULL", a.k = NULL);
    REFUSED(ARGUMENT, "v is NULL", a.v = NULL);
    REFUSED(ARGUMENT, "output is NULL", a.output = NULL);
    REFUSED(ARGUMENT, "positions is NULL", a.positions = NULL);
    REFUSED(ARGUMENT, "another device", a.q = far);
    REFUSED(DTYPE, "q is i32", a.q = table);
    REFUSED(DTYPE, "v is f32, needs f16", a.v = kf); /* B9: sizes are those of the dtype */
    REFUSED(DTYPE, "output is f16, needs f32", a.output = v);
    REFUSED(DTYPE, "positions is f32", a.positions = fpos);
    REFUSED(SHAPE, "q has 2 dimensions", a.q = q2);
    REFUSED(SHAPE, "k has 7", a.k = k7);
    REFUSED(SHAPE, "v has 9", a.v = v9);
    REFUSED(SHAPE, "no multiple of 3", (a.k = k3, a.v = k3));
    REFUSED(SHAPE, "output has 3", a.output = o3);
    REFUSED(SHAPE, "positions has 5", a.positions = pos5);
    REFUSED(SHAPE, "stride 2", a.q = strided);
    REFUSED(ARGUMENT, "slot_map is 0", a.slot_map = (mlxn_slot_map)0);
    REFUSED(ARGUMENT, "table is NULL", a.slot_map = TAB);
    REFUSED(ARGUMENT, "table is given", a.table = table);
    REFUSED(ARGUMENT, "sequences is given", a.sequences = pos);
    REFUSED(SHAPE, "sequences has 5", (a.sequences = pos5, a.table = table, a.slot_map = TAB));
    REFUSED(SHAPE, "table has 1 dim", (a.table = pos, a.slot_map = TAB));
    REFUSED(ARGUMENT, "scale is 0", a.scale = 0);
    REFUSED(ARGUMENT, "scale is inf", a.scale = HUGE_VALF);
    REFUSED(ARGUMENT, "softcap is -1", a.softcap = -1);
    REFUSED(ARGUMENT, "softcap is nan", a.softcap = NAN);
    REFUSED(ARGUMENT, "precision is 2", a.precision = (mlxn_attention_precision)2);
    REFUSED(ARGUMENT, "window is -1", a.window = -1);
    REFUSED(ARGUMENT, "max_keys is 0", a.max_keys = 0);
    REFUSED(ARGUMENT, "max_keys is", a.max_keys = (int64_t)1 << 40);
    REFUSED(OVERLAP, "output and q", a.output = q);
    REFUSED(OVERLAP, "output and q", (a.q = overlap, a.output = overlap));
    REFUSED(OVERLAP, "output and k", (a.k = room_k, a.v = kf, a.output = room_o));
    CHECK_STATUS(mlxn_attention(e, &good), MLXN_OK);
    CHECK_STATUS(finish_encoder(e), MLXN_OK);
    mlxn_buffer *all[] = {q,  o,  k,  v,  pos, pos5,    fpos,    table, kf,     k7,
                          k3, v9, o3, q2, far, overlap, strided, room,  room_k, room_o};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}
