/* embedding_test.c - the look-up against values that the gguf package of PyPI dequantised
 * (tests/oracle/make_quant_golden.py): every weight dtype, plain and prepared, exactly; ids out of
 * range; scales and output dtypes. */
#include "quant_ref.h"
#include "rig.h"

/* Rows of the table into `out`, which holds what the output holds before. */
static mlxn_status look_up(mlxn_device *device, mlxn_buffer *table, const uint32_t *ids, int64_t n,
                           float scale, mlxn_dtype dtype, void *out)
{
    mlxn_encoder *e = NULL;
    mlxn_buffer *i = rig_vector(device, MLXN_U32, n, ids);
    mlxn_buffer *o =
        rig_buffer(device, dtype, 2, (const int64_t[2]){n, mlxn_buffer_dim(table, 1)}, out);
    MLXN_TRY(mlxn_encoder_create(device, &e));
    mlxn_status status = mlxn_embedding(
        e, MLXN_DESC(mlxn_embedding_args, .table = table, .ids = i, .output = o, .scale = scale));
    if (status == MLXN_OK)
        status = mlxn_encoder_commit(e);
    if (status == MLXN_OK)
        status = mlxn_encoder_wait(e);
    if (status == MLXN_OK || status == MLXN_ERR_FAULT)
        rig_read(o, out);
    mlxn_encoder_release(e);
    mlxn_buffer_release(i);
    mlxn_buffer_release(o);
    return status;
}

/* Rows in another order, twice, from both forms of the table. */
static void check_golden(mlxn_device *device, mlxn_dtype dtype, int64_t rows, int64_t cols,
                         void *bytes, const float *want)
{
    static const uint32_t ids[4] = {2, 0, 1, 2};
    mlxn_buffer *packed = NULL;
    mlxn_buffer *table = rig_buffer(device, dtype, 2, (const int64_t[2]){rows, cols}, bytes);
    float *got = calloc((size_t)cols, sizeof ids);
    REQUIRE_OK(mlxn_weight_prepare(table, MLXN_WEIGHT_MATMUL, &packed));
    for (int p = 0; p < 2; p++) {
        REQUIRE_OK(look_up(device, p ? packed : table, ids, 4, 1, MLXN_F32, got));
        for (int i = 0; i < 4; i++)
            for (int64_t k = 0; k < cols; k++)
                if (!(got[i * cols + k] == want[ids[i] * cols + k])) {
                    test_failed(__FILE__, __LINE__, "%s packed %d row %u element %lld: %a, want %a",
                                mlxn_dtype_name(dtype), p, ids[i], (long long)k,
                                (double)got[i * cols + k], (double)want[ids[i] * cols + k]);
                    break;
                }
    }
    free(got);
    mlxn_buffer_release(table);
    mlxn_buffer_release(packed);
}

TEST(embedding_golden)
{
    int device_count;
    const rig_device *devices = rig_devices(&device_count);
    uint32_t count = 0, head[4] = {0};
    char magic[8];
    FILE *file = fopen(MLXN_TEST_DATA "/quant_golden.bin", "rb");
    REQUIRE(file);
    REQUIRE(fread(magic, 8, 1, file) == 1 && !memcmp(magic, "MLXNQG01", 8));
    REQUIRE(fread(&count, 4, 1, file) == 1 && count == 11);
    for (uint32_t i = 0; i < count; i++) {
        REQUIRE(fread(head, sizeof head, 1, file) == 1);
        const mlxn_dtype dtype = mlxn_dtype_from_gguf(head[0]);
        REQUIRE(head[3] == head[1] * quant_row_bytes(dtype, head[2]));
        void *bytes = malloc(head[3]);
        float *want = malloc((size_t)head[1] * head[2] * 4);
        REQUIRE(fread(bytes, head[3], 1, file) == 1);
        REQUIRE(fread(want, (size_t)head[1] * head[2] * 4, 1, file) == 1);
        for (int p = 0; p < device_count; p++)
            check_golden(devices[p].device, dtype, head[1], head[2], bytes, want);
        /* the reference of the other tests, too */
        for (uint32_t r = 0; r < head[1]; r++) {
            quant_row row;
            quant_decode(dtype, (char *)bytes + r * (head[3] / head[1]), head[2], &row);
            for (uint32_t k = 0; k < head[2]; k++)
                CHECK(fmaf(row.s[k], row.u[k], row.t[k]) == want[r * head[2] + k]);
            quant_row_free(&row);
        }
        free(bytes);
        free(want);
    }
    fclose(file);
}

TEST(embedding_scale_and_dtypes)
{
    static const mlxn_dtype outputs[3] = {MLXN_F32, MLXN_F16, MLXN_BF16};
    enum { V = 21, E = 40 };
    static const uint32_t ids[5] = {20, 16, 15, 0, 7};
    int device_count;
    const rig_device *devices = rig_devices(&device_count);
    uint64_t seed = 3;
    uint16_t table[V * E], want[5 * E];
    uint32_t got[5 * E] = {0};
    quant_fill(MLXN_BF16, table, V, E, 1, 0, &seed);
    for (int p = 0; p < device_count; p++)
        for (int o = 0; o < 3; o++) {
            const int64_t dims[2] = {V, E};
            const float scale = 25.25f;
            mlxn_buffer *t = NULL, *packed = NULL;
            t = rig_buffer(devices[p].device, MLXN_BF16, 2, dims, table);
            REQUIRE_OK(mlxn_weight_prepare(t, MLXN_WEIGHT_MATMUL, &packed));
            REQUIRE_OK(
                look_up(devices[p].device, o % 2 ? t : packed, ids, 5, scale, outputs[o], got));
            for (int i = 0; i < 5 * E; i++) {
                const float v =
                    scale * (float)test_load(MLXN_BF16, table, ids[i / E] * E + (uint32_t)(i % E));
                if (outputs[o] == MLXN_F32) {
                    CHECK((double)v == test_load(MLXN_F32, got, (size_t)i));
                    continue;
                }
                test_store(outputs[o], want, (size_t)i, (double)v);
                CHECK(!memcmp(&want[i], (uint16_t *)got + i, 2));
            }
            mlxn_buffer_release(t);
            mlxn_buffer_release(packed);
        }
}

/* An id out of range is reported and its row left alone; the others are written. */
TEST(embedding_bad_ids)
{
    int device_count;
    const rig_device *devices = rig_devices(&device_count);
    static const uint32_t ids[4] = {3, 5, UINT32_MAX, 0};
    float table[5 * 32], out[4 * 32];
    for (int i = 0; i < 5 * 32; i++)
        table[i] = (float)i + 1;
    for (int p = 0; p < device_count; p++)
        for (int packed = 0; packed < 2; packed++) {
            const int64_t dims[2] = {5, 32};
            mlxn_buffer *t = NULL, *w = NULL;
            memset(out, 0, sizeof out);
            t = rig_buffer(devices[p].device, MLXN_F32, 2, dims, table);
            REQUIRE_OK(mlxn_weight_prepare(t, MLXN_WEIGHT_MATMUL, &w));
            CHECK_FAILS(look_up(devices[p].device, packed ? w : t, ids, 4, 1, MLXN_F32, out),
                        MLXN_ERR_FAULT, "embedding: id is");
            CHECK(!memcmp(out, table + 3 * 32, 128) && !memcmp(out + 96, table, 128));
            for (int i = 32; i < 96; i++)
                CHECK(out[i] == 0);
            mlxn_buffer_release(t);
            mlxn_buffer_release(w);
        }
}
