/* elementwise_test.c - gelu_mul, add, mul, softcap and softmax: float64 references, equal bits over
 * paths, team sizes and in place, and every refusal.
 *
 * Bounds (docs/numerics.md), in units u = 2^-24 relative, before the output's own half ulp:
 * add, mul 1; softcap 6 (tanh is within 2 ulp); gelu_mul 3 + e/(1 + e) (4 |2u| + 2), e = e^(-2u);
 * softmax: see check_softmax. */
#include "rig.h"

typedef enum op { OP_GELU_MUL, OP_ADD, OP_MUL, OP_SOFTCAP, OPS } op;
static const char *const op_names[OPS] = {"gelu_mul", "add", "mul", "softcap"};
static const mlxn_dtype floats[] = {MLXN_F32, MLXN_F16, MLXN_BF16};
static const float cap = 30;

static mlxn_status record(const rig_device *on, op f, mlxn_buffer *a, mlxn_buffer *b,
                          mlxn_buffer *out)
{
    switch (f) {
    case OP_GELU_MUL:
        return mlxn_gelu_mul(on->encoder,
                             MLXN_DESC(mlxn_gelu_mul_args, .gate = a, .up = b, .output = out));
    case OP_ADD:
        return mlxn_add(on->encoder, MLXN_DESC(mlxn_binary_args, .a = a, .b = b, .output = out));
    case OP_MUL:
        return mlxn_mul(on->encoder, MLXN_DESC(mlxn_binary_args, .a = a, .b = b, .output = out));
    default:
        return mlxn_softcap(on->encoder,
                            MLXN_DESC(mlxn_softcap_args, .input = a, .output = out, .cap = cap));
    }
}

/* The exact value, its relative f32 bound in u, and an absolute allowance. */
static double exact(op f, double a, double b, double *steps, double *allowance)
{
    *steps = 1;
    *allowance = 0;
    if (f == OP_ADD)
        return a + b;
    if (f == OP_MUL)
        return a * b;
    if (f == OP_SOFTCAP) {
        *steps = 6;
        return (double)cap * tanh(a / (double)cap);
    }
    double u2 = 2 * 0.7978845608028654 * (a + 0.044715 * a * a * a), e = exp(-u2);
    *steps = 3 + (isinf(e) ? 1 : e / (1 + e)) * (4 * fabs(u2) + 2);
    *allowance = fabs(a * b) * 0x1p-126; /* e^(-2u) passes the largest float */
    /* the tanh form, written so that it does not cancel in float64 either */
    return a * b / (1 + e);
}

static void check_element(const char *name, mlxn_dtype dtype, const void *out, size_t i,
                          double want, double error, rig_worst *worst)
{
    double got = test_load(dtype, out, i), off = fabs(got - want);
    double half = 0.5 / test_ulp(1, 0, want, dtype); /* half an ulp of the output */
    if (dtype == MLXN_F32 && fabs(want) > 1e-30)
        rig_record(worst, test_ulp(got, want, want, MLXN_F32), "%s", name);
    if (isinf(got) && fabs(want) > 65000 && dtype == MLXN_F16)
        return;
    if (!(off <= error + (dtype == MLXN_F32 ? 0 : half) + 0x1p-149))
        test_failed(__FILE__, __LINE__, "%s %s: %a, exact %a", name, mlxn_dtype_name(dtype), got,
                    want);
}

/* rows x dim, rows `stride` apart in a base of rows * stride. */
typedef struct shape2 {
    int64_t rows, dim, stride;
} shape2;

static void run(const rig_device *on, op f, mlxn_dtype dtype, shape2 s, int in_place, const void *a,
                const void *b, void *out)
{
    const int64_t n = s.rows * s.stride, shape[2] = {s.rows, s.dim}, strides[2] = {s.stride, 1};
    mlxn_buffer *base[3] = {rig_vector(on->device, dtype, n, a),
                            rig_vector(on->device, dtype, n, b),
                            rig_vector(on->device, dtype, n, NULL)};
    mlxn_buffer *view[3];
    int to = in_place == 0 ? 2 : in_place == 1 || f == OP_SOFTCAP ? 0 : 1;
    for (int i = 0; i < 3; i++)
        view[i] = rig_view(base[i], 2, shape, strides, 0);
    CHECK_STATUS(record(on, f, view[0], view[1], view[to]), MLXN_OK);
    rig_finish(on, MLXN_OK);
    rig_read(base[to], out);
    for (int i = 0; i < 3; i++) {
        mlxn_buffer_release(base[i]);
        mlxn_buffer_release(view[i]);
    }
}

static void check_op(op f, mlxn_dtype dtype, shape2 s, uint64_t *seed, rig_worst *worst)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    size_t total = (size_t)(s.rows * s.stride), bytes = rig_bytes(dtype, total);
    void *a = rig_normal(dtype, total, f == OP_SOFTCAP ? 40 : 3, seed);
    void *b = rig_normal(dtype, total, 2, seed);
    char *out = calloc(bytes, 1), *again = calloc(bytes, 1);
    run(&devices[0], f, dtype, s, 0, a, b, out);
    for (int64_t i = 0; i < s.rows * s.stride; i++) {
        double steps, allowance, x = test_load(dtype, a, (size_t)i);
        double want = exact(f, x, test_load(dtype, b, (size_t)i), &steps, &allowance);
        if (i % s.stride < s.dim)
            check_element(op_names[f], dtype, out, (size_t)i, want,
                          steps * fabs(want) * 0x1p-24 + allowance, worst);
        else
            CHECK(test_load(dtype, out, (size_t)i) == 0); /* gaps stay */
    }
    for (int k = 0; k < n + 2; k++) {
        run(&devices[k % n], f, dtype, s, k < n ? 0 : k - n + 1, a, b, again);
        for (int64_t row = 0; row < s.rows; row++)
            CHECK(!memcmp(out + rig_bytes(dtype, (size_t)(row * s.stride)),
                          again + rig_bytes(dtype, (size_t)(row * s.stride)),
                          rig_bytes(dtype, (size_t)s.dim)));
    }
    free(a);
    free(b);
    free(out);
    free(again);
}

TEST(elementwise_matrix)
{
    static const int64_t dims[] = {1, 2, 15, 16, 17, 63, 64, 65, 640, 1000};
    uint64_t seed = 3;
    for (int f = 0; f < OPS; f++) {
        rig_worst worst = {0};
        for (int d = 0; d < 3; d++)
            for (int i = 0; i < 10; i++)
                for (int gap = 0; gap < (test_full() ? 4 : 2); gap++) {
                    int64_t rows = 1 + (int64_t)(test_random(&seed) % 4);
                    check_op((op)f, floats[d], (shape2){rows, dims[i], dims[i] + 3 * gap}, &seed,
                             &worst);
                }
        test_note("%s: f32 worst %.2f ulp", op_names[f], worst.ulp);
    }
}

/* gelu over all magnitudes, where 1 + tanh u would cancel; and special values. */
TEST(elementwise_gelu_range)
{
    enum { N = 4096 };
    static float x[N], one[N], y[N];
    int n;
    const rig_device *on = rig_devices(&n);
    rig_worst worst = {0};
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i - N / 2) * (i % 2 ? 0.01f : 1e-4f);
        one[i] = 1;
    }
    x[0] = NAN;
    x[1] = HUGE_VALF;
    x[2] = 3e38f;
    x[3] = -3e38f;
    x[4] = -0.0f;
    for (int k = 0; k < n; k++) {
        run(&on[k], OP_GELU_MUL, MLXN_F32, (shape2){1, N, N}, 0, x, one, y);
        CHECK(isnan(y[0]) && y[1] == HUGE_VALF && y[2] == x[2] && y[3] == 0 && y[4] == 0);
        CHECK(signbit(y[4]));
        for (int i = 5; i < N; i++) {
            double steps, allowance, want = exact(OP_GELU_MUL, (double)x[i], 1, &steps, &allowance);
            check_element("gelu", MLXN_F32, y, (size_t)i, want,
                          steps * fabs(want) * 0x1p-24 + allowance, &worst);
        }
    }
    test_note("gelu: worst %.2f ulp", worst.ulp);
}

/* ---- softmax ---- */

/* The rows of the output lie 2 elements farther apart than those of the input, in `out` as those.
 */
static void run_softmax(const rig_device *on, mlxn_dtype in, mlxn_dtype out_dtype, shape2 s,
                        int in_place, const void *x, void *out)
{
    const int64_t apart = s.stride + (in_place ? 0 : 2), shape[2] = {s.rows, s.dim};
    mlxn_buffer *a = rig_vector(on->device, in, s.rows * s.stride, x),
                *b = rig_vector(on->device, out_dtype, s.rows * apart, NULL);
    mlxn_buffer *va = rig_view(a, 2, shape, (int64_t[]){s.stride, 1}, 0),
                *vb = rig_view(b, 2, shape, (int64_t[]){apart, 1}, 0);
    char *all = malloc(mlxn_buffer_bytes(in_place ? a : b));
    CHECK_STATUS(mlxn_softmax(on->encoder, MLXN_DESC(mlxn_softmax_args, .input = va,
                                                     .output = in_place ? va : vb)),
                 MLXN_OK);
    rig_finish(on, MLXN_OK);
    rig_read(in_place ? a : b, all);
    for (int64_t row = 0; row < s.rows; row++)
        memcpy((char *)out + rig_bytes(out_dtype, (size_t)(row * s.stride)),
               all + rig_bytes(out_dtype, (size_t)(row * apart)),
               rig_bytes(out_dtype, (size_t)s.dim));
    free(all);
    mlxn_buffer_release(a);
    mlxn_buffer_release(b);
    mlxn_buffer_release(va);
    mlxn_buffer_release(vb);
}

/* e_i is off by |x_i - max| (the difference's rounding) and 2 (exp), the sum by the weighted mean
 * of those and n/32 + 5, the quotient by 1. */
static void check_softmax(mlxn_dtype in, mlxn_dtype out, const void *x, const void *y, shape2 s,
                          rig_worst *worst)
{
    for (int64_t row = 0; row < s.rows; row++) {
        double max = -HUGE_VAL, sum = 0, spread = 0;
        for (int pass = 0; pass < 3; pass++)
            for (int64_t i = 0; i < s.dim; i++) {
                double v = test_load(in, x, (size_t)(row * s.stride + i)), e = exp(v - max);
                if (pass == 0) {
                    max = fmax(max, v);
                } else if (pass == 1) {
                    sum += e;
                    spread += e * (max - v + 2);
                } else {
                    double steps = max - v + 2 + spread / sum + (double)s.dim / 32 + 6;
                    check_element("softmax", out, y, (size_t)(row * s.stride + i), e / sum,
                                  steps * e / sum * 0x1p-24, worst);
                }
            }
    }
}

TEST(elementwise_softmax)
{
    static const int64_t dims[] = {1, 2, 15, 16, 17, 31, 32, 33, 100, 1000};
    int n;
    const rig_device *devices = rig_devices(&n);
    uint64_t seed = 4;
    rig_worst worst = {0};
    for (int i = 0; i < 90; i++) {
        mlxn_dtype in = floats[i % 3], out = floats[i / 3 % 3];
        shape2 s = {1 + i % 4, dims[i / 9], dims[i / 9] + (i % 2 ? 5 : 0)};
        size_t total = (size_t)(s.rows * s.stride), bytes = rig_bytes(out, total);
        void *x = rig_normal(in, total, 4, &seed);
        char *y = calloc(bytes, 1), *again = calloc(bytes, 1);
        run_softmax(&devices[0], in, out, s, 0, x, y);
        check_softmax(in, out, x, y, s, &worst);
        for (int k = 0; k < n + (in == out); k++) {
            run_softmax(&devices[k % n], in, out, s, k == n, x, again);
            for (int64_t row = 0; row < s.rows; row++)
                CHECK(!memcmp(y + rig_bytes(out, (size_t)(row * s.stride)),
                              again + rig_bytes(out, (size_t)(row * s.stride)),
                              rig_bytes(out, (size_t)s.dim)));
        }
        free(x);
        free(y);
        free(again);
    }
    test_note("softmax: f32 worst %.2f ulp", worst.ulp);
}

/* -Inf has weight 0; a row of NaN, +Inf or only -Inf is NaN. */
TEST(elementwise_softmax_special)
{
    const float inf = HUGE_VALF;
    const float x[4][3] = {{0, -inf, 0}, {NAN, 0, 0}, {inf, 0, 0}, {-inf, -inf, -inf}};
    float y[4][3];
    int n;
    const rig_device *on = rig_devices(&n);
    for (int k = 0; k < n; k++) {
        run_softmax(&on[k], MLXN_F32, MLXN_F32, (shape2){4, 3, 3}, 0, x, y);
        CHECK(y[0][0] == 0.5f && y[0][1] == 0 && y[0][2] == 0.5f);
        for (int row = 1; row < 4; row++)
            CHECK(isnan(y[row][0]));
    }
}

TEST(elementwise_rejections)
{
    int n;
    const rig_device *on = rig_devices(&n);
    mlxn_buffer *x = rig_vector(on->device, MLXN_F32, 64, NULL);
    mlxn_buffer *y = rig_vector(on->device, MLXN_F32, 64, NULL);
    mlxn_buffer *z = rig_vector(on->device, MLXN_F32, 63, NULL);
    mlxn_buffer *half = rig_vector(on->device, MLXN_F16, 64, NULL);
    mlxn_buffer *ints = rig_vector(on->device, MLXN_I32, 64, NULL);
    const int64_t shape[1] = {32}, rows[2] = {2, 32}, overlapping[2] = {16, 1};
    mlxn_buffer *low = rig_view(x, 1, shape, NULL, 0), *mid = rig_view(x, 1, shape, NULL, 16);
    mlxn_buffer *tall = rig_view(x, 2, rows, NULL, 0),
                *folded = rig_view(y, 2, rows, overlapping, 0);
    for (int f = 0; f < OPS; f++) {
        CHECK_FAILS(record(on, (op)f, NULL, y, y), MLXN_ERR_ARGUMENT, "is NULL");
        CHECK_FAILS(record(on, (op)f, x, x, NULL), MLXN_ERR_ARGUMENT, "output is NULL");
        CHECK_FAILS(record(on, (op)f, ints, ints, ints), MLXN_ERR_DTYPE, "is i32");
        CHECK_FAILS(record(on, (op)f, x, x, half), MLXN_ERR_DTYPE, "output is f16, needs f32");
        CHECK_FAILS(record(on, (op)f, x, x, z), MLXN_ERR_SHAPE, "output has 63");
        CHECK_FAILS(record(on, (op)f, low, low, mid), MLXN_ERR_OVERLAP, "output and");
        CHECK_FAILS(record(on, (op)f, tall, tall, folded), MLXN_ERR_OVERLAP, "overlaps itself");
        if (f != OP_SOFTCAP) {
            CHECK_FAILS(record(on, (op)f, x, z, y), MLXN_ERR_SHAPE, "has 63 in dimension 0");
            CHECK_FAILS(record(on, (op)f, x, NULL, y), MLXN_ERR_ARGUMENT, "is NULL");
        }
    }
    CHECK_STATUS(mlxn_gelu_mul(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_add(NULL, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_mul(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_STATUS(mlxn_softmax(on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_FAILS(
        mlxn_softcap(on->encoder, MLXN_DESC(mlxn_softcap_args, .input = x, .output = y, .cap = 0)),
        MLXN_ERR_ARGUMENT, "cap is 0, needs > 0");
    CHECK_FAILS(mlxn_softcap(on->encoder,
                             MLXN_DESC(mlxn_softcap_args, .input = x, .output = y, .cap = NAN)),
                MLXN_ERR_ARGUMENT, "cap is nan");
    CHECK_FAILS(mlxn_softmax(on->encoder, MLXN_DESC(mlxn_softmax_args, .input = x, .output = z)),
                MLXN_ERR_SHAPE, "output has 63");
    CHECK_FAILS(
        mlxn_softmax(on->encoder, MLXN_DESC(mlxn_softmax_args, .input = low, .output = mid)),
        MLXN_ERR_OVERLAP, "output and input overlap");
    mlxn_buffer *all[] = {x, y, z, half, ints, low, mid, tall, folded};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}
