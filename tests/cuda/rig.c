/* rig.c - see rig.h. */
#include "rig.h"

#include <dirent.h>
#include <dlfcn.h>
#include <unistd.h>

static void *symbol(const char *library, const char *name)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *found = handle ? dlsym(handle, name) : NULL;
    if (!found) {
        printf("%s of %s: %s\n", name, library, dlerror());
        exit(1);
    }
    return found;
}

static char folder[] = "/tmp/mlxn-cuda-test-XXXXXX";

static void remove_folder(void)
{
    cuda_cache_clear();
    rmdir(folder);
}

__attribute__((constructor)) static void use_fakes(void)
{
    if (!mkdtemp(folder))
        exit(1);
    atexit(remove_folder);
}

static void set_environment(void)
{
    setenv("MLXN_CUDA_DRIVER", FAKE_CUDA, 1);
    setenv("MLXN_NVRTC", FAKE_NVRTC, 1);
    setenv("MLXN_CUDA_PORTABLE", "1", 1);
    setenv("MLXN_KERNEL_CACHE", folder, 1);
    setenv("MLXN_FAKE_CHECKED", "1", 1);
}

fake_control *cuda_fake(void)
{
    static fake_control *(*get)(void), *fake, start;
    static void (*reset)(void);
    set_environment();
    if (!fake) {
        void *found = symbol(FAKE_CUDA, "fake_get_control");
        memcpy(&get, &found, sizeof get);
        found = symbol(FAKE_CUDA, "fake_reset");
        memcpy(&reset, &found, sizeof reset);
        fake = get();
        start = *fake;
    }
    reset();
    *fake = start;
    return fake;
}

fake_nvrtc_control *cuda_fake_nvrtc(void)
{
    static fake_nvrtc_control *(*get)(void), *fake, start;
    set_environment();
    if (!fake) {
        void *found = symbol(FAKE_NVRTC, "fake_nvrtc_get_control");
        memcpy(&get, &found, sizeof get);
        fake = get();
        start = *fake;
    }
    *fake = start;
    return fake;
}

void cuda_check_clean(const char *file, int line)
{
    static long (*alive)(char *, size_t);
    static fake_control *(*get)(void);
    char what[300];
    if (!alive) {
        void *found = symbol(FAKE_CUDA, "fake_alive");
        memcpy(&alive, &found, sizeof alive);
        found = symbol(FAKE_CUDA, "fake_get_control");
        memcpy(&get, &found, sizeof get);
    }
    if (alive(what, sizeof what))
        test_failed(file, line, "still alive: %s", what);
    if (get()->findings)
        test_failed(file, line, "%ld findings: %s", get()->findings, get()->finding);
}

const char *cuda_cache_folder(void)
{
    return folder;
}

int cuda_cache_clear(void)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;
    char path[600];
    int n = 0;
    while (directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            unlink(path);
            n++;
        }
    if (directory)
        closedir(directory);
    return n;
}

mlxn_status cuda_register_steps(mlxn_device *device)
{
    static const char *const names[] = {"affine", "combine", "advance", "outside"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        MLXN_TRY(mlxn_kernel_register(device, MLXN_DESC(mlxn_kernel_desc, .name = names[i],
                                                        .cuda_text = mlxn_kernel_text_steps)));
    return MLXN_OK;
}

mlxn_status cuda_step(mlxn_encoder *encoder, const char *kernel, mlxn_buffer *x, mlxn_buffer *y,
                      mlxn_buffer *z, float scale, float bias)
{
    const int n = 1 + (y != NULL) + (z != NULL);
    const step_args args = {STEP_ELEMENTS, scale, bias};
    mlxn_operand operands[] = {{x, MLXN_READ}, {y, MLXN_READ}, {z, MLXN_READ}};
    operands[n - 1].access = n == 1 ? MLXN_READ_WRITE : MLXN_WRITE;
    return mlxn_dispatch(encoder,
                         MLXN_DESC(mlxn_dispatch_args, .kernel = kernel, .operands = operands,
                                   .n_operands = n, .args = &args, .args_bytes = sizeof args,
                                   .groups = {STEP_ELEMENTS / 64, 1, 1}, .threads = 64));
}

mlxn_status cuda_advance(mlxn_encoder *encoder, mlxn_buffer *x, int64_t n, float scale, float bias)
{
    const step_args args = {(int32_t)n, scale, bias};
    const mlxn_operand operand = {x, MLXN_READ_WRITE};
    return mlxn_dispatch(encoder,
                         MLXN_DESC(mlxn_dispatch_args, .kernel = "advance", .operands = &operand,
                                   .n_operands = 1, .args = &args, .args_bytes = sizeof args,
                                   .groups = {1, 1, 1}, .threads = 64));
}

mlxn_status cuda_vector(mlxn_device *device, const float *values, mlxn_buffer **out)
{
    const int64_t n = STEP_ELEMENTS;
    MLXN_TRY(mlxn_buffer_create(device, MLXN_F32, 1, &n, out));
    return values ? mlxn_buffer_write(*out, 0, values, sizeof *values * STEP_ELEMENTS) : MLXN_OK;
}
