/* driver.h - libcuda, opened at run time: nothing of CUDA is needed to build or to start.
 *
 * The library is libcuda.so.1, or what MLXN_CUDA_DRIVER names.  It must be of CUDA 12.0 or later.
 * A failing call becomes a status with the driver's own text.  After some failures nothing works
 * any more in the process (an illegal address, say): the first of them is remembered, and later
 * calls answer MLXN_ERR_DEVICE with it. */
#ifndef MLXN_CUDA_DRIVER_H
#define MLXN_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>
#include <mlxn/status.h>

/* The driver's handles, by the tags that cuda.h gives them. */
struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUmod_st;
struct CUfunc_st;
struct CUkern_st;
struct CUgraph_st;
struct CUgraphNode_st;
struct CUgraphExec_st;
struct CUmemPoolHandle_st;

/* CUDA_KERNEL_NODE_PARAMS_v2 of cuda.h. */
typedef struct mlxn_cuda_kernel_node {
    struct CUfunc_st *function;
    unsigned grid[3], block[3], shared_bytes;
    void **parameters;
    void **extra;
    struct CUkern_st *kernel;
    struct CUctx_st *context;
} mlxn_cuda_kernel_node;

/* CUgraphEdgeData of cuda.h. */
typedef struct mlxn_cuda_edge {
    unsigned char from_port, to_port, type, reserved[5];
} mlxn_cuda_edge;

/* The driver's enums, as the unsigned integers that they are. */
typedef unsigned CUDA_RESULT, CUDA_DEVICE_ATTRIBUTE, CUDA_JIT_OPTION, CUDA_FUNCTION_ATTRIBUTE,
    CUDA_POOL_ATTRIBUTE;
typedef mlxn_cuda_kernel_node CUDA_KERNEL_NODE;
typedef mlxn_cuda_edge CUDA_EDGE;

/* Values of cuda.h; compared with it by tests/cuda/driver_check.c. */
enum {
    MLXN_CU_SUCCESS = 0,
    MLXN_CU_OUT_OF_MEMORY = 2,
    MLXN_CU_DEINITIALIZED = 4,
    MLXN_CU_STUB_LIBRARY = 34,
    MLXN_CU_DEVICE_UNAVAILABLE = 46,
    MLXN_CU_NO_DEVICE = 100,
    MLXN_CU_INVALID_DEVICE = 101,
    MLXN_CU_INVALID_IMAGE = 200,
    MLXN_CU_NO_BINARY_FOR_GPU = 209,
    MLXN_CU_ECC_UNCORRECTABLE = 214,
    MLXN_CU_INVALID_PTX = 218,
    MLXN_CU_NVLINK_UNCORRECTABLE = 220,
    MLXN_CU_UNSUPPORTED_PTX_VERSION = 222,
    MLXN_CU_NOT_READY = 600,
    MLXN_CU_ILLEGAL_ADDRESS = 700,
    MLXN_CU_LAUNCH_TIMEOUT = 702,
    MLXN_CU_CONTEXT_IS_DESTROYED = 709,
    MLXN_CU_ASSERT = 710,
    MLXN_CU_HARDWARE_STACK_ERROR = 714,
    MLXN_CU_LAUNCH_FAILED = 719, /* 714 to 719: what a kernel did wrong */
    MLXN_CU_NOT_SUPPORTED = 801,
    MLXN_CU_SYSTEM_DRIVER_MISMATCH = 803,
    MLXN_CU_UNKNOWN = 999,

    MLXN_CU_MULTIPROCESSORS = 16, /* device attributes */
    MLXN_CU_CAPABILITY_MAJOR = 75,
    MLXN_CU_CAPABILITY_MINOR = 76,
    MLXN_CU_MEMORY_POOLS = 115,

    MLXN_CU_STREAM_NON_BLOCKING = 1,
    MLXN_CU_EVENT_DISABLE_TIMING = 2,
    MLXN_CU_HOST_PORTABLE = 1,
    MLXN_CU_HOST_DEVICEMAP = 2,
    MLXN_CU_POOL_RELEASE_THRESHOLD = 4,
    MLXN_CU_MAX_DYNAMIC_SHARED_BYTES = 8, /* function attribute */
    MLXN_CU_JIT_ERROR_LOG = 5,
    MLXN_CU_JIT_ERROR_LOG_BYTES = 6,
    MLXN_CU_PROGRAMMATIC = 1,      /* type of an edge */
    MLXN_CU_PROGRAMMATIC_PORT = 1, /* of a kernel node: when all its groups allow it */
};

typedef struct mlxn_cuda_driver {
    void *library;
    int version;    /* 1000 major + 10 minor */
    char lost[160]; /* "" or the failure after which nothing works any more */
#define CUDA_FUNCTION(need, name, parameters) CUDA_RESULT(*name) parameters;
#include "backends/cuda/driver.def"
#undef CUDA_FUNCTION
} mlxn_cuda_driver;

/* Opens the library and starts the driver.  MLXN_ERR_UNSUPPORTED with the reason where there is
 * none, or one that is too old. */
mlxn_status mlxn_cuda_driver_open(mlxn_cuda_driver *driver);
void mlxn_cuda_driver_close(mlxn_cuda_driver *driver); /* the library itself stays in memory */

/* The status of a result; `call` names the function. */
mlxn_status mlxn_cuda_status(mlxn_cuda_driver *driver, CUDA_RESULT result, const char *call);
/* Calls a function of the driver: CU(driver, cuMemFree_v2, address). */
#define CU(driver, name, ...) mlxn_cuda_status((driver), (driver)->name(__VA_ARGS__), #name)

#endif
