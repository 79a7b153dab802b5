/* driver_check.c - compiled, never run: the driver functions, structs and values that the backend
 * declares for itself are those of cuda.h, where a toolkit is found.  Redeclaring each function of
 * cuda.h with the backend's own parameters is an error of the compiler where they differ. */
#include <stddef.h>
#include <cuda.h>
#include "backends/cuda/driver.h"

#define SAME(ours, theirs) _Static_assert((long long)(ours) == (long long)(theirs), #ours)
#define SAME_FIELD(ours, theirs) \
    SAME(offsetof(mlxn_cuda_kernel_node, ours), offsetof(CUDA_KERNEL_NODE_PARAMS_v2, theirs))

SAME(sizeof(mlxn_cuda_kernel_node), sizeof(CUDA_KERNEL_NODE_PARAMS_v2));
SAME_FIELD(function, func);
SAME_FIELD(grid[0], gridDimX);
SAME_FIELD(grid[1], gridDimY);
SAME_FIELD(grid[2], gridDimZ);
SAME_FIELD(block[0], blockDimX);
SAME_FIELD(block[1], blockDimY);
SAME_FIELD(block[2], blockDimZ);
SAME_FIELD(shared_bytes, sharedMemBytes);
SAME_FIELD(parameters, kernelParams);
SAME_FIELD(extra, extra);
SAME_FIELD(kernel, kern);
SAME_FIELD(context, ctx);

SAME(sizeof(mlxn_cuda_edge), sizeof(CUgraphEdgeData));
SAME(offsetof(mlxn_cuda_edge, from_port), offsetof(CUgraphEdgeData, from_port));
SAME(offsetof(mlxn_cuda_edge, to_port), offsetof(CUgraphEdgeData, to_port));
SAME(offsetof(mlxn_cuda_edge, type), offsetof(CUgraphEdgeData, type));

#define RESULT(name) SAME(MLXN_CU_##name, CUDA_ERROR_##name)
SAME(MLXN_CU_SUCCESS, CUDA_SUCCESS);
RESULT(OUT_OF_MEMORY);
RESULT(DEINITIALIZED);
RESULT(STUB_LIBRARY);
RESULT(DEVICE_UNAVAILABLE);
RESULT(NO_DEVICE);
RESULT(INVALID_DEVICE);
RESULT(INVALID_IMAGE);
RESULT(NO_BINARY_FOR_GPU);
RESULT(ECC_UNCORRECTABLE);
RESULT(INVALID_PTX);
RESULT(NVLINK_UNCORRECTABLE);
RESULT(UNSUPPORTED_PTX_VERSION);
RESULT(NOT_READY);
RESULT(ILLEGAL_ADDRESS);
RESULT(LAUNCH_TIMEOUT);
RESULT(CONTEXT_IS_DESTROYED);
RESULT(ASSERT);
RESULT(HARDWARE_STACK_ERROR);
RESULT(LAUNCH_FAILED);
RESULT(NOT_SUPPORTED);
RESULT(SYSTEM_DRIVER_MISMATCH);
RESULT(UNKNOWN);
SAME(MLXN_CU_MULTIPROCESSORS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(MLXN_CU_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(MLXN_CU_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(MLXN_CU_MEMORY_POOLS, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
SAME(MLXN_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME(MLXN_CU_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(MLXN_CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);
SAME(MLXN_CU_HOST_DEVICEMAP, CU_MEMHOSTALLOC_DEVICEMAP);
SAME(MLXN_CU_POOL_RELEASE_THRESHOLD, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD);
SAME(MLXN_CU_MAX_DYNAMIC_SHARED_BYTES, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(MLXN_CU_PROGRAMMATIC, CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC);
SAME(MLXN_CU_PROGRAMMATIC_PORT, CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC);
SAME(MLXN_CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BUFFER);
SAME(MLXN_CU_JIT_ERROR_LOG_BYTES, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);

#define CUDA_RESULT             CUresult
#define CUDA_DEVICE_ATTRIBUTE   CUdevice_attribute
#define CUDA_JIT_OPTION         CUjit_option
#define CUDA_FUNCTION_ATTRIBUTE CUfunction_attribute
#define CUDA_POOL_ATTRIBUTE     CUmemPool_attribute
#define CUDA_KERNEL_NODE        CUDA_KERNEL_NODE_PARAMS_v2
#define CUDA_EDGE               CUgraphEdgeData

/* cuda.h declares the name, and does not map it to another symbol. */
#define TEXT(expanded) #expanded
#define CUDA_FUNCTION(need, name, parameters)                                        \
    _Static_assert(sizeof(&(name)) == sizeof(void *), #name " is not in cuda.h");    \
    _Static_assert(sizeof TEXT(name) == sizeof #name, #name " has a newer version"); \
    CUresult name parameters;
#include "backends/cuda/driver.def"
