/* pool.c - device memory, taken and given back.
 *
 * It comes from the driver's stream-ordered pool where the device has one: taking and giving back
 * are then steps of the stream and cost about a microsecond.  The caller holds the stream's lock.
 */
#include "backends/cuda/cuda.h"

/* Keeps freed memory in the pool instead of giving it back to the system at each wait. */
void mlxn_cuda_pool_open(mlxn_cuda_device *cuda)
{
    struct CUmemPoolHandle_st *pool;
    uint64_t keep = UINT64_MAX;
    int supported = 0;
    mlxn_cuda_driver *cu = &cuda->cu;
    if (!cu->cuMemAllocAsync || !cu->cuMemFreeAsync || !cu->cuDeviceGetDefaultMemPool ||
        !cu->cuMemPoolSetAttribute)
        return;
    cuda->pooled = cu->cuDeviceGetAttribute(&supported, MLXN_CU_MEMORY_POOLS, cuda->ordinal) == 0 &&
                   supported && cu->cuDeviceGetDefaultMemPool(&pool, cuda->ordinal) == 0 &&
                   cu->cuMemPoolSetAttribute(pool, MLXN_CU_POOL_RELEASE_THRESHOLD, &keep) == 0;
}

mlxn_status mlxn_cuda_take(mlxn_cuda_device *cuda, size_t bytes, unsigned long long *address)
{
    *address = 0;
    if (cuda->pooled)
        return CU(&cuda->cu, cuMemAllocAsync, address, bytes ? bytes : 1, cuda->stream);
    return CU(&cuda->cu, cuMemAlloc_v2, address, bytes ? bytes : 1);
}

void mlxn_cuda_give(mlxn_cuda_device *cuda, unsigned long long address)
{
    if (!address)
        return;
    if (cuda->pooled)
        cuda->cu.cuMemFreeAsync(address, cuda->stream);
    else
        cuda->cu.cuMemFree_v2(address);
}
