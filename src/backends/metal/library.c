/* library.c - kernel text to pipelines: compiled when first recorded and kept.
 *
 * The texts are compiled without fast maths, and each forbids contraction of a * b + c itself
 * (kernels/dialect.h), so that their results are those of every other backend. */
#include <stdlib.h>
#include <string.h>
#include "backends/metal/constants.h"
#include "backends/metal/metal.h"

const unsigned long mlxn_metal_language = MTLLanguageVersion2_3;

static id new_options(void)
{
    id options = mlxn_objc_new("MTLCompileOptions");
    objc_set_language(options, mlxn_metal_language);
    if (objc_responds(options, OBJC_SELECTOR(set_math_mode))) /* macOS 15 */
        objc_set_math_mode(options, MTLMathModeSafe);
    else
        objc_set_fast_math(options, 0);
    return options;
}

static mlxn_status find_library(metal_device *metal, const char *text, metal_library **out)
{
    id error = NULL;
    for (metal_library *l = metal->libraries; l; l = l->next)
        if (l->text == text) {
            *out = l;
            return MLXN_OK;
        }
    metal_library *l = malloc(sizeof *l);
    if (!l)
        return mlxn_fail(MLXN_ERR_MEMORY, "metal: no memory for a library");
    id options = new_options();
    *l = (metal_library){.next = metal->libraries, .text = text};
    l->library = objc_new_library(metal->device, mlxn_objc_string(text), options, &error);
    objc_release(options);
    if (!l->library) {
        free(l);
        return mlxn_fail(MLXN_ERR_COMPILE, "%s", mlxn_objc_error(error));
    }
    mlxn_metal_archive_open(metal, l);
    *out = metal->libraries = l;
    return MLXN_OK;
}

/* A pipeline of at least `threads` threads a group: the compiler gives registers to the limit of
 * the descriptor, or what it thinks best where there is none (0). */
static mlxn_status new_pipeline(metal_device *metal, metal_library *library, id function,
                                unsigned long threads, metal_pipeline *p)
{
    id error = NULL, descriptor = mlxn_objc_new("MTLComputePipelineDescriptor");
    objc_set_function(descriptor, function);
    objc_set_pipeline_label(descriptor, mlxn_objc_string(p->entry));
    objc_set_whole_simdgroups(descriptor, 1);
    if (threads)
        objc_set_max_threads(descriptor, threads);
    p->pipeline = mlxn_metal_archive_pipeline(metal, library, descriptor, &error);
    objc_release(descriptor);
    if (!p->pipeline)
        return mlxn_fail(MLXN_ERR_COMPILE, "%s: %s", p->entry, mlxn_objc_error(error));
    p->max_threads = objc_max_threads(p->pipeline);
    p->static_bytes = objc_static_group_memory(p->pipeline);
    return MLXN_OK;
}

/* NULL, with *error unless the text just has no kernel of the name. */
static id new_function(id library, const mlxn_gpu_launch *launch, id *error)
{
    id name = mlxn_objc_string(launch->entry);
    if (!launch->constants.n)
        return objc_new_function(library, name);
    id values = mlxn_objc_new("MTLFunctionConstantValues");
    for (int i = 0; i < launch->constants.n; i++)
        objc_set_constant(values, &launch->constants.at[i], MTLDataTypeInt, (unsigned long)i);
    id function = objc_new_function_of(library, name, values, error);
    objc_release(values);
    return function;
}

static mlxn_status build(metal_device *metal, const mlxn_gpu_launch *launch, metal_pipeline *p)
{
    const uint32_t threads = launch->threads;
    metal_library *library = NULL;
    id error = NULL;
    if (threads > METAL_GROUP_THREADS)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: %u threads a group, at most %d", p->entry,
                         threads, (int)METAL_GROUP_THREADS);
    MLXN_TRY(find_library(metal, p->text, &library));
    id function = new_function(library->library, launch, &error);
    if (!function)
        return mlxn_fail(MLXN_ERR_COMPILE, "%s: %s", p->entry,
                         error ? mlxn_objc_error(error) : "the text has no kernel of this name");
    mlxn_status status = new_pipeline(metal, library, function, 0, p);
    if (status == MLXN_OK && p->max_threads < threads) {
        objc_release(p->pipeline);
        status = new_pipeline(metal, library, function, threads, p);
    }
    objc_release(function);
    if (status != MLXN_OK)
        return status;
    if (objc_simd_width(p->pipeline) == 32 && p->max_threads >= threads)
        return MLXN_OK;
    status = mlxn_fail(MLXN_ERR_UNSUPPORTED,
                       "%s: this device has simdgroups of %lu and %lu threads a group, needs 32 "
                       "and %u",
                       p->entry, objc_simd_width(p->pipeline), p->max_threads, threads);
    objc_release(p->pipeline);
    return status;
}

static metal_pipeline **bucket(metal_device *metal, const char *entry)
{
    uint32_t hash = 2166136261u;
    for (const char *c = entry; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    return &metal->pipelines[hash % METAL_BUCKETS];
}

/* One for the launch's constants; else, where it has variants enough, for any. */
static metal_pipeline *known_pipeline(metal_pipeline *all, mlxn_gpu_launch *launch)
{
    int variants;
    do {
        variants = 0;
        for (metal_pipeline *p = all; p; p = p->next) {
            if (p->text != launch->text || strcmp(p->entry, launch->entry) ||
                p->max_threads < launch->threads)
                continue;
            if (mlxn_gpu_same_constants(&p->constants, &launch->constants))
                return p;
            variants++;
        }
    } while (mlxn_gpu_open_constants(launch, variants));
    return NULL;
}

static mlxn_status find_pipeline(metal_device *metal, mlxn_gpu_launch *launch, metal_pipeline **out)
{
    metal_pipeline **at = bucket(metal, launch->entry);
    *out = known_pipeline(*at, launch);
    if (*out)
        return MLXN_OK;
    metal_pipeline *p = malloc(sizeof *p);
    if (!p)
        return mlxn_fail(MLXN_ERR_MEMORY, "metal: no memory for a pipeline");
    *p = (metal_pipeline){
        .next = *at, .text = launch->text, .entry = launch->entry, .constants = launch->constants};
    mlxn_status status = build(metal, launch, p);
    if (status != MLXN_OK) {
        free(p);
        return status;
    }
    *at = *out = p;
    return MLXN_OK;
}

mlxn_status mlxn_metal_find_pipeline(metal_device *metal, mlxn_gpu_launch *launch,
                                     metal_pipeline **out)
{
    void *pool = mlxn_objc.pool_push();
    pthread_mutex_lock(&metal->code_lock);
    mlxn_status status = find_pipeline(metal, launch, out);
    pthread_mutex_unlock(&metal->code_lock);
    mlxn_objc.pool_pop(pool);
    return status;
}

mlxn_status mlxn_metal_prepare(mlxn_device *device, mlxn_gpu_plan *plan)
{
    metal_device *metal = (metal_device *)device;
    for (int i = 0; i < plan->n_launches; i++) {
        mlxn_gpu_launch *launch = &plan->launches[i];
        metal_pipeline *p = NULL;
        MLXN_TRY(mlxn_metal_find_pipeline(metal, launch, &p));
        if (launch->shared_bytes + 15 + p->static_bytes > metal->max_group_memory)
            return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                             "%s: %u bytes of group memory beside its own %lu, the device has %lu",
                             launch->entry, launch->shared_bytes, p->static_bytes,
                             metal->max_group_memory);
        launch->function = p;
    }
    return MLXN_OK;
}

void mlxn_metal_release_libraries(metal_device *metal)
{
    for (int i = 0; i < METAL_BUCKETS; i++)
        while (metal->pipelines[i]) {
            metal_pipeline *p = metal->pipelines[i];
            metal->pipelines[i] = p->next;
            objc_release(p->pipeline);
            free(p);
        }
    while (metal->libraries) {
        metal_library *l = metal->libraries;
        metal->libraries = l->next;
        mlxn_metal_archive_close(l);
        objc_release(l->library);
        free(l);
    }
}
