/* unit.c - see unit.h. */
#include "unit.h"

mlxn_device *unit_cpu(uint32_t threads)
{
    mlxn_device *device = NULL;
    CHECK_STATUS(mlxn_device_open_with(
                     MLXN_DESC(mlxn_device_desc, .backend = "cpu", .threads = threads), &device),
                 MLXN_OK);
    return device;
}

mlxn_buffer *unit_ints(mlxn_device *device, int64_t n)
{
    mlxn_buffer *buffer = NULL;
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_I32, 1, &n, &buffer), MLXN_OK);
    return buffer;
}
