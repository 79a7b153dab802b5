/* nvrtc.h - NVRTC, NVIDIA's run-time compiler, opened at run time: kernel text to machine code.
 *
 * The library is the first found of libnvrtc.so.13, .12 and .11.2, or what MLXN_NVRTC names.  It is
 * no part of the driver, so it may be missing.  Code is made for the device's own architecture
 * (cubin: a PTX of a compiler newer than the driver would be refused), or as PTX of the newest
 * architecture that NVRTC knows where the device is newer. */
#ifndef MLXN_CUDA_NVRTC_H
#define MLXN_CUDA_NVRTC_H

#include <stddef.h>
#include <mlxn/status.h>
#include "backends/cache.h"
#include "core/gpu.h"

struct nvrtc_program;

typedef struct mlxn_nvrtc {
    void *library; /* NULL: not open */
    int major, minor;
    unsigned (*create)(struct nvrtc_program **program, const char *text, const char *name,
                       int n_headers, const char *const *headers, const char *const *names);
    unsigned (*compile)(struct nvrtc_program *program, int n_options, const char *const *options);
    unsigned (*log_size)(struct nvrtc_program *program, size_t *bytes);
    unsigned (*log)(struct nvrtc_program *program, char *log);
    unsigned (*cubin_size)(struct nvrtc_program *program, size_t *bytes);
    unsigned (*cubin)(struct nvrtc_program *program, char *cubin);
    unsigned (*ptx_size)(struct nvrtc_program *program, size_t *bytes);
    unsigned (*ptx)(struct nvrtc_program *program, char *ptx);
    unsigned (*destroy)(struct nvrtc_program **program);
    unsigned (*version)(int *major, int *minor);
    unsigned (*count_archs)(int *count);
    unsigned (*archs)(int *archs);
    const char *(*error)(unsigned result);
} mlxn_nvrtc;

enum { MLXN_NVRTC_TARGET = 24, MLXN_NVRTC_OPTIONS = 5 + MLXN_MAX_CONSTANTS };

typedef struct mlxn_nvrtc_options {
    int n;
    const char *at[MLXN_NVRTC_OPTIONS];
    char text[MLXN_NVRTC_OPTIONS][96];
} mlxn_nvrtc_options;

/* MLXN_ERR_UNSUPPORTED where no library is found. */
mlxn_status mlxn_nvrtc_open(mlxn_nvrtc *nvrtc);
void mlxn_nvrtc_close(mlxn_nvrtc *nvrtc);
/* What to compile for on a device of architecture 10 major + minor: "sm_90" (cubin), "compute_120"
 * (PTX). */
mlxn_status mlxn_nvrtc_target(const mlxn_nvrtc *nvrtc, int architecture,
                              char target[MLXN_NVRTC_TARGET]);
/* How the code of a launch is compiled for `target`: for its constants, and of the library's texts
 * for its entry alone (KERNEL in kernels/dialect.h). */
void mlxn_nvrtc_options_of(const mlxn_gpu_launch *launch, const char *target,
                           mlxn_nvrtc_options *out);
/* MLXN_ERR_COMPILE with the first lines of the compiler's log. */
mlxn_status mlxn_nvrtc_compile(const mlxn_nvrtc *nvrtc, const mlxn_gpu_launch *launch,
                               const char *target, mlxn_code *out);

#endif
