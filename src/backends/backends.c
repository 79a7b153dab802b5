/* backends.c - the backends of this build, best first. */
#include "core/internal.h"
#include "backends/cpu/cpu.h"
#include "backends/cuda/cuda.h"
#include "backends/metal/metal.h"

const mlxn_backend *const mlxn_backends[] = {&mlxn_cpu_backend, &mlxn_cuda_backend,
                                             &mlxn_metal_backend, NULL};
