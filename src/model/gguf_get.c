/* gguf_get.c - what an open GGUF file answers: keys, values, tensors.  Everything in the file has
 * been checked on opening (gguf.c), so that reading a value needs no bounds. */
#include "gguf_file.h"

static const struct {
    const char *name;
    uint8_t bytes;
} types[] = {
    [MLXN_GGUF_U8] = {"u8", 1},         [MLXN_GGUF_I8] = {"i8", 1},
    [MLXN_GGUF_U16] = {"u16", 2},       [MLXN_GGUF_I16] = {"i16", 2},
    [MLXN_GGUF_U32] = {"u32", 4},       [MLXN_GGUF_I32] = {"i32", 4},
    [MLXN_GGUF_F32] = {"f32", 4},       [MLXN_GGUF_BOOL] = {"bool", 1},
    [MLXN_GGUF_STRING] = {"string", 0}, [MLXN_GGUF_ARRAY] = {"array", 0},
    [MLXN_GGUF_U64] = {"u64", 8},       [MLXN_GGUF_I64] = {"i64", 8},
    [MLXN_GGUF_F64] = {"f64", 8},
};

size_t mlxn_gguf_type_bytes(mlxn_gguf_type type)
{
    return (unsigned)type < sizeof types / sizeof *types ? types[type].bytes : 0;
}

const char *mlxn_gguf_type_name(mlxn_gguf_type type)
{
    return (unsigned)type < sizeof types / sizeof *types ? types[type].name : "unknown";
}

mlxn_gguf_name mlxn_gguf_printable(mlxn_gguf_string name)
{
    mlxn_gguf_name out = {""};
    size_t bytes = name.bytes < 60 ? name.bytes : 60;
    for (size_t i = 0; i < bytes; i++)
        out.text[i] = (char)(name.data[i] >= ' ' && name.data[i] <= '~' ? name.data[i] : '?');
    if (name.bytes > bytes)
        memcpy(out.text + bytes, "...", 4);
    return out;
}

const char *mlxn_gguf_path(const mlxn_gguf *gguf)
{
    return gguf ? gguf->path : "";
}

int mlxn_gguf_is_file(const mlxn_gguf *gguf)
{
    return gguf && gguf->mapped;
}

uint64_t mlxn_gguf_file_bytes(const mlxn_gguf *gguf)
{
    return gguf ? gguf->bytes : 0;
}

const void *mlxn_gguf_data(const mlxn_gguf *gguf)
{
    return gguf ? gguf->data : NULL;
}

uint64_t mlxn_gguf_data_offset(const mlxn_gguf *gguf)
{
    return gguf ? gguf->data_offset : 0;
}

int64_t mlxn_gguf_key_count(const mlxn_gguf *gguf)
{
    return gguf ? gguf->key_count : 0;
}

int64_t mlxn_gguf_find_key(const mlxn_gguf *gguf, const char *key)
{
    return gguf && key ? mlxn_string_index_find(&gguf->key_index, key, strlen(key)) : -1;
}

static const mlxn_gguf_entry *entry_at(const mlxn_gguf *gguf, int64_t index)
{
    static const mlxn_gguf_entry none = {(mlxn_gguf_type)-1, (mlxn_gguf_type)-1, 0, NULL};
    return gguf && index >= 0 && index < gguf->key_count ? &gguf->entries[index] : &none;
}

mlxn_gguf_string mlxn_gguf_key(const mlxn_gguf *gguf, int64_t index)
{
    mlxn_gguf_string none = {"", 0};
    return entry_at(gguf, index)->value ? gguf->keys[index] : none;
}

mlxn_gguf_type mlxn_gguf_key_type(const mlxn_gguf *gguf, int64_t index)
{
    return entry_at(gguf, index)->type;
}

mlxn_gguf_type mlxn_gguf_array_type(const mlxn_gguf *gguf, int64_t index)
{
    return entry_at(gguf, index)->array_type;
}

uint64_t mlxn_gguf_array_count(const mlxn_gguf *gguf, int64_t index)
{
    return entry_at(gguf, index)->count;
}

static mlxn_status find(const mlxn_gguf *gguf, const char *key, const void *out,
                        const mlxn_gguf_entry **entry)
{
    if (!gguf || !key || !out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "gguf get: gguf, key or out is NULL");
    int64_t index = mlxn_gguf_find_key(gguf, key);
    if (index < 0)
        return mlxn_fail(MLXN_ERR_NOT_FOUND, "%s: no key '%s'", gguf->path, key);
    *entry = &gguf->entries[index];
    return MLXN_OK;
}

static mlxn_status wrong_type(const mlxn_gguf *gguf, const char *key, const mlxn_gguf_entry *entry,
                              const char *wanted)
{
    int array = entry->type == MLXN_GGUF_ARRAY;
    return mlxn_fail(MLXN_ERR_DTYPE, "%s: key '%s' is %s%s, not %s", gguf->path, key,
                     array ? "an array of " : "",
                     mlxn_gguf_type_name(array ? entry->array_type : entry->type), wanted);
}

static mlxn_status no_fit(const mlxn_gguf *gguf, const char *key, int64_t value, const char *wanted)
{
    return mlxn_fail(MLXN_ERR_BOUNDS, "%s: key '%s' is %lld, which does not fit %s", gguf->path,
                     key, (long long)value, wanted);
}

/* A signed integer of `bits` bits in the low bits of `value`, extended. */
static int64_t extend(uint64_t value, int bits)
{
    uint64_t sign = (uint64_t)1 << (bits - 1);
    return (int64_t)((value ^ sign) - sign);
}

/* `wanted` names the caller's type for the error texts. */
static mlxn_status get_integer(const mlxn_gguf *gguf, const char *key, const char *wanted,
                               const void *room, int64_t *out)
{
    const mlxn_gguf_entry *entry = NULL;
    MLXN_TRY(find(gguf, key, room, &entry));
    const unsigned char *p = entry->value;
    switch (entry->type) {
    case MLXN_GGUF_U8:
    case MLXN_GGUF_BOOL:
        *out = p[0];
        return MLXN_OK;
    case MLXN_GGUF_I8:
        *out = extend(p[0], 8);
        return MLXN_OK;
    case MLXN_GGUF_U16:
        *out = p[0] | p[1] << 8;
        return MLXN_OK;
    case MLXN_GGUF_I16:
        *out = extend((uint64_t)(p[0] | p[1] << 8), 16);
        return MLXN_OK;
    case MLXN_GGUF_U32:
        *out = mlxn_load_u32(p);
        return MLXN_OK;
    case MLXN_GGUF_I32:
        *out = extend(mlxn_load_u32(p), 32);
        return MLXN_OK;
    case MLXN_GGUF_I64:
        *out = extend(mlxn_load_u64(p), 64);
        return MLXN_OK;
    case MLXN_GGUF_U64:
        if (mlxn_load_u64(p) > INT64_MAX)
            return mlxn_fail(MLXN_ERR_BOUNDS, "%s: key '%s' is %llu, which does not fit %s",
                             gguf->path, key, (unsigned long long)mlxn_load_u64(p), wanted);
        *out = (int64_t)mlxn_load_u64(p);
        return MLXN_OK;
    case MLXN_GGUF_F32:
    case MLXN_GGUF_F64:
    case MLXN_GGUF_STRING:
    case MLXN_GGUF_ARRAY:
        break;
    }
    return wrong_type(gguf, key, entry, "an integer");
}

mlxn_status mlxn_gguf_get_u32(const mlxn_gguf *gguf, const char *key, uint32_t *out)
{
    int64_t value = 0;
    MLXN_TRY(get_integer(gguf, key, "u32", out, &value));
    if (value < 0 || value > UINT32_MAX)
        return no_fit(gguf, key, value, "u32");
    *out = (uint32_t)value;
    return MLXN_OK;
}

mlxn_status mlxn_gguf_get_i64(const mlxn_gguf *gguf, const char *key, int64_t *out)
{
    int64_t value = 0;
    MLXN_TRY(get_integer(gguf, key, "i64", out, &value));
    *out = value;
    return MLXN_OK;
}

mlxn_status mlxn_gguf_get_bool(const mlxn_gguf *gguf, const char *key, int *out)
{
    int64_t value = 0;
    MLXN_TRY(get_integer(gguf, key, "bool", out, &value));
    if (value < 0 || value > 1)
        return no_fit(gguf, key, value, "bool");
    *out = (int)value;
    return MLXN_OK;
}

mlxn_status mlxn_gguf_get_f64(const mlxn_gguf *gguf, const char *key, double *out)
{
    const mlxn_gguf_entry *entry = NULL;
    MLXN_TRY(find(gguf, key, out, &entry));
    if (entry->type == MLXN_GGUF_F64) {
        uint64_t bits = mlxn_load_u64(entry->value);
        memcpy(out, &bits, sizeof bits);
        return MLXN_OK;
    }
    if (entry->type == MLXN_GGUF_F32) {
        uint32_t bits = mlxn_load_u32(entry->value);
        float value;
        memcpy(&value, &bits, sizeof bits);
        *out = (double)value;
        return MLXN_OK;
    }
    return wrong_type(gguf, key, entry, "a float");
}

/* The string at p, and where the next one would be. */
static const unsigned char *string_at(const unsigned char *p, mlxn_gguf_string *out)
{
    out->bytes = (size_t)mlxn_load_u64(p);
    out->data = (const char *)p + 8;
    return p + 8 + out->bytes;
}

mlxn_status mlxn_gguf_get_string(const mlxn_gguf *gguf, const char *key, mlxn_gguf_string *out)
{
    const mlxn_gguf_entry *entry = NULL;
    MLXN_TRY(find(gguf, key, out, &entry));
    if (entry->type != MLXN_GGUF_STRING)
        return wrong_type(gguf, key, entry, "a string");
    string_at(entry->value, out);
    return MLXN_OK;
}

mlxn_status mlxn_gguf_get_array(const mlxn_gguf *gguf, const char *key, mlxn_gguf_type type,
                                const void **out, uint64_t *count)
{
    const mlxn_gguf_entry *entry = NULL;
    MLXN_TRY(find(gguf, key, out, &entry));
    if (!count || !mlxn_gguf_type_bytes(type))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "gguf get array: count is NULL or type %d no scalar",
                         (int)type);
    if (entry->type != MLXN_GGUF_ARRAY || entry->array_type != type) {
        char wanted[32] = "an array of ";
        strcat(wanted, mlxn_gguf_type_name(type));
        return wrong_type(gguf, key, entry, wanted);
    }
    *out = entry->value;
    *count = entry->count;
    return MLXN_OK;
}

mlxn_status mlxn_gguf_get_strings(const mlxn_gguf *gguf, const char *key, mlxn_gguf_string *out,
                                  uint64_t capacity, uint64_t *count)
{
    const mlxn_gguf_entry *entry = NULL;
    MLXN_TRY(find(gguf, key, count, &entry));
    if (!out && capacity)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "gguf get strings: out is NULL");
    if (entry->type != MLXN_GGUF_ARRAY || entry->array_type != MLXN_GGUF_STRING)
        return wrong_type(gguf, key, entry, "an array of strings");
    if (capacity && capacity < entry->count)
        return mlxn_fail(MLXN_ERR_BOUNDS, "%s: key '%s' has %llu strings, room is for %llu",
                         gguf->path, key, (unsigned long long)entry->count,
                         (unsigned long long)capacity);
    const unsigned char *p = entry->value;
    for (uint64_t i = 0; capacity && i < entry->count; i++)
        p = string_at(p, &out[i]);
    *count = entry->count;
    return MLXN_OK;
}

int64_t mlxn_gguf_tensor_count(const mlxn_gguf *gguf)
{
    return gguf ? gguf->tensor_count : 0;
}

mlxn_status mlxn_gguf_get_tensor(const mlxn_gguf *gguf, int64_t index, mlxn_gguf_tensor *out)
{
    if (!gguf)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "gguf_get_tensor: gguf is NULL");
    MLXN_TRY(mlxn_info_check("gguf_get_tensor", out, sizeof *out));
    if (index < 0 || index >= gguf->tensor_count)
        return mlxn_fail(MLXN_ERR_BOUNDS, "%s: tensor %lld of %lld", gguf->path, (long long)index,
                         (long long)gguf->tensor_count);
    *out = gguf->tensors[index];
    out->size = sizeof *out;
    return MLXN_OK;
}

int64_t mlxn_gguf_find_tensor(const mlxn_gguf *gguf, const char *name)
{
    return gguf && name ? mlxn_string_index_find(&gguf->tensor_index, name, strlen(name)) : -1;
}
