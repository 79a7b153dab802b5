/* fused_head_norm_rope_test.c - the two fused_head_norm_rope operators against float64, with equal
 * bits over paths and team sizes, and every refusal. */
#include "heads.h"

/* A case of either form.  Tables for bf16; positions, theta and factors for f32. */
typedef struct fused_case {
    mlxn_dtype dtype;
    uint32_t tokens, heads, dim, half;
    int weighted, factors, in_place, prepared; /* prepared: f32 with freqs in place of theta */
    int64_t stride;                            /* of the tables */
    float theta;
} fused_case;

typedef struct fused_data {
    void *x, *w;
    float *cosine, *sine, *factors;
    uint32_t *positions;
} fused_data;

static fused_data make_fused(const fused_case *c, uint64_t *seed)
{
    size_t n = (size_t)c->tokens * c->heads * c->dim, table = (size_t)(c->tokens * c->stride) + 1;
    fused_data d = {rig_normal(c->dtype, n, 2, seed),
                    rig_normal(c->dtype, c->dim, 1, seed),
                    malloc(table * 4),
                    malloc(table * 4),
                    malloc((c->half + 1) * 4),
                    malloc(c->tokens * 4)};
    for (size_t i = 0; i < table; i++) {
        double a = (double)test_uniform(seed, -4, 4);
        d.cosine[i] = (float)cos(a);
        d.sine[i] = (float)sin(a);
    }
    for (uint32_t i = 0; i < c->half; i++)
        d.factors[i] = test_uniform(seed, 1, 8);
    for (uint32_t t = 0; t < c->tokens; t++)
        d.positions[t] = (uint32_t)(test_random(seed) >> 44);
    return d;
}

static void free_fused(fused_data *d)
{
    free(d->x);
    free(d->w);
    free(d->cosine);
    free(d->sine);
    free(d->factors);
    free(d->positions);
}

static mlxn_status record_fused(const rig_device *on, const fused_case *c, mlxn_buffer *const b[8])
{
    /* b: input, output, weight, cos or positions, sin or factors, freqs */
    if (c->dtype == MLXN_BF16)
        return mlxn_fused_head_norm_rope_bf16(
            on->encoder,
            MLXN_DESC(mlxn_fused_head_norm_rope_bf16_args, .input = b[0], .output = b[1],
                      .norm_weight = b[2], .cos_cache = b[3], .sin_cache = b[4],
                      .cos_row_stride = c->stride, .sin_row_stride = c->stride,
                      .n_tokens = c->tokens, .n_heads = c->heads, .head_dim = c->dim,
                      .half_rope_dim = c->half, .eps = 1e-6f));
    return mlxn_fused_head_norm_rope_f32(
        on->encoder,
        MLXN_DESC(mlxn_fused_head_norm_rope_f32_args, .input = b[0], .output = b[1],
                  .norm_weight = b[2], .positions_buf = b[3], .freq_factors = b[4], .freqs = b[5],
                  .n_tokens = c->tokens, .n_heads = c->heads, .head_dim = c->dim,
                  .half_rope_dim = c->half, .eps = 1e-6f, .theta = b[5] ? 0 : c->theta));
}

static int run_fused(const rig_device *on, const fused_case *c, const fused_data *d, void *y)
{
    mlxn_device *dev = on->device;
    int64_t n = (int64_t)c->tokens * c->heads * c->dim, table = c->tokens * c->stride;
    mlxn_buffer *b[8] = {rig_vector(dev, c->dtype, n, d->x)};
    b[1] = c->in_place ? mlxn_buffer_retain(b[0]) : rig_vector(dev, c->dtype, n, NULL);
    if (c->weighted)
        b[2] = rig_vector(dev, c->dtype, c->dim, d->w);
    if (c->half && c->dtype == MLXN_BF16) {
        b[3] = rig_vector(dev, MLXN_F32, table, d->cosine);
        b[4] = rig_vector(dev, MLXN_F32, table, d->sine);
    } else if (c->half) {
        b[3] = rig_vector(dev, MLXN_U32, c->tokens, d->positions);
        if (c->factors)
            b[4] = rig_vector(dev, MLXN_F32, c->half, d->factors);
        if (c->prepared) {
            const int64_t shape[2] = {c->half, 2};
            b[5] = rig_buffer(dev, MLXN_F32, 2, shape, NULL);
            CHECK_STATUS(
                mlxn_rope_freqs(dev, MLXN_DESC(mlxn_rope_freqs_args, .output = b[5],
                                               .freq_factors = b[4], .exponent_dim = c->dim,
                                               .theta = (double)c->theta, .scale = 1)),
                MLXN_OK);
            mlxn_buffer_release(b[4]);
            b[4] = NULL;
        }
    }
    int ok = test_status(record_fused(on, c, b), MLXN_OK, __FILE__, __LINE__, "fused") &&
             rig_finish(on, MLXN_OK);
    rig_read(b[1], y);
    for (int i = 0; i < 8; i++)
        mlxn_buffer_release(b[i]);
    return ok;
}

static void check_fused(const fused_case *c, const fused_data *d, const void *y, rig_worst *worst)
{
    double *v = malloc(c->dim * 2 * sizeof *v), *spread = v + c->dim;
    uint32_t apart = c->dtype == MLXN_BF16 ? c->half : c->dim / 2;
    for (uint32_t row = 0; row < c->tokens * c->heads; row++) {
        size_t at = (size_t)row * c->dim;
        uint32_t t = row / c->heads;
        double sum = 0;
        for (uint32_t i = 0; i < c->dim; i++) {
            v[i] = test_load(c->dtype, d->x, at + i);
            sum += v[i] * v[i];
        }
        for (uint32_t i = 0; i < c->dim; i++) {
            v[i] /= sqrt(sum / c->dim + (double)1e-6f);
            v[i] *= c->weighted ? test_load(c->dtype, d->w, i) : 1;
            spread[i] = fabs(v[i]);
        }
        for (uint32_t i = 0; i < c->half; i++) {
            double a = v[i], b = v[i + apart], cs, sn;
            if (c->dtype == MLXN_BF16) {
                cs = (double)d->cosine[t * c->stride + i];
                sn = (double)d->sine[t * c->stride + i];
            } else {
                long double f = powl((long double)c->theta, -2.0L * i / c->dim);
                f *= (long double)d->positions[t] / (long double)(c->factors ? d->factors[i] : 1);
                cs = (double)cosl(f);
                sn = (double)sinl(f);
            }
            v[i] = a * cs - b * sn;
            v[i + apart] = b * cs + a * sn;
            spread[i] = spread[i + apart] = fmax(fabs(a), fabs(b));
        }
        for (uint32_t i = 0; i < c->dim; i++) {
            double ulp = test_ulp(test_load(c->dtype, y, at + i), v[i], fmax(spread[i], fabs(v[i])),
                                  c->dtype);
            rig_record(worst, ulp, "dim %u half %u", c->dim, c->half);
            if (!(ulp <= (c->dtype == MLXN_BF16 ? 0.51 : 1.5 * (c->dim / 64.0 + 11.5))))
                test_failed(__FILE__, __LINE__, "%s dim %u half %u row %u at %u: %g ulp",
                            mlxn_dtype_name(c->dtype), c->dim, c->half, row, i, ulp);
        }
    }
    free(v);
}

static void check_fused_case(const fused_case *c, uint64_t *seed, rig_worst *worst)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    fused_data d = make_fused(c, seed);
    fused_case in_place = *c;
    size_t bytes = rig_bytes(c->dtype, (size_t)c->tokens * c->heads * c->dim);
    char *y = malloc(bytes), *again = malloc(bytes);
    in_place.in_place = !c->in_place;
    if (run_fused(&devices[0], c, &d, y))
        check_fused(c, &d, y, worst);
    for (int k = 1; k <= n; k++)
        if (run_fused(&devices[k % n], k < n ? c : &in_place, &d, again))
            CHECK(!memcmp(y, again, bytes));
    free(y);
    free(again);
    free_fused(&d);
}

/* Any head size, odd ones too, any half: what no pair covers is normed and passed through. */
TEST(fused_head_norm_rope_matrix)
{
    static const uint32_t dims[] = {1,   2,   7,   32,  33,  64,  80,  96,   128,
                                    192, 255, 256, 257, 320, 511, 512, 1024, 1500};
    rig_worst worst[2] = {{.ulp = 0}, {.ulp = 0}};
    uint64_t seed = 43;
    for (int i = 0; i < 18; i++)
        for (int k = 0; k < (test_full() ? 96 : 12); k++) {
            uint64_t r = test_random(&seed);
            fused_case c = {.dtype = k % 2 ? MLXN_F32 : MLXN_BF16,
                            .tokens = 1 + (uint32_t)(r % 3),
                            .heads = 1 + (uint32_t)(r / 3 % 4),
                            .dim = dims[i],
                            .weighted = (int)(r >> 10 & 1),
                            .factors = (int)(r >> 11 & 1),
                            .in_place = (int)(r >> 12 & 1),
                            .prepared = (int)(r >> 13 & 1),
                            .theta = r >> 14 & 1 ? 1e4f : 1e6f};
            uint32_t most = c.dim / 2;
            c.half = k / 2 % 3 == 0 ? most : k / 2 % 3 == 1 ? 0 : (uint32_t)(r >> 20) % (most + 1);
            c.stride = c.half + (int64_t)(r >> 15 & 3);
            check_fused_case(&c, &seed, &worst[k % 2]);
        }
    test_note("bf16 worst %.4f ulp, f32 worst %.2f ulp of the pair (%s)", worst[0].ulp,
              worst[1].ulp, worst[1].where);
}

/* (B4 of the defects below.)  With D 512 and half 64, index 11 goes with 75 in the bf16 form and
 * with 267 in the f32 form. */
TEST(fused_head_norm_rope_b4_partners)
{
    enum { D = 512, HALF = 64 };
    int n;
    const rig_device *on = rig_devices(&n);
    for (int form = 0; form < 2; form++) {
        fused_case c = {.dtype = form ? MLXN_F32 : MLXN_BF16,
                        .tokens = 1,
                        .heads = 1,
                        .dim = D,
                        .half = HALF,
                        .stride = HALF,
                        .theta = 1e4f};
        float x32[D] = {0}, table[2][HALF];
        uint16_t x16[D] = {0}, y16[D];
        uint32_t position[1] = {3};
        float y32[D];
        x32[11] = 1;
        x16[11] = 0x3f80;
        for (int i = 0; i < HALF; i++) {
            table[0][i] = 0.6f;
            table[1][i] = 0.8f;
        }
        fused_data d = {form ? (void *)x32 : (void *)x16, NULL, table[0], table[1], NULL, position};
        REQUIRE(run_fused(on, &c, &d, form ? (void *)y32 : (void *)y16));
        for (int i = 0; i < D; i++) {
            int touched = i == 11 || i == (form ? 267 : 75);
            CHECK((form ? y32[i] != 0 : y16[i] != 0) == touched);
        }
    }
}

/* ---- what mlx-native 0.1.1 gets wrong, defect by defect ---- */

/* Its group memory is sized for 256 elements of a head; the kernel writes all of them. */
TEST(fused_head_norm_rope_b1_heads_over_256)
{
    uint64_t seed = 71;
    rig_worst worst = {.ulp = 0};
    for (uint32_t dim = 255; dim <= 1024; dim += dim < 257 ? 1 : 255) /* 255, 256, 257, 512 ... */
        check_fused_case(&(fused_case){.dtype = MLXN_BF16,
                                       .tokens = 3,
                                       .heads = 4,
                                       .dim = dim,
                                       .half = dim / 2,
                                       .stride = dim / 2,
                                       .weighted = 1},
                         &seed, &worst);
}

/* Its threads read the sum from the slot that thread 0 then overwrites, with no barrier between:
 * 80% of a prompt of 576 tokens came out wrong.  Equal tokens must come out equal, and right. */
TEST(fused_head_norm_rope_b3_equal_tokens)
{
    enum { TOKENS = 576, D = 256, HALF = D / 2 };
    const fused_case c = {
        .dtype = MLXN_BF16, .tokens = TOKENS, .heads = 1, .dim = D, .half = HALF, .stride = HALF};
    int n;
    const rig_device *devices = rig_devices(&n);
    uint64_t seed = 72;
    fused_data d = make_fused(&c, &seed);
    rig_worst worst = {.ulp = 0};
    uint16_t *x = d.x, *y = malloc(TOKENS * D * sizeof *y);
    float *cosine = d.cosine, *sine = d.sine;
    for (int t = 1; t < TOKENS; t++) {
        memcpy(x + t * D, x, D * sizeof *x);
        memcpy(cosine + t * HALF, cosine, HALF * sizeof *cosine);
        memcpy(sine + t * HALF, sine, HALF * sizeof *sine);
    }
    for (int i = 0; i < n; i++) {
        REQUIRE(run_fused(&devices[i], &c, &d, y));
        for (int t = 1; t < TOKENS; t++)
            CHECK(!memcmp(y, y + t * D, D * sizeof *y));
    }
    check_fused(&c, &d, y, &worst);
    free(y);
    free_fused(&d);
}

/* A rotation of nothing leaves its output unwritten there, and an odd head its last element. */
TEST(fused_head_norm_rope_b20_all_is_written)
{
    static const uint32_t shapes[][2] = {{7, 3}, {33, 16}, {64, 0}, {255, 100}, {1, 0}};
    uint64_t seed = 73;
    rig_worst worst = {.ulp = 0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < 2; k++)
            check_fused_case(&(fused_case){.dtype = k ? MLXN_F32 : MLXN_BF16,
                                           .tokens = 2,
                                           .heads = 3,
                                           .dim = shapes[i][0],
                                           .half = shapes[i][1],
                                           .stride = shapes[i][1],
                                           .theta = 1e4f},
                             &seed, &worst);
}

/* There 4 bytes may claim to be 1000 floats, which its norms believe. */
TEST(fused_head_norm_rope_b24_sizes_are_of_the_memory)
{
    const int64_t thousand = 1000;
    int n;
    const rig_device *on = rig_devices(&n);
    float one = 1;
    mlxn_buffer *claimed = NULL, *small = rig_vector(on->device, MLXN_F32, 1, &one);
    mlxn_buffer *x = rig_vector(on->device, MLXN_F32, 1000, NULL);
    CHECK_STATUS(mlxn_buffer_wrap(on->device, &one, sizeof one, MLXN_F32, 1, &thousand, NULL, NULL,
                                  &claimed),
                 MLXN_ERR_BOUNDS);
    CHECK_STATUS(mlxn_buffer_view(small, MLXN_F32, 1, &thousand, NULL, 0, &claimed),
                 MLXN_ERR_BOUNDS);
    CHECK(!claimed);
    const fused_case c = {.dtype = MLXN_F32, .tokens = 1, .heads = 1, .dim = 1000, .theta = 1e4f};
    CHECK_FAILS(record_fused(on, &c, (mlxn_buffer *[8]){small, x}), MLXN_ERR_SHAPE,
                "input has 1 elements, needs 1000");
    CHECK_FAILS(record_fused(on, &c, (mlxn_buffer *[8]){x, small}), MLXN_ERR_SHAPE,
                "output has 1 elements, needs 1000");
    mlxn_buffer_release(small);
    mlxn_buffer_release(x);
}

/* There eps, dim and counts lie in a buffer of their own, which nobody compares with what was
 * checked.  Here the scalars of the call are the only ones, and every operand is held against
 * them. */
TEST(fused_head_norm_rope_b25_scalars_are_held_against_operands)
{
    const fused_case right = {
        .dtype = MLXN_F32, .tokens = 2, .heads = 2, .dim = 8, .half = 4, .theta = 1e4f};
    int n;
    const rig_device *on = rig_devices(&n);
    mlxn_buffer *x = rig_vector(on->device, MLXN_F32, 32, NULL);
    mlxn_buffer *y = rig_vector(on->device, MLXN_F32, 32, NULL);
    mlxn_buffer *w = rig_vector(on->device, MLXN_F32, 8, NULL);
    mlxn_buffer *p = rig_vector(on->device, MLXN_U32, 2, NULL);
    for (int i = 0; i < 3; i++) {
        fused_case c = right;
        c.tokens += i == 0;
        c.heads += i == 1;
        c.dim += i == 2;
        CHECK_STATUS(record_fused(on, &c, (mlxn_buffer *[8]){x, y, w, p}), MLXN_ERR_SHAPE);
    }
    CHECK_STATUS(record_fused(on, &right, (mlxn_buffer *[8]){x, y, w, p}), MLXN_OK);
    CHECK(rig_finish(on, MLXN_OK));
    mlxn_buffer *all[] = {x, y, w, p};
    for (int i = 0; i < 4; i++)
        mlxn_buffer_release(all[i]);
}

/* ---- refusals ---- */

#define FUSED(c, ...) record_fused(on, (c), (mlxn_buffer *[8]){__VA_ARGS__})

TEST(fused_head_norm_rope_bf16_rejections)
{
    const fused_case right = {
        .dtype = MLXN_BF16, .tokens = 2, .heads = 3, .dim = 64, .half = 32, .stride = 32};
    fused_case c = right;
    int n;
    const rig_device *on = rig_devices(&n);
    mlxn_device *dev = on->device;
    mlxn_buffer *x = rig_vector(dev, MLXN_BF16, 384, NULL);
    mlxn_buffer *y = rig_vector(dev, MLXN_BF16, 384, NULL);
    mlxn_buffer *w = rig_vector(dev, MLXN_BF16, 64, NULL);
    mlxn_buffer *t = rig_vector(dev, MLXN_F32, 64, NULL);
    mlxn_buffer *x32 = rig_vector(dev, MLXN_F32, 384, NULL);
    mlxn_buffer *small = rig_vector(dev, MLXN_BF16, 383, NULL);
    mlxn_buffer *t63 = rig_vector(dev, MLXN_F32, 63, NULL);
    CHECK_STATUS(mlxn_fused_head_norm_rope_bf16(NULL, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_fused_head_norm_rope_bf16(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_FAILS(FUSED(&c, NULL, y, w, t, t), MLXN_ERR_ARGUMENT, "input is NULL");
    CHECK_FAILS(FUSED(&c, x, NULL, w, t, t), MLXN_ERR_ARGUMENT, "output is NULL");
    CHECK_FAILS(FUSED(&c, x, y, w, NULL, t), MLXN_ERR_ARGUMENT, "cos_cache is NULL");
    CHECK_FAILS(FUSED(&c, x32, y, w, t, t), MLXN_ERR_DTYPE, "input is f32, needs bf16");
    CHECK_FAILS(FUSED(&c, x, y, t, t, t), MLXN_ERR_DTYPE, "norm_weight is f32, needs bf16");
    CHECK_FAILS(FUSED(&c, x, y, w, w, t), MLXN_ERR_DTYPE, "cos_cache is bf16, needs f32");
    CHECK_FAILS(FUSED(&c, small, y, w, t, t), MLXN_ERR_SHAPE, "input has 383 elements, needs 384");
    CHECK_FAILS(FUSED(&c, x, small, w, t, t), MLXN_ERR_SHAPE, "output has 383 elements, needs 384");
    CHECK_FAILS(FUSED(&c, x, y, small, t, t), MLXN_ERR_SHAPE,
                "norm_weight has 383 elements, needs 64");
    CHECK_FAILS(FUSED(&c, x, y, w, t, t63), MLXN_ERR_SHAPE, "sin_cache has 63 elements, needs 64");
    CHECK_FAILS(FUSED(&c, x, w, w, t, t), MLXN_ERR_SHAPE, "output has 64 elements, needs 384");
    c.stride = 31;
    CHECK_FAILS(FUSED(&c, x, y, w, t, t), MLXN_ERR_ARGUMENT,
                "cos_row_stride is 31, needs at least 32");
    c.stride = INT64_MAX;
    CHECK_FAILS(FUSED(&c, x, y, w, t, t), MLXN_ERR_OVERFLOW, "cos_row_stride");
    c = right;
    c.half = 33;
    CHECK_FAILS(FUSED(&c, x, y, w, t, t), MLXN_ERR_ARGUMENT,
                "half_rope_dim is 33, needs at most 32");
    c = right;
    c.heads = 0;
    CHECK_FAILS(FUSED(&c, x, y, w, t, t), MLXN_ERR_ARGUMENT, "n_heads is 0");
    c.tokens = c.heads = c.dim = UINT32_MAX;
    CHECK_FAILS(FUSED(&c, x, y, w, t, t), MLXN_ERR_OVERFLOW, "passes 2^63");
    mlxn_buffer *all[] = {x, y, w, t, x32, small, t63};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}

TEST(fused_head_norm_rope_f32_rejections)
{
    fused_case c = {
        .dtype = MLXN_F32, .tokens = 2, .heads = 3, .dim = 64, .half = 32, .theta = 1e4f};
    int n;
    const rig_device *on = rig_devices(&n);
    mlxn_device *dev = on->device;
    mlxn_buffer *x = rig_vector(dev, MLXN_F32, 384, NULL);
    mlxn_buffer *y = rig_vector(dev, MLXN_F32, 384, NULL);
    mlxn_buffer *p = rig_vector(dev, MLXN_U32, 2, NULL);
    mlxn_buffer *bf16 = rig_vector(dev, MLXN_BF16, 384, NULL);
    mlxn_buffer *p1 = rig_vector(dev, MLXN_U32, 1, NULL);
    mlxn_buffer *i32 = rig_vector(dev, MLXN_I32, 2, NULL);
    mlxn_buffer *f31 = rig_vector(dev, MLXN_F32, 31, NULL);
    CHECK_STATUS(mlxn_fused_head_norm_rope_f32(NULL, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_fused_head_norm_rope_f32(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_FAILS(FUSED(&c, bf16, y, NULL, p, NULL), MLXN_ERR_DTYPE, "input is bf16, needs f32");
    CHECK_FAILS(FUSED(&c, x, y, NULL, NULL, NULL), MLXN_ERR_ARGUMENT, "positions_buf is NULL");
    CHECK_FAILS(FUSED(&c, x, y, NULL, i32, NULL), MLXN_ERR_DTYPE,
                "positions_buf is i32, needs u32");
    CHECK_FAILS(FUSED(&c, x, y, NULL, p1, NULL), MLXN_ERR_SHAPE,
                "positions_buf has 1 elements, needs 2");
    CHECK_FAILS(FUSED(&c, x, y, NULL, p, f31), MLXN_ERR_SHAPE,
                "freq_factors has 31 elements, needs 32");
    CHECK_FAILS(FUSED(&c, x, y, NULL, p, NULL, f31), MLXN_ERR_SHAPE, "freqs has 1 dimensions");
    c.theta = 0;
    CHECK_FAILS(FUSED(&c, x, y, NULL, p, NULL), MLXN_ERR_ARGUMENT, "theta is 0, needs > 0");
    mlxn_buffer *all[] = {x, y, p, bf16, p1, i32, f31};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}
