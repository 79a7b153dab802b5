/* kernels.h - numbers for the kernels of kernels.def: MLXN_KERNEL_<name>. */
#ifndef MLXN_OPS_KERNELS_H
#define MLXN_OPS_KERNELS_H

#include "core/internal.h"

enum {
#define MLXN_KERNEL(name, shared, early, plan, faults) MLXN_KERNEL_##name,
#include "ops/kernels.def"
#undef MLXN_KERNEL
    MLXN_KERNEL_COUNT
};

#endif
