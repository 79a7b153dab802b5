/* matmul_test.c - every weight dtype, mode and shape class: bit for bit against the formulas of
 * mlxn/ops/matmul.h evaluated one rounding at a time, and within the derived bound of float64; on
 * every device, with plain and prepared weights, into strided rows whose gaps stay untouched. */
#include "ops/matmul/planner.h"
#include "quant_ref.h"
#include "rig.h"

static const mlxn_dtype floats[3] = {MLXN_F32, MLXN_F16, MLXN_BF16};

typedef struct shape {
    int64_t m, n, k;
} shape;

typedef struct matmul_case {
    shape at;
    mlxn_dtype weight, input, output;
    mlxn_matmul_mode mode;
    float size;
    int extreme;
    uint64_t seed;
    /* made by case_make: */
    void *w, *x;
    float *xf;
    void *want;    /* m rows of n, output dtype */
    double *exact; /* float64, and how far tensor cores may be from it */
    double *bounds;
} matmul_case;

enum { GAP = 3, CANARY = 0x5a, GPU_LANES = 16 };

static size_t float_bytes(mlxn_dtype dtype)
{
    return mlxn_dtype_block_bytes(dtype);
}

static int on_gpu(const rig_device *on)
{
    return on->device->gpu != NULL;
}

/* Where Metal may use simdgroup matrices, and the emulator is told to, the bits are the CPU's. */
static int on_simdgroups(const rig_device *on, const matmul_case *c)
{
    const mlxn_gpu_traits *gpu = on->device->gpu;
    return gpu && c->mode == MLXN_MATMUL_FAST && c->at.m >= 16 && !quant_is_float(c->weight) &&
           (gpu->schedule == MM_SCHEDULE_SIMDGROUP ||
            (gpu->dialect == MLXN_GPU_METAL && gpu->overrides));
}

/* Other GPUs keep the activations in both modes. */
static int rounds_input(const rig_device *on, const matmul_case *c)
{
    return c->mode == MLXN_MATMUL_FAST && (!on_gpu(on) || on_simdgroups(on, c));
}

/* Where CUDA may use tensor cores, results have a bound in place of bits. */
static int on_tensor_cores(const rig_device *on, const matmul_case *c)
{
    const mlxn_gpu_traits *gpu = on->device->gpu;
    return gpu && gpu->dialect == MLXN_GPU_CUDA && gpu->overrides && gpu->architecture >= 80 &&
           c->mode == MLXN_MATMUL_FAST && c->at.m >= 16 && c->weight != MLXN_F32 &&
           c->weight != MLXN_F16;
}

static float reference(const rig_device *on, const matmul_case *c, const quant_row *row,
                       const float *x)
{
    const int rounded = rounds_input(on, c);
    const float got =
        rounded ? quant_dot_fast(row, x) : quant_dot_exact(row, x, on_gpu(on) ? GPU_LANES : 1);
    double bound;
    const double exact = quant_dot(row, x, rounded ? QUANT_INPUT_INT8 : QUANT_INPUT_KEPT, &bound);
    if (!(fabs((double)got - exact) <= bound))
        test_failed(__FILE__, __LINE__, "%s mode %d k %lld: %g, float64 %g, bound %g",
                    mlxn_dtype_name(c->weight), (int)c->mode, (long long)c->at.k, (double)got,
                    exact, bound);
    return got;
}

/* Data, and what devices of the kind of `on` must give. */
static void case_make(matmul_case *c, const rig_device *on)
{
    const size_t row_bytes = quant_row_bytes(c->weight, c->at.k);
    const size_t count = (size_t)(c->at.m * c->at.k);
    c->w = malloc(row_bytes * (size_t)c->at.n);
    c->x = malloc(count * float_bytes(c->input));
    c->xf = malloc(count * sizeof(float));
    c->want = malloc((size_t)(c->at.m * c->at.n) * float_bytes(c->output));
    c->exact = malloc((size_t)(c->at.m * c->at.n) * sizeof *c->exact);
    c->bounds = malloc((size_t)(c->at.m * c->at.n) * sizeof *c->bounds);
    quant_fill(c->weight, c->w, c->at.n, c->at.k, c->size, c->extreme, &c->seed);
    for (size_t i = 0; i < count; i++) {
        test_store(c->input, c->x, i, (double)test_normal(&c->seed));
        c->xf[i] = (float)test_load(c->input, c->x, i);
    }
    for (int64_t n = 0; n < c->at.n; n++) {
        quant_row row;
        quant_decode(c->weight, (char *)c->w + (size_t)n * row_bytes, c->at.k, &row);
        for (int64_t m = 0; m < c->at.m; m++) {
            const float v = reference(on, c, &row, c->xf + m * c->at.k);
            const size_t at = (size_t)(m * c->at.n + n);
            c->exact[at] = quant_dot(&row, c->xf + m * c->at.k, QUANT_INPUT_TENSOR, &c->bounds[at]);
            test_store(c->output, c->want, at, (double)v);
        }
        quant_row_free(&row);
    }
}

static void case_free(matmul_case *c)
{
    free(c->w);
    free(c->x);
    free(c->xf);
    free(c->want);
    free(c->exact);
    free(c->bounds);
}

static mlxn_buffer *matrix(mlxn_device *device, mlxn_dtype dtype, int64_t rows, int64_t cols,
                           const void *data)
{
    return rig_buffer(device, dtype, 2, (const int64_t[2]){rows, cols}, data);
}

static mlxn_status run(mlxn_device *device, const mlxn_matmul_args *args)
{
    mlxn_encoder *e = NULL;
    MLXN_TRY(mlxn_encoder_create(device, &e));
    mlxn_status status = mlxn_matmul(e, args);
    if (status == MLXN_OK)
        status = mlxn_encoder_commit(e);
    if (status == MLXN_OK)
        status = mlxn_encoder_wait(e);
    mlxn_encoder_release(e);
    return status;
}

/* Whether output `at` is what it has to be: the bits, or within the bound of tensor cores and half
 * an ulp of the output's dtype. */
static int right(const rig_device *on, const matmul_case *c, const void *got, size_t at)
{
    const size_t e = float_bytes(c->output);
    if (!on_tensor_cores(on, c))
        return !memcmp(got, (const uint8_t *)c->want + at * e, e);
    const double half_ulp = c->output == MLXN_F32   ? 0x1p-24
                            : c->output == MLXN_F16 ? 0x1p-11
                                                    : 0x1p-8;
    const double error = fabs(test_load(c->output, got, 0) - c->exact[at]);
    return error <= c->bounds[at] + half_ulp * (fabs(c->exact[at]) + c->bounds[at]) + 0x1p-25;
}

/* One run into rows of n + GAP elements between canaries. */
static void case_run(const matmul_case *c, const rig_device *on, int packed)
{
    mlxn_device *device = on->device;
    const int64_t pitch = c->at.n + GAP;
    const size_t e = float_bytes(c->output), bytes = (size_t)(c->at.m * pitch) * e;
    uint8_t *memory = malloc(bytes);
    mlxn_buffer *w = NULL, *x = NULL, *all = NULL, *out = NULL, *prepared = NULL;
    memset(memory, CANARY, bytes);
    w = matrix(device, c->weight, c->at.n, c->at.k, c->w);
    x = matrix(device, c->input, c->at.m, c->at.k, c->x);
    all = matrix(device, c->output, c->at.m, pitch, memory);
    REQUIRE_OK(mlxn_buffer_slice(all, 1, 0, c->at.n, &out));
    if (packed)
        REQUIRE_OK(mlxn_weight_prepare(w, MLXN_WEIGHT_MATMUL, &prepared));
    CHECK_STATUS(
        run(device, MLXN_DESC(mlxn_matmul_args, .input = x, .weight = packed ? prepared : w,
                              .output = out, .mode = c->mode)),
        MLXN_OK);
    rig_read(all, memory);
    int64_t wrong = 0, touched = 0;
    for (int64_t m = 0; m < c->at.m; m++) {
        const uint8_t *row = memory + (size_t)(m * pitch) * e;
        for (int64_t n = 0; n < c->at.n; n++)
            wrong += !right(on, c, row + (size_t)n * e, (size_t)(m * c->at.n + n));
        for (size_t i = (size_t)c->at.n * e; i < (size_t)pitch * e; i++)
            touched += row[i] != CANARY;
    }
    mlxn_device_info info = {.size = sizeof info};
    CHECK_STATUS(mlxn_device_get_info(device, &info), MLXN_OK);
    if (wrong || touched)
        test_failed(
            __FILE__, __LINE__,
            "%s x%u %s mode %d, %lld x %lld x %lld, %s -> %s, packed %d: %lld outputs differ, "
            "%lld bytes between rows written",
            info.path, info.threads, mlxn_dtype_name(c->weight), (int)c->mode, (long long)c->at.m,
            (long long)c->at.n, (long long)c->at.k, mlxn_dtype_name(c->input),
            mlxn_dtype_name(c->output), packed, (long long)wrong, (long long)touched);
    mlxn_buffer_release(prepared);
    mlxn_buffer_release(out);
    mlxn_buffer_release(all);
    mlxn_buffer_release(x);
    mlxn_buffer_release(w);
    free(memory);
}

/* Every device; packing and dtypes of input and output vary with the number of the case. */
static void case_check(matmul_case *c, const rig_device *devices, int count, int number)
{
    case_make(c, devices);
    for (int i = 0; i < count; i++)
        for (int packed = 0; packed < 2; packed++)
            if (test_full() || packed == (number + i) % 2 || c->at.m == 1)
                case_run(c, &devices[i], packed);
    case_free(c);
}

static void check_dtypes(const shape *shapes, int count, int want_floats, uint64_t seed)
{
    int device_count;
    const rig_device *devices = rig_devices(&device_count);
    int number = 0;
    for (int d = 0; d < 11; d++) {
        const mlxn_dtype dtype = quant_dtypes[d];
        const int64_t block = (int64_t)mlxn_dtype_block_elements(dtype);
        for (int i = 0; quant_is_float(dtype) == want_floats && i < count; i++)
            for (int mode = MLXN_MATMUL_EXACT; mode <= MLXN_MATMUL_FAST; mode++, number++) {
                matmul_case c = {.at = shapes[i], .weight = dtype, .mode = (mlxn_matmul_mode)mode};
                c.input = floats[number % 3];
                c.output = floats[number / 3 % 3];
                c.size = 0.02f;
                c.extreme = number % 4 == 1 && c.output != MLXN_F16;
                c.seed = seed + (uint64_t)number;
                if (c.at.k % block == 0)
                    case_check(&c, devices, device_count, number);
            }
    }
}

TEST(matmul_block_formats)
{
    static const shape shapes[] = {
        {1, 1, 256},  {1, 40, 512},  {2, 17, 256},  {3, 16, 768},  {5, 33, 256}, {6, 15, 512},
        {8, 40, 256}, {17, 48, 256}, {1, 17, 32},   {4, 16, 32},   {17, 18, 32}, {1, 100, 64},
        {3, 18, 64},  {7, 20, 640},  {70, 85, 256}, {1, 33, 2048}, {2, 9, 4352}};
    check_dtypes(shapes, sizeof shapes / sizeof *shapes, 0, 1);
}

/* Odd lengths too: the peer lost elements at k % 4 = 2 and 3. */
TEST(matmul_float_formats)
{
    static const shape shapes[] = {{1, 1, 1},   {1, 17, 66},  {2, 16, 131}, {3, 15, 3},
                                   {5, 40, 33}, {1, 33, 640}, {17, 20, 31}, {64, 18, 100},
                                   {1, 16, 32}, {8, 48, 258}, {6, 31, 17}};
    check_dtypes(shapes, sizeof shapes / sizeof *shapes, 1, 1000);
}

/* More rows than are prepared at a time, few groups and many. */
TEST(matmul_many_rows)
{
    int device_count;
    const rig_device *devices = rig_devices(&device_count);
    matmul_case few = {.at = {1600, 16, 32}, .weight = MLXN_Q8_0, .mode = MLXN_MATMUL_FAST};
    matmul_case many = {.at = {13, 700, 32}, .weight = MLXN_Q4_1, .mode = MLXN_MATMUL_EXACT};
    matmul_case twice = {.at = {3100, 33, 32}, .weight = MLXN_F16, .mode = MLXN_MATMUL_EXACT};
    matmul_case *cases[] = {&few, &many, &twice};
    for (int i = 0; i < 3; i++) {
        cases[i]->input = cases[i]->output = MLXN_F32;
        cases[i]->size = 1;
        cases[i]->seed = 77 + (uint64_t)i;
        case_make(cases[i], devices);
        for (int p = 0; p < device_count; p++)
            if (test_full() || p % 3 == i)
                case_run(cases[i], &devices[p], p % 2);
        case_free(cases[i]);
    }
}

/* m rows of x in one product, then in products of 1, 2, 3, ... rows: the same bits. */
static void check_split(mlxn_device *device, mlxn_dtype dtype, mlxn_matmul_mode mode,
                        uint64_t *seed)
{
    const int64_t m = 13, n = 37, k = 512;
    void *wm = malloc(quant_row_bytes(dtype, k) * (size_t)n);
    void *xm = rig_normal(MLXN_F32, (size_t)(m * k), 1, seed);
    float *all = malloc((size_t)(m * n) * 4), *part = malloc((size_t)(m * n) * 4);
    quant_fill(dtype, wm, n, k, 0.1f, 0, seed);
    mlxn_buffer *w = matrix(device, dtype, n, k, wm), *x = matrix(device, MLXN_F32, m, k, xm);
    mlxn_buffer *o = matrix(device, MLXN_F32, m, n, NULL), *xs = NULL, *os = NULL;
    REQUIRE_OK(run(
        device, MLXN_DESC(mlxn_matmul_args, .input = x, .weight = w, .output = o, .mode = mode)));
    rig_read(o, all);
    mlxn_buffer_release(o);
    o = matrix(device, MLXN_F32, m, n, NULL);
    for (int64_t at = 0, count = 1; at < m; at += count, count++) {
        const int64_t rows = count < m - at ? count : m - at;
        REQUIRE_OK(mlxn_buffer_slice(x, 0, at, rows, &xs));
        REQUIRE_OK(mlxn_buffer_slice(o, 0, at, rows, &os));
        REQUIRE_OK(run(device, MLXN_DESC(mlxn_matmul_args, .input = xs, .weight = w, .output = os,
                                         .mode = mode)));
        mlxn_buffer_release(xs);
        mlxn_buffer_release(os);
    }
    rig_read(o, part);
    CHECK(!memcmp(all, part, (size_t)(m * n) * 4));
    mlxn_buffer_release(o);
    mlxn_buffer_release(w);
    mlxn_buffer_release(x);
    free(wm);
    free(xm);
    free(all);
    free(part);
}

/* A row gives the same bits alone, among others and at another place of a batch. */
TEST(matmul_batch_split)
{
    int device_count;
    uint64_t seed = 5;
    const rig_device *devices = rig_devices(&device_count);
    for (int p = 0; p < device_count; p++)
        for (int d = 3; d < 11; d += 1 + (p % 3))
            for (int mode = MLXN_MATMUL_EXACT; mode <= MLXN_MATMUL_FAST; mode++)
                check_split(devices[p].device, quant_dtypes[d], (mlxn_matmul_mode)mode, &seed);
}
