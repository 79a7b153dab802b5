/* fake_nvrtc.c - see fake.h: NVRTC's functions over the emulator's compiler.  Options must be the
 * ones that the kernel text asks for.  MLXN_FAKE_CHECKED=1 compiles the text with all checks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "emulator.h"
#include "fake.h"

enum { OK = 0, OUT_OF_MEMORY = 1, INVALID_INPUT = 3, INVALID_OPTION = 5, COMPILATION = 6 };

struct nvrtc_program {
    char *text, log[4096];
    unsigned char *code;
    size_t bytes;
    int ptx;
};

unsigned nvrtcCreateProgram(struct nvrtc_program **program, const char *text, const char *name,
                            int n_headers, const char *const *headers, const char *const *names);
unsigned nvrtcCompileProgram(struct nvrtc_program *program, int n, const char *const *options);
unsigned nvrtcGetProgramLogSize(struct nvrtc_program *program, size_t *bytes);
unsigned nvrtcGetProgramLog(struct nvrtc_program *program, char *log);
unsigned nvrtcGetCUBINSize(struct nvrtc_program *program, size_t *bytes);
unsigned nvrtcGetCUBIN(struct nvrtc_program *program, char *code);
unsigned nvrtcGetPTXSize(struct nvrtc_program *program, size_t *bytes);
unsigned nvrtcGetPTX(struct nvrtc_program *program, char *code);
unsigned nvrtcDestroyProgram(struct nvrtc_program **program);
unsigned nvrtcVersion(int *major, int *minor);
unsigned nvrtcGetNumSupportedArchs(int *count);
unsigned nvrtcGetSupportedArchs(int *archs);
const char *nvrtcGetErrorString(unsigned result);

static fake_nvrtc_control control = {.archs = {75, 80, 90}, .n_archs = 3};

fake_nvrtc_control *fake_nvrtc_get_control(void)
{
    return &control;
}

static int checked(void)
{
    const char *given = getenv("MLXN_FAKE_CHECKED");
    return given && *given == '1';
}

unsigned nvrtcCreateProgram(struct nvrtc_program **program, const char *text, const char *name,
                            int n_headers, const char *const *headers, const char *const *names)
{
    if (!text || !name || n_headers || headers || names)
        return INVALID_INPUT;
    *program = calloc(1, sizeof **program);
    if (!*program || !((*program)->text = strdup(text)))
        return OUT_OF_MEMORY;
    return OK;
}

/* The architecture of the options, negative for PTX; 0 where an option is missing. */
static int target_of(int n, const char *const *options)
{
    int target = 0, fmad = 0, standard = 0, arch;
    for (int i = 0; i < n; i++) {
        if (sscanf(options[i], "--gpu-architecture=sm_%d", &arch) == 1)
            target = arch;
        else if (sscanf(options[i], "--gpu-architecture=compute_%d", &arch) == 1)
            target = -arch;
        fmad |= !strcmp(options[i], "--fmad=false");
        standard |= !strcmp(options[i], "--std=c++17");
    }
    return fmad && standard ? target : 0;
}

static int is_supported(int arch)
{
    for (int i = 0; i < control.n_archs; i++)
        if (control.archs[i] == arch)
            return 1;
    return 0;
}

static unsigned read_object(struct nvrtc_program *p, const char *path)
{
    FILE *file = fopen(path, "rb");
    long bytes;
    if (!file || fseek(file, 0, SEEK_END) || (bytes = ftell(file)) <= 0 ||
        fseek(file, 0, SEEK_SET) || !(p->code = malloc((size_t)bytes)) ||
        fread(p->code, 1, (size_t)bytes, file) != (size_t)bytes) {
        if (file)
            fclose(file);
        return OUT_OF_MEMORY;
    }
    fclose(file);
    p->bytes = (size_t)bytes;
    return OK;
}

/* Puts the macros that options define, -DNAME or -DNAME=VALUE, in front of the text. */
static int define(struct nvrtc_program *p, int n, const char *const *options)
{
    char *text, *at;
    size_t bytes = strlen(p->text) + 1;
    for (int i = 0; i < n; i++)
        bytes += strlen(options[i]) + sizeof "#define \n";
    if (!(text = at = malloc(bytes)))
        return 0;
    for (int i = 0; i < n; i++)
        if (!strncmp(options[i], "-D", 2)) {
            const int name = (int)strcspn(options[i] + 2, "=");
            const char *value = options[i] + 2 + name;
            at += sprintf(at, "#define %.*s %s\n", name, options[i] + 2, value + (*value == '='));
        }
    strcpy(at, p->text);
    free(p->text);
    p->text = text;
    return 1;
}

unsigned nvrtcCompileProgram(struct nvrtc_program *p, int n, const char *const *options)
{
    const int target = target_of(n, options);
    if (!target || !is_supported(abs(target)))
        return INVALID_OPTION;
    snprintf(p->log, sizeof p->log, "made to fail");
    if (control.fails)
        return COMPILATION;
    char path[] = "/tmp/mlxn-fake-XXXXXX";
    int file = mkstemp(path);
    if (file < 0 || !define(p, n, options))
        return OUT_OF_MEMORY;
    close(file);
    control.compiled++;
    p->log[0] = 0;
    p->ptx = target < 0;
    unsigned result = emu_compile_file(p->text, checked(), path, p->log, sizeof p->log)
                          ? read_object(p, path)
                          : COMPILATION;
    unlink(path);
    return result;
}

unsigned nvrtcGetProgramLogSize(struct nvrtc_program *p, size_t *bytes)
{
    *bytes = strlen(p->log) + 1;
    return OK;
}

unsigned nvrtcGetProgramLog(struct nvrtc_program *p, char *log)
{
    strcpy(log, p->log);
    return OK;
}

unsigned nvrtcGetCUBINSize(struct nvrtc_program *p, size_t *bytes)
{
    *bytes = p->ptx ? 0 : p->bytes;
    return OK;
}

unsigned nvrtcGetCUBIN(struct nvrtc_program *p, char *code)
{
    memcpy(code, p->code, p->ptx ? 0 : p->bytes);
    return OK;
}

unsigned nvrtcGetPTXSize(struct nvrtc_program *p, size_t *bytes)
{
    *bytes = p->bytes;
    return OK;
}

unsigned nvrtcGetPTX(struct nvrtc_program *p, char *code)
{
    memcpy(code, p->code, p->bytes);
    return OK;
}

unsigned nvrtcDestroyProgram(struct nvrtc_program **program)
{
    if (*program) {
        free((*program)->text);
        free((*program)->code);
        free(*program);
    }
    *program = NULL;
    return OK;
}

/* Checked code has a version of its own, since it must not be taken from the cache for the other;
 * so has that of another emulator. */
unsigned nvrtcVersion(int *major, int *minor)
{
    *major = 99;
    *minor = 10 * EMU_VERSION + checked();
    return OK;
}

unsigned nvrtcGetNumSupportedArchs(int *count)
{
    *count = control.n_archs;
    return OK;
}

unsigned nvrtcGetSupportedArchs(int *archs)
{
    memcpy(archs, control.archs, (size_t)control.n_archs * sizeof *archs);
    return OK;
}

const char *nvrtcGetErrorString(unsigned result)
{
    return result == COMPILATION      ? "NVRTC_ERROR_COMPILATION"
           : result == INVALID_OPTION ? "NVRTC_ERROR_INVALID_OPTION"
           : result == OUT_OF_MEMORY  ? "NVRTC_ERROR_OUT_OF_MEMORY"
                                      : "NVRTC_ERROR";
}
