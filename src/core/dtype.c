/* dtype.c - the table of dtypes, from MLXN_DTYPE_MAP. */
#include <string.h>
#include <mlxn/dtype.h>

typedef struct dtype_info {
    const char *name;
    uint16_t elements, bytes;
    int gguf;
} dtype_info;

static const dtype_info table[] = {
#define DTYPE_ROW(name, value, text, elements, bytes, gguf) [value] = {text, elements, bytes, gguf},
    MLXN_DTYPE_MAP(DTYPE_ROW)
#undef DTYPE_ROW
};

enum { TABLE_SIZE = sizeof table / sizeof *table };

static dtype_info info_of(mlxn_dtype dtype)
{
    static const dtype_info none = {NULL, 0, 0, -1};
    return (unsigned)dtype < TABLE_SIZE ? table[dtype] : none;
}

const char *mlxn_dtype_name(mlxn_dtype dtype)
{
    const char *name = info_of(dtype).name;
    return name ? name : "none";
}

mlxn_dtype mlxn_dtype_from_name(const char *name)
{
    for (int i = 0; name && i < TABLE_SIZE; i++)
        if (table[i].name && !strcmp(table[i].name, name))
            return (mlxn_dtype)i;
    return MLXN_DTYPE_NONE;
}

mlxn_dtype mlxn_dtype_from_gguf(uint32_t type)
{
    for (int i = 0; i < TABLE_SIZE; i++)
        if (table[i].name && table[i].gguf >= 0 && (uint32_t)table[i].gguf == type)
            return (mlxn_dtype)i;
    return MLXN_DTYPE_NONE;
}

size_t mlxn_dtype_block_elements(mlxn_dtype dtype)
{
    return info_of(dtype).elements;
}

size_t mlxn_dtype_block_bytes(mlxn_dtype dtype)
{
    return info_of(dtype).bytes;
}
