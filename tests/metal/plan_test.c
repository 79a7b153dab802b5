/* plan_test.c - what is planned for Metal alone: products on simdgroup matrices give the CPU's
 * bits, and barriers stand only between launches of which one reads what the other wrote. */
#include "rig_metal.h"
#include "core/internal.h"
#include "ops/quant_ref.h"
#include <math.h>

enum { ROWS = 33, COLUMNS = 70, K = 512, PRODUCTS = 3 };

typedef struct products {
    mlxn_device *device;
    mlxn_encoder *encoder;
    mlxn_buffer *input, *weight[PRODUCTS], *output[PRODUCTS];
} products;

/* Weights of these dtypes, prepared: packing takes launches of its own. */
static products make(const char *backend, const mlxn_dtype dtype[PRODUCTS], const float *x)
{
    products p = {.device = NULL};
    uint64_t seed = 3;
    const int64_t in[] = {ROWS, K}, shape[] = {COLUMNS, K}, out[] = {ROWS, COLUMNS};
    CHECK_STATUS(mlxn_device_open(backend, 0, &p.device), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_create(p.device, &p.encoder), MLXN_OK);
    p.input = rig_buffer(p.device, MLXN_F32, 2, in, x);
    for (int i = 0; i < PRODUCTS; i++) {
        void *w = malloc((size_t)COLUMNS * quant_row_bytes(dtype[i], K));
        quant_fill(dtype[i], w, COLUMNS, K, 0.05f, 0, &seed);
        mlxn_buffer *plain = rig_buffer(p.device, dtype[i], 2, shape, w);
        CHECK_STATUS(mlxn_weight_prepare(plain, MLXN_WEIGHT_MATMUL, &p.weight[i]), MLXN_OK);
        mlxn_buffer_release(plain);
        free(w);
        p.output[i] = rig_buffer(p.device, MLXN_F32, 2, out, NULL);
    }
    return p;
}

static void drop(products *p)
{
    for (int i = 0; i < PRODUCTS; i++) {
        mlxn_buffer_release(p->weight[i]);
        mlxn_buffer_release(p->output[i]);
    }
    mlxn_buffer_release(p->input);
    mlxn_encoder_release(p->encoder);
    mlxn_device_release(p->device);
}

static void run(const products *p)
{
    mlxn_matmul_group_args a = {
        .size = sizeof a, .input = p->input, .count = PRODUCTS, .mode = MLXN_MATMUL_FAST};
    for (int i = 0; i < PRODUCTS; i++)
        a.product[i] = (mlxn_matmul_product){p->weight[i], p->output[i]};
    CHECK_STATUS(mlxn_matmul_group(p->encoder, &a), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(p->encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(p->encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_reset(p->encoder), MLXN_OK);
}

/* Values over many magnitudes, ties of the rounding, blocks of zeros, an infinity and a NaN. */
static void fill(float x[ROWS * K])
{
    uint64_t seed = 9;
    for (int i = 0; i < ROWS * K; i++)
        x[i] = ldexpf(test_normal(&seed), i / K - ROWS / 2);
    for (int i = 0; i < 64; i++)
        x[i] = i % 32 ? (float)(i % 32) - 0.5f : 127.0f;
    memset(x + 5 * K + 32, 0, 32 * sizeof *x);
    x[7 * K + 3] = INFINITY;
    x[8 * K + 70] = NAN;
}

TEST(metal_simdgroups_match_cpu)
{
    static const mlxn_dtype dtypes[][PRODUCTS] = {{MLXN_Q4_0, MLXN_Q4_1, MLXN_Q5_0},
                                                  {MLXN_Q5_1, MLXN_Q8_0, MLXN_Q4_K},
                                                  {MLXN_Q5_K, MLXN_Q6_K, MLXN_Q8_0}};
    static float x[ROWS * K], got[ROWS * COLUMNS], want[ROWS * COLUMNS];
    fill(x);
    for (int n = 0; n < 3; n++) {
        products metal = make("metal", dtypes[n], x), cpu = make("cpu", dtypes[n], x);
        run(&metal);
        run(&cpu);
        for (int i = 0; i < PRODUCTS; i++) {
            int differ = 0, numbers = 0;
            rig_read(metal.output[i], got);
            rig_read(cpu.output[i], want);
            for (int k = 0; k < ROWS * COLUMNS; k++) {
                differ += isnan(want[k]) ? !isnan(got[k]) : memcmp(&got[k], &want[k], 4) != 0;
                numbers += isfinite(want[k]) != 0;
            }
            if (differ || numbers != (ROWS - 2) * COLUMNS)
                test_failed(__FILE__, __LINE__, "%s: %d differ, %d are numbers",
                            mlxn_dtype_name(dtypes[n][i]), differ, numbers);
        }
        drop(&metal);
        drop(&cpu);
    }
}

/* One launch rounds the activations, three multiply: one barrier, and none for the portable text,
 * whose products need no launch before them. */
TEST(metal_barriers_of_a_plan)
{
    static const mlxn_dtype dtype[] = {MLXN_Q4_0, MLXN_Q8_0, MLXN_Q6_K};
    static float x[ROWS * K];
    for (int portable = 0; portable < 2; portable++) {
        if (portable)
            setenv("MLXN_METAL_PORTABLE", "1", 1);
        products p = make("metal", dtype, x);
        const metalsim_counts before = metalsim_count;
        run(&p);
        CHECK(metalsim_count.dispatches - before.dispatches == (portable ? 3 : 4));
        CHECK(metalsim_count.barriers - before.barriers == (portable ? 0 : 1));
        drop(&p);
    }
    unsetenv("MLXN_METAL_PORTABLE");
}
