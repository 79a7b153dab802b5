/* nvrtc_check.c - compiles the embedded kernel texts with NVRTC, which is opened at run time, with
 * no include path, for sm_75, sm_90 and sm_120, those for CUDA alone also for sm_80, the oldest
 * that they are planned for, and prints registers and spills of every entry.  Spills fail.  Usage:
 * mlxn-nvrtc-check [LIBRARY]; ends with "N passed, N failed", or says that NVRTC was not found and
 * exits with 77. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/text.h"

typedef struct nvrtc_program nvrtc_program;
static struct {
    int (*create)(nvrtc_program **, const char *text, const char *name, int n_headers,
                  const char *const *headers, const char *const *names);
    int (*compile)(nvrtc_program *, int n_options, const char *const *options);
    int (*log_size)(nvrtc_program *, size_t *);
    int (*log)(nvrtc_program *, char *);
    int (*cubin_size)(nvrtc_program *, size_t *);
    int (*destroy)(nvrtc_program **);
    int (*version)(int *major, int *minor);
} nvrtc;

static void *open_library(const char *given)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                        "libnvrtc.so"};
    void *y = given ? dlopen(given, RTLD_NOW) : NULL;
    for (size_t i = 0; !y && !given && i < sizeof names / sizeof *names; i++)
        y = dlopen(names[i], RTLD_NOW);
    return y;
}

static int bind(void *library)
{
    static const struct {
        const char *name;
        void *to;
    } functions[] = {{"nvrtcCreateProgram", &nvrtc.create},
                     {"nvrtcCompileProgram", &nvrtc.compile},
                     {"nvrtcGetProgramLogSize", &nvrtc.log_size},
                     {"nvrtcGetProgramLog", &nvrtc.log},
                     {"nvrtcGetCUBINSize", &nvrtc.cubin_size},
                     {"nvrtcDestroyProgram", &nvrtc.destroy},
                     {"nvrtcVersion", &nvrtc.version}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *f = dlsym(library, functions[i].name);
        if (!f)
            return 0;
        memcpy(functions[i].to, &f, sizeof f);
    }
    return 1;
}

/* The log's lines on one entry: "Compiling entry function 'x'", stack and spills, "Used n
 * registers".  The number of entries that spill or have a stack. */
static int summarise(const char *arch, char *log)
{
    char entry[128] = "";
    unsigned stack = 0, stores = 0, loads = 0, registers;
    int bad = 0;
    for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
        const char *at;
        if ((at = strstr(line, "Compiling entry function '")))
            sscanf(at, "Compiling entry function '%127[^']'", entry);
        if (strstr(line, "bytes stack frame"))
            sscanf(line, "%u bytes stack frame, %u bytes spill stores, %u bytes spill loads",
                   &stack, &stores, &loads);
        if (!(at = strstr(line, "Used ")) || sscanf(at, "Used %u registers", &registers) != 1)
            continue;
        printf("  %-7s %-28s %3u registers, stack %u, spills %u + %u bytes\n", arch, entry,
               registers, stack, stores, loads);
        bad += stores || loads;
    }
    return bad;
}

static int compile(const char *name, const char *text, const char *arch, const char *dim)
{
    char target[40];
    const char *options[] = {target,
                             "--fmad=false",
                             "--std=c++17",
                             "--ptxas-options=-v",
                             dim ? dim : "-DMLXN_ANY_DIM=1",
                             "-DMLXN_CONSTANT_0=(-1)", /* all of them open */
                             "-DMLXN_CONSTANT_1=(-1)",
                             "-DMLXN_CONSTANT_2=(-1)",
                             "-DMLXN_CONSTANT_3=(-1)",
                             "-DMLXN_CONSTANT_4=(-1)",
                             "-DMLXN_CONSTANT_5=(-1)",
                             "-DMLXN_CONSTANT_6=(-1)",
                             "-DMLXN_CONSTANT_7=(-1)"};
    nvrtc_program *program = NULL;
    size_t size = 0, cubin = 0;
    snprintf(target, sizeof target, "--gpu-architecture=%s", arch);
    int ok = nvrtc.create(&program, text, name, 0, NULL, NULL) == 0 &&
             nvrtc.compile(program, sizeof options / sizeof *options, options) == 0 &&
             nvrtc.cubin_size(program, &cubin) == 0;
    char *log = NULL;
    if (program && nvrtc.log_size(program, &size) == 0 && (log = malloc(size + 1)))
        nvrtc.log(program, log);
    if (!ok)
        printf("%s for %s: %s\n", name, arch, log ? log : "no log");
    else
        printf("%s for %s%s%s: cubin of %zu bytes\n", name, arch, dim ? " " : "", dim ? dim : "",
               cubin);
    if (ok && log && summarise(arch, log))
        ok = 0;
    free(log);
    if (program)
        nvrtc.destroy(&program);
    return ok;
}

/* Every text for the oldest, the measured and the newest; what is compiled for one head_dim differs
 * in that alone, so one will do. */
static int is_wanted(const char *arch, const char *name, const char *option)
{
    if (!strcmp(arch, "sm_80"))
        return strstr(name, "_cuda") != NULL;
    return !option || !strcmp(arch, "sm_90");
}

int main(int argc, char **argv)
{
    static const char *const archs[] = {"sm_75", "sm_80", "sm_90", "sm_120"};
    static const struct {
        const char *name, *text, *option;
    } texts[] = {
#define TEXT(name) {#name, mlxn_kernel_text_##name, NULL},
        MLXN_KERNEL_TEXTS(TEXT)
#undef TEXT
            {"qkv_prepare", mlxn_kernel_text_qkv_prepare, "-DQKV_HEAD_DIM=256"},
    };
    int passed = 0, failed = 0, major = 0, minor = 0;
    void *library = open_library(argc > 1 ? argv[1] : NULL);
    if (!library || !bind(library)) {
        printf("NVRTC not found: %s\nnot run\n", dlerror());
        return 77;
    }
    nvrtc.version(&major, &minor);
    printf("NVRTC %d.%d\n", major, minor);
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            if (!is_wanted(archs[i], texts[k].name, texts[k].option))
                continue;
            int ok = compile(texts[k].name, texts[k].text, archs[i], texts[k].option);
            passed += ok;
            failed += !ok;
        }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
