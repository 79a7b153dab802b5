/* info.c - `mlxn info`: the devices and kernels of this build; `mlxn info FILE`: what a GGUF file
 * holds.  Strings of a file are printed as JSON strings: a hostile one cannot steer a terminal. */
#include <inttypes.h>
#include <string.h>
#include "cache.h"
#include "commands.h"
#include "json.h"
#include "load.h"
#include "support.h"

enum { STRING_SHOWN = 120, ELEMENTS_SHOWN = 8 };

static void print_string(mlxn_gguf_string s)
{
    size_t shown = s.bytes;
    if (shown > STRING_SHOWN) /* not within a character */
        for (shown = STRING_SHOWN; shown > 0 && (s.data[shown] & 0xc0) == 0x80;)
            shown--;
    json_string(stdout, s.data, shown);
    if (shown < s.bytes)
        printf("... (%zu bytes)", s.bytes);
}

static const char *type_name(mlxn_gguf_type type)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (size_t)type < sizeof names / sizeof *names ? names[type] : "?";
}

/* Element i of an array of scalars as it lies in the file. */
static void print_element(mlxn_gguf_type type, const unsigned char *data, uint64_t i)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        float f32;
        uint64_t u64;
        int64_t i64;
        double f64;
    } v;
    static const unsigned char sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    memcpy(&v, data + i * sizes[type], sizes[type]);
    switch (type) {
    case MLXN_GGUF_U8:
        printf("%u", v.u8);
        break;
    case MLXN_GGUF_I8:
        printf("%d", v.i8);
        break;
    case MLXN_GGUF_U16:
        printf("%u", v.u16);
        break;
    case MLXN_GGUF_I16:
        printf("%d", v.i16);
        break;
    case MLXN_GGUF_U32:
        printf("%" PRIu32, v.u32);
        break;
    case MLXN_GGUF_I32:
        printf("%" PRId32, v.i32);
        break;
    case MLXN_GGUF_F32:
        printf("%.9g", (double)v.f32);
        break;
    case MLXN_GGUF_BOOL:
        fputs(v.u8 ? "true" : "false", stdout);
        break;
    case MLXN_GGUF_U64:
        printf("%" PRIu64, v.u64);
        break;
    case MLXN_GGUF_I64:
        printf("%" PRId64, v.i64);
        break;
    case MLXN_GGUF_F64:
        printf("%.17g", v.f64);
        break;
    case MLXN_GGUF_STRING:
    case MLXN_GGUF_ARRAY:
        break;
    }
}

static mlxn_status print_array(const mlxn_gguf *gguf, int64_t index, const char *key)
{
    mlxn_gguf_type type = mlxn_gguf_array_type(gguf, index);
    uint64_t count = mlxn_gguf_array_count(gguf, index);
    printf("%s[%" PRIu64 "]", type_name(type), count);
    if (type == MLXN_GGUF_STRING || type == MLXN_GGUF_ARRAY) {
        fputc('\n', stdout);
        return MLXN_OK;
    }
    const void *data;
    MLXN_TRY(mlxn_gguf_get_array(gguf, key, type, &data, &count));
    fputs(" = ", stdout);
    for (uint64_t i = 0; i < count && i < ELEMENTS_SHOWN; i++) {
        fputs(i ? ", " : "", stdout);
        print_element(type, data, i);
    }
    puts(count > ELEMENTS_SHOWN ? ", ..." : "");
    return MLXN_OK;
}

static mlxn_status print_scalar(const mlxn_gguf *gguf, mlxn_gguf_type type, const char *key)
{
    if (type == MLXN_GGUF_STRING) {
        mlxn_gguf_string s;
        MLXN_TRY(mlxn_gguf_get_string(gguf, key, &s));
        print_string(s);
    } else if (type == MLXN_GGUF_F32 || type == MLXN_GGUF_F64) {
        double value;
        MLXN_TRY(mlxn_gguf_get_f64(gguf, key, &value));
        printf(type == MLXN_GGUF_F32 ? "%.9g" : "%.17g", value);
    } else if (type == MLXN_GGUF_BOOL) {
        int value;
        MLXN_TRY(mlxn_gguf_get_bool(gguf, key, &value));
        fputs(value ? "true" : "false", stdout);
    } else {
        int64_t value;
        mlxn_status status = mlxn_gguf_get_i64(gguf, key, &value);
        if (status == MLXN_ERR_BOUNDS) /* a u64 past the largest i64 */
            fputs("over 9223372036854775807", stdout);
        else if (status != MLXN_OK)
            return status;
        else
            printf("%" PRId64, value);
    }
    fputc('\n', stdout);
    return MLXN_OK;
}

static mlxn_status print_key(const mlxn_gguf *gguf, int64_t index)
{
    mlxn_gguf_string name = mlxn_gguf_key(gguf, index);
    mlxn_gguf_type type = mlxn_gguf_key_type(gguf, index);
    char key[256];
    json_string(stdout, name.data, name.bytes);
    printf(": %s", type == MLXN_GGUF_ARRAY ? "" : type_name(type));
    fputs(type == MLXN_GGUF_ARRAY ? "" : " = ", stdout);
    if (name.bytes >= sizeof key || memchr(name.data, 0, name.bytes)) {
        puts("(the key cannot be asked for)");
        return MLXN_OK;
    }
    memcpy(key, name.data, name.bytes);
    key[name.bytes] = 0;
    return type == MLXN_GGUF_ARRAY ? print_array(gguf, index, key) : print_scalar(gguf, type, key);
}

static mlxn_status print_tensor(const mlxn_gguf *gguf, int64_t index, uint64_t *elements,
                                uint64_t *bytes)
{
    mlxn_gguf_tensor t = {.size = sizeof t};
    MLXN_TRY(mlxn_gguf_get_tensor(gguf, index, &t));
    uint64_t n = 1;
    json_string(stdout, t.name.data, t.name.bytes);
    if (t.dtype == MLXN_DTYPE_NONE)
        printf(": type %" PRIu32 " (not known here) [", t.type);
    else
        printf(": %s [", mlxn_dtype_name(t.dtype));
    for (int d = 0; d < t.rank; d++) {
        printf("%s%" PRId64, d ? ", " : "", t.shape[d]);
        n *= (uint64_t)t.shape[d];
    }
    printf("], %" PRIu64 " bytes at %" PRIu64 "\n", t.bytes, t.offset);
    *elements += n;
    *bytes += t.bytes;
    return MLXN_OK;
}

static mlxn_status print_contents(const mlxn_gguf *gguf)
{
    int64_t keys = mlxn_gguf_key_count(gguf), tensors = mlxn_gguf_tensor_count(gguf);
    uint64_t elements = 0, bytes = 0;
    printf("file: %s, %" PRIu64 " bytes, tensor data at %" PRIu64 "\n", mlxn_gguf_path(gguf),
           mlxn_gguf_file_bytes(gguf), mlxn_gguf_data_offset(gguf));
    printf("\nmetadata: %" PRId64 " keys\n", keys);
    for (int64_t i = 0; i < keys; i++)
        MLXN_TRY(print_key(gguf, i));
    printf("\ntensors: %" PRId64 "\n", tensors);
    for (int64_t i = 0; i < tensors; i++)
        MLXN_TRY(print_tensor(gguf, i, &elements, &bytes));
    printf("\nin all: %" PRIu64 " parameters, %" PRIu64 " bytes\n", elements, bytes);
    return cli_flush();
}

static mlxn_status info_file(const char *name)
{
    loaded l;
    mlxn_status status = load_open(&(common_values){.model = name}, 0, &l);
    if (status == MLXN_OK)
        status = print_contents(l.gguf);
    load_release(&l);
    return status;
}

static mlxn_status print_device(mlxn_device *device, int index)
{
    mlxn_device_info d = {.size = sizeof d};
    int n = 0;
    MLXN_TRY(mlxn_device_get_info(device, &d));
    while (mlxn_kernel_name(device, n))
        n++;
    printf("device %s:%d: %s\n  path %s", d.backend, index, d.name, d.path);
    if (d.threads)
        printf(", %u threads", d.threads);
    if (d.memory_bytes)
        printf(", %.1f GiB memory", (double)d.memory_bytes / (1 << 30));
    printf(", %d kernels\n", n);
    for (int i = 0; i < n; i++)
        printf("    %s\n", mlxn_kernel_name(device, i));
    return MLXN_OK;
}

static mlxn_status info_devices(void)
{
    const char *backend;
    printf("mlxn %s\n", mlxn_version_string());
    for (int b = 0; (backend = mlxn_backend_name(b)) != NULL; b++) {
        for (int index = 0;; index++) {
            mlxn_device *device;
            mlxn_status status = mlxn_device_open(backend, index, &device);
            if (status == MLXN_ERR_NOT_FOUND && index > 0)
                break;
            if (status != MLXN_OK) {
                printf("device %s:%d: %s\n", backend, index, mlxn_last_error());
                break;
            }
            status = print_device(device, index);
            mlxn_device_release(device);
            MLXN_TRY(status);
        }
    }
    return cli_flush();
}

static int info_main(const command *self, int argc, char **argv)
{
    const char *file = NULL;
    int n, code = args_parse(self, argc, argv, NULL, &file, &n);
    if (code != ARGS_GO_ON)
        return code;
    return cli_exit(n ? info_file(file) : info_devices());
}

const command command_info = {.name = "info",
                              .summary = "Show devices and kernels, or what a GGUF file holds.",
                              .operands = "[FILE|NAME]",
                              .max_operands = 1,
                              .main = info_main};
