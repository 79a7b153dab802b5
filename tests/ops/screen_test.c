/* screen_test.c - mlxn_screened_matmul against mlxn_matmul and a selection by sorting, bit for bit,
 * on every SIMD path and team size; the bounds of a screen against float64; inputs made to meet a
 * bound exactly; damaged files; refusals.
 *
 * What a screen holds is read from the file that mlxn_screen_save writes (layout: screen.h of the
 * operator), and taken apart here by that text alone. */
#include <unistd.h>
#include "quant_ref.h"
#include "rig.h"

enum { WIDE = 32, HEADER = 4096 };

/* q8_0 [rows, k] of values[rows][k], each block's scale the f16 nearest its largest / 127. */
static unsigned char *q8_rows(const float *values, int64_t rows, int64_t k)
{
    unsigned char *bytes = calloc((size_t)(rows * k / 32), 34);
    for (int64_t b = 0; bytes && b < rows * k / 32; b++) {
        const float *x = values + 32 * b;
        float max = 0;
        for (int i = 0; i < 32; i++)
            max = fmaxf(max, fabsf(x[i]));
        test_store(MLXN_F16, bytes + 34 * b, 0, (double)max / 127);
        const double d = test_load(MLXN_F16, bytes + 34 * b, 0);
        for (int i = 0; i < 32 && d > 0; i++)
            ((int8_t *)bytes)[34 * b + 2 + i] =
                (int8_t)fmax(-127, fmin(127, nearbyint((double)x[i] / d)));
    }
    return bytes;
}

typedef struct problem {
    int64_t rows, k;
    unsigned char *weight;
    float *x;
} problem;

/* Kinds of rows: 0 independent; 1 with columns of outliers, as real ones have; 2 all near one row,
 * so that bounds decide little; 3 a few rows many times over: ties; 4 random blocks of any scale.
 */
static problem make_problem(int kind, int64_t rows, int64_t k, uint64_t *seed)
{
    problem p = {rows, k, NULL, malloc((size_t)k * sizeof *p.x)};
    float *values = malloc((size_t)(rows * k) * sizeof *values);
    for (int64_t i = 0; i < rows * k; i++) {
        const int64_t row = i / k, column = i % k;
        values[i] = test_normal(seed);
        if (kind == 1 && column % 17 == 3)
            values[i] *= 20;
        if (kind == 2 && row)
            values[i] = values[column] + 0.02f * values[i];
        if (kind == 3 && row > 2)
            values[i] = values[row % 3 * k + column];
    }
    for (int64_t i = 0; i < k; i++)
        p.x[i] = test_normal(seed) * (i % 17 == 3 ? 8 : 1);
    p.weight = q8_rows(values, rows, k);
    if (kind == 4)
        quant_fill(MLXN_Q8_0, p.weight, rows, k, 0.01f, 1, seed);
    free(values);
    return p;
}

static void free_problem(problem *p)
{
    free(p->weight);
    free(p->x);
}

static int descending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* All products -> what mlxn/screen.h says is left of them. */
static void keep_largest(float *y, int64_t n, int64_t k)
{
    float *sorted = malloc((size_t)n * sizeof *sorted);
    int64_t numbers = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(y[i]))
            sorted[numbers++] = y[i];
    qsort(sorted, (size_t)numbers, sizeof *sorted, descending);
    const float least = numbers >= k ? sorted[k - 1] : -HUGE_VALF;
    for (int64_t i = 0; i < n; i++)
        if (!(y[i] >= least))
            y[i] = -HUGE_VALF;
    free(sorted);
}

/* One product both ways on one device; gives the rows read, -1 after a failure. */
static int64_t check_once(const rig_device *on, const problem *p, mlxn_dtype input, int64_t k,
                          mlxn_matmul_mode mode)
{
    const int64_t shape[] = {p->rows, p->k};
    mlxn_buffer *w = rig_buffer(on->device, MLXN_Q8_0, 2, shape, p->weight);
    unsigned char *stored = malloc((size_t)p->k * 4);
    for (int64_t i = 0; i < p->k; i++)
        test_store(input, stored, (size_t)i, (double)p->x[i]);
    mlxn_buffer *x = rig_vector(on->device, input, p->k, stored);
    mlxn_buffer *all = rig_vector(on->device, MLXN_F32, p->rows, NULL);
    mlxn_buffer *top = rig_vector(on->device, MLXN_F32, p->rows, NULL);
    mlxn_buffer *read = rig_vector(on->device, MLXN_I32, 1, NULL);
    mlxn_screen *screen = NULL;
    CHECK_STATUS(mlxn_screen_create(w, &screen), MLXN_OK);
    CHECK_STATUS(mlxn_matmul(on->encoder, MLXN_DESC(mlxn_matmul_args, .input = x, .weight = w,
                                                    .output = all, .mode = mode)),
                 MLXN_OK);
    CHECK_STATUS(
        mlxn_screened_matmul(on->encoder, MLXN_DESC(mlxn_screened_matmul_args, .input = x,
                                                    .weight = w, .screen = screen, .output = top,
                                                    .rows_read = read, .k = k, .mode = mode)),
        MLXN_OK);
    mlxn_screen_release(screen);
    const int ok = rig_finish(on, MLXN_OK);
    float *want = malloc((size_t)p->rows * 4), *got = malloc((size_t)p->rows * 4);
    int32_t rows_read = -1;
    rig_read(all, want);
    rig_read(top, got);
    rig_read(read, &rows_read);
    keep_largest(want, p->rows, k);
    int64_t wrong = 0;
    for (int64_t i = 0; i < p->rows; i++)
        wrong += memcmp(&want[i], &got[i], 4) != 0;
    if (!ok || wrong)
        test_failed(__FILE__, __LINE__, "%s, %u threads, [%lld, %lld], k %lld: %lld rows differ",
                    on->path, on->threads, (long long)p->rows, (long long)p->k, (long long)k,
                    (long long)wrong);
    free(stored);
    free(want);
    free(got);
    mlxn_buffer *const made[] = {w, x, all, top, read};
    for (int i = 0; i < 5; i++)
        mlxn_buffer_release(made[i]);
    return ok && !wrong ? rows_read : -1;
}

TEST(screen_matches_matmul)
{
    static const struct {
        int64_t rows, k;
    } shapes[] = {{1, 32}, {5, 64}, {16, 32}, {33, 320}, {100, 640}, {1023, 96}, {4099, 128}};
    int count;
    const rig_device *devices = rig_cpu_devices(&count);
    uint64_t seed = 11;
    for (int s = 0; s < 7; s++)
        for (int kind = 0; kind < 5; kind++) {
            problem p = make_problem(kind, shapes[s].rows, shapes[s].k, &seed);
            const int64_t some[] = {1, 2, 40, p.rows < 1024 ? p.rows : 1024};
            for (int d = 0; d < count; d++)
                for (int i = 0; i < 4; i++)
                    if (some[i] <= p.rows) {
                        const mlxn_dtype dtype = kind == 1 ? MLXN_BF16 : MLXN_F32;
                        check_once(&devices[d], &p, dtype, some[i],
                                   i & 1 ? MLXN_MATMUL_EXACT : MLXN_MATMUL_FAST);
                        check_once(&devices[d], &p, MLXN_F16, some[i],
                                   i & 1 ? MLXN_MATMUL_FAST : MLXN_MATMUL_EXACT);
                    }
            free_problem(&p);
        }
}

/* A row that stands out is found with few others read; and all are read where none does. */
TEST(screen_reads_few_rows)
{
    int count;
    const rig_device *devices = rig_cpu_devices(&count);
    uint64_t seed = 12;
    problem p = make_problem(1, 20000, 128, &seed);
    for (int64_t i = 0; i < p.k; i++)
        p.x[i] *= 0.1f; /* and along row 777: */
    quant_row row;
    quant_decode(MLXN_Q8_0, p.weight + 777 * (p.k / 32) * 34, p.k, &row);
    for (int64_t i = 0; i < p.k; i++)
        p.x[i] += row.u[i] * row.s[i];
    quant_row_free(&row);
    for (int d = 0; d < count; d++) {
        const int64_t read = check_once(&devices[d], &p, MLXN_F32, 1, MLXN_MATMUL_FAST);
        CHECK(read >= 1 && read <= 20000 / 50 + 16 * (int64_t)devices[d].threads);
    }
    memset(p.x, 0, (size_t)p.k * sizeof *p.x);
    CHECK(check_once(&devices[0], &p, MLXN_F32, 1, MLXN_MATMUL_FAST) >= p.rows);
    free_problem(&p);
}

TEST(screen_not_finite)
{
    int count;
    const rig_device *devices = rig_cpu_devices(&count);
    uint64_t seed = 13;
    for (int kind = 0; kind < 4; kind++) {
        problem p = make_problem(0, 300, 64, &seed);
        if (kind < 2)
            p.x[5] = kind ? NAN : HUGE_VALF;
        else /* a scale of row 200 */
            test_store(MLXN_F16, p.weight + 34 * 2 * 200, 0, (double)(kind == 2 ? HUGE_VALF : NAN));
        for (int d = 0; d < count; d++) {
            check_once(&devices[d], &p, MLXN_F32, 3, MLXN_MATMUL_FAST);
            check_once(&devices[d], &p, MLXN_F32, 3, MLXN_MATMUL_EXACT);
        }
        free_problem(&p);
    }
}

/* ---- what a screen holds ---- */

typedef struct screen_text {
    unsigned char *bytes; /* the file */
    size_t size;
    int64_t k;
    int32_t wide[WIDE];
    float row_norm, wide_error;
} screen_text;

static const char *screen_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/mlxn-screen-%ld", (long)getpid());
    return path;
}

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = malloc(1 << 22);
    *size = file && bytes ? fread(bytes, 1, 1 << 22, file) : 0;
    if (file)
        fclose(file);
    return bytes;
}

static screen_text save_and_read(const mlxn_screen *screen, int64_t k)
{
    screen_text t = {.k = k};
    CHECK_STATUS(mlxn_screen_save(screen, screen_path(), "key"), MLXN_OK);
    t.bytes = read_file(screen_path(), &t.size);
    memcpy(t.wide, t.bytes + 112, sizeof t.wide);
    memcpy(&t.row_norm, t.bytes + 240, 4);
    memcpy(&t.wide_error, t.bytes + 244, 4);
    unlink(screen_path());
    return t;
}

/* The coarse copy of a row, and its bound; the narrow columns are those with is_wide[i] = 0. */
static double coarse_row(const screen_text *t, int64_t row, double *q, int *is_wide)
{
    const int64_t tiles = t->k / 32, group_bytes = (tiles * 272 + 512 + 192 + 63) / 64 * 64;
    const unsigned char *g = t->bytes + HEADER + row / 16 * group_bytes;
    const int lane = (int)(row % 16);
    float floats[48];
    memcpy(floats, g + tiles * 272 + 512, sizeof floats);
    for (int64_t i = 0; i < t->k; i++) {
        const int in = (int)(i % 32), half = in / 16, at = in % 16;
        const unsigned char byte = g[i / 32 * 256 + 64 * (at / 4) + 4 * lane + at % 4];
        const int code = half ? byte >> 4 : byte & 15;
        const int m = g[tiles * 256 + i / 32 * 16 + lane];
        q[i] = (double)floats[lane] * m * (code - 7.5);
        is_wide[i] = 0;
    }
    for (int i = 0; i < WIDE; i++) {
        const int8_t code = (int8_t)g[tiles * 272 + 16 * i + lane];
        q[t->wide[i]] = (double)floats[16 + lane] * code;
        is_wide[t->wide[i]] = 1;
    }
    return (double)floats[32 + lane];
}

/* Rows of |w| and errors in float64 against the bounds, which may be a little larger at most. */
TEST(screen_bounds_hold)
{
    int count;
    const rig_device *devices = rig_cpu_devices(&count);
    uint64_t seed = 14;
    for (int kind = 0; kind < 5; kind++) {
        problem p = make_problem(kind, 100, 160, &seed);
        const int64_t shape[] = {p.rows, p.k};
        mlxn_buffer *w = rig_buffer(devices[0].device, MLXN_Q8_0, 2, shape, p.weight);
        mlxn_screen *screen = NULL;
        REQUIRE_OK(mlxn_screen_create(w, &screen));
        screen_text t = save_and_read(screen, p.k);
        double norm = 0, wide = 0, q[160], narrow_share = 0;
        int is_wide[160];
        for (int64_t r = 0; r < p.rows; r++) {
            quant_row row;
            double all = 0, error[2] = {0, 0}, narrow = 0;
            const double rest = coarse_row(&t, r, q, is_wide);
            quant_decode(MLXN_Q8_0, p.weight + r * (p.k / 32) * 34, p.k, &row);
            for (int64_t i = 0; i < p.k; i++) {
                const double v = (double)row.u[i] * (double)row.s[i];
                all += v * v;
                narrow += is_wide[i] ? 0 : v * v;
                error[is_wide[i]] += (v - q[i]) * (v - q[i]);
            }
            norm = fmax(norm, all);
            wide = fmax(wide, error[1]);
            CHECK(rest >= sqrt(error[0]) && rest <= 1.0001 * sqrt(error[0]));
            narrow_share += narrow > 0 ? sqrt(error[0] / narrow) / (double)p.rows : 0;
            quant_row_free(&row);
        }
        CHECK((double)t.row_norm >= sqrt(norm) && (double)t.row_norm <= 1.0001 * sqrt(norm));
        CHECK((double)t.wide_error >= sqrt(wide) && (double)t.wide_error <= 1.0001 * sqrt(wide));
        test_note("kind %d: %.4f of a row's narrow part is missed", kind, narrow_share);
        CHECK(narrow_share < 0.15); /* four bits leave about 0.1 of a row */
        free(t.bytes);
        mlxn_screen_release(screen);
        mlxn_buffer_release(w);
        free_problem(&p);
    }
}

/* What the input of a tight problem is made against. */
typedef enum tight {
    TIGHT_NARROW,   /* along what the narrow columns of row 3 miss: its bound is met */
    TIGHT_WIDE,     /* along what its wide columns miss; the bound is of the worst row */
    TIGHT_ROUNDING, /* rounded to 0 where row 3 is not, by a large element where it is */
    TIGHT_ZEROS,    /* in wide columns alone, where row 3 is zero */
    TIGHT_SUM,      /* ones: all codes count the same way */
    TIGHT_COUNT
} tight;

enum { TIGHT_ROWS = 48, TIGHT_K = 64 };

/* The input in block 1, on the grid that activations are rounded to unless said otherwise. */
static float tight_input(tight kind, int i, int is_wide, double missed, double largest)
{
    if (kind == TIGHT_ROUNDING)
        return i == 34 ? 1 : is_wide ? 0 : 0.49f / 127;
    if (kind == TIGHT_SUM || kind == TIGHT_ZEROS)
        return is_wide != (kind == TIGHT_ZEROS) ? 0 : kind == TIGHT_SUM ? 1 : -1;
    return is_wide != (kind == TIGHT_WIDE) ? 0 : (float)(nearbyint(127 * missed / largest) / 127);
}

/* Fills block 1 of x against row 3; gives the gap to leave between its product and the rival's. */
static double aim(tight kind, const screen_text *t, const unsigned char *row_bytes, float *x,
                  double *product)
{
    double q[TIGHT_K], missed[TIGHT_K], largest = 0, norm = 0, size = 0;
    int is_wide[TIGHT_K];
    quant_row row;
    coarse_row(t, 3, q, is_wide);
    quant_decode(MLXN_Q8_0, row_bytes, TIGHT_K, &row);
    for (int i = 0; i < TIGHT_K; i++) {
        missed[i] = (double)row.u[i] * (double)row.s[i] - q[i];
        CHECK(is_wide[i] == !(i & 1));
        if (i >= 32 && is_wide[i] == (kind == TIGHT_WIDE)) {
            largest = fmax(largest, fabs(missed[i]));
            norm += missed[i] * missed[i];
        }
    }
    *product = 0;
    for (int i = 32; i < TIGHT_K; i++) {
        x[i] = tight_input(kind, i, is_wide[i], missed[i], largest);
        *product += (double)x[i] * (missed[i] + q[i]);
        size += (double)x[i] * (double)x[i];
    }
    quant_row_free(&row);
    return kind == TIGHT_ZEROS ? 0 : kind == TIGHT_ROUNDING ? 0.008 : 0.05 * sqrt(norm * size);
}

/* An input that row 3 wins by as little as its bound allows: row 0, the rival, comes right behind,
 * so a bound that is any smaller loses row 3.  Row 1 makes the even columns wide, and is given the
 * signs that keep it out. */
static void check_tight(const rig_device *on, tight kind, uint64_t *seed)
{
    float values[TIGHT_ROWS][TIGHT_K] = {{0}}, x[TIGHT_K] = {0};
    const int64_t shape[] = {TIGHT_ROWS, TIGHT_K};
    mlxn_screen *screen = NULL;
    double product;
    values[0][0] = 8;
    for (int i = 1; i < TIGHT_K; i++) {
        values[1][i] = i & 1 ? 0 : 8;
        if (i > 32 && (i & 1 || kind == TIGHT_WIDE))
            values[3][i] = kind == TIGHT_ROUNDING ? 1 : test_normal(seed);
    }
    unsigned char *first = q8_rows(values[0], TIGHT_ROWS, TIGHT_K);
    mlxn_buffer *w = rig_buffer(on->device, MLXN_Q8_0, 2, shape, first);
    CHECK_STATUS(mlxn_screen_create(w, &screen), MLXN_OK);
    screen_text t = save_and_read(screen, TIGHT_K);
    const double gap = aim(kind, &t, first + 3 * 2 * 34, x, &product);
    for (int i = 1; i < TIGHT_K; i++)
        values[1][i] *= x[i] > 0 ? -1.0f : 1.0f;
    x[0] = (float)((product - gap) / 8);
    problem p = {TIGHT_ROWS, TIGHT_K, q8_rows(values[0], TIGHT_ROWS, TIGHT_K), x};
    check_once(on, &p, MLXN_F32, 1, MLXN_MATMUL_EXACT);
    free(t.bytes);
    free(first);
    free(p.weight);
    mlxn_screen_release(screen);
    mlxn_buffer_release(w);
}

TEST(screen_bound_is_met)
{
    int count;
    const rig_device *devices = rig_cpu_devices(&count);
    uint64_t seed = 15;
    for (int i = 0; i < 20 * TIGHT_COUNT; i++)
        check_tight(&devices[0], (tight)(i % TIGHT_COUNT), &seed);
}

/* ---- files and refusals ---- */

static mlxn_buffer *small_weight(const rig_device *on, int64_t rows, int64_t k)
{
    uint64_t seed = 16;
    problem p = make_problem(0, rows, k, &seed);
    const int64_t shape[] = {rows, k};
    mlxn_buffer *w = rig_buffer(on->device, MLXN_Q8_0, 2, shape, p.weight);
    free_problem(&p);
    return w;
}

static void write_file(const unsigned char *bytes, size_t size)
{
    FILE *file = fopen(screen_path(), "wb");
    REQUIRE(file);
    CHECK(fwrite(bytes, 1, size, file) == size);
    fclose(file);
}

TEST(screen_files)
{
    int count;
    const rig_device *on = rig_cpu_devices(&count);
    mlxn_buffer *w = small_weight(on, 40, 64), *other = small_weight(on, 56, 64);
    mlxn_screen *screen = NULL, *again = NULL;
    size_t size, size_again;
    CHECK_FAILS(mlxn_screen_load(w, "/nowhere/screen", "key", &again), MLXN_ERR_NOT_FOUND,
                "/nowhere/screen");
    REQUIRE_OK(mlxn_screen_create(w, &screen));
    CHECK_FAILS(mlxn_screen_save(screen, "/nowhere/screen", "key"), MLXN_ERR_NOT_FOUND, "/nowhere");
    REQUIRE_OK(mlxn_screen_save(screen, screen_path(), "key"));
    unsigned char *bytes = read_file(screen_path(), &size), *second;
    CHECK_FAILS(mlxn_screen_load(w, screen_path(), "yek", &again), MLXN_ERR_FORMAT, "another");
    CHECK_FAILS(mlxn_screen_load(other, screen_path(), "key", &again), MLXN_ERR_FORMAT,
                "[40, 64], needs [56, 64]");
    REQUIRE_OK(mlxn_screen_load(w, screen_path(), "key", &again));
    REQUIRE_OK(mlxn_screen_save(again, screen_path(), "key"));
    second = read_file(screen_path(), &size_again);
    CHECK(size == size_again && !memcmp(bytes, second, size));
    mlxn_screen_release(again);
    for (size_t at = 0; at < size; at += at < 248 ? 3 : 97) { /* 248 on: zeros up to the groups */
        if (at >= 248 && at < HEADER)
            continue;
        bytes[at] ^= 0x10;
        write_file(bytes, size);
        again = screen;
        if (mlxn_screen_load(w, screen_path(), "key", &again) != MLXN_ERR_FORMAT || again)
            test_failed(__FILE__, __LINE__, "a bit flipped at %zu is not seen", at);
        bytes[at] ^= 0x10;
    }
    for (size_t cut = 0; cut < size; cut += 501) {
        write_file(bytes, cut);
        CHECK_FAILS(mlxn_screen_load(w, screen_path(), "key", &again), MLXN_ERR_FORMAT, "cut off");
    }
    unlink(screen_path());
    free(bytes);
    free(second);
    mlxn_screen_release(screen);
    mlxn_buffer_release(w);
    mlxn_buffer_release(other);
}

TEST(screen_refuses)
{
    int count;
    const rig_device *on = rig_cpu_devices(&count);
    const int64_t shape[] = {40, 64}, twice[] = {2, 64};
    mlxn_buffer *w = small_weight(on, 40, 64), *packed = NULL;
    mlxn_buffer *floats = rig_buffer(on->device, MLXN_F32, 2, shape, NULL);
    mlxn_buffer *two = rig_buffer(on->device, MLXN_F32, 2, twice, NULL);
    mlxn_buffer *x = rig_vector(on->device, MLXN_F32, 64, NULL);
    mlxn_buffer *y = rig_vector(on->device, MLXN_F32, 40, NULL);
    mlxn_buffer *wrong = small_weight(on, 56, 64);
    mlxn_buffer *y39 = rig_vector(on->device, MLXN_F32, 39, NULL);
    mlxn_buffer *y56 = rig_vector(on->device, MLXN_F32, 56, NULL);
    mlxn_buffer *half = rig_vector(on->device, MLXN_F16, 40, NULL);
    mlxn_screen *screen = NULL, *out = NULL;
    REQUIRE_OK(mlxn_screen_create(w, &screen));
    REQUIRE_OK(mlxn_weight_prepare(w, MLXN_WEIGHT_MATMUL, &packed));
    CHECK_FAILS(mlxn_screen_create(NULL, &out), MLXN_ERR_ARGUMENT, "weight is NULL");
    CHECK_FAILS(mlxn_screen_create(w, NULL), MLXN_ERR_ARGUMENT, "out is NULL");
    CHECK_FAILS(mlxn_screen_create(floats, &out), MLXN_ERR_DTYPE, "weight is f32");
    CHECK_FAILS(mlxn_screen_create(packed, &out), MLXN_ERR_DTYPE, "prepared");
    CHECK_FAILS(mlxn_screen_save(NULL, "x", "y"), MLXN_ERR_ARGUMENT, "screen is NULL");
    CHECK_FAILS(mlxn_screen_save(screen, NULL, "y"), MLXN_ERR_ARGUMENT, "path is NULL");
    CHECK_FAILS(mlxn_screen_load(w, "x", NULL, &out), MLXN_ERR_ARGUMENT, "key is NULL");
    CHECK_FAILS(mlxn_screen_save(screen, "x",
                                 "0123456789012345678901234567890123456789012345678901234567890"
                                 "12345"),
                MLXN_ERR_ARGUMENT, "66 characters");
    CHECK(mlxn_screen_bytes(NULL) == 0);
    const mlxn_screened_matmul_args good = {sizeof good, x,    w, screen,
                                            y,           NULL, 3, MLXN_MATMUL_FAST};
#define REFUSE(field, value, status, text)                                \
    do {                                                                  \
        mlxn_screened_matmul_args a = good;                               \
        a.field = (value);                                                \
        CHECK_FAILS(mlxn_screened_matmul(on->encoder, &a), status, text); \
    } while (0)
    CHECK_FAILS(mlxn_screened_matmul(NULL, &good), MLXN_ERR_ARGUMENT, "encoder");
    CHECK_FAILS(mlxn_screened_matmul(on->encoder, NULL), MLXN_ERR_ARGUMENT, "screened_matmul");
    REFUSE(input, NULL, MLXN_ERR_ARGUMENT, "input");
    REFUSE(weight, NULL, MLXN_ERR_ARGUMENT, "weight");
    REFUSE(screen, NULL, MLXN_ERR_ARGUMENT, "screen is NULL");
    REFUSE(output, NULL, MLXN_ERR_ARGUMENT, "output");
    REFUSE(input, two, MLXN_ERR_SHAPE, "input has 2 rows, needs 1");
    REFUSE(input, y56, MLXN_ERR_SHAPE, "input has 56 elements, weight has rows of 64");
    REFUSE(output, x, MLXN_ERR_OVERLAP, "output and input overlap");
    REFUSE(output, y39, MLXN_ERR_SHAPE, "output has 39 elements, weight has 40 rows");
    REFUSE(output, half, MLXN_ERR_DTYPE, "output is f16");
    REFUSE(weight, floats, MLXN_ERR_DTYPE, "weight is f32");
    REFUSE(weight, packed, MLXN_ERR_ARGUMENT, "weight is a prepared weight");
    REFUSE(rows_read, y, MLXN_ERR_DTYPE, "rows_read is f32");
    REFUSE(k, 0, MLXN_ERR_ARGUMENT, "k is 0, needs 1 to 40");
    REFUSE(k, 41, MLXN_ERR_ARGUMENT, "k is 41, needs 1 to 40");
    REFUSE(mode, (mlxn_matmul_mode)0, MLXN_ERR_ARGUMENT, "mode is 0");
    mlxn_screened_matmul_args a = good;
    a.weight = wrong;
    a.output = y56;
    CHECK_FAILS(mlxn_screened_matmul(on->encoder, &a), MLXN_ERR_SHAPE,
                "screen is of [40, 64], weight is [56, 64]");
    mlxn_screen_release(screen);
    mlxn_buffer *const made[] = {w, packed, floats, two, x, y, wrong, y39, y56, half};
    for (int i = 0; i < 10; i++)
        mlxn_buffer_release(made[i]);
}
