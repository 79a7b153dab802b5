/* nvrtc.c - see nvrtc.h. */
#include "backends/cuda/nvrtc.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARCHS = 64 };

static int bind_functions(mlxn_nvrtc *n)
{
    const struct {
        const char *name;
        void *slot;
    } functions[] = {{"nvrtcCreateProgram", &n->create},
                     {"nvrtcCompileProgram", &n->compile},
                     {"nvrtcGetProgramLogSize", &n->log_size},
                     {"nvrtcGetProgramLog", &n->log},
                     {"nvrtcGetCUBINSize", &n->cubin_size},
                     {"nvrtcGetCUBIN", &n->cubin},
                     {"nvrtcGetPTXSize", &n->ptx_size},
                     {"nvrtcGetPTX", &n->ptx},
                     {"nvrtcDestroyProgram", &n->destroy},
                     {"nvrtcVersion", &n->version},
                     {"nvrtcGetNumSupportedArchs", &n->count_archs},
                     {"nvrtcGetSupportedArchs", &n->archs},
                     {"nvrtcGetErrorString", &n->error}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(n->library, functions[i].name);
        if (!found)
            return 0;
        memcpy(functions[i].slot, &found, sizeof found);
    }
    return 1;
}

static int try_library(mlxn_nvrtc *n, const char *name)
{
    n->library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (n->library && bind_functions(n) && n->version(&n->major, &n->minor) == 0)
        return 1;
    mlxn_nvrtc_close(n);
    return 0;
}

mlxn_status mlxn_nvrtc_open(mlxn_nvrtc *nvrtc)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                        "/usr/local/cuda/lib64/libnvrtc.so"};
    const char *given = getenv("MLXN_NVRTC");
    *nvrtc = (mlxn_nvrtc){0};
    if (given && *given)
        return try_library(nvrtc, given)
                   ? MLXN_OK
                   : mlxn_fail(MLXN_ERR_UNSUPPORTED, "cuda: MLXN_NVRTC names %s, which is no NVRTC",
                               given);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (try_library(nvrtc, names[i]))
            return MLXN_OK;
    return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                     "cuda: NVRTC is not installed (libnvrtc.so of CUDA 11.2 or later)");
}

void mlxn_nvrtc_close(mlxn_nvrtc *nvrtc)
{
    if (nvrtc->library)
        dlclose(nvrtc->library);
    nvrtc->library = NULL;
}

mlxn_status mlxn_nvrtc_target(const mlxn_nvrtc *n, int architecture, char target[MLXN_NVRTC_TARGET])
{
    int archs[MAX_ARCHS] = {0}, count = 0, newest = 0, exact = 0;
    if (n->count_archs(&count) != 0 || count > MAX_ARCHS || n->archs(archs) != 0)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "cuda: NVRTC %d.%d does not say what it supports",
                         n->major, n->minor);
    for (int i = 0; i < count; i++) {
        if (archs[i] <= architecture && archs[i] > newest)
            newest = archs[i];
        exact |= archs[i] == architecture;
    }
    if (!newest)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                         "cuda: NVRTC %d.%d no longer supports architecture %d.%d", n->major,
                         n->minor, architecture / 10, architecture % 10);
    snprintf(target, MLXN_NVRTC_TARGET, "%s_%d", exact ? "sm" : "compute", newest);
    return MLXN_OK;
}

__attribute__((format(printf, 2, 3))) static void add(mlxn_nvrtc_options *o, const char *format,
                                                      ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(o->text[o->n], sizeof o->text[o->n], format, values);
    va_end(values);
    o->at[o->n] = o->text[o->n];
    o->n++;
}

void mlxn_nvrtc_options_of(const mlxn_gpu_launch *launch, const char *target,
                           mlxn_nvrtc_options *out)
{
    out->n = 0;
    add(out, "--gpu-architecture=%s", target);
    add(out, "--fmad=false"); /* the text says fma where it means it */
    add(out, "--std=c++17");
    if (!launch->whole) {
        add(out, "-DMLXN_ONE_ENTRY");
        add(out, "-DMLXN_ENTRY_%s=~,1", launch->entry);
    }
    for (int i = 0; i < launch->constants.n; i++)
        add(out, "-DMLXN_CONSTANT_%d=(%d)", i, (int)launch->constants.at[i]);
}

/* A failure of `call`, with the start of the compiler's log if there is one. */
static mlxn_status fail(const mlxn_nvrtc *n, struct nvrtc_program *program, const char *name,
                        unsigned result)
{
    size_t bytes = 0;
    char *log = NULL;
    if (program && n->log_size(program, &bytes) == 0 && bytes > 1 && (log = malloc(bytes + 1))) {
        log[0] = log[bytes] = 0;
        n->log(program, log);
    }
    mlxn_fail(MLXN_ERR_COMPILE, "%s: NVRTC %d.%d: %s%s%.600s", name, n->major, n->minor,
              n->error(result), log ? ": " : "", log ? log : "");
    free(log);
    return MLXN_ERR_COMPILE;
}

static unsigned get_code(const mlxn_nvrtc *n, struct nvrtc_program *program, int ptx,
                         mlxn_code *code)
{
    unsigned result =
        ptx ? n->ptx_size(program, &code->bytes) : n->cubin_size(program, &code->bytes);
    if (result != 0)
        return result;
    code->data = malloc(code->bytes + 1);
    if (!code->data)
        return 1; /* NVRTC_ERROR_OUT_OF_MEMORY */
    ((char *)code->data)[code->bytes] = 0;
    return ptx ? n->ptx(program, code->data) : n->cubin(program, code->data);
}

mlxn_status mlxn_nvrtc_compile(const mlxn_nvrtc *n, const mlxn_gpu_launch *launch,
                               const char *target, mlxn_code *out)
{
    const char *name = launch->entry;
    mlxn_nvrtc_options options;
    struct nvrtc_program *program = NULL;
    mlxn_status status = MLXN_OK;
    *out = (mlxn_code){0};
    mlxn_nvrtc_options_of(launch, target, &options);
    unsigned result = n->create(&program, launch->text, name, 0, NULL, NULL);
    if (result == 0)
        result = n->compile(program, options.n, options.at);
    if (result == 0)
        result = get_code(n, program, target[0] == 'c', out);
    if (result != 0) {
        status = fail(n, program, name, result);
        free(out->data);
        *out = (mlxn_code){0};
    }
    if (program)
        n->destroy(&program);
    return status;
}
