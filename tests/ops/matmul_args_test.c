/* matmul_args_test.c - what matmul, embedding and weight_prepare refuse, and with which words; NaN
 * and infinity; preparing from a file whose pages are dropped. */
#include <unistd.h>
#include "quant_ref.h"

typedef struct setup {
    mlxn_device *device, *other;
    mlxn_encoder *e;
    mlxn_buffer *x, *w, *y, *packed, *ids; /* x [2, 64], w q8_0 [5, 64], y [2, 5], ids u32 [2] */
} setup;

static mlxn_buffer *make(mlxn_device *device, mlxn_dtype dtype, int rank, int64_t d0, int64_t d1)
{
    const int64_t dims[2] = {d0, d1};
    mlxn_buffer *b = NULL;
    CHECK_STATUS(mlxn_buffer_create(device, dtype, rank, dims, &b), MLXN_OK);
    return b;
}

static setup setup_open(void)
{
    setup s = {0};
    CHECK_STATUS(mlxn_device_open("cpu", 0, &s.device), MLXN_OK);
    CHECK_STATUS(mlxn_device_open("cpu", 0, &s.other), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_create(s.device, &s.e), MLXN_OK);
    s.x = make(s.device, MLXN_F32, 2, 2, 64);
    s.w = make(s.device, MLXN_Q8_0, 2, 5, 64);
    s.y = make(s.device, MLXN_F32, 2, 2, 5);
    s.ids = make(s.device, MLXN_U32, 1, 2, 0);
    CHECK_STATUS(mlxn_weight_prepare(s.w, MLXN_WEIGHT_MATMUL, &s.packed), MLXN_OK);
    return s;
}

static void setup_close(setup *s)
{
    mlxn_encoder_release(s->e);
    mlxn_buffer_release(s->x);
    mlxn_buffer_release(s->w);
    mlxn_buffer_release(s->y);
    mlxn_buffer_release(s->packed);
    mlxn_buffer_release(s->ids);
    mlxn_device_release(s->device);
    mlxn_device_release(s->other);
}

/* A call with one operand of s replaced, which it releases; it must fail. */
static void refuse(const setup *s, int which, mlxn_buffer *b, mlxn_status want, const char *text)
{
    mlxn_matmul_args a = {sizeof a, s->x, s->packed, s->y, MLXN_MATMUL_FAST};
    *(which == 0 ? &a.input : which == 1 ? &a.weight : &a.output) = b;
    CHECK_FAILS(mlxn_matmul(s->e, &a), want, text);
    mlxn_buffer_release(b);
}

static mlxn_buffer *view(mlxn_buffer *base, mlxn_dtype dtype, int64_t d0, int64_t d1, int64_t s0,
                         int64_t s1, size_t offset)
{
    const int64_t dims[2] = {d0, d1}, strides[2] = {s0, s1};
    mlxn_buffer *b = NULL;
    CHECK_STATUS(mlxn_buffer_view(base, dtype, 2, dims, strides, offset, &b), MLXN_OK);
    return b;
}

TEST(matmul_refuses)
{
    setup s = setup_open();
    refuse(&s, 0, NULL, MLXN_ERR_ARGUMENT, "matmul: input");
    refuse(&s, 1, NULL, MLXN_ERR_ARGUMENT, "matmul: weight");
    refuse(&s, 2, NULL, MLXN_ERR_ARGUMENT, "matmul: output");
    refuse(&s, 0, make(s.device, MLXN_I32, 2, 2, 64), MLXN_ERR_DTYPE, "matmul: input is i32");
    refuse(&s, 1, make(s.device, MLXN_I8, 2, 5, 64), MLXN_ERR_DTYPE, "matmul: weight is i8");
    refuse(&s, 2, make(s.device, MLXN_U16, 2, 2, 5), MLXN_ERR_DTYPE, "matmul: output is u16");
    refuse(&s, 0, make(s.device, MLXN_F32, 2, 2, 32), MLXN_ERR_SHAPE,
           "input has rows of 32, weight has rows of 64");
    refuse(&s, 0, make(s.device, MLXN_F32, 2, 3, 64), MLXN_ERR_SHAPE,
           "input has 3 rows, output has 2");
    refuse(&s, 1, make(s.device, MLXN_Q8_0, 2, 6, 64), MLXN_ERR_SHAPE,
           "output has rows of 5, weight has 6 rows");
    refuse(&s, 1, make(s.device, MLXN_Q8_0, 1, 64, 0), MLXN_ERR_SHAPE,
           "weight has 1 dimensions, needs 2");
    refuse(&s, 2, make(s.device, MLXN_F32, 0, 0, 0), MLXN_ERR_SHAPE, "output has no dimension");
    refuse(&s, 0, make(s.other, MLXN_F32, 2, 2, 64), MLXN_ERR_ARGUMENT, "input");
    refuse(&s, 0, mlxn_buffer_retain(s.packed), MLXN_ERR_DTYPE, "input");
    mlxn_buffer *base = make(s.device, MLXN_F32, 2, 4, 128);
    refuse(&s, 0, view(base, MLXN_F32, 2, 64, 128, 2, 0), MLXN_ERR_SHAPE, "last dimension");
    mlxn_buffer_release(base);
    setup_close(&s);
}

TEST(matmul_refuses_overlap_and_modes)
{
    setup s = setup_open();
    mlxn_matmul_args a = {sizeof a, s.x, s.packed, s.y, (mlxn_matmul_mode)0};
    CHECK_FAILS(mlxn_matmul(s.e, &a), MLXN_ERR_ARGUMENT, "mode is 0");
    a.mode = (mlxn_matmul_mode)3;
    CHECK_FAILS(mlxn_matmul(s.e, &a), MLXN_ERR_ARGUMENT, "mode is 3");
    a.mode = MLXN_MATMUL_EXACT;
    CHECK_FAILS(mlxn_matmul(NULL, &a), MLXN_ERR_ARGUMENT, "matmul: encoder");
    CHECK_FAILS(mlxn_matmul(s.e, NULL), MLXN_ERR_ARGUMENT, "matmul");
    a.size = 0;
    CHECK_FAILS(mlxn_matmul(s.e, &a), MLXN_ERR_ARGUMENT, "matmul");
    refuse(&s, 2, view(s.x, MLXN_F32, 2, 5, 5, 1, 8), MLXN_ERR_OVERLAP, "output and input overlap");
    mlxn_buffer *floats = make(s.device, MLXN_F32, 2, 5, 64);
    mlxn_buffer *inside = view(floats, MLXN_F32, 2, 5, 5, 1, 64);
    a = (mlxn_matmul_args){sizeof a, s.x, floats, inside, MLXN_MATMUL_EXACT};
    CHECK_FAILS(mlxn_matmul(s.e, &a), MLXN_ERR_OVERLAP, "output and weight overlap");
    mlxn_buffer_release(floats);
    mlxn_buffer_release(inside);
    mlxn_buffer *part = NULL;
    CHECK(mlxn_buffer_slice(s.packed, 0, 0, 2, &part) != MLXN_OK && !part);
    float word;
    CHECK(mlxn_buffer_read(s.packed, 0, &word, sizeof word) != MLXN_OK);
    setup_close(&s);
}

TEST(weight_prepare_refuses)
{
    setup s = setup_open();
    mlxn_buffer *out = s.w;
    CHECK_FAILS(mlxn_weight_prepare(NULL, MLXN_WEIGHT_MATMUL, &out), MLXN_ERR_ARGUMENT,
                "weight is NULL");
    CHECK(!out);
    CHECK_FAILS(mlxn_weight_prepare(s.w, MLXN_WEIGHT_MATMUL, NULL), MLXN_ERR_ARGUMENT,
                "out is NULL");
    CHECK_FAILS(mlxn_weight_prepare(s.w, 0, &out), MLXN_ERR_ARGUMENT, "use is 0");
    CHECK_FAILS(mlxn_weight_prepare(s.w, MLXN_WEIGHT_DROP_SOURCE, &out), MLXN_ERR_ARGUMENT,
                "use is 16");
    CHECK_FAILS(mlxn_weight_prepare(s.w, MLXN_WEIGHT_MATMUL | 4, &out), MLXN_ERR_ARGUMENT,
                "use is 5");
    CHECK(mlxn_weight_prepare(s.packed, MLXN_WEIGHT_MATMUL, &out) != MLXN_OK && !out);
    CHECK_FAILS(mlxn_weight_prepare(s.ids, MLXN_WEIGHT_MATMUL, &out), MLXN_ERR_DTYPE, "u32");
    mlxn_buffer *flat = make(s.device, MLXN_F32, 1, 64, 0), *part = NULL;
    CHECK_FAILS(mlxn_weight_prepare(flat, MLXN_WEIGHT_MATMUL, &out), MLXN_ERR_SHAPE,
                "1 dimensions, needs 2");
    mlxn_buffer_release(flat);
    CHECK_STATUS(mlxn_buffer_slice(s.x, 1, 0, 32, &part), MLXN_OK);
    CHECK_FAILS(mlxn_weight_prepare(part, MLXN_WEIGHT_MATMUL, &out), MLXN_ERR_SHAPE, "strided");
    mlxn_buffer_release(part);
    CHECK(mlxn_weight_is_prepared(s.packed));
    CHECK(!mlxn_weight_is_prepared(s.w) && !mlxn_weight_is_prepared(NULL));
    CHECK(mlxn_buffer_dtype(s.packed) == MLXN_Q8_0 && mlxn_buffer_dim(s.packed, 1) == 64);
    setup_close(&s);
}

static void refuse_embedding(const setup *s, int which, mlxn_buffer *b, mlxn_status want,
                             const char *text)
{
    mlxn_buffer *out = make(s->device, MLXN_F32, 2, 2, 64);
    mlxn_embedding_args a = {sizeof a, s->packed, s->ids, out, 1};
    *(which == 0 ? &a.table : which == 1 ? &a.ids : &a.output) = b;
    CHECK_FAILS(mlxn_embedding(s->e, &a), want, text);
    mlxn_buffer_release(b);
    mlxn_buffer_release(out);
}

TEST(embedding_refuses)
{
    setup s = setup_open();
    refuse_embedding(&s, 0, NULL, MLXN_ERR_ARGUMENT, "embedding: table");
    refuse_embedding(&s, 1, NULL, MLXN_ERR_ARGUMENT, "embedding: ids");
    refuse_embedding(&s, 2, NULL, MLXN_ERR_ARGUMENT, "embedding: output");
    refuse_embedding(&s, 0, make(s.device, MLXN_U8, 2, 5, 64), MLXN_ERR_DTYPE, "table is u8");
    refuse_embedding(&s, 1, make(s.device, MLXN_I64, 1, 2, 0), MLXN_ERR_DTYPE, "ids is i64");
    refuse_embedding(&s, 1, make(s.device, MLXN_I32, 1, 3, 0), MLXN_ERR_SHAPE,
                     "output has 2 rows, ids has 3");
    refuse_embedding(&s, 2, make(s.device, MLXN_F32, 2, 2, 32), MLXN_ERR_SHAPE,
                     "output has rows of 32, table has rows of 64");
    refuse_embedding(&s, 2, make(s.device, MLXN_Q8_0, 2, 2, 64), MLXN_ERR_DTYPE, "output is q8_0");
    refuse_embedding(&s, 2, view(s.ids, MLXN_F32, 1, 2, 2, 1, 0), MLXN_ERR_SHAPE, "output");
    mlxn_embedding_args a = {sizeof a, s.w, s.ids, s.x, 0};
    CHECK_FAILS(mlxn_embedding(s.e, &a), MLXN_ERR_ARGUMENT, "scale is 0");
    a.scale = NAN;
    CHECK_FAILS(mlxn_embedding(s.e, &a), MLXN_ERR_ARGUMENT, "scale");
    a.scale = 1;
    a.table = s.x;
    CHECK_FAILS(mlxn_embedding(s.e, &a), MLXN_ERR_OVERLAP, "output and table overlap");
    CHECK_FAILS(mlxn_embedding(NULL, &a), MLXN_ERR_ARGUMENT, "embedding: encoder");
    CHECK_FAILS(mlxn_embedding(s.e, NULL), MLXN_ERR_ARGUMENT, "embedding");
    setup_close(&s);
}

/* Outputs that meet a NaN or an infinity are not finite; other rows do not notice. */
TEST(matmul_non_finite_activations)
{
    setup s = setup_open();
    float x[2 * 64], y[10];
    uint8_t w[5 * 68];
    uint64_t seed = 9;
    quant_fill(MLXN_Q8_0, w, 5, 64, 1, 0, &seed);
    REQUIRE_OK(mlxn_buffer_write(s.w, 0, w, sizeof w));
    const float bad[4] = {NAN, INFINITY, -INFINITY, -NAN};
    for (int i = 0; i < 16; i++) {
        for (int k = 0; k < 128; k++)
            x[k] = test_normal(&seed);
        x[64 * (i & 1) + 3 + 16 * (i >> 2)] = bad[i >> 1 & 3];
        for (int mode = 1; mode <= 2; mode++) {
            REQUIRE_OK(mlxn_buffer_write(s.x, 0, x, sizeof x));
            REQUIRE_OK(mlxn_encoder_reset(s.e));
            REQUIRE_OK(mlxn_matmul(s.e, MLXN_DESC(mlxn_matmul_args, .input = s.x, .weight = s.w,
                                                  .output = s.y, .mode = (mlxn_matmul_mode)mode)));
            REQUIRE_OK(mlxn_encoder_commit(s.e));
            REQUIRE_OK(mlxn_encoder_wait(s.e));
            REQUIRE_OK(mlxn_buffer_read(s.y, 0, y, sizeof y));
            for (int n = 0; n < 10; n++)
                CHECK(isfinite(y[n]) == (n / 5 != (i & 1)));
        }
    }
    setup_close(&s);
}

/* Denormal and zero blocks: no division by zero, and the largest magnitudes are kept. */
TEST(matmul_tiny_and_huge_activations)
{
    static const float sizes[5] = {0.0f, 1e-45f, 1e-40f, 1e-36f, 3e38f};
    setup s = setup_open();
    float x[2 * 64], y[10];
    uint8_t w[5 * 68] = {0};
    for (int b = 0; b < 10; b++) { /* d = 2^-14, all quants 1 */
        const uint16_t d = 0x0400;
        memcpy(w + 34 * b, &d, 2);
        memset(w + 34 * b + 2, 1, 32);
    }
    REQUIRE_OK(mlxn_buffer_write(s.w, 0, w, sizeof w));
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 128; k++)
            x[k] = sizes[i];
        REQUIRE_OK(mlxn_buffer_write(s.x, 0, x, sizeof x));
        REQUIRE_OK(mlxn_encoder_reset(s.e));
        REQUIRE_OK(mlxn_matmul(s.e, MLXN_DESC(mlxn_matmul_args, .input = s.x, .weight = s.w,
                                              .output = s.y, .mode = MLXN_MATMUL_FAST)));
        REQUIRE_OK(mlxn_encoder_commit(s.e));
        REQUIRE_OK(mlxn_encoder_wait(s.e));
        REQUIRE_OK(mlxn_buffer_read(s.y, 0, y, sizeof y));
        const double want = 64.0 * 0x1p-14 * (double)sizes[i];
        for (int n = 0; n < 10; n++)
            CHECK(fabs((double)y[n] - want) <= want * 1e-5 + 1e-42);
    }
    setup_close(&s);
}

static size_t resident_pages(void *memory, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (bytes + page - 1) / page;
    FILE *self = fopen("/proc/self/pagemap", "rb"); /* mincore tells of the page cache, not of us */
    size_t resident = 0;
    for (size_t i = 0; self && i < count; i++) {
        uint64_t entry = 0;
        if (!fseek(self, (long)(((uintptr_t)memory / page + i) * 8), SEEK_SET) &&
            fread(&entry, 8, 1, self) == 1)
            resident += (size_t)(entry >> 63);
    }
    if (self)
        fclose(self);
    return resident;
}

/* A mapped table of 18 MB, at an odd offset: packed in pieces, its pages given back, its bytes
 * still there; the neighbours' too. */
TEST(weight_prepare_drops_pages)
{
    enum { ROWS = 16 * 1024 + 5, COLS = 1024, HEAD = 100 };
    const size_t row_bytes = quant_row_bytes(MLXN_Q8_0, COLS), bytes = row_bytes * ROWS;
    const int64_t dims[2] = {ROWS, COLS}, x_dims[2] = {1, COLS}, y_dims[2] = {1, ROWS};
    char path[] = "mlxn_drop_XXXXXX";
    uint8_t *data = malloc(bytes);
    uint64_t seed = 12;
    quant_fill(MLXN_Q8_0, data, 64, COLS, 1, 0, &seed);
    for (size_t done = 64 * row_bytes; done < bytes; done += 64 * row_bytes)
        memcpy(data + done, data, bytes - done < 64 * row_bytes ? bytes - done : 64 * row_bytes);
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, data, HEAD) == HEAD && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);

    mlxn_device *device = NULL;
    mlxn_buffer *w = NULL, *packed = NULL, *x = NULL, *y[2] = {NULL, NULL};
    mlxn_encoder *e = NULL;
    void *host = NULL;
    REQUIRE_OK(mlxn_device_open("cpu", 0, &device));
    REQUIRE_OK(mlxn_buffer_map_file(device, path, HEAD, MLXN_Q8_0, 2, dims, &w));
    unlink(path);
    REQUIRE_OK(mlxn_buffer_map(w, &host));
    CHECK(!memcmp(host, data, bytes));
    const size_t before = resident_pages(host, bytes);
    REQUIRE_OK(mlxn_weight_prepare(w, MLXN_WEIGHT_MATMUL | MLXN_WEIGHT_DROP_SOURCE, &packed));
    const size_t after = resident_pages(host, bytes);
    CHECK(before == 0 || after < before / 100); /* 0: the system does not tell */
    CHECK(!memcmp(host, data, bytes));

    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 2, x_dims, &x));
    REQUIRE_OK(mlxn_encoder_create(device, &e));
    float *values = malloc(ROWS * sizeof(float)), *other = malloc(ROWS * sizeof(float));
    for (int i = 0; i < COLS; i++)
        values[i] = test_normal(&seed);
    REQUIRE_OK(mlxn_buffer_write(x, 0, values, COLS * sizeof(float)));
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 2, y_dims, &y[i]));
        REQUIRE_OK(mlxn_matmul(e, MLXN_DESC(mlxn_matmul_args, .input = x, .weight = i ? w : packed,
                                            .output = y[i], .mode = MLXN_MATMUL_FAST)));
    }
    REQUIRE_OK(mlxn_encoder_commit(e));
    REQUIRE_OK(mlxn_encoder_wait(e));
    REQUIRE_OK(mlxn_buffer_read(y[0], 0, values, ROWS * sizeof(float)));
    REQUIRE_OK(mlxn_buffer_read(y[1], 0, other, ROWS * sizeof(float)));
    CHECK(!memcmp(values, other, ROWS * sizeof(float)));
    mlxn_encoder_release(e);
    mlxn_buffer_release(y[0]);
    mlxn_buffer_release(y[1]);
    mlxn_buffer_release(x);
    mlxn_buffer_release(packed);
    mlxn_buffer_release(w);
    mlxn_device_release(device);
    free(values);
    free(other);
    free(data);
}
