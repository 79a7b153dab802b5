/* heads.c - see heads.h. */
#include "heads.h"

void heads_pair(const heads_case *c, mlxn_rope_pairing rope, int64_t i, int64_t *lo, int64_t *hi)
{
    *lo = i;
    *hi = rope == MLXN_ROPE_PREFIX ? i + c->pairs : i + c->dim / 2;
    if (rope >= MLXN_ROPE_INTERLEAVED) {
        *lo = 2 * i;
        *hi = 2 * i + 1;
    }
}

static int64_t exponent_dim(const heads_case *c, mlxn_rope_pairing rope)
{
    int prefix = rope == MLXN_ROPE_PREFIX || rope == MLXN_ROPE_INTERLEAVED_PREFIX;
    return prefix ? 2 * c->pairs : c->dim;
}

/* The frequency of pair i of a pairing. */
static long double frequency(const heads_case *c, mlxn_rope_pairing rope, int64_t i)
{
    return powl((long double)c->theta, -2.0L * (long double)i / (long double)exponent_dim(c, rope));
}

static int rotates(const heads_case *c)
{
    int any = 0;
    for (int p = 0; p < PARTS; p++)
        any |= c->heads[p] && c->rope[p] != MLXN_ROPE_NONE;
    return any;
}

static int is_weighted(const heads_case *c, int p)
{
    return c->heads[p] && c->norm[p] == MLXN_NORM_WEIGHTED;
}

static int has_cache(const heads_case *c, int p)
{
    return p != PART_Q && c->heads[p] && c->cache_dtype;
}

static int has_output(const heads_case *c, int p)
{
    return c->heads[p] && !(c->no_output && has_cache(c, p));
}

static void lay_out(const heads_case *c, heads_data *d)
{
    int64_t all = c->heads[0] + c->heads[1] + c->heads[2], at = 0;
    for (int p = 0; p < PARTS; p++) {
        int64_t gap = c->layout == HEADS_PADDED ? 3 : 0;
        d->first[p] = at;
        d->head[p] = c->layout == HEADS_MAJOR ? c->tokens * c->dim : c->dim + gap;
        d->token[p] = c->heads[p] * (c->dim + gap) + gap;
        if (c->layout == HEADS_PACKED)
            d->token[p] = all * c->dim;
        if (c->layout == HEADS_MAJOR)
            d->token[p] = c->dim;
        at += c->layout == HEADS_PACKED
                  ? c->heads[p] * c->dim
                  : c->tokens * c->heads[p] * (c->dim + gap) + c->tokens * gap;
    }
    d->elements = c->layout == HEADS_PACKED ? c->tokens * all * c->dim : at;
}

heads_case heads_random(mlxn_dtype dtype, mlxn_rope_pairing rope, mlxn_dtype weight, int64_t dim,
                        uint64_t *seed)
{
    static const mlxn_dtype caches[] = {MLXN_DTYPE_NONE, MLXN_F32, MLXN_F16, MLXN_BF16};
    static const mlxn_dtype positions[] = {MLXN_DTYPE_NONE, MLXN_I32, MLXN_U32, MLXN_I64};
    uint64_t r = test_random(seed);
    int whole = rope == MLXN_ROPE_NEOX || rope == MLXN_ROPE_INTERLEAVED;
    heads_case c = {.dtype = dtype,
                    .weight_dtype = weight,
                    .cache_dtype = caches[r % 4],
                    .position_dtype = positions[r / 4 % 4],
                    .slot_dtype = r / 16 % 2 ? MLXN_I32 : MLXN_I64,
                    .dim = dim,
                    .tokens = 1 + (int64_t)(r / 32 % 5),
                    .slots = 11,
                    .tables = r / 256 % 3 == 0,
                    .in_place = r / 1024 % 3 == 0,
                    .no_output = r / 4096 % 3 == 0,
                    .layout = (heads_layout)(r / 16384 % HEADS_LAYOUTS),
                    .theta = r / 65536 % 2 ? 1e4 : 1e6,
                    .eps = 1e-6f,
                    .bias = r / 131072 % 2 ? 1.0f : 0.0f,
                    .attention_factor = r / 262144 % 2 ? 1.0f : 0.8125f};
    c.pairs = dim < 2 || rope == MLXN_ROPE_NONE ? 0
              : whole                           ? dim / 2
                                                : 1 + (int64_t)(r >> 40) % (dim / 2);
    for (int p = 0; p < PARTS; p++) {
        uint64_t s = test_random(seed);
        c.heads[p] = (r >> 20 & 7) == 7 || (r >> (20 + p) & 1) == 0 ? 1 + (int64_t)(s % 3) : 0;
        c.norm[p] = (mlxn_norm_kind)(1 + s / 8 % 3);
        c.rope[p] = p == PART_V || !c.pairs ? MLXN_ROPE_NONE : rope;
    }
    if (!c.heads[0] && !c.heads[1]) /* some part rotates */
        c.heads[PART_K] = 1;
    if (!c.heads[0] && !c.heads[1] && !c.heads[2])
        c.heads[PART_Q] = 1;
    return c;
}

static const mlxn_dtype floats[] = {MLXN_F32, MLXN_F16, MLXN_BF16};
static const int64_t dims[] = {1, 2, 7, 32, 64, 80, 96, 128, 192, 256, 320, 512, 1024};
enum { DIMS = sizeof dims / sizeof *dims, ROUND = 3 * 7 * 3 * DIMS };
enum { TOKENS = 5, CACHES = 4, PRODUCT = ROUND * TOKENS * HEADS_LAYOUTS * CACHES };

int heads_next(int64_t *i)
{
    const int64_t n = test_full() ? PRODUCT : ROUND;
    while (!test_full() && *i < n && *i % 4 != (*i / DIMS) % 4)
        ++*i;
    return *i < n;
}

heads_case heads_of_matrix(int64_t i, uint64_t *seed)
{
    heads_case c = heads_random(floats[i % 3], (mlxn_rope_pairing)(1 + i / 3 % 7),
                                floats[i / 21 % 3], dims[i / 63 % DIMS], seed);
    if (!test_full())
        return c;
    i /= ROUND;
    c.tokens = 1 + i % TOKENS;
    c.layout = (heads_layout)(i / TOKENS % HEADS_LAYOUTS);
    i /= TOKENS * HEADS_LAYOUTS;
    c.cache_dtype = i ? floats[i - 1] : MLXN_DTYPE_NONE;
    if (!c.heads[PART_K] && !c.heads[PART_V]) /* some part has a cache */
        c.heads[PART_V] = 1;
    return c;
}

heads_data heads_make(const heads_case *c, uint64_t *seed)
{
    heads_data d = {.table_stride = c->pairs + (c->tokens % 2 ? 4 : 2)};
    size_t tokens = (size_t)c->tokens, table = tokens * (size_t)d.table_stride;
    lay_out(c, &d);
    d.base = rig_normal(c->dtype, (size_t)d.elements, 2, seed);
    for (int p = 0; p < PARTS; p++) {
        d.weight[p] = rig_normal(c->weight_dtype, (size_t)c->dim, 1, seed);
        d.cache_elements[p] = has_cache(c, p) ? c->slots * c->heads[p] * c->dim : 0;
        d.cache[p] = rig_normal(c->cache_dtype ? c->cache_dtype : MLXN_F32,
                                (size_t)d.cache_elements[p], 1, seed);
    }
    d.positions = malloc(tokens * sizeof *d.positions);
    d.slots = malloc(tokens * sizeof *d.slots);
    d.cosine = malloc(table * sizeof *d.cosine);
    d.sine = malloc(table * sizeof *d.sine);
    int64_t start = (int64_t)(test_random(seed) >> 44);
    for (int64_t t = 0; t < c->tokens; t++) {
        d.positions[t] = c->position_dtype ? (int64_t)(test_random(seed) >> 44) : start + t;
        /* different slots, in no order, every fourth token skipped */
        d.slots[t] = t % 4 == 3 ? -1 - t : (7 * t + 3) % c->slots;
    }
    for (size_t i = 0; i < table; i++) {
        double a = (double)test_uniform(seed, -4, 4);
        d.cosine[i] = (float)cos(a);
        d.sine[i] = (float)sin(a);
    }
    return d;
}

void heads_free(heads_data *d)
{
    for (int p = 0; p < PARTS; p++) {
        free(d->weight[p]);
        free(d->cache[p]);
    }
    free(d->base);
    free(d->positions);
    free(d->slots);
    free(d->cosine);
    free(d->sine);
}

heads_result heads_result_make(const heads_case *c, const heads_data *d)
{
    heads_result r = {.base = calloc(rig_bytes(c->dtype, (size_t)d->elements) + 1, 1)};
    for (int p = 0; p < PARTS; p++)
        r.cache[p] = calloc((size_t)d->cache_elements[p] * 4 + 1, 1);
    return r;
}

void heads_result_free(heads_result *r)
{
    free(r->base);
    for (int p = 0; p < PARTS; p++)
        free(r->cache[p]);
}

int heads_result_equal(const heads_case *c, const heads_data *d, const heads_result *a,
                       const heads_result *b)
{
    int same = !memcmp(a->base, b->base, rig_bytes(c->dtype, (size_t)d->elements));
    for (int p = 0; p < PARTS; p++)
        if (has_cache(c, p))
            same &= !memcmp(a->cache[p], b->cache[p],
                            rig_bytes(c->cache_dtype, (size_t)d->cache_elements[p]));
    return same;
}

int heads_token_equal(const heads_case *c, const heads_data *d, int64_t t, const heads_result *a,
                      const heads_result *b)
{
    for (int p = 0; p < PARTS; p++) {
        const size_t at = rig_bytes(c->dtype, (size_t)(d->first[p] + t * d->token[p]));
        const size_t bytes = rig_bytes(c->dtype, (size_t)(c->heads[p] * c->dim));
        if (memcmp((char *)a->base + at, (char *)b->base + at, bytes))
            return 0;
    }
    return 1;
}

heads_case heads_alone(const heads_case *c, const heads_data *d, int64_t t, heads_data *one)
{
    heads_case alone = *c;
    alone.tokens = 1;
    *one = *d;
    one->positions += t;
    one->slots += t;
    one->cosine += t * d->table_stride;
    one->sine += t * d->table_stride;
    for (int p = 0; p < PARTS; p++)
        one->first[p] += t * d->token[p];
    return alone;
}

/* ---- the run ---- */

/* n integers as a buffer of i32, u32 or i64. */
static mlxn_buffer *integers(mlxn_device *device, mlxn_dtype dtype, int64_t n, const int64_t *from)
{
    int32_t *narrow = malloc((size_t)n * sizeof *narrow);
    for (int64_t i = 0; i < n; i++)
        narrow[i] = (int32_t)from[i];
    mlxn_buffer *b =
        rig_vector(device, dtype, n, dtype == MLXN_I64 ? (const void *)from : (const void *)narrow);
    free(narrow);
    return b;
}

enum { MAX_BUFFERS = 40 };
typedef struct bag {
    mlxn_buffer *all[MAX_BUFFERS];
    int n;
} bag;

static mlxn_buffer *keep(bag *b, mlxn_buffer *buffer)
{
    b->all[b->n++] = buffer;
    return buffer;
}

static void angles_of(const rig_device *on, const heads_case *c, const heads_data *d, bag *b,
                      mlxn_qkv_prepare_args *a)
{
    int64_t shape[2] = {c->tokens, c->pairs}, strides[2] = {d->table_stride, 1};
    a->attention_factor = c->attention_factor;
    a->rotary_pairs = c->pairs;
    if (c->tables) {
        int64_t n = c->tokens * d->table_stride;
        mlxn_buffer *cosine = keep(b, rig_vector(on->device, MLXN_F32, n, d->cosine));
        mlxn_buffer *sine = keep(b, rig_vector(on->device, MLXN_F32, n, d->sine));
        a->cos = keep(b, rig_view(cosine, 2, shape, strides, 0));
        a->sin = keep(b, rig_view(sine, 2, shape, strides, 0));
        return;
    }
    mlxn_rope_pairing rope =
        c->heads[PART_Q] && c->rope[PART_Q] != MLXN_ROPE_NONE ? c->rope[PART_Q] : c->rope[PART_K];
    int64_t freqs[2] = {c->pairs, 2};
    a->freqs = keep(b, rig_buffer(on->device, MLXN_F32, 2, freqs, NULL));
    CHECK_STATUS(mlxn_rope_freqs(on->device, MLXN_DESC(mlxn_rope_freqs_args, .output = a->freqs,
                                                       .exponent_dim = exponent_dim(c, rope),
                                                       .theta = c->theta, .scale = 1)),
                 MLXN_OK);
    if (c->position_dtype)
        a->positions = keep(b, integers(on->device, c->position_dtype, c->tokens, d->positions));
    else
        a->position_start = d->positions[0];
}

static mlxn_qkv_part part_of(const rig_device *on, const heads_case *c, const heads_data *d, int p,
                             mlxn_buffer *in, mlxn_buffer *out, mlxn_buffer *cache, bag *b)
{
    int64_t shape[3] = {c->tokens, c->heads[p], c->dim}, strides[3] = {d->token[p], d->head[p], 1};
    int64_t cached[3] = {c->slots, c->heads[p], c->dim};
    mlxn_qkv_part part = {.norm = c->norm[p], .rope = c->rope[p]};
    if (!c->heads[p])
        return part;
    part.input = keep(b, rig_view(in, 3, shape, strides, d->first[p]));
    if (has_output(c, p))
        part.output =
            c->in_place ? part.input : keep(b, rig_view(out, 3, shape, strides, d->first[p]));
    if (is_weighted(c, p))
        part.weight = keep(b, rig_vector(on->device, c->weight_dtype, c->dim, d->weight[p]));
    if (cache) {
        int64_t major[3] = {c->dim, c->slots * c->dim, 1};
        part.cache =
            keep(b, rig_view(cache, 3, cached, c->layout == HEADS_MAJOR ? major : NULL, 0));
    }
    return part;
}

int heads_run(const rig_device *on, const heads_case *c, const heads_data *d, heads_result *r,
              mlxn_status want)
{
    bag b = {.n = 0};
    mlxn_buffer *in = keep(&b, rig_vector(on->device, c->dtype, d->elements, d->base));
    mlxn_buffer *out = keep(&b, rig_vector(on->device, c->dtype, d->elements, NULL));
    mlxn_buffer *cache[PARTS] = {0};
    mlxn_qkv_prepare_args a = {.size = sizeof a, .eps = c->eps, .rounding = c->rounding};
    mlxn_qkv_part *parts[PARTS] = {&a.q, &a.k, &a.v};
    for (int p = 0; p < PARTS; p++) {
        if (has_cache(c, p))
            cache[p] =
                keep(&b, rig_vector(on->device, c->cache_dtype, d->cache_elements[p], d->cache[p]));
        *parts[p] = part_of(on, c, d, p, in, out, cache[p], &b);
        a.weight_bias = is_weighted(c, p) ? c->bias : a.weight_bias;
    }
    if (cache[PART_K] || cache[PART_V])
        a.slots = keep(&b, integers(on->device, c->slot_dtype, c->tokens, d->slots));
    if (rotates(c))
        angles_of(on, c, d, &b, &a);
    int ok = test_status(mlxn_qkv_prepare(on->encoder, &a), MLXN_OK, __FILE__, __LINE__,
                         "qkv_prepare") &&
             rig_finish(on, want);
    rig_read(c->in_place ? in : out, r->base);
    for (int p = 0; p < PARTS; p++)
        if (cache[p])
            rig_read(cache[p], r->cache[p]);
    while (b.n)
        mlxn_buffer_release(b.all[--b.n]);
    return ok;
}

/* ---- the reference ---- */

/* y and, for each element, the larger magnitude of its rotated pair. */
static void exact_head(const heads_case *c, const heads_data *d, int p, int64_t t, int64_t h,
                       double *y, double *spread)
{
    int64_t at = d->first[p] + t * d->token[p] + h * d->head[p];
    double sum = 0, r = 1, factor = (double)c->attention_factor;
    for (int64_t i = 0; i < c->dim; i++) {
        y[i] = test_load(c->dtype, d->base, (size_t)(at + i));
        sum += y[i] * y[i];
    }
    if (c->norm[p] != MLXN_NORM_NONE)
        r = 1 / sqrt(sum / (double)c->dim + (double)c->eps);
    for (int64_t i = 0; i < c->dim; i++) {
        y[i] *= r;
        if (is_weighted(c, p))
            y[i] *= test_load(c->weight_dtype, d->weight[p], (size_t)i) + (double)c->bias;
        spread[i] = fabs(y[i]);
    }
    for (int64_t i = 0; c->rope[p] != MLXN_ROPE_NONE && i < c->pairs; i++) {
        int64_t lo, hi;
        long double angle = (long double)d->positions[t] * frequency(c, c->rope[p], i);
        double cs = (double)cosl(angle), sn = (double)sinl(angle);
        if (c->tables) {
            cs = (double)d->cosine[t * d->table_stride + i];
            sn = (double)d->sine[t * d->table_stride + i];
        }
        heads_pair(c, c->rope[p], i, &lo, &hi);
        double a = y[lo], b = y[hi];
        y[lo] = factor * (a * cs - b * sn);
        y[hi] = factor * (b * cs + a * sn);
        spread[lo] = spread[hi] = factor * fmax(fabs(a), fabs(b));
    }
}

/* f32: the norm's (n/64 + 8.5) u, two roundings, and for computed angles 2^-24 on cos and sin, all
 * at most sqrt(2) times; other dtypes: that and half an ulp, 0.51 for all sizes here. */
static void check_value(const heads_case *c, mlxn_dtype dtype, int p, const void *got, int64_t at,
                        double exact, double spread, heads_tally *tally)
{
    double value = test_load(dtype, got, (size_t)at);
    double ulp = test_ulp(value, exact, fmax(spread, fabs(exact)), dtype);
    double bound = 0.51, steps = c->norm[p] == MLXN_NORM_NONE ? 0 : (double)c->dim / 64 + 8.5;
    if (dtype == MLXN_F32)
        bound = 1.5 * (steps + 2 + (c->tables ? 0 : 1) + (c->attention_factor == 1 ? 0 : 1));
    tally->values[rig_float(dtype)]++;
    rig_record(&tally->worst[rig_float(dtype)], ulp, "dim %lld pairing %d", (long long)c->dim,
               (int)c->rope[p]);
    if (!(ulp <= bound))
        test_failed(__FILE__, __LINE__,
                    "%s dim %lld part %d pairing %d pairs %lld at %lld: %a, exact %a (%g ulp)",
                    mlxn_dtype_name(dtype), (long long)c->dim, p, (int)c->rope[p],
                    (long long)c->pairs, (long long)at, value, exact, ulp);
}

static int64_t cache_at(const heads_case *c, int p, int64_t slot, int64_t h)
{
    return c->layout == HEADS_MAJOR ? (h * c->slots + slot) * c->dim
                                    : (slot * c->heads[p] + h) * c->dim;
}

void heads_check(const heads_case *c, const heads_data *d, const heads_result *r,
                 heads_tally *tally)
{
    double *y = malloc((size_t)c->dim * 2 * sizeof *y), *spread = y + c->dim;
    char *seen = calloc((size_t)d->elements + 1, 1), *seen_cache[PARTS];
    tally->cases++;
    for (int p = 0; p < PARTS; p++) {
        seen_cache[p] = calloc((size_t)d->cache_elements[p] + 1, 1);
        for (int64_t k = 0; k < c->tokens * c->heads[p]; k++) {
            int64_t t = k / c->heads[p], h = k % c->heads[p];
            exact_head(c, d, p, t, h, y, spread);
            for (int64_t i = 0; i < c->dim; i++) {
                int64_t at = d->first[p] + t * d->token[p] + h * d->head[p] + i;
                int64_t in_cache = cache_at(c, p, d->slots[t], h) + i;
                if (has_output(c, p)) {
                    check_value(c, c->dtype, p, r->base, at, y[i], spread[i], tally);
                    seen[at] = 1;
                }
                if (has_cache(c, p) && d->slots[t] >= 0) {
                    check_value(c, c->cache_dtype, p, r->cache[p], in_cache, y[i], spread[i],
                                tally);
                    seen_cache[p][in_cache] = 1;
                }
            }
        }
    }
    size_t size = rig_bytes(c->dtype, 1),
           size_cache = c->cache_dtype ? rig_bytes(c->cache_dtype, 1) : 0;
    static const char zero[8];
    for (int64_t i = 0; i < d->elements; i++)
        if (!seen[i] && memcmp((char *)r->base + (size_t)i * size,
                               c->in_place ? (char *)d->base + (size_t)i * size : zero, size))
            test_failed(__FILE__, __LINE__, "element %lld was overwritten", (long long)i);
    for (int p = 0; p < PARTS; p++) {
        for (int64_t i = 0; i < d->cache_elements[p]; i++)
            if (!seen_cache[p][i] &&
                memcmp((char *)r->cache[p] + (size_t)i * size_cache,
                       (char *)d->cache[p] + (size_t)i * size_cache, size_cache))
                test_failed(__FILE__, __LINE__, "cache element %lld was overwritten", (long long)i);
        free(seen_cache[p]);
    }
    free(seen);
    free(y);
}

void heads_note(const heads_tally *t)
{
    test_note("%ld cases against float64; f32: %ld values, worst %.2f ulp of the pair, %s; "
              "f16: %ld, %.4f; bf16: %ld, %.4f",
              t->cases, t->values[0], t->worst[0].ulp, t->worst[0].where, t->values[1],
              t->worst[1].ulp, t->values[2], t->worst[2].ulp);
}
