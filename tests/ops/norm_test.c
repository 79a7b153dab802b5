/* norm_test.c - rms_norm, norm_add and residual_norm: float64 references, equal bits over paths,
 * team sizes, batch splits and in place, and every refusal.
 *
 * Bound (docs/numerics.md): for dim n, r is within (n/64 + 5.5) u, a weighted element within
 * (n/64 + 8.5) u, u = 2^-24 relative; then half an ulp of the output dtype. */
#include "rig.h"

typedef enum norm_form { RMS_NORM, NORM_ADD, RESIDUAL_NORM, NORM_FORMS } norm_form;
static const char *const form_names[NORM_FORMS] = {"rms_norm", "norm_add", "residual_norm"};

typedef struct norm_case {
    norm_form form;
    mlxn_dtype dtype, weight_dtype; /* weight MLXN_DTYPE_NONE: no weight */
    int64_t rows, dim, stride;
    int second, in_place; /* second: output_norm or sum wanted */
    float eps, bias;
} norm_case;

/* Host images of the operands: rows `stride` apart. */
typedef struct norm_data {
    void *input, *residual, *weight, *weight2;
    size_t bytes;
} norm_data;

static norm_data make_data(const norm_case *c, uint64_t *seed)
{
    size_t n = (size_t)(c->rows * c->stride);
    mlxn_dtype w = c->weight_dtype ? c->weight_dtype : MLXN_F32;
    return (norm_data){rig_normal(c->dtype, n, 3, seed), rig_normal(c->dtype, n, 3, seed),
                       rig_normal(w, (size_t)c->dim, 1, seed),
                       rig_normal(w, (size_t)c->dim, 1, seed), rig_bytes(c->dtype, n)};
}

static void free_data(norm_data *d)
{
    free(d->input);
    free(d->residual);
    free(d->weight);
    free(d->weight2);
}

static mlxn_status record(const rig_device *on, const norm_case *c, mlxn_buffer *in,
                          mlxn_buffer *residual, mlxn_buffer *w, mlxn_buffer *w2, mlxn_buffer *out,
                          mlxn_buffer *second)
{
    if (c->form == RMS_NORM)
        return mlxn_rms_norm(on->encoder,
                             MLXN_DESC(mlxn_rms_norm_args, .input = in, .weight = w, .output = out,
                                       .eps = c->eps, .weight_bias = c->bias));
    if (c->form == NORM_ADD)
        return mlxn_norm_add(on->encoder,
                             MLXN_DESC(mlxn_norm_add_args, .input = in, .weight = w,
                                       .residual = residual, .output = out,
                                       .weight2 = second ? w2 : NULL, .output_norm = second,
                                       .eps = c->eps, .weight_bias = c->bias));
    return mlxn_residual_norm(on->encoder,
                              MLXN_DESC(mlxn_residual_norm_args, .input = in, .residual = residual,
                                        .weight = w, .output = out, .sum = second, .eps = c->eps,
                                        .weight_bias = c->bias));
}

/* Runs the case on one device; out and second receive whole images (gaps included: zeros, or the
 * operand's own in place). */
static int run_case(const rig_device *on, const norm_case *c, const norm_data *d, void *out,
                    void *second)
{
    const int64_t n = c->rows * c->stride, shape[2] = {c->rows, c->dim},
                  strides[2] = {c->stride, 1};
    mlxn_buffer *b[6] = {rig_vector(on->device, c->dtype, n, d->input),
                         rig_vector(on->device, c->dtype, n, d->residual),
                         rig_vector(on->device, c->dtype, n, NULL),
                         rig_vector(on->device, c->dtype, n, NULL)};
    mlxn_buffer *v[4];
    /* the operands that may be overwritten, by form: output, second */
    static const int in_place[NORM_FORMS][2] = {{0, 3}, {1, 0}, {0, 1}};
    int at_out = c->in_place ? in_place[c->form][0] : 2;
    int at_second = c->in_place ? in_place[c->form][1] : 3;
    if (c->weight_dtype) {
        b[4] = rig_vector(on->device, c->weight_dtype, c->dim, d->weight);
        b[5] = rig_vector(on->device, c->weight_dtype, c->dim, d->weight2);
    }
    for (int i = 0; i < 4; i++)
        v[i] = rig_view(b[i], 2, shape, strides, 0);
    int ok = test_status(record(on, c, v[0], v[1], b[4], b[5], v[at_out],
                                c->second && c->form != RMS_NORM ? v[at_second] : NULL),
                         MLXN_OK, __FILE__, __LINE__, form_names[c->form]);
    ok = ok && rig_finish(on, MLXN_OK);
    rig_read(b[at_out], out);
    rig_read(b[at_second], second);
    for (int i = 0; i < 6; i++)
        mlxn_buffer_release(b[i]);
    for (int i = 0; i < 4; i++)
        mlxn_buffer_release(v[i]);
    return ok;
}

static double root(const double *x, int64_t n, double eps)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return 1 / sqrt(sum / (double)n + eps);
}

static double weight_at(const norm_case *c, const void *w, int64_t i)
{
    return c->weight_dtype ? test_load(c->weight_dtype, w, (size_t)i) + (double)c->bias : 1;
}

/* One element against the exact value; `spread` is the magnitude that its f32 errors scale with.
 * The worst is kept by dtype, as by rig_float. */
static void check_element(const norm_case *c, rig_worst *worst, const void *got, int64_t at,
                          double exact, double spread, double steps)
{
    double value = test_load(c->dtype, got, (size_t)at);
    double ulp32 = test_ulp(value, exact, spread, MLXN_F32);
    double ulp_out = test_ulp(value, exact, exact, c->dtype);
    rig_record(&worst[rig_float(c->dtype)], test_ulp(value, exact, spread, c->dtype), "%s dim %lld",
               form_names[c->form], (long long)c->dim);
    if (c->dtype == MLXN_F32
            ? ulp32 > steps
            : ulp_out > 0.5 + test_ulp(steps * spread * 0x1p-24, 0, exact, c->dtype))
        test_failed(__FILE__, __LINE__, "%s %s dim %lld at %lld: %a, exact %a (%g ulp)",
                    form_names[c->form], mlxn_dtype_name(c->dtype), (long long)c->dim,
                    (long long)at, value, exact, c->dtype == MLXN_F32 ? ulp32 : ulp_out);
}

static void check_row(const norm_case *c, const norm_data *d, const void *out, const void *second,
                      int64_t row, rig_worst *worst)
{
    double *x = malloc((size_t)c->dim * 2 * sizeof *x), *s = x + c->dim;
    double steps = (double)c->dim / 64 + 8.5;
    for (int64_t i = 0; i < c->dim; i++) {
        x[i] = test_load(c->dtype, d->input, (size_t)(row * c->stride + i));
        s[i] = test_load(c->dtype, d->residual, (size_t)(row * c->stride + i));
        if (c->form == RESIDUAL_NORM)
            s[i] += x[i];
    }
    double r = root(c->form == RESIDUAL_NORM ? s : x, c->dim, (double)c->eps), r2 = 0;
    if (c->form == NORM_ADD) {
        for (int64_t i = 0; i < c->dim; i++)
            s[i] += x[i] * r * weight_at(c, d->weight, i);
        r2 = root(s, c->dim, (double)c->eps);
    }
    for (int64_t i = 0; i < c->dim; i++) {
        int64_t at = row * c->stride + i;
        double w = weight_at(c, d->weight, i), w2 = weight_at(c, d->weight2, i);
        double normed = x[i] * r * w;
        if (c->form == RMS_NORM) {
            check_element(c, worst, out, at, normed, normed, steps);
        } else if (c->form == NORM_ADD) {
            double spread = fabs(normed) + fabs(s[i]);
            check_element(c, worst, out, at, s[i], spread, steps + 1);
            if (c->second)
                check_element(c, worst, second, at, s[i] * r2 * w2, spread * r2 * w2,
                              2 * steps + 1);
        } else {
            check_element(c, worst, out, at, s[i] * r * w, s[i] * r * w, steps + 2);
            if (c->second)
                check_element(c, worst, second, at, s[i], s[i], 1);
        }
    }
    free(x);
}

/* Reference, then the same bits on every device and for the last row alone. */
static void check_case(const norm_case *c, uint64_t *seed, rig_worst *worst)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    norm_data d = make_data(c, seed);
    char *out[2] = {malloc(d.bytes), malloc(d.bytes)},
         *second[2] = {malloc(d.bytes), malloc(d.bytes)};
    if (run_case(&devices[0], c, &d, out[0], second[0]))
        for (int64_t row = 0; row < c->rows; row++)
            check_row(c, &d, out[0], second[0], row, worst);
    for (int k = 1; k < n; k++)
        if (run_case(&devices[k], c, &d, out[1], second[1]) &&
            (memcmp(out[0], out[1], d.bytes) || memcmp(second[0], second[1], d.bytes)))
            test_failed(__FILE__, __LINE__, "%s dim %lld: %s with %u threads differs",
                        form_names[c->form], (long long)c->dim, devices[k].path,
                        devices[k].threads);
    norm_case alone = *c;
    norm_data last = d;
    size_t skip = rig_bytes(c->dtype, (size_t)((c->rows - 1) * c->stride));
    alone.rows = 1;
    last.input = (char *)d.input + skip;
    last.residual = (char *)d.residual + skip;
    size_t row_bytes = rig_bytes(c->dtype, (size_t)c->dim);
    if (run_case(&devices[0], &alone, &last, out[1], second[1]))
        CHECK(!memcmp(out[0] + skip, out[1], row_bytes) &&
              !memcmp(second[0] + skip, second[1], row_bytes));
    for (int i = 0; i < 2; i++) {
        free(out[i]);
        free(second[i]);
    }
    free_data(&d);
}

/* All combinations in the long tier, a fixed random choice of them else. */
TEST(norm_matrix)
{
    static const int64_t dims[] = {1,  2,  7,  15, 16,  17,  31,  32,   33,
                                   63, 64, 80, 96, 128, 256, 640, 1000, 2816};
    static const mlxn_dtype dtypes[] = {MLXN_F32, MLXN_F16, MLXN_BF16};
    static const mlxn_dtype weights[] = {MLXN_DTYPE_NONE, MLXN_F32, MLXN_F16, MLXN_BF16};
    rig_worst worst[RIG_FLOATS] = {{0}};
    uint64_t seed = 11;
    int cases = 0;
    for (int form = 0; form < NORM_FORMS; form++)
        for (int i = 0; i < 18; i++)
            for (int k = 0; k < 3 * 4 * 2 * 2 * 2; k++) {
                if (!test_full() && test_random(&seed) % 24)
                    continue;
                int weighted = k / 3 % 4 != 0;
                norm_case c = {.form = (norm_form)form,
                               .dtype = dtypes[k % 3],
                               .weight_dtype = weights[k / 3 % 4],
                               .rows = 1 + (int64_t)(test_random(&seed) % 5),
                               .dim = dims[i],
                               .stride = dims[i] + (k / 12 % 2 ? 5 : 0),
                               .second = k / 24 % 2,
                               .in_place = k / 48 % 2,
                               .eps = k % 5 ? 1e-6f : 0.5f,
                               .bias = weighted && k % 2 ? 1.0f : 0.0f};
                check_case(&c, &seed, worst);
                cases++;
            }
    test_note("%d cases; f32 worst %.2f ulp, %s; f16 %.4f; bf16 %.4f", cases, worst[0].ulp,
              worst[0].where, worst[1].ulp, worst[2].ulp);
}

/* For the sizes that models have, the f32 result is within 4 ulp: the roundings do not all fall the
 * same way. */
TEST(norm_f32_four_ulp)
{
    static const int64_t dims[] = {64, 128, 256, 512, 640, 1024, 2816};
    uint64_t seed = 5;
    for (int i = 0; i < 7; i++) {
        rig_worst worst = {0};
        norm_case c = {.form = RMS_NORM,
                       .dtype = MLXN_F32,
                       .weight_dtype = MLXN_F32,
                       .rows = 64,
                       .dim = dims[i],
                       .stride = dims[i],
                       .eps = 1e-6f};
        check_case(&c, &seed, &worst);
        test_note("dim %lld: %.2f ulp", (long long)dims[i], worst.ulp);
        CHECK(worst.ulp <= 4);
    }
}

/* Weights that a dispatch of the same commit has written, and those of a buffer that none has:
 * a GPU reads the latter alone before it waits.  Equal bits. */
TEST(norm_weight_of_a_dispatch)
{
    enum { N = 64 };
    int n;
    const rig_device *on = rig_devices(&n);
    uint64_t seed = 23;
    float *x = rig_normal(MLXN_F32, N, 3, &seed), *half = rig_normal(MLXN_F32, N, 1, &seed);
    float w[N], y[2][N];
    for (int i = 0; i < N; i++)
        w[i] = half[i] + half[i];
    for (int d = 0; d < n; d++) {
        mlxn_buffer *in = rig_vector(on[d].device, MLXN_F32, N, x);
        mlxn_buffer *part = rig_vector(on[d].device, MLXN_F32, N, half);
        mlxn_buffer *weight[2] = {rig_vector(on[d].device, MLXN_F32, N, w),
                                  rig_vector(on[d].device, MLXN_F32, N, NULL)};
        mlxn_buffer *out = rig_vector(on[d].device, MLXN_F32, N, NULL);
        for (int written = 0; written < 2; written++) {
            if (written)
                REQUIRE(mlxn_add(on[d].encoder, MLXN_DESC(mlxn_binary_args, .a = part, .b = part,
                                                          .output = weight[1])) == MLXN_OK);
            REQUIRE(mlxn_rms_norm(on[d].encoder, MLXN_DESC(mlxn_rms_norm_args, .input = in,
                                                           .weight = weight[written], .output = out,
                                                           .eps = 1e-6f)) == MLXN_OK);
            REQUIRE(rig_finish(&on[d], MLXN_OK));
            rig_read(out, y[written]);
        }
        CHECK(!memcmp(y[0], y[1], sizeof y[0]));
        mlxn_buffer *all[] = {in, part, weight[0], weight[1], out};
        for (int i = 0; i < 5; i++)
            mlxn_buffer_release(all[i]);
    }
    free(x);
    free(half);
}

/* Infinities, NaN, overflowing squares and subnormals; eps 0 on zeros is 0/0. */
TEST(norm_extremes)
{
    int n;
    const rig_device *on = rig_devices(&n);
    const float rows[6][4] = {{NAN, 1, 2, 3},         {HUGE_VALF, 1, 2, 3}, {1e30f, 1e30f, 0, 0},
                              {1e-40f, 2e-40f, 0, 0}, {0, 0, 0, 0},         {0, -0.0f, 0, 0}};
    const norm_case c = {
        .form = RMS_NORM, .dtype = MLXN_F32, .rows = 6, .dim = 4, .stride = 4, .eps = 1e-6f};
    norm_data d = {.input = (void *)(uintptr_t)rows, .residual = (void *)(uintptr_t)rows};
    float y[6][4], unused[24];
    for (int k = 0; k < n; k++) {
        REQUIRE(run_case(&on[k], &c, &d, y, unused));
        CHECK(isnan(y[0][0]) && isnan(y[0][1]) && isnan(y[0][3]));
        CHECK(isnan(y[1][0]) && y[1][1] == 0);
        CHECK(y[2][0] == 0 && y[2][2] == 0); /* the sum is infinite, r is 0 */
        CHECK(fabs((double)y[3][1] / 2e-37 - 1) < 1e-3);
        CHECK(y[4][0] == 0 && y[5][1] == 0 && signbit(y[5][1]));
    }
}

static void rejections(norm_form form)
{
    int n;
    const rig_device *on = rig_devices(&n);
    mlxn_device *dev = on->device;
    const norm_case c = {.form = form, .eps = 1e-6f};
    norm_case bad = c;
    mlxn_buffer *x = rig_vector(dev, MLXN_F32, 96, NULL), *r = rig_vector(dev, MLXN_F32, 96, NULL);
    mlxn_buffer *y = rig_vector(dev, MLXN_F32, 96, NULL), *w = rig_vector(dev, MLXN_F32, 96, NULL);
    mlxn_buffer *short_w = rig_vector(dev, MLXN_F32, 95, NULL);
    mlxn_buffer *short_y = rig_vector(dev, MLXN_F32, 95, NULL);
    mlxn_buffer *half = rig_vector(dev, MLXN_BF16, 96, NULL);
    mlxn_buffer *ints = rig_vector(dev, MLXN_I32, 96, NULL);
    mlxn_buffer *other = rig_vector(on[1].device, MLXN_F32, 96, NULL);
    const int64_t two[2] = {2, 64}, zero[2] = {0, 1}, shifted[2] = {32, 1};
    mlxn_buffer *twice = rig_view(x, 2, two, zero, 0), *y2 = rig_view(y, 2, two, shifted, 0);
    CHECK_FAILS(record(on, &c, NULL, r, w, NULL, y, NULL), MLXN_ERR_ARGUMENT, "input is NULL");
    CHECK_FAILS(record(on, &c, x, r, w, NULL, NULL, NULL), MLXN_ERR_ARGUMENT, "output is NULL");
    CHECK_FAILS(record(on, &c, ints, r, w, NULL, y, NULL), MLXN_ERR_DTYPE, "input is i32");
    CHECK_FAILS(record(on, &c, x, r, ints, NULL, y, NULL), MLXN_ERR_DTYPE, "weight is i32");
    CHECK_FAILS(record(on, &c, x, r, w, NULL, half, NULL), MLXN_ERR_DTYPE, "output is bf16");
    CHECK_FAILS(record(on, &c, x, r, short_w, NULL, y, NULL), MLXN_ERR_SHAPE,
                "weight has 95 in dimension 0, needs 96");
    CHECK_FAILS(record(on, &c, x, r, w, NULL, short_y, NULL), MLXN_ERR_SHAPE,
                "output has 95 in dimension 0, input has 96");
    CHECK_FAILS(record(on, &c, x, r, w, NULL, w, NULL), MLXN_ERR_OVERLAP, "output and weight");
    CHECK_FAILS(record(on, &c, other, r, w, NULL, y, NULL), MLXN_ERR_ARGUMENT, "another device");
    CHECK_FAILS(record(on, &c, twice, twice, NULL, NULL, y2, NULL), MLXN_ERR_OVERLAP,
                "output overlaps itself: stride 32 in dimension 0, needs 64");
    bad.eps = -1;
    CHECK_FAILS(record(on, &bad, x, r, w, NULL, y, NULL), MLXN_ERR_ARGUMENT, "eps is -1");
    bad.eps = NAN;
    CHECK_FAILS(record(on, &bad, x, r, w, NULL, y, NULL), MLXN_ERR_ARGUMENT, "eps is nan");
    bad = c;
    bad.bias = 1;
    CHECK_FAILS(record(on, &bad, x, r, NULL, NULL, y, NULL), MLXN_ERR_ARGUMENT,
                "weight_bias is 1, needs 0 without a weight");
    if (form != RMS_NORM) {
        CHECK_FAILS(record(on, &c, x, NULL, w, NULL, y, NULL), MLXN_ERR_ARGUMENT,
                    "residual is NULL");
        CHECK_FAILS(record(on, &c, x, r, w, NULL, form == NORM_ADD ? x : r, NULL), MLXN_ERR_OVERLAP,
                    "output and");
        CHECK_FAILS(record(on, &c, x, r, w, NULL, y, y), MLXN_ERR_OVERLAP, "and output");
    }
    mlxn_buffer *all[] = {x, r, y, w, short_w, short_y, half, ints, other, twice, y2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}

TEST(norm_rejections)
{
    int n;
    const rig_device *on = rig_devices(&n);
    for (int form = 0; form < NORM_FORMS; form++)
        rejections((norm_form)form);
    CHECK_FAILS(mlxn_rms_norm(NULL, MLXN_DESC(mlxn_rms_norm_args, .eps = 0)), MLXN_ERR_ARGUMENT,
                "encoder is NULL");
    CHECK_STATUS(mlxn_rms_norm(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_norm_add(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_residual_norm(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    mlxn_buffer *x = rig_vector(on->device, MLXN_F32, 8, NULL);
    mlxn_buffer *y = rig_vector(on->device, MLXN_F32, 8, NULL);
    CHECK_FAILS(mlxn_norm_add(on->encoder, MLXN_DESC(mlxn_norm_add_args, .input = x, .residual = x,
                                                     .output = y, .weight2 = x)),
                MLXN_ERR_ARGUMENT, "weight2 is given, output_norm is not");
    mlxn_buffer_release(x);
    mlxn_buffer_release(y);
}
