/* fake_code.c - the fake driver's modules, functions and launches.  A module is an emulator's
 * shared object, or PTX, which is looked at and cannot run. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fake_driver.h"

struct CUmod_st {
    emu_library *library;
    char *ptx;
    fake_function *functions;
};

static unsigned write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    const int written = file && fwrite(data, 1, bytes, file) == bytes;
    return file && fclose(file) == 0 && written ? 0 : FAKE_OPERATING_SYSTEM;
}

/* Loads the emulator's shared object in memory; its end is that of its section headers. */
static unsigned load_object(const unsigned char *image, emu_library **out)
{
    char path[] = "/tmp/mlxn-fake-XXXXXX", log[1000];
    Elf64_Ehdr head;
    memcpy(&head, image, sizeof head);
    int file = mkstemp(path);
    if (file < 0)
        return FAKE_OPERATING_SYSTEM;
    close(file);
    unsigned result =
        write_file(path, image, head.e_shoff + (size_t)head.e_shnum * head.e_shentsize);
    *out = result ? NULL : emu_open(path, log, sizeof log);
    unlink(path);
    return *out ? 0 : MLXN_CU_INVALID_IMAGE;
}

CUDA_RESULT cuModuleLoadDataEx(struct CUmod_st **module, const void *image, unsigned n_options,
                               CUDA_JIT_OPTION *options, void **values)
{
    ENTER;
    NEEDS_CONTEXT;
    struct CUmod_st *m = calloc(1, sizeof *m);
    if (n_options == 2 && options[0] == MLXN_CU_JIT_ERROR_LOG)
        snprintf(values[0], 20, "the assembler's log");
    if (!memcmp(image, ELFMAG, SELFMAG)) {
        unsigned failed = load_object(image, &m->library);
        if (failed) {
            free(m);
            return fake_leave(failed);
        }
    } else if (strstr(image, ".version") && strstr(image, ".target")) {
        m->ptx = strdup(image);
    } else {
        free(m);
        return fake_leave(MLXN_CU_INVALID_IMAGE);
    }
    *module = m;
    fake_live[FAKE_MODULE]++;
    return fake_leave(0);
}

CUDA_RESULT cuModuleUnload(struct CUmod_st *module)
{
    ENTER;
    fake_run(fake_newest());
    while (module->functions) {
        fake_function *f = module->functions;
        module->functions = f->next;
        free(f);
    }
    emu_release(module->library);
    free(module->ptx);
    free(module);
    fake_live[FAKE_MODULE]--;
    return fake_leave(result);
}

CUDA_RESULT cuModuleGetFunction(struct CUfunc_st **function, struct CUmod_st *module,
                                const char *name)
{
    ENTER;
    char entry[160];
    int n = module->library ? emu_parameters(module->library, name) : 0;
    snprintf(entry, sizeof entry, ".entry %s(", name);
    if (n < 0 || (module->ptx && !strstr(module->ptx, entry)))
        return fake_leave(FAKE_NOT_FOUND);
    fake_function *f = calloc(1, sizeof *f);
    f->library = module->library;
    f->n_parameters = n;
    f->args_bytes = n ? emu_args_bytes(module->library, name) : 0;
    f->writes = n ? emu_writes(module->library, name) : 0;
    snprintf(f->name, sizeof f->name, "%s", name);
    f->next = module->functions;
    module->functions = f;
    *function = f;
    return fake_leave(0);
}

CUDA_RESULT cuFuncSetAttribute(struct CUfunc_st *function, CUDA_FUNCTION_ATTRIBUTE which, int value)
{
    ENTER;
    return fake_leave(function && which == MLXN_CU_MAX_DYNAMIC_SHARED_BYTES && value >= 0 &&
                              value <= 232448 - 1024
                          ? 0
                          : FAKE_INVALID_VALUE);
}

CUDA_RESULT cuLaunchKernel(struct CUfunc_st *function, unsigned grid_x, unsigned grid_y,
                           unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                           unsigned shared_bytes, struct CUstream_st *stream, void **parameters,
                           void **extra)
{
    ENTER;
    NEEDS_CONTEXT;
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    (void)shared_bytes;
    if (!stream || extra)
        return fake_leave(FAKE_INVALID_VALUE);
    fake_launch *launch = malloc(sizeof *launch);
    unsigned failed = fake_launch_make(launch, function, grid, block, parameters);
    if (failed) {
        free(launch);
        return fake_leave(failed);
    }
    fake_queue(&(fake_step){.kind = FAKE_RUN, .launch = launch});
    return fake_leave(0);
}
