/* gguf.c - opens a GGUF file: maps it and checks all of its header.
 *
 * The format (version 3, little-endian): magic "GGUF", u32 version, u64 tensor count, u64 key
 * count; the keys: string name, u32 type, value; the tensors: string name, u32 rank, u64 dims (the
 * fastest first), u32 type, u64 offset; padding to `general.alignment` (32 if absent); the tensors'
 * data, at their offsets from there.  A string is a u64 length and that many bytes, an array a u32
 * type, a u64 count and the elements.  Source: docs/gguf.md of the ggml project.
 *
 * The file is read once from front to back by a cursor that never passes the end.  No count is
 * believed: a table grows as its entries are read and found sound. */
#include "gguf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_BYTES_MIN = 8 + 1 + 4 + 1,            /* name, type, value */
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* name, rank, dim, type, offset */
    RANK_MAX = 4,
    DEFAULT_ALIGNMENT = 32,
};

typedef struct cursor {
    mlxn_gguf *gguf;
    size_t at;
    const char *part; /* "key" or "tensor", NULL before the first */
    int64_t index;
    mlxn_gguf_string name; /* of the part; no data before it is known */
} cursor;

/* ERR_FORMAT with the file, the part at hand and the text. */
static mlxn_status MLXN_PRINTF(2, 3) bad(const cursor *c, const char *format, ...)
{
    char text[256], part[96] = "header";
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (c->part && c->name.data)
        snprintf(part, sizeof part, "%s '%s'", c->part, mlxn_gguf_printable(c->name).text);
    else if (c->part)
        snprintf(part, sizeof part, "%s number %lld", c->part, (long long)c->index);
    return mlxn_fail(MLXN_ERR_FORMAT, "%s: %s: %s", c->gguf->path, part, text);
}

static void begin_part(cursor *c, const char *part, int64_t index)
{
    c->part = part;
    c->index = index;
    c->name.data = NULL;
}

static size_t bytes_left(const cursor *c)
{
    return c->gguf->bytes - c->at;
}

static mlxn_status take(cursor *c, uint64_t bytes, const unsigned char **out)
{
    if (bytes > bytes_left(c))
        return bad(c, "needs %llu bytes at offset %zu, the file has %zu", (unsigned long long)bytes,
                   c->at, c->gguf->bytes);
    *out = c->gguf->data + c->at;
    c->at += (size_t)bytes;
    return MLXN_OK;
}

static mlxn_status take_u32(cursor *c, uint32_t *out)
{
    const unsigned char *p = NULL;
    MLXN_TRY(take(c, 4, &p));
    *out = mlxn_load_u32(p);
    return MLXN_OK;
}

static mlxn_status take_u64(cursor *c, uint64_t *out)
{
    const unsigned char *p = NULL;
    MLXN_TRY(take(c, 8, &p));
    *out = mlxn_load_u64(p);
    return MLXN_OK;
}

static mlxn_status take_string(cursor *c, mlxn_gguf_string *out)
{
    const unsigned char *p = NULL;
    uint64_t bytes = 0;
    MLXN_TRY(take_u64(c, &bytes));
    MLXN_TRY(take(c, bytes, &p));
    out->data = (const char *)p;
    out->bytes = (size_t)bytes;
    return MLXN_OK;
}

/* The table, with room for one more element of `size` bytes than the `count` it holds; NULL where
 * there is no memory. */
static void *grow(void *table, int64_t count, size_t size)
{
    if (count & (count - 1) || (count && count < 16))
        return table; /* full only at the powers of two, the smallest being 16 */
    size_t capacity = count ? 2 * (size_t)count : 16;
    void *more = capacity > SIZE_MAX / size ? NULL : realloc(table, capacity * size);
    if (!more)
        mlxn_fail(MLXN_ERR_MEMORY, "table of %zu GGUF entries", capacity);
    return more;
}

static mlxn_status read_header(cursor *c, uint64_t *tensors, uint64_t *keys)
{
    const unsigned char *magic = NULL;
    uint32_t version = 0;
    MLXN_TRY(take(c, 4, &magic));
    if (memcmp(magic, "GGUF", 4))
        return bad(c, "starts with bytes %02x %02x %02x %02x, not with GGUF", magic[0], magic[1],
                   magic[2], magic[3]);
    MLXN_TRY(take_u32(c, &version));
    if (version && !(version & 0xffffff))
        return bad(c, "a big-endian file (version field %08x); only little-endian ones are read",
                   version);
    if (version != 3)
        return bad(c, "GGUF version %u; only version 3 is read", version);
    MLXN_TRY(take_u64(c, tensors));
    MLXN_TRY(take_u64(c, keys));
    if (*keys > bytes_left(c) / KEY_BYTES_MIN)
        return bad(c, "counts %llu keys, too many for a file of %zu bytes",
                   (unsigned long long)*keys, c->gguf->bytes);
    if (*tensors > bytes_left(c) / TENSOR_BYTES_MIN)
        return bad(c, "counts %llu tensors, too many for a file of %zu bytes",
                   (unsigned long long)*tensors, c->gguf->bytes);
    return MLXN_OK;
}

static mlxn_status check_bools(const cursor *c, const unsigned char *p, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (p[i] > 1)
            return bad(c, "bool %llu is %u, neither 0 nor 1", (unsigned long long)i, p[i]);
    return MLXN_OK;
}

/* `count` values of a type other than ARRAY, in a row. */
static mlxn_status read_values(cursor *c, mlxn_gguf_type type, uint64_t count)
{
    const unsigned char *p = NULL;
    mlxn_gguf_string text;
    size_t size = mlxn_gguf_type_bytes(type);
    if (type != MLXN_GGUF_STRING && size == 0)
        return bad(c, "value type %u is unknown", (unsigned)type);
    if (count > bytes_left(c) / (size ? size : 8))
        return bad(c, "%llu values of type %s at offset %zu pass the file's end at %zu",
                   (unsigned long long)count, mlxn_gguf_type_name(type), c->at, c->gguf->bytes);
    if (type == MLXN_GGUF_STRING) {
        for (uint64_t i = 0; i < count; i++)
            MLXN_TRY(take_string(c, &text));
        return MLXN_OK;
    }
    MLXN_TRY(take(c, count * size, &p));
    return type == MLXN_GGUF_BOOL ? check_bools(c, p, count) : MLXN_OK;
}

static mlxn_status read_key(cursor *c)
{
    mlxn_gguf *g = c->gguf;
    mlxn_gguf_entry entry = {.array_type = (mlxn_gguf_type)-1};
    mlxn_gguf_string name = {NULL, 0};
    uint32_t type;
    begin_part(c, "key", g->key_count);
    MLXN_TRY(take_string(c, &name));
    if (name.bytes == 0)
        return bad(c, "has an empty name");
    c->name = name;
    MLXN_TRY(take_u32(c, &type));
    entry.type = (mlxn_gguf_type)type;
    if (type == MLXN_GGUF_ARRAY) {
        MLXN_TRY(take_u32(c, &type));
        MLXN_TRY(take_u64(c, &entry.count));
        if (type == MLXN_GGUF_ARRAY)
            return bad(c, "is an array of arrays, which are not read");
        entry.array_type = (mlxn_gguf_type)type;
    }
    entry.value = g->data + c->at;
    MLXN_TRY(read_values(c, (mlxn_gguf_type)type, entry.type == MLXN_GGUF_ARRAY ? entry.count : 1));
    mlxn_gguf_string *keys = grow(g->keys, g->key_count, sizeof *keys);
    g->keys = keys ? keys : g->keys;
    mlxn_gguf_entry *entries = grow(g->entries, g->key_count, sizeof *entries);
    g->entries = entries ? entries : g->entries;
    if (!keys || !entries)
        return MLXN_ERR_MEMORY;
    keys[g->key_count] = name;
    entries[g->key_count++] = entry;
    return MLXN_OK;
}

/* Reads the dims into the shape and finds the size in bytes (0 if the type is not known). */
static mlxn_status read_shape(cursor *c, mlxn_gguf_tensor *tensor)
{
    uint64_t dims[RANK_MAX], elements = 1;
    uint32_t rank;
    MLXN_TRY(take_u32(c, &rank));
    if (rank < 1 || rank > RANK_MAX)
        return bad(c, "rank is %u, must be 1 to %d", rank, (int)RANK_MAX);
    tensor->rank = (int)rank;
    for (uint32_t i = 0; i < rank; i++) {
        MLXN_TRY(take_u64(c, &dims[i]));
        if (dims[i] == 0 || dims[i] > INT64_MAX / elements)
            return bad(c, "dim %u is %llu (%llu elements before it)", i,
                       (unsigned long long)dims[i], (unsigned long long)elements);
        elements *= dims[i];
        tensor->shape[rank - 1 - i] = (int64_t)dims[i];
    }
    MLXN_TRY(take_u32(c, &tensor->type));
    tensor->dtype = mlxn_dtype_from_gguf(tensor->type);
    if (tensor->dtype == MLXN_DTYPE_NONE)
        return MLXN_OK;
    uint64_t block = mlxn_dtype_block_elements(tensor->dtype);
    uint64_t block_bytes = mlxn_dtype_block_bytes(tensor->dtype);
    if (dims[0] % block)
        return bad(c, "a row of %llu elements is no whole number of %s blocks of %llu",
                   (unsigned long long)dims[0], mlxn_dtype_name(tensor->dtype),
                   (unsigned long long)block);
    if (elements / block > INT64_MAX / block_bytes)
        return bad(c, "%llu elements of %s overflow 64 bits", (unsigned long long)elements,
                   mlxn_dtype_name(tensor->dtype));
    tensor->bytes = elements / block * block_bytes;
    return MLXN_OK;
}

static mlxn_status read_tensor(cursor *c)
{
    mlxn_gguf *g = c->gguf;
    mlxn_gguf_tensor tensor = {.size = sizeof tensor};
    begin_part(c, "tensor", g->tensor_count);
    MLXN_TRY(take_string(c, &tensor.name));
    if (tensor.name.bytes == 0)
        return bad(c, "has an empty name");
    c->name = tensor.name;
    MLXN_TRY(read_shape(c, &tensor));
    MLXN_TRY(take_u64(c, &tensor.offset));
    mlxn_gguf_tensor *tensors = grow(g->tensors, g->tensor_count, sizeof *tensors);
    g->tensors = tensors ? tensors : g->tensors;
    mlxn_gguf_string *names = grow(g->tensor_names, g->tensor_count, sizeof *names);
    g->tensor_names = names ? names : g->tensor_names;
    if (!tensors || !names)
        return MLXN_ERR_MEMORY;
    names[g->tensor_count] = tensor.name;
    tensors[g->tensor_count++] = tensor;
    return MLXN_OK;
}

static mlxn_status index_names(cursor *c, const char *part, const mlxn_gguf_string *names,
                               int64_t count, mlxn_string_index *index)
{
    MLXN_TRY(mlxn_string_index_create(index, names, (uint64_t)count));
    for (int64_t i = 0; i < count; i++) {
        uint32_t holder;
        begin_part(c, part, i);
        c->name = names[i];
        if (mlxn_string_index_insert(index, (uint32_t)i, &holder) != MLXN_OK)
            return bad(c, "%s", mlxn_last_error());
        if (holder != i)
            return bad(c, "is there twice, as number %lu and %lld", (unsigned long)holder,
                       (long long)i);
    }
    return MLXN_OK;
}

/* The data's start, from the header's end and the alignment. */
static mlxn_status place_data(cursor *c)
{
    mlxn_gguf *g = c->gguf;
    int64_t key = mlxn_gguf_find_key(g, "general.alignment");
    g->alignment = DEFAULT_ALIGNMENT;
    if (key >= 0) {
        begin_part(c, "key", key);
        c->name = g->keys[key];
        if (g->entries[key].type != MLXN_GGUF_U32)
            return bad(c, "is %s, must be u32", mlxn_gguf_type_name(g->entries[key].type));
        g->alignment = mlxn_load_u32(g->entries[key].value);
        if (g->alignment < 8 || g->alignment & (g->alignment - 1))
            return bad(c, "is %llu, must be a power of two, 8 or more",
                       (unsigned long long)g->alignment);
    }
    begin_part(c, NULL, 0);
    g->data_offset = (c->at + g->alignment - 1) & ~(g->alignment - 1);
    if (g->data_offset > g->bytes) {
        if (g->tensor_count)
            return bad(c, "tensor data start at %llu, the file ends at %zu",
                       (unsigned long long)g->data_offset, g->bytes);
        g->data_offset = g->bytes;
    }
    return MLXN_OK;
}

typedef struct extent {
    uint64_t begin, end;
    int64_t tensor;
} extent;

static int compare_extents(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin)
                                : (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

/* Makes offsets absolute; each tensor must lie aligned and inside the file.  One of unknown type
 * counts as a byte. */
static mlxn_status place_tensors(cursor *c, extent *extents)
{
    mlxn_gguf *g = c->gguf;
    uint64_t room = g->bytes - g->data_offset;
    for (int64_t i = 0; i < g->tensor_count; i++) {
        mlxn_gguf_tensor *t = &g->tensors[i];
        uint64_t bytes = t->dtype == MLXN_DTYPE_NONE ? 1 : t->bytes;
        begin_part(c, "tensor", i);
        c->name = t->name;
        if (t->offset % g->alignment)
            return bad(c, "offset %llu is not a multiple of the alignment %llu",
                       (unsigned long long)t->offset, (unsigned long long)g->alignment);
        if (t->offset > room || bytes > room - t->offset)
            return bad(c, "%llu bytes at offset %llu pass the end of the %llu bytes of data",
                       (unsigned long long)bytes, (unsigned long long)t->offset,
                       (unsigned long long)room);
        t->offset += g->data_offset;
        extents[i] = (extent){t->offset, t->offset + bytes, i};
    }
    return MLXN_OK;
}

static mlxn_status check_tensors(cursor *c)
{
    mlxn_gguf *g = c->gguf;
    if (!g->tensor_count)
        return MLXN_OK;
    extent *extents = calloc((size_t)g->tensor_count, sizeof *extents);
    if (!extents)
        return mlxn_fail(MLXN_ERR_MEMORY, "%s: %lld extents", g->path, (long long)g->tensor_count);
    mlxn_status status = place_tensors(c, extents);
    if (status == MLXN_OK)
        qsort(extents, (size_t)g->tensor_count, sizeof *extents, compare_extents);
    for (int64_t i = 1; status == MLXN_OK && i < g->tensor_count; i++) {
        if (extents[i].begin >= extents[i - 1].end)
            continue;
        c->name = g->tensor_names[extents[i].tensor];
        status = bad(c, "starts at %llu, inside '%s', which ends at %llu",
                     (unsigned long long)extents[i].begin,
                     mlxn_gguf_printable(g->tensor_names[extents[i - 1].tensor]).text,
                     (unsigned long long)extents[i - 1].end);
    }
    free(extents);
    return status;
}

static mlxn_status read_all(mlxn_gguf *g)
{
    cursor c = {.gguf = g};
    uint64_t tensors = 0, keys = 0;
    MLXN_TRY(read_header(&c, &tensors, &keys));
    while ((uint64_t)g->key_count < keys)
        MLXN_TRY(read_key(&c));
    MLXN_TRY(index_names(&c, "key", g->keys, g->key_count, &g->key_index));
    while ((uint64_t)g->tensor_count < tensors)
        MLXN_TRY(read_tensor(&c));
    MLXN_TRY(index_names(&c, "tensor", g->tensor_names, g->tensor_count, &g->tensor_index));
    MLXN_TRY(place_data(&c));
    return check_tensors(&c);
}

static mlxn_status create(const char *path, mlxn_gguf **out)
{
    size_t bytes = strlen(path) + 1;
    mlxn_gguf *g = calloc(1, sizeof *g);
    char *copy = malloc(bytes);
    if (!g || !copy) {
        free(g);
        free(copy);
        return mlxn_fail(MLXN_ERR_MEMORY, "%s: GGUF object", path);
    }
    memcpy(copy, path, bytes);
    g->path = copy;
    atomic_init(&g->references, 1);
    *out = g;
    return MLXN_OK;
}

static mlxn_status io_failure(const char *path, const char *what)
{
    char text[128] = "";
    int number = errno;
    if (strerror_r(number, text, sizeof text))
        snprintf(text, sizeof text, "error %d", number);
    return mlxn_fail(MLXN_ERR_IO, "%s: cannot %s: %s", path, what, text);
}

static mlxn_status map_file(mlxn_gguf *g, int file)
{
    struct stat info;
    if (fstat(file, &info))
        return io_failure(g->path, "stat");
    if (!S_ISREG(info.st_mode))
        return mlxn_fail(MLXN_ERR_IO, "%s: not a regular file", g->path);
    if ((uintmax_t)info.st_size > SIZE_MAX)
        return mlxn_fail(MLXN_ERR_IO, "%s: too large for this machine", g->path);
    if (info.st_size == 0)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: the file is empty", g->path);
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED)
        return io_failure(g->path, "map");
    g->data = data;
    g->bytes = (size_t)info.st_size;
    g->mapped = 1;
    return MLXN_OK;
}

mlxn_status mlxn_gguf_open(const char *path, mlxn_gguf **out)
{
    mlxn_gguf *g;
    if (!path || !out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "gguf open: path or out is NULL");
    MLXN_TRY(create(path, &g));
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO has no writer yet */
    mlxn_status status = file < 0 ? io_failure(path, "open") : map_file(g, file);
    if (file >= 0)
        close(file);
    if (status == MLXN_OK)
        status = read_all(g);
    if (status == MLXN_OK)
        *out = g;
    else
        mlxn_gguf_release(g);
    return status;
}

mlxn_status mlxn_gguf_open_memory(const void *data, size_t bytes, const char *name, mlxn_gguf **out)
{
    mlxn_gguf *g;
    if (!out || (!data && bytes))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "gguf open: data or out is NULL");
    if (!bytes)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: the file is empty", name ? name : "memory");
    MLXN_TRY(create(name ? name : "memory", &g));
    g->data = data;
    g->bytes = bytes;
    mlxn_status status = read_all(g);
    if (status == MLXN_OK)
        *out = g;
    else
        mlxn_gguf_release(g);
    return status;
}

mlxn_gguf *mlxn_gguf_retain(mlxn_gguf *gguf)
{
    if (gguf)
        atomic_fetch_add_explicit(&gguf->references, 1, memory_order_relaxed);
    return gguf;
}

void mlxn_gguf_release(mlxn_gguf *gguf)
{
    if (!gguf || atomic_fetch_sub_explicit(&gguf->references, 1, memory_order_acq_rel) != 1)
        return;
    if (gguf->mapped)
        munmap((void *)(uintptr_t)gguf->data, gguf->bytes);
    mlxn_string_index_destroy(&gguf->key_index);
    mlxn_string_index_destroy(&gguf->tensor_index);
    free(gguf->keys);
    free(gguf->entries);
    free(gguf->tensor_names);
    free(gguf->tensors);
    free(gguf->path);
    free(gguf);
}
