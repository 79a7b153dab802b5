/* module.c - kernel text to functions of the driver.
 *
 * A kernel is compiled when a dispatch that launches it is first recorded, for its constants (of
 * which the first few kinds have code of their own) and without the other kernels of its text, and
 * kept as long as the device: machine code comes from
 * the disk cache, else from NVRTC, else, where there is no NVRTC, from the PTX that is embedded for
 * the library's own texts, which has all entries and knows no constants.  Texts and entries are
 * told apart by address: they are static, or live as long as the user's kernel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cache.h"
#include "backends/cuda/cuda.h"
#include "backends/cuda/embedded.h"

enum {
    JIT_LOG_BYTES = 1024,
    SHARED_BYTES = 48 << 10, /* dynamic group memory that a launch has without asking */
    WAIT_ARCHITECTURE = 90,  /* k_wait() in dialect.h */
};

typedef struct cuda_function {
    const char *entry;
    struct CUfunc_st *function;
    struct cuda_function *next;
} cuda_function;

struct mlxn_cuda_module {
    const char *text, *entry; /* entry: NULL if it has all of them */
    int general;              /* for any constants */
    mlxn_constants constants;
    int waits; /* k_wait() is more than nothing in it: its launches may start early */
    struct CUmod_st *module;
    cuda_function *functions;
    mlxn_cuda_module *next;
};

void mlxn_cuda_modules_close(mlxn_cuda_device *cuda)
{
    while (cuda->modules) {
        mlxn_cuda_module *m = cuda->modules;
        cuda->modules = m->next;
        while (m->functions) {
            cuda_function *f = m->functions;
            m->functions = f->next;
            free(f);
        }
        cuda->cu.cuModuleUnload(m->module);
        free(m);
    }
    mlxn_nvrtc_close(&cuda->nvrtc);
}

/* ---- code ---- */

static mlxn_status load_image(mlxn_cuda_device *cuda, const char *name, const void *image,
                              struct CUmod_st **out)
{
    char log[JIT_LOG_BYTES] = "";
    CUDA_JIT_OPTION options[] = {MLXN_CU_JIT_ERROR_LOG, MLXN_CU_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    mlxn_status status = CU(&cuda->cu, cuModuleLoadDataEx, out, image, 2, options, values);
    if (status == MLXN_OK)
        return MLXN_OK;
    log[sizeof log - 1] = 0;
    return mlxn_fail(status, "%s: %s%s%s", name, mlxn_last_error(), log[0] ? ": " : "", log);
}

/* Opens NVRTC once for the device; the answer is kept. */
static mlxn_status open_nvrtc(mlxn_cuda_device *cuda)
{
    if (!cuda->nvrtc_tried) {
        cuda->nvrtc_tried = 1;
        cuda->nvrtc_status = mlxn_nvrtc_open(&cuda->nvrtc);
        if (cuda->nvrtc_status != MLXN_OK)
            snprintf(cuda->nvrtc_detail, sizeof cuda->nvrtc_detail, "%s", mlxn_last_error());
    }
    if (cuda->nvrtc_status != MLXN_OK)
        return mlxn_fail(cuda->nvrtc_status, "%s", cuda->nvrtc_detail);
    return MLXN_OK;
}

int mlxn_cuda_has_compiler(mlxn_cuda_device *cuda)
{
    pthread_mutex_lock(&cuda->code_lock);
    const mlxn_status status = open_nvrtc(cuda);
    pthread_mutex_unlock(&cuda->code_lock);
    return status == MLXN_OK;
}

/* All that the code of a text depends on. */
static mlxn_hash cache_key(const mlxn_nvrtc *nvrtc, const mlxn_gpu_launch *launch,
                           const char *target)
{
    const mlxn_hash start = MLXN_HASH_START;
    const int version[] = {nvrtc->major, nvrtc->minor};
    mlxn_nvrtc_options options;
    mlxn_hash key = mlxn_hash_add(mlxn_hash_text(start, launch->text), version, sizeof version);
    mlxn_nvrtc_options_of(launch, target, &options);
    for (int i = 0; i < options.n; i++)
        key = mlxn_hash_text(key, options.at[i]);
    return key;
}

static mlxn_status compile(mlxn_cuda_device *cuda, const mlxn_gpu_launch *launch,
                           mlxn_cuda_module *out)
{
    const char *name = launch->entry;
    char target[MLXN_NVRTC_TARGET];
    mlxn_code code;
    MLXN_TRY(mlxn_nvrtc_target(&cuda->nvrtc, cuda->traits.architecture, target));
    const mlxn_hash key = cache_key(&cuda->nvrtc, launch, target);
    out->waits = atoi(strchr(target, '_') + 1) >= WAIT_ARCHITECTURE;
    out->entry = launch->whole ? NULL : launch->entry;
    out->constants = launch->constants;
    if (mlxn_kernel_cache_load(key, &code)) {
        mlxn_status cached = load_image(cuda, name, code.data, &out->module);
        free(code.data);
        if (cached != MLXN_ERR_COMPILE) /* that one is made again */
            return cached;
    }
    MLXN_TRY(mlxn_nvrtc_compile(&cuda->nvrtc, launch, target, &code));
    mlxn_status status = load_image(cuda, name, code.data, &out->module);
    if (status == MLXN_OK)
        mlxn_kernel_cache_store(key, &code);
    free(code.data);
    return status;
}

static mlxn_status load_embedded(mlxn_cuda_device *cuda, const mlxn_gpu_launch *launch,
                                 mlxn_cuda_module *out)
{
    char *ptx;
    if (mlxn_cuda_embedded(launch->text, &ptx) != MLXN_OK)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: it must be compiled, but %s, and %s",
                         launch->entry, cuda->nvrtc_detail, mlxn_last_error());
    const mlxn_status status = load_image(cuda, launch->entry, ptx, &out->module);
    out->general = 1;
    free(ptx);
    return status;
}

/* ---- functions ---- */

/* Code for the launch's constants; else, where it has variants enough, for any. */
static mlxn_cuda_module *known_module(mlxn_cuda_device *cuda, mlxn_gpu_launch *launch)
{
    int variants;
    do {
        variants = 0;
        for (mlxn_cuda_module *m = cuda->modules; m; m = m->next) {
            if (m->text != launch->text || (m->entry && m->entry != launch->entry))
                continue;
            if (m->general || mlxn_gpu_same_constants(&m->constants, &launch->constants))
                return m;
            variants++;
        }
    } while (mlxn_gpu_open_constants(launch, variants));
    return NULL;
}

static mlxn_status find_module(mlxn_cuda_device *cuda, mlxn_gpu_launch *launch,
                               mlxn_cuda_module **out)
{
    *out = known_module(cuda, launch);
    if (*out)
        return MLXN_OK;
    mlxn_cuda_module *m = calloc(1, sizeof *m);
    if (!m)
        return mlxn_fail(MLXN_ERR_MEMORY, "%s: no memory for its code", launch->entry);
    mlxn_status status = open_nvrtc(cuda);
    status = status == MLXN_OK ? compile(cuda, launch, m) : load_embedded(cuda, launch, m);
    if (status != MLXN_OK) {
        free(m);
        return status;
    }
    m->text = launch->text;
    m->next = cuda->modules;
    cuda->modules = m;
    *out = m;
    return MLXN_OK;
}

static mlxn_status find_function(mlxn_cuda_device *cuda, mlxn_gpu_launch *launch)
{
    const char *entry = launch->entry;
    mlxn_cuda_module *m;
    cuda_function *f;
    MLXN_TRY(find_module(cuda, launch, &m));
    for (f = m->functions; f && f->entry != entry; f = f->next)
        ;
    if (!f) {
        f = calloc(1, sizeof *f);
        if (!f)
            return mlxn_fail(MLXN_ERR_MEMORY, "%s: no memory for its code", entry);
        mlxn_status status = CU(&cuda->cu, cuModuleGetFunction, &f->function, m->module, entry);
        if (status != MLXN_OK) {
            free(f);
            return mlxn_fail(status, "%s: %s", entry, mlxn_last_error());
        }
        f->entry = entry;
        f->next = m->functions;
        m->functions = f;
    }
    launch->function = f->function;
    launch->early &= m->waits;
    return MLXN_OK;
}

static mlxn_status compile_launch(mlxn_cuda_device *cuda, mlxn_gpu_launch *launch)
{
    MLXN_TRY(find_function(cuda, launch));
    if (launch->shared_bytes > SHARED_BYTES)
        return CU(&cuda->cu, cuFuncSetAttribute, launch->function, MLXN_CU_MAX_DYNAMIC_SHARED_BYTES,
                  (int)launch->shared_bytes);
    return MLXN_OK;
}

mlxn_status mlxn_cuda_compile(mlxn_cuda_device *cuda, mlxn_gpu_launch *launch)
{
    pthread_mutex_lock(&cuda->code_lock);
    mlxn_status status = compile_launch(cuda, launch);
    pthread_mutex_unlock(&cuda->code_lock);
    return status;
}

mlxn_status mlxn_cuda_prepare(mlxn_device *device, mlxn_gpu_plan *plan)
{
    mlxn_cuda_device *cuda = (mlxn_cuda_device *)device;
    mlxn_status status = MLXN_OK;
    MLXN_TRY(mlxn_cuda_enter(cuda));
    for (int i = 0; i < plan->n_launches && status == MLXN_OK; i++)
        status = mlxn_cuda_compile(cuda, &plan->launches[i]);
    return status;
}
