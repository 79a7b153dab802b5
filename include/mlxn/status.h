/* status.h - what a call answers.
 *
 * Every call that can fail returns an mlxn_status; MLXN_OK is 0.  The code says which kind of
 * failure it was; mlxn_last_error() says which operator, which operand and which numbers.  The
 * library never prints, exits or aborts on input. */
#ifndef MLXN_STATUS_H
#define MLXN_STATUS_H

#if defined(__cplusplus)
#define MLXN_EXTERN_C_BEGIN extern "C" {
#define MLXN_EXTERN_C_END   }
#else
#define MLXN_EXTERN_C_BEGIN
#define MLXN_EXTERN_C_END
#endif

#if defined(__GNUC__)
#define MLXN_API                 __attribute__((visibility("default")))
#define MLXN_MUST_CHECK          __attribute__((warn_unused_result))
#define MLXN_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define MLXN_API
#define MLXN_MUST_CHECK
#define MLXN_PRINTF(text, first)
#endif

MLXN_EXTERN_C_BEGIN

/* name, value, text: the one list of status codes.  Values are ABI and never change. */
#define MLXN_STATUS_MAP(X)                                                     \
    X(OK, 0, "success")                                                        \
    X(ERR_ARGUMENT, 1, "invalid argument")                                     \
    X(ERR_DTYPE, 2, "dtype not accepted here")                                 \
    X(ERR_SHAPE, 3, "shapes do not fit together")                              \
    X(ERR_BOUNDS, 4, "out of the bounds of a buffer or file")                  \
    X(ERR_OVERLAP, 5, "operands overlap in a way the operator does not allow") \
    X(ERR_OVERFLOW, 6, "a size does not fit 64 bits")                          \
    X(ERR_MEMORY, 7, "out of memory")                                          \
    X(ERR_UNSUPPORTED, 8, "not supported by this device or build")             \
    X(ERR_NOT_FOUND, 9, "not found")                                           \
    X(ERR_STATE, 10, "call not valid in this state")                           \
    X(ERR_HAZARD, 11, "a barrier is missing between dependent dispatches")     \
    X(ERR_IO, 12, "input or output failed")                                    \
    X(ERR_FORMAT, 13, "malformed file")                                        \
    X(ERR_COMPILE, 14, "kernel does not compile")                              \
    X(ERR_DEVICE, 15, "the device reported a failure")                         \
    X(ERR_FAULT, 16, "a value in a device buffer was out of range")            \
    X(ERR_CANCELLED, 17, "cancelled by the caller")

typedef enum mlxn_status {
#define MLXN_STATUS_ENUM(name, value, text) MLXN_##name = value,
    MLXN_STATUS_MAP(MLXN_STATUS_ENUM)
#undef MLXN_STATUS_ENUM
} mlxn_status;

/* The fixed text of a code ("invalid argument"); never NULL, "unknown status" for other values. */
MLXN_API const char *mlxn_status_string(mlxn_status status);

/* This thread's detail text of the last call that failed here; "" before the first failure.
 * Valid until this thread's next failing call.  Successful calls leave it alone. */
MLXN_API const char *mlxn_last_error(void);

/* Records a detail text for this thread and returns `status`: for layers built on the library, so
 * that their failures read like its own.  format is printf's. */
MLXN_API mlxn_status mlxn_fail(mlxn_status status, const char *format, ...) MLXN_PRINTF(2, 3);

/* Returns from the calling function with the status of `call`, unless it is MLXN_OK. */
#define MLXN_TRY(call)                        \
    do {                                      \
        mlxn_status mlxn_try_status = (call); \
        if (mlxn_try_status != MLXN_OK)       \
            return mlxn_try_status;           \
    } while (0)

/* The version of the library in use: major * 10000 + minor * 100 + patch, and as text. */
#define MLXN_VERSION_MAJOR 0
#define MLXN_VERSION_MINOR 1
#define MLXN_VERSION_PATCH 0
MLXN_API int mlxn_version(void);
MLXN_API const char *mlxn_version_string(void);

MLXN_EXTERN_C_END
#endif
