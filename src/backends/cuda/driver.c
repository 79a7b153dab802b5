/* driver.c - see driver.h. */
#include "backends/cuda/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEEDS_VERSION = 12000 };

typedef enum need { REQUIRED, OPTIONAL } need;

/* Fills the table; the name of the first required function that is missing, or NULL. */
static const char *bind_functions(mlxn_cuda_driver *driver)
{
    const struct {
        const char *name;
        void *slot;
        need need;
    } functions[] = {
#define CUDA_FUNCTION(need, name, parameters) {#name, &driver->name, need},
#include "backends/cuda/driver.def"
#undef CUDA_FUNCTION
    };
    const char *missing = NULL;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(driver->library, functions[i].name);
        memcpy(functions[i].slot, &found, sizeof found); /* ISO C has no cast for this */
        if (!found && functions[i].need == REQUIRED && !missing)
            missing = functions[i].name;
    }
    return missing;
}

static mlxn_status too_old(const mlxn_cuda_driver *driver, const char *missing)
{
    return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                     "cuda: the NVIDIA driver is of CUDA %d.%d%s%s; it must be of %d.%d or later",
                     driver->version / 1000, driver->version % 1000 / 10,
                     missing ? " and lacks " : "", missing ? missing : "", NEEDS_VERSION / 1000,
                     NEEDS_VERSION % 1000 / 10);
}

static mlxn_status start(mlxn_cuda_driver *driver)
{
    const char *missing = bind_functions(driver);
    if (!driver->cuInit || !driver->cuDriverGetVersion || !driver->cuGetErrorName ||
        !driver->cuGetErrorString)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "cuda: the driver library is none: it lacks %s",
                         missing);
    MLXN_TRY(CU(driver, cuInit, 0));
    MLXN_TRY(CU(driver, cuDriverGetVersion, &driver->version));
    if (missing || driver->version < NEEDS_VERSION)
        return too_old(driver, missing);
    return MLXN_OK;
}

mlxn_status mlxn_cuda_driver_open(mlxn_cuda_driver *driver)
{
    const char *given = getenv("MLXN_CUDA_DRIVER");
    *driver = (mlxn_cuda_driver){0};
    /* threads and exit handlers of the driver must not lose their code: it is never unloaded */
    driver->library =
        dlopen(given && *given ? given : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!driver->library)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "cuda: no NVIDIA driver here (%s)", dlerror());
    mlxn_status status = start(driver);
    if (status != MLXN_OK)
        mlxn_cuda_driver_close(driver);
    return status;
}

void mlxn_cuda_driver_close(mlxn_cuda_driver *driver)
{
    if (driver->library)
        dlclose(driver->library);
    driver->library = NULL;
}

/* ---- failures ---- */

static mlxn_status code_of(CUDA_RESULT result)
{
    switch (result) {
    case MLXN_CU_OUT_OF_MEMORY:
        return MLXN_ERR_MEMORY;
    case MLXN_CU_INVALID_DEVICE:
        return MLXN_ERR_NOT_FOUND;
    case MLXN_CU_NO_DEVICE:
    case MLXN_CU_STUB_LIBRARY:
    case MLXN_CU_NOT_SUPPORTED:
    case MLXN_CU_SYSTEM_DRIVER_MISMATCH:
        return MLXN_ERR_UNSUPPORTED;
    case MLXN_CU_INVALID_IMAGE:
    case MLXN_CU_NO_BINARY_FOR_GPU:
    case MLXN_CU_INVALID_PTX:
    case MLXN_CU_UNSUPPORTED_PTX_VERSION:
        return MLXN_ERR_COMPILE;
    default:
        return MLXN_ERR_DEVICE;
    }
}

/* After these every further call in the context fails. */
static int is_lasting(CUDA_RESULT result)
{
    return result == MLXN_CU_DEINITIALIZED || result == MLXN_CU_DEVICE_UNAVAILABLE ||
           result == MLXN_CU_ECC_UNCORRECTABLE || result == MLXN_CU_NVLINK_UNCORRECTABLE ||
           result == MLXN_CU_ILLEGAL_ADDRESS || result == MLXN_CU_LAUNCH_TIMEOUT ||
           result == MLXN_CU_CONTEXT_IS_DESTROYED || result == MLXN_CU_ASSERT ||
           (result >= MLXN_CU_HARDWARE_STACK_ERROR && result <= MLXN_CU_LAUNCH_FAILED) ||
           result == MLXN_CU_UNKNOWN;
}

mlxn_status mlxn_cuda_status(mlxn_cuda_driver *driver, CUDA_RESULT result, const char *call)
{
    const char *name = NULL, *text = NULL;
    if (result == MLXN_CU_SUCCESS)
        return MLXN_OK;
    if (driver->lost[0])
        return mlxn_fail(MLXN_ERR_DEVICE, "cuda: the device is lost since %s", driver->lost);
    driver->cuGetErrorName(result, &name);
    driver->cuGetErrorString(result, &text);
    if (!name)
        name = "unknown error";
    if (is_lasting(result))
        snprintf(driver->lost, sizeof driver->lost, "%s: %s (%s)", call, text ? text : name, name);
    return mlxn_fail(code_of(result), "cuda: %s: %s (%s)", call, text ? text : name, name);
}
