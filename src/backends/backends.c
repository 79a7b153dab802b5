/* backends.c - the backends of this build, best first: what opens first is the default device.
 * Metal comes last for as long as it has not run on Apple hardware. */
#include "core/internal.h"
#include "backends/cpu/cpu.h"
#include "backends/cuda/cuda.h"
#include "backends/metal/metal.h"

const mlxn_backend *const mlxn_backends[] = {&mlxn_cuda_backend, &mlxn_cpu_backend,
                                             &mlxn_metal_backend, NULL};
