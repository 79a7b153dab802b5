/* desc.c - descriptors of any size, and structs to fill: the rules at MLXN_DESC in mlxn/device.h.
 */
#include <string.h>
#include <mlxn/device.h>

mlxn_status mlxn_desc_copy(const char *who, void *out, size_t bytes, const void *desc)
{
    size_t size;
    if (!desc)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: the descriptor is NULL", who);
    memcpy(&size, desc, sizeof size);
    if (size < sizeof size)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: the descriptor's size is %zu", who, size);
    if (size == bytes) {
        memcpy(out, desc, size);
        return MLXN_OK;
    }
    for (size_t i = bytes; i < size; i++)
        if (((const unsigned char *)desc)[i])
            return mlxn_fail(MLXN_ERR_ARGUMENT,
                             "%s: the descriptor has %zu bytes, this library knows %zu", who, size,
                             bytes);
    memset(out, 0, bytes);
    memcpy(out, desc, size < bytes ? size : bytes);
    memcpy(out, &bytes, sizeof bytes);
    return MLXN_OK;
}

mlxn_status mlxn_info_check(const char *who, const void *info, size_t bytes)
{
    size_t given;
    if (!info)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: the struct to fill is NULL", who);
    memcpy(&given, info, sizeof given);
    if (given != bytes)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: the struct's size is %zu, needs %zu", who, given,
                         bytes);
    return MLXN_OK;
}
