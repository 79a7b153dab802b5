/* metal.h - the Metal backend's own structures.  It knows no operator: it runs the launches that
 * planners wrote (core/gpu.h). */
#ifndef MLXN_METAL_METAL_H
#define MLXN_METAL_METAL_H

#include "backends/cache.h"
#include "backends/metal/objc.h"
#include "core/gpu.h"

extern const mlxn_backend mlxn_metal_backend;

/* A text that was compiled, and a kernel of it. */
typedef struct metal_library {
    struct metal_library *next;
    const char *text;
    id library;
    id archive; /* of its pipelines; NULL: none is kept */
    mlxn_hash key;
    int grown; /* the archive has more than its file */
} metal_library;
typedef struct metal_pipeline {
    struct metal_pipeline *next;
    const char *text, *entry;
    mlxn_constants constants;
    id pipeline;
    unsigned long max_threads, static_bytes;
} metal_pipeline;

/* A commit on its way, with what belongs to it alone. */
typedef struct metal_flight {
    struct metal_flight *next;
    struct metal_device *device;
    mlxn_commit *commit;
    int done;
    id faults;  /* a word a kernel of the library, zero when idle */
    id scratch; /* retained until it is done */
} metal_flight;

enum {
    METAL_BUCKETS = 256,
    METAL_GROUP_THREADS = 1024, /* of every Apple family that is supported */
};

typedef struct metal_device {
    mlxn_device base;
    mlxn_gpu_traits traits;
    char name[64], path[16];
    id device, queue;
    unsigned long max_group_memory;
    /* library.c */
    pthread_mutex_t code_lock;
    metal_library *libraries;
    metal_pipeline *pipelines[METAL_BUCKETS];
    /* memory.c */
    id nothing;        /* bound for absent operands: Metal wants something there */
    id residency;      /* keeps all buffers resident; NULL before macOS 15 */
    int residency_old; /* buffers came or went since it was last committed */
    /* run.c; lock guards what follows */
    pthread_mutex_t lock;
    pthread_cond_t landed;
    metal_flight *first, **last, *idle;
    uint64_t completed;
    id scratch;
    size_t scratch_bytes;
} metal_device;

/* ---- memory.c ---- */

mlxn_status mlxn_metal_alloc(mlxn_device *device, mlxn_storage *storage, int zero);
mlxn_status mlxn_metal_wrap(mlxn_device *device, mlxn_storage *storage, void *memory);
void mlxn_metal_free(mlxn_device *device, mlxn_storage *storage);
mlxn_status mlxn_metal_write(mlxn_device *device, mlxn_storage *storage, size_t offset,
                             const void *src, size_t bytes);
mlxn_status mlxn_metal_read(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                            size_t bytes);
/* Where in its MTLBuffer a storage begins: 0, but for wrapped memory in the middle of a page. */
size_t mlxn_metal_lead(const mlxn_storage *storage);
/* A buffer of the backend's own; NULL: no memory. */
id mlxn_metal_new_buffer(metal_device *metal, size_t bytes);
void mlxn_metal_release_buffer(metal_device *metal, id buffer);
void mlxn_metal_update_residency(metal_device *metal);

/* ---- library.c ---- */

/* The compiled kernel of a launch, made at its first use, for groups of so many threads. */
mlxn_status mlxn_metal_find_pipeline(metal_device *metal, mlxn_gpu_launch *launch,
                                     metal_pipeline **out);
/* Sets launch->function of all launches to their metal_pipeline. */
mlxn_status mlxn_metal_prepare(mlxn_device *device, mlxn_gpu_plan *plan);
void mlxn_metal_release_libraries(metal_device *metal);

/* What the texts need, as Metal numbers it: see docs/metal-language.md. */
extern const unsigned long mlxn_metal_language;

/* ---- archive.c ---- */

void mlxn_metal_archive_open(metal_device *metal, metal_library *library);
/* A new pipeline, out of the archive if it has it; NULL with *error. */
id mlxn_metal_archive_pipeline(metal_device *metal, metal_library *library, id descriptor,
                               id *error);
/* Writes the archive if it has grown, and releases it. */
void mlxn_metal_archive_close(metal_library *library);

/* ---- run.c ---- */

mlxn_status mlxn_metal_submit(mlxn_device *device, mlxn_commit *commit);
void mlxn_metal_wait(mlxn_device *device, uint64_t serial, int *waited);
void mlxn_metal_release_flights(metal_device *metal);

#endif
