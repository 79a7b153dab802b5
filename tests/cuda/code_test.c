/* code_test.c - from kernel text to code: NVRTC and its absence, the cache on disk and what may
 * have happened to its files. */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "backends/cache.h"
#include "backends/cuda/cuda.h"
#include "backends/cuda/embedded.h"
#include "kernels/text.h"
#include "rig.h"

/* Opens a device and launches a kernel of steps.kernel. */
static mlxn_status use_steps(void)
{
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *x = NULL;
    mlxn_status status = mlxn_device_open("cuda", 0, &device);
    if (status == MLXN_OK)
        status = cuda_register_steps(device);
    if (status == MLXN_OK)
        status = mlxn_encoder_create(device, &encoder);
    if (status == MLXN_OK)
        status = cuda_vector(device, NULL, &x);
    if (status == MLXN_OK)
        status = cuda_step(encoder, "advance", x, NULL, NULL, 1, 1);
    if (status == MLXN_OK)
        status = mlxn_encoder_commit(encoder);
    if (status == MLXN_OK)
        status = mlxn_encoder_wait(encoder);
    mlxn_buffer_release(x);
    mlxn_encoder_release(encoder);
    mlxn_device_release(device);
    return status;
}

TEST(cuda_nvrtc)
{
    fake_control *fake = cuda_fake();
    fake_nvrtc_control *nvrtc = cuda_fake_nvrtc();
    setenv("MLXN_KERNEL_CACHE", "off", 1);
    fake->architecture = 75;
    CHECK_STATUS(use_steps(), MLXN_OK);
    fake->architecture = 120; /* newer than this NVRTC: PTX of 9.0 */
    CHECK_STATUS(use_steps(), MLXN_OK);
    CHECK(nvrtc->compiled == 2);
    nvrtc->archs[0] = nvrtc->archs[1] = nvrtc->archs[2] = 100;
    fake->architecture = 90;
    CHECK_FAILS(use_steps(), MLXN_ERR_UNSUPPORTED, "no longer supports architecture 9.0");
    nvrtc = cuda_fake_nvrtc();
    setenv("MLXN_KERNEL_CACHE", "off", 1);
    nvrtc->fails = 1;
    CHECK_FAILS(use_steps(), MLXN_ERR_COMPILE, "NVRTC_ERROR_COMPILATION: made to fail");
    nvrtc = cuda_fake_nvrtc();
    setenv("MLXN_NVRTC", "libm.so.6", 1);
    CHECK_FAILS(use_steps(), MLXN_ERR_UNSUPPORTED, "it must be compiled, but");
    cuda_fake_nvrtc();
    CHECK_CLEAN();
}

/* Without NVRTC the library's own kernels have the PTX that the build embeds, unless the text is a
 * newer one. */
TEST(cuda_embedded_ptx)
{
    const int64_t shape[] = {1, 4, 64}, one = 1, freqs[] = {32, 2};
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    char *ptx = NULL;
    mlxn_rope_args rope = {
        .size = sizeof rope, .pairing = MLXN_ROPE_NEOX, .rotary_pairs = 32, .attention_factor = 1};
    cuda_fake();
    setenv("MLXN_NVRTC", "libm.so.6", 1);
    REQUIRE_OK(mlxn_device_open("cuda", 0, &device));
    CHECK(!device->gpu->overrides);
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 3, shape, &rope.input));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_I32, 1, &one, &rope.positions));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 2, freqs, &rope.freqs));
    rope.output = rope.input;
    if (mlxn_cuda_embedded(mlxn_kernel_text_qkv_prepare, &ptx) == MLXN_OK)
        CHECK_STATUS(mlxn_rope(encoder, &rope), MLXN_OK);
    else
        CHECK_FAILS(mlxn_rope(encoder, &rope), MLXN_ERR_UNSUPPORTED, "it must be compiled, but");
    free(ptx);
    mlxn_encoder_release(encoder);
    mlxn_buffer_release(rope.input);
    mlxn_buffer_release(rope.positions);
    mlxn_buffer_release(rope.freqs);
    mlxn_device_release(device);
    cuda_fake_nvrtc();
    CHECK_CLEAN();
}

/* A file is used for the text that it was made from, and for no other. */
TEST(cuda_embedded_ptx_of_another_text)
{
    const size_t none = 0;
    char *ptx = NULL;
    for (size_t i = 0; i < mlxn_cuda_ptx_count; i++) {
        mlxn_cuda_ptx row = mlxn_cuda_ptx_table[i];
        if (!*row.bytes)
            continue;
        row.text = mlxn_kernel_text_steps;
        CHECK_FAILS(mlxn_cuda_ptx_load(&row, &ptx), MLXN_ERR_UNSUPPORTED,
                    "is that of another version of it");
        row.file++;
        CHECK_FAILS(mlxn_cuda_ptx_load(&row, &ptx), MLXN_ERR_UNSUPPORTED, "cannot be decoded");
        row.bytes = &none;
        CHECK_FAILS(mlxn_cuda_ptx_load(&row, &ptx), MLXN_ERR_UNSUPPORTED, "has no PTX of");
        CHECK(!ptx);
    }
    CHECK_FAILS(mlxn_cuda_embedded(mlxn_kernel_text_steps, &ptx), MLXN_ERR_UNSUPPORTED,
                "of its own kernels alone");
}

TEST(cuda_kernel_text_is_refused)
{
    static const char broken[] = "KERNEL(broken) {";
    const int64_t n = 4;
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *x = NULL;
    cuda_fake();
    REQUIRE_OK(mlxn_device_open("cuda", 0, &device));
    REQUIRE_OK(mlxn_kernel_register(
        device, MLXN_DESC(mlxn_kernel_desc, .name = "broken", .cuda_text = broken)));
    REQUIRE_OK(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = "absent",
                                                      .cuda_text = mlxn_kernel_text_steps)));
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 1, &n, &x));
    CHECK_FAILS(cuda_step(encoder, "broken", x, NULL, NULL, 0, 0), MLXN_ERR_COMPILE, "error");
    CHECK_FAILS(cuda_step(encoder, "absent", x, NULL, NULL, 0, 0), MLXN_ERR_DEVICE,
                "cuModuleGetFunction");
    mlxn_buffer_release(x);
    mlxn_encoder_release(encoder);
    mlxn_device_release(device);
    CHECK_CLEAN();
}

/* Constants are macros in front of the text. */
TEST(cuda_kernel_constants)
{
    static const char text[] = "#include <mlxn_emulator.hpp>\n"
                               "KERNEL(scale, INOUT(float, x, 0))\n"
                               "{\n    x[k_thread3.x] = x[k_thread3.x] * (float)MLXN_CONSTANT_0\n"
                               "        + (float)MLXN_CONSTANT_1;\n}\n";
    static const int32_t constants[] = {3, -7};
    const float ones[4] = {1, 1, 1, 1};
    const int64_t n = 4;
    float got[4] = {0};
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *x = NULL;
    cuda_fake();
    REQUIRE_OK(mlxn_device_open("cuda", 0, &device));
    REQUIRE_OK(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = "scale_3",
                                                      .entry = "scale", .cuda_text = text,
                                                      .constants = constants, .n_constants = 2)));
    REQUIRE_OK(mlxn_encoder_create(device, &encoder));
    REQUIRE_OK(mlxn_buffer_create(device, MLXN_F32, 1, &n, &x));
    REQUIRE_OK(mlxn_buffer_write(x, 0, ones, sizeof ones));
    const mlxn_operand operand = {x, MLXN_READ_WRITE};
    CHECK_STATUS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "scale_3",
                                                  .operands = &operand, .n_operands = 1,
                                                  .groups = {1, 1, 1}, .threads = 4)),
                 MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_read(x, 0, got, sizeof got), MLXN_OK);
    CHECK(got[0] == -4 && got[3] == -4);
    mlxn_buffer_release(x);
    mlxn_encoder_release(encoder);
    mlxn_device_release(device);
    CHECK_CLEAN();
}

/* The function of a kernel of the library, for one constant. */
static void *function_of(mlxn_device *device, const char *entry, int32_t constant)
{
    mlxn_gpu_launch launch = {.text = mlxn_kernel_text_norm, .entry = entry};
    mlxn_gpu_constant(&launch, constant);
    CHECK_STATUS(mlxn_cuda_compile((mlxn_cuda_device *)device, &launch), MLXN_OK);
    return launch.function;
}

/* Code is made for an entry and its constants, once each; embedded PTX serves all of them. */
TEST(cuda_code_of_one_entry)
{
    static const char *const tiles = "norm_tiles_f32", *const held = "norm_held_f32";
    mlxn_device *device = NULL;
    cuda_fake();
    fake_nvrtc_control *nvrtc = cuda_fake_nvrtc();
    setenv("MLXN_KERNEL_CACHE", "off", 1);
    REQUIRE_OK(mlxn_device_open("cuda", 0, &device));
    void *first = function_of(device, tiles, 1);
    CHECK(first && function_of(device, tiles, 1) == first && nvrtc->compiled == 1);
    CHECK(function_of(device, tiles, 2) != first && nvrtc->compiled == 2);
    CHECK(function_of(device, held, 1) && nvrtc->compiled == 3);
    CHECK(function_of(device, tiles, 1) == first && nvrtc->compiled == 3);
    for (int i = 3; i <= MLXN_GPU_VARIANTS; i++)
        function_of(device, tiles, i);
    CHECK(nvrtc->compiled == MLXN_GPU_VARIANTS + 1); /* from now on one serves the others */
    void *any = function_of(device, tiles, 100);
    CHECK(any && function_of(device, tiles, 101) == any &&
          function_of(device, tiles, K_OPEN) == any);
    CHECK(nvrtc->compiled == MLXN_GPU_VARIANTS + 2 && function_of(device, tiles, 1) == first);
    mlxn_device_release(device);
    setenv("MLXN_NVRTC", "libm.so.6", 1);
    REQUIRE_OK(mlxn_device_open("cuda", 0, &device));
    first = function_of(device, tiles, 1);
    CHECK(first && function_of(device, tiles, 2) == first && function_of(device, held, 1) != first);
    mlxn_device_release(device);
    cuda_fake_nvrtc();
    CHECK_CLEAN();
}

/* ---- the cache ---- */

TEST(cuda_cache_saves_compiling)
{
    cuda_fake();
    fake_nvrtc_control *nvrtc = cuda_fake_nvrtc();
    cuda_cache_clear();
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(use_steps(), MLXN_OK);
    CHECK(nvrtc->compiled == 1);
    setenv("MLXN_KERNEL_CACHE", "off", 1);
    CHECK_STATUS(use_steps(), MLXN_OK);
    CHECK(nvrtc->compiled == 2);
    CHECK(cuda_cache_clear() == 1);
    setenv("MLXN_KERNEL_CACHE", "/proc/nowhere", 1); /* cannot be written: no failure */
    CHECK_STATUS(use_steps(), MLXN_OK);
    setenv("MLXN_KERNEL_CACHE", "", 1);
    char below[200], path[600];
    snprintf(below, sizeof below, "%s/xdg", cuda_cache_folder());
    setenv("XDG_CACHE_HOME", below, 1);
    CHECK_STATUS(use_steps(), MLXN_OK);
    snprintf(path, sizeof path, "rm -r %s/mlxn/kernels/*.bin && rm -r %s", below, below);
    CHECK(system(path) == 0); /* the folders were made */
    unsetenv("XDG_CACHE_HOME");
    cuda_fake();
    CHECK_CLEAN();
}

static const mlxn_hash key = {1, 2};

static void store(const char *text)
{
    char copy[100];
    snprintf(copy, sizeof copy, "%s", text);
    mlxn_kernel_cache_store(key, &(mlxn_code){copy, strlen(copy)});
}

/* Whether the entry is there and is this text. */
static int holds(const char *text)
{
    mlxn_code code;
    if (!mlxn_kernel_cache_load(key, &code))
        return 0;
    int same = code.bytes == strlen(text) && !memcmp(code.data, text, code.bytes + 1);
    free(code.data);
    return same;
}

TEST(cuda_cache_distrusts_files)
{
    char path[300], other[300];
    mlxn_code code;
    struct stat info;
    cuda_fake();
    cuda_cache_clear();
    snprintf(path, sizeof path, "%s/00000000000000010000000000000002.bin", cuda_cache_folder());
    store("some code");
    CHECK(holds("some code"));
    REQUIRE(!stat(path, &info));
    for (long i = 0; i < info.st_size; i++) { /* every byte */
        store("some code");
        test_damage(path, i, 0x5a, -1);
        CHECK(!mlxn_kernel_cache_load(key, &code));
    }
    for (long size = 0; size < info.st_size + 3; size++) { /* cut off, or longer */
        store("some code");
        test_damage(path, -1, 0, size);
        if (size == info.st_size)
            CHECK(holds("some code"));
        else
            CHECK(!mlxn_kernel_cache_load(key, &code));
    }
    store("some code"); /* under another name */
    snprintf(other, sizeof other, "%s/00000000000000010000000000000003.bin", cuda_cache_folder());
    CHECK(!rename(path, other));
    CHECK(!mlxn_kernel_cache_load((mlxn_hash){1, 3}, &code));
    CHECK(mkdir(path, 0777) == 0); /* a folder in its place */
    CHECK(!mlxn_kernel_cache_load(key, &code));
    store("some code");
    rmdir(path);
    CHECK(cuda_cache_clear() == 1); /* and no temporary file is left */
}

/* A damaged entry costs a compilation, no more. */
TEST(cuda_cache_is_made_again)
{
    char command[400];
    cuda_fake();
    fake_nvrtc_control *nvrtc = cuda_fake_nvrtc();
    cuda_cache_clear();
    CHECK_STATUS(use_steps(), MLXN_OK);
    snprintf(command, sizeof command, "for f in %s/*.bin; do truncate -s 5000 $f; done",
             cuda_cache_folder());
    CHECK(system(command) == 0);
    CHECK_STATUS(use_steps(), MLXN_OK);
    CHECK_STATUS(use_steps(), MLXN_OK);
    CHECK(nvrtc->compiled == 2);
    CHECK_CLEAN();
}

/* Processes that store and load the same entry see all of it or nothing. */
TEST(cuda_cache_processes)
{
    enum { CHILDREN = 4, BYTES = 200000 };
    cuda_fake();
    cuda_cache_clear();
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child)
            continue;
        char *data = malloc(BYTES);
        int bad = 0;
        for (int k = 0; data && k < 100; k++) {
            mlxn_code code;
            memset(data, 'a' + (i + k) % 26, BYTES);
            mlxn_kernel_cache_store(key, &(mlxn_code){data, BYTES});
            if (!mlxn_kernel_cache_load(key, &code)) {
                bad++;
                continue;
            }
            const char *got = code.data;
            bad += code.bytes != BYTES || got[0] != got[BYTES - 1];
            free(code.data);
        }
        _exit(bad != 0);
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    CHECK(cuda_cache_clear() == 1);
}

TEST(cuda_hash)
{
    const mlxn_hash start = MLXN_HASH_START;
    unsigned char data[64] = {0};
    mlxn_hash seen[64 * 8 + 64];
    int n = 0;
    for (int bit = 0; bit < 64 * 8; bit++) { /* every bit and every length makes another hash */
        data[bit / 8] = (unsigned char)(1 << bit % 8);
        seen[n++] = mlxn_hash_add(start, data, sizeof data);
        data[bit / 8] = 0;
    }
    for (size_t bytes = 0; bytes < 64; bytes++)
        seen[n++] = mlxn_hash_add(start, data, bytes);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            CHECK(seen[i].a != seen[k].a && seen[i].b != seen[k].b);
}
