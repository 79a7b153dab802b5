/* status.c - status texts, the per-thread detail text, the version. */
#include <stdarg.h>
#include <stdio.h>
#include <mlxn/status.h>

static _Thread_local char detail[512];

const char *mlxn_status_string(mlxn_status status)
{
    switch (status) {
#define STATUS_CASE(name, value, text) \
    case MLXN_##name:                  \
        return text;
        MLXN_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

const char *mlxn_last_error(void)
{
    return detail;
}

mlxn_status mlxn_fail(mlxn_status status, const char *format, ...)
{
    /* The new text may quote the old one (mlxn_last_error() as an argument): build it aside. */
    char text[sizeof detail];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(detail, sizeof detail, "%s", text);
    return status;
}

#define TEXT2(x) #x
#define TEXT(x)  TEXT2(x)

int mlxn_version(void)
{
    return MLXN_VERSION_MAJOR * 10000 + MLXN_VERSION_MINOR * 100 + MLXN_VERSION_PATCH;
}

const char *mlxn_version_string(void)
{
    return TEXT(MLXN_VERSION_MAJOR) "." TEXT(MLXN_VERSION_MINOR) "." TEXT(MLXN_VERSION_PATCH);
}
