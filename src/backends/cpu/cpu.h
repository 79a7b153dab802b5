/* cpu.h - the CPU backend's own structures. */
#ifndef MLXN_CPU_CPU_H
#define MLXN_CPU_CPU_H

#include "core/internal.h"

extern const mlxn_backend mlxn_cpu_backend;

/* ---- team.c: a fixed team of threads ---- */

typedef struct mlxn_cpu_team mlxn_cpu_team;
typedef void (*mlxn_cpu_job)(void *context, uint32_t thread);

/* A team of n threads: the caller of _run and n - 1 workers. */
mlxn_status mlxn_cpu_team_create(uint32_t n, mlxn_cpu_team **out);
void mlxn_cpu_team_free(mlxn_cpu_team *team);
/* Runs job(context, 0 .. n - 1), once a thread; returns when all have returned. */
void mlxn_cpu_team_run(mlxn_cpu_team *team, mlxn_cpu_job job, void *context);
/* What a thread may do between two looks at what it waits for: well under a microsecond. */
typedef void (*mlxn_cpu_idle)(void *context);
/* Inside a job: waits until all n threads have called it. */
void mlxn_cpu_team_barrier(mlxn_cpu_team *team, mlxn_cpu_idle idle, void *context);
/* CPUs that this process may use. */
uint32_t mlxn_cpu_available(void);

/* ---- detect.c: SIMD paths ---- */

/* The best path of this machine and build among the mlxn_cpu_isa bits of `mask` (0: all). */
mlxn_cpu_path mlxn_cpu_best_path(uint32_t mask);
const char *mlxn_cpu_path_name(mlxn_cpu_path path);
/* The mask of names joined by commas ("avx2,portable"); an unknown name is an error. */
mlxn_status mlxn_cpu_parse_mask(const char *names, uint32_t *mask);

/* ---- device.c, memory.c, run.c ---- */

typedef struct mlxn_cpu_fault_record {
    atomic_int set;
    const char *kernel, *what;
    int64_t value, limit;
} mlxn_cpu_fault_record;

typedef struct mlxn_cpu_device {
    mlxn_device base;
    mlxn_cpu_team *team;
    mlxn_cpu_path path;
    char name[64];
    pthread_mutex_t queue_lock, run_lock, slab_lock;
    struct mlxn_cpu_slab *slab; /* that weights are now placed in; NULL: none */
    mlxn_commit *first, **last; /* committed, not run */
    _Atomic uint64_t completed;
    /* of the commit that runs: */
    mlxn_work *work;
    mlxn_cpu_fault_record fault;
    unsigned char *scratch;
    size_t scratch_bytes;
} mlxn_cpu_device;

mlxn_status mlxn_cpu_alloc(mlxn_device *device, mlxn_storage *storage, int zero);
void mlxn_cpu_free(mlxn_device *device, mlxn_storage *storage);
void mlxn_cpu_drop(mlxn_device *device, mlxn_storage *storage, size_t offset, size_t bytes);
mlxn_status mlxn_cpu_submit(mlxn_device *device, mlxn_commit *commit);
void mlxn_cpu_wait(mlxn_device *device, uint64_t serial, int *waited);

#endif
