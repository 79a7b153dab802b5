/* launch.c - what a launch of a plan is given: addresses for what its parameters are bound to. */
#include <string.h>
#include "backends/cuda/cuda.h"

static unsigned long long address_of(const mlxn_cuda_device *cuda, const mlxn_node *node,
                                     int operand, size_t offset, unsigned long long scratch)
{
    switch (operand) {
    case MLXN_GPU_NONE:
        return 0;
    case MLXN_GPU_FAULT:
        return cuda->faults_address +
               (size_t)(node->kernel - cuda->base.builtin) * sizeof *cuda->faults;
    case MLXN_GPU_SCRATCH:
        return scratch + node->shared_offset + offset;
    default: {
        const mlxn_bound *bound = &node->operands[operand];
        return bound->storage ? bound->storage->address + bound->offset + offset : 0;
    }
    }
}

void mlxn_cuda_bind(const mlxn_cuda_device *cuda, const mlxn_node *node,
                    const mlxn_gpu_launch *launch, unsigned long long scratch,
                    mlxn_cuda_parameters *out)
{
    const int n = launch->n_parameters;
    for (int i = 0; i < n; i++) {
        out->address[i] = address_of(cuda, node, launch->operand[i], launch->offset[i], scratch);
        out->pointer[i] = &out->address[i];
    }
    memcpy(&out->pointer[n], &launch->args, sizeof launch->args); /* the driver does not write */
}
