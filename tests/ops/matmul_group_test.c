/* matmul_group_test.c - several products of one input in one dispatch: the bits of mlxn_matmul, and
 * with a gate those of mlxn_matmul twice and mlxn_gelu_mul, which have float64 references of their
 * own; refusals. */
#include "quant_ref.h"
#include "rig.h"

enum { COUNT_MAX = 4 };

typedef struct group_case {
    int64_t rows, k, columns[COUNT_MAX];
    mlxn_dtype weight[COUNT_MAX], input, output[COUNT_MAX];
    int count, plain; /* bits: these weights are not prepared */
    mlxn_matmul_mode mode;
} group_case;

typedef struct group_buffers {
    mlxn_buffer *input, *weight[COUNT_MAX], *used[COUNT_MAX]; /* used: prepared, or the same */
    mlxn_buffer *one[COUNT_MAX], *group[COUNT_MAX];
} group_buffers;

static group_buffers make_buffers(const rig_device *on, const group_case *c, uint64_t *seed)
{
    group_buffers b = {.input = NULL};
    const int64_t in[] = {c->rows, c->k};
    void *x = rig_normal(c->input, (size_t)(c->rows * c->k), 1, seed);
    b.input = rig_buffer(on->device, c->input, 2, in, x);
    free(x);
    for (int i = 0; i < c->count; i++) {
        const int64_t shape[] = {c->columns[i], c->k}, out[] = {c->rows, c->columns[i]};
        void *w = malloc((size_t)c->columns[i] * quant_row_bytes(c->weight[i], c->k));
        quant_fill(c->weight[i], w, c->columns[i], c->k, 0.01f, 0, seed);
        b.weight[i] = rig_buffer(on->device, c->weight[i], 2, shape, w);
        free(w);
        b.used[i] = mlxn_buffer_retain(b.weight[i]);
        if (!(c->plain >> i & 1)) {
            mlxn_buffer_release(b.used[i]);
            CHECK_STATUS(mlxn_weight_prepare(b.weight[i], MLXN_WEIGHT_MATMUL, &b.used[i]), MLXN_OK);
        }
        b.one[i] = rig_buffer(on->device, c->output[i], 2, out, NULL);
        b.group[i] = rig_buffer(on->device, c->output[i], 2, out, NULL);
    }
    return b;
}

static void free_buffers(group_buffers *b)
{
    mlxn_buffer_release(b->input);
    for (int i = 0; i < COUNT_MAX; i++) {
        mlxn_buffer *const all[] = {b->weight[i], b->used[i], b->one[i], b->group[i]};
        for (int j = 0; j < 4; j++)
            mlxn_buffer_release(all[j]);
    }
}

static int same_bytes(mlxn_buffer *a, mlxn_buffer *b)
{
    const size_t bytes = mlxn_buffer_bytes(a);
    char *x = malloc(bytes), *y = malloc(bytes);
    rig_read(a, x);
    rig_read(b, y);
    const int same = bytes == mlxn_buffer_bytes(b) && !memcmp(x, y, bytes);
    free(x);
    free(y);
    return same;
}

static void check_case(const rig_device *on, const group_case *c, uint64_t *seed)
{
    group_buffers b = make_buffers(on, c, seed);
    mlxn_matmul_group_args a = {
        .size = sizeof a, .input = b.input, .count = c->count, .mode = c->mode};
    for (int i = 0; i < c->count; i++) {
        a.product[i] = (mlxn_matmul_product){b.used[i], b.group[i]};
        CHECK_STATUS(mlxn_matmul(on->encoder,
                                 MLXN_DESC(mlxn_matmul_args, .input = b.input, .weight = b.used[i],
                                           .output = b.one[i], .mode = c->mode)),
                     MLXN_OK);
    }
    CHECK_STATUS(mlxn_matmul_group(on->encoder, &a), MLXN_OK);
    CHECK(rig_finish(on, MLXN_OK));
    for (int i = 0; i < c->count; i++)
        if (!same_bytes(b.one[i], b.group[i]))
            test_failed(__FILE__, __LINE__, "%s, %u threads, %lld rows: product %d (%s) differs",
                        on->path, on->threads, (long long)c->rows, i,
                        mlxn_dtype_name(c->weight[i]));
    free_buffers(&b);
}

/* The gate's output against both products and gelu_mul in f32, then rounded by a copy through add:
 * x + 0 is x, rounded once to the output's dtype. */
static void check_gate(const rig_device *on, group_case c, mlxn_dtype output, uint64_t *seed)
{
    c.count = 2;
    c.output[0] = c.output[1] = MLXN_F32;
    c.columns[1] = c.columns[0];
    group_buffers b = make_buffers(on, &c, seed);
    const int64_t shape[] = {c.rows, c.columns[0]};
    const size_t n = (size_t)(c.rows * c.columns[0]);
    mlxn_buffer *gated = rig_buffer(on->device, output, 2, shape, NULL);
    for (int i = 0; i < 2; i++)
        CHECK_STATUS(mlxn_matmul(on->encoder,
                                 MLXN_DESC(mlxn_matmul_args, .input = b.input, .weight = b.used[i],
                                           .output = b.one[i], .mode = c.mode)),
                     MLXN_OK);
    CHECK_STATUS(mlxn_gelu_mul(on->encoder, MLXN_DESC(mlxn_gelu_mul_args, .gate = b.one[0],
                                                      .up = b.one[1], .output = b.one[0])),
                 MLXN_OK);
    CHECK_STATUS(
        mlxn_matmul_group(on->encoder, MLXN_DESC(mlxn_matmul_group_args, .input = b.input,
                                                 .product = {{b.used[0], gated}, {b.used[1], NULL}},
                                                 .count = 2, .gate = 1, .mode = c.mode)),
        MLXN_OK);
    CHECK(rig_finish(on, MLXN_OK));
    float *want = malloc(n * 4);
    unsigned char *rounded = malloc(n * 4), *got = malloc(n * 4);
    rig_read(b.one[0], want);
    rig_read(gated, got);
    for (size_t i = 0; i < n; i++)
        test_store(output, rounded, i, (double)want[i]);
    if (memcmp(rounded, got, n * (output == MLXN_F32 ? 4 : 2)))
        test_failed(__FILE__, __LINE__, "%s, %u threads, %lld rows: the gate of %s and %s differs",
                    on->path, on->threads, (long long)c.rows, mlxn_dtype_name(c.weight[0]),
                    mlxn_dtype_name(c.weight[1]));
    free(want);
    free(rounded);
    free(got);
    mlxn_buffer_release(gated);
    free_buffers(&b);
}

TEST(matmul_group_matches_matmul)
{
    static const int64_t rows[] = {1, 2, 13, 40};
    int count;
    const rig_device *devices = rig_devices(&count);
    uint64_t seed = 21;
    for (int n = 0; n < 44; n++) {
        group_case c = {.rows = rows[n % 4], .k = n % 5 ? 256 : 512, .count = 1 + n / 3 % 4};
        c.mode = n & 1 ? MLXN_MATMUL_EXACT : MLXN_MATMUL_FAST;
        c.input = (mlxn_dtype[]){MLXN_F32, MLXN_F32, MLXN_BF16, MLXN_F16}[n / 4 % 4];
        c.plain = n % 3 ? 0 : n / 3;
        for (int i = 0; i < COUNT_MAX; i++) {
            c.columns[i] = (int64_t[]){64, 5, 33, 16}[(n + i) % 4];
            c.weight[i] = quant_dtypes[(n + 3 * i * (n / 11 % 3)) % 11];
            c.output[i] = (mlxn_dtype[]){MLXN_F32, MLXN_F16, MLXN_BF16}[(n + i) % 3];
        }
        for (int d = 0; d < count; d++)
            check_case(&devices[d], &c, &seed);
    }
}

/* More rows than are prepared at a time. */
TEST(matmul_group_many_rows)
{
    int count;
    const rig_device *devices = rig_devices(&count);
    uint64_t seed = 22;
    const group_case c = {.rows = 1600,
                          .k = 64,
                          .columns = {48, 7, 80},
                          .weight = {MLXN_Q5_0, MLXN_Q8_0, MLXN_Q5_0},
                          .input = MLXN_F32,
                          .output = {MLXN_F32, MLXN_F32, MLXN_F16},
                          .count = 3,
                          .mode = MLXN_MATMUL_FAST};
    for (int d = 0; d < count; d++)
        if (devices[d].threads != 1 || d == 0) {
            check_case(&devices[d], &c, &seed);
            check_gate(&devices[d], c, MLXN_F32, &seed);
        }
}

TEST(matmul_group_gate)
{
    static const int64_t rows[] = {1, 3, 40};
    int count;
    const rig_device *devices = rig_devices(&count);
    uint64_t seed = 23;
    for (int n = 0; n < 33; n++) {
        const group_case c = {.rows = rows[n % 3],
                              .k = 256,
                              .columns = {(int64_t[]){64, 5, 33}[n / 3 % 3]},
                              .weight = {quant_dtypes[n % 11], quant_dtypes[(n + n / 11) % 11]},
                              .input = MLXN_F32,
                              .plain = n % 4,
                              .mode = n & 1 ? MLXN_MATMUL_EXACT : MLXN_MATMUL_FAST};
        for (int d = 0; d < count; d++)
            check_gate(&devices[d], c, (mlxn_dtype[]){MLXN_F32, MLXN_F16, MLXN_BF16}[n / 2 % 3],
                       &seed);
    }
}

TEST(matmul_group_refuses)
{
    int count;
    const rig_device *on = rig_devices(&count);
    uint64_t seed = 24;
    const group_case c = {.rows = 2,
                          .k = 64,
                          .columns = {5, 7},
                          .weight = {MLXN_Q8_0, MLXN_Q8_0},
                          .input = MLXN_F32,
                          .output = {MLXN_F32, MLXN_F32},
                          .count = 2,
                          .mode = MLXN_MATMUL_FAST};
    group_buffers b = make_buffers(on, &c, &seed);
    const int64_t narrow[] = {2, 32}, integers[] = {2, 64};
    mlxn_buffer *short_input = rig_buffer(on->device, MLXN_F32, 2, narrow, NULL);
    mlxn_buffer *ids = rig_buffer(on->device, MLXN_I32, 2, integers, NULL);
    const mlxn_matmul_group_args good = {
        .size = sizeof good,
        .input = b.input,
        .product = {{b.used[0], b.group[0]}, {b.used[1], b.group[1]}},
        .count = 2,
        .mode = MLXN_MATMUL_FAST};
#define REFUSE(field, value, status, text)                             \
    do {                                                               \
        mlxn_matmul_group_args a = good;                               \
        a.field = (value);                                             \
        CHECK_FAILS(mlxn_matmul_group(on->encoder, &a), status, text); \
    } while (0)
    CHECK_FAILS(mlxn_matmul_group(NULL, &good), MLXN_ERR_ARGUMENT, "encoder");
    CHECK_FAILS(mlxn_matmul_group(on->encoder, NULL), MLXN_ERR_ARGUMENT, "matmul_group");
    REFUSE(count, 0, MLXN_ERR_ARGUMENT, "count is 0, needs 1 to 4");
    REFUSE(count, 5, MLXN_ERR_ARGUMENT, "count is 5, needs 1 to 4");
    REFUSE(count, 3, MLXN_ERR_ARGUMENT, "product[2].weight");
    REFUSE(mode, (mlxn_matmul_mode)0, MLXN_ERR_ARGUMENT, "mode is 0");
    REFUSE(input, NULL, MLXN_ERR_ARGUMENT, "input");
    REFUSE(input, ids, MLXN_ERR_DTYPE, "input is i32");
    REFUSE(input, short_input, MLXN_ERR_SHAPE, "input has rows of 32, product[0].weight");
    REFUSE(product[1].weight, NULL, MLXN_ERR_ARGUMENT, "product[1].weight");
    REFUSE(product[1].output, NULL, MLXN_ERR_ARGUMENT, "product[1].output");
    REFUSE(product[1].output, ids, MLXN_ERR_DTYPE, "product[1].output is i32");
    REFUSE(product[1].output, b.one[0], MLXN_ERR_SHAPE, "product[1].output has rows of 5");
    REFUSE(gate, 1, MLXN_ERR_ARGUMENT, "product[1].output is given");
    mlxn_matmul_group_args a = good;
    a.product[1] = a.product[0];
    CHECK_FAILS(mlxn_matmul_group(on->encoder, &a), MLXN_ERR_OVERLAP,
                "product[1].output and product[0].output overlap");
    a = good;
    a.gate = 1;
    a.product[1].output = NULL;
    CHECK_FAILS(mlxn_matmul_group(on->encoder, &a), MLXN_ERR_SHAPE, "5 and 7 rows");
    a.count = 1;
    CHECK_FAILS(mlxn_matmul_group(on->encoder, &a), MLXN_ERR_ARGUMENT, "a gate needs 2");
    mlxn_buffer_release(short_input);
    mlxn_buffer_release(ids);
    free_buffers(&b);
}
