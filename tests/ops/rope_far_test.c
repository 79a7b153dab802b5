/* rope_far_test.c - head norm past 2^32 elements.  On the CPU inputs are mappings with no memory
 * behind them, and an output is one small piece of memory mapped over and over; a GPU has them in
 * full. */
#include "rig.h"

#include <sys/mman.h>
#include <unistd.h>

static int on_cpu(void)
{
    return !strcmp(test_backend(), "cpu");
}

enum { PIECE = 8 << 20 };

/* [at, at + bytes) becomes one piece again and again. */
static int fold(char *at, size_t bytes)
{
    FILE *file = tmpfile();
    int ok = file && !ftruncate(fileno(file), PIECE);
    for (size_t done = 0; ok && done < bytes; done += PIECE) {
        const size_t left = bytes - done, part = left < PIECE ? left : PIECE;
        ok = mmap(at + done, part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fileno(file),
                  0) != MAP_FAILED;
    }
    if (file)
        fclose(file);
    return ok;
}

/* n zeros in bf16; on the CPU in *memory, which is to be unmapped. */
static mlxn_buffer *far_zeros(mlxn_device *device, int64_t n, int folded, void **memory)
{
    const size_t bytes = (size_t)n * 2;
    mlxn_buffer *buffer = NULL;
    *memory = NULL;
    if (!on_cpu())
        return rig_vector(device, MLXN_BF16, n, NULL);
    *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (*memory == MAP_FAILED || (folded && !fold(*memory, bytes)))
        test_failed(__FILE__, __LINE__, "cannot map %zu bytes", bytes);
    else
        CHECK_STATUS(
            mlxn_buffer_wrap(device, *memory, bytes, MLXN_BF16, 1, &n, NULL, NULL, &buffer),
            MLXN_OK);
    return buffer;
}

static void free_far(mlxn_buffer *buffer, void *memory, int64_t n)
{
    mlxn_buffer_release(buffer);
    if (memory)
        munmap(memory, (size_t)n * 2);
}

/* Two tokens, 2^32 + 4096 elements apart. */
TEST(rope_offsets_past_32_bits)
{
    enum { D = 64 };
    const int64_t apart = ((int64_t)1 << 32) + 4096, n = apart + D;
    const int64_t shape[3] = {2, 1, D}, strides[3] = {apart, D, 1};
    int count;
    const rig_device *on = rig_devices(&count);
    uint16_t first[D], second[D], between = 1;
    uint64_t seed = 47;
    void *memory, *head = rig_normal(MLXN_BF16, D, 1, &seed);
    mlxn_buffer *base = far_zeros(on->device, n, 0, &memory);
    REQUIRE(base);
    CHECK_STATUS(mlxn_buffer_write(base, 0, head, sizeof first), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_write(base, (size_t)apart * 2, head, sizeof second), MLXN_OK);
    mlxn_buffer *view = rig_view(base, 3, shape, strides, 0);
    CHECK_STATUS(mlxn_qkv_prepare(on->encoder, MLXN_DESC(mlxn_qkv_prepare_args,
                                                         .q = {.input = view,
                                                               .output = view,
                                                               .norm = MLXN_NORM_WEIGHTLESS,
                                                               .rope = MLXN_ROPE_NONE},
                                                         .eps = 1e-6f)),
                 MLXN_OK);
    rig_finish(on, MLXN_OK);
    rig_read_part(base, 0, first, sizeof first);
    rig_read_part(base, (size_t)apart * 2, second, sizeof second);
    rig_read_part(base, 4096 * 2, &between, sizeof between);
    CHECK(memcmp(first, head, sizeof first) != 0);
    CHECK(!memcmp(first, second, sizeof first));
    CHECK(between == 0);
    mlxn_buffer_release(view);
    free_far(base, memory, n);
    free(head);
}

/* n_tokens * n_heads * head_dim past 2^32: zeros but for the last head of the last token, which
 * comes last in a folded output. */
TEST(fused_head_norm_rope_past_32_bits)
{
    enum { TOKENS = 4097, HEADS = 1024, DIM = 1024 };
    const int64_t n = (int64_t)TOKENS * HEADS * DIM, last = n - (int64_t)HEADS * DIM;
    const size_t bytes = DIM * sizeof(uint16_t);
    int count;
    const rig_device *on = rig_devices(&count);
    if (!test_full())
        return; /* some seconds; rope_offsets_past_32_bits stands in */
    uint16_t x[DIM], y[DIM], zeros[DIM];
    void *from, *to;
    double sum = 0;
    mlxn_buffer *in = far_zeros(on->device, n, 0, &from);
    mlxn_buffer *out = far_zeros(on->device, n, 1, &to);
    REQUIRE(in && out);
    for (size_t i = 0; i < DIM; i++) {
        test_store(MLXN_BF16, x, i, sin((double)i));
        sum += pow(test_load(MLXN_BF16, x, i), 2);
    }
    CHECK_STATUS(mlxn_buffer_write(in, (size_t)(n - DIM) * 2, x, bytes), MLXN_OK);
    CHECK_STATUS(mlxn_fused_head_norm_rope_bf16(
                     on->encoder, MLXN_DESC(mlxn_fused_head_norm_rope_bf16_args, .input = in,
                                            .output = out, .n_tokens = TOKENS, .n_heads = HEADS,
                                            .head_dim = DIM, .eps = 1e-6f)),
                 MLXN_OK);
    rig_finish(on, MLXN_OK);
    rig_read_part(out, (size_t)(n - DIM) * 2, y, bytes);
    rig_read_part(out, (size_t)last * 2, zeros, bytes);
    for (size_t i = 0; i < DIM; i++) {
        double want = test_load(MLXN_BF16, x, i) / sqrt(sum / DIM + 1e-6);
        CHECK(test_ulp(test_load(MLXN_BF16, y, i), want, want, MLXN_BF16) <= 0.51);
        CHECK(zeros[i] == 0);
    }
    free_far(in, from, n);
    free_far(out, to, n);
}
