/* screen_file.c - a screen on disk: a header of 4096 bytes, then the groups as they are.
 *
 * The file is a cache: whatever is wrong with it, it is refused, and the screen can be made again.
 * Numbers are little-endian, as everywhere in the library.  The checksum is FNV-1a over 64-bit
 * words of the groups and then of the header (with the checksum 0). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ops/screen/screen.h"

enum { HEADER_BYTES = 4096, PIECE_BYTES = 4 << 20 };

typedef struct screen_header {
    char magic[8];
    char key[72]; /* NUL at the end */
    int64_t rows, cols;
    uint64_t bytes, checksum;
    int32_t wide[SCREEN_WIDE];
    float row_norm, wide_error;
} screen_header;

static const char magic[8] = {'m', 'l', 'x', 'n', 's', 'c', 'r', '1'};

static uint64_t checksum_of(uint64_t sum, const void *data, size_t bytes)
{
    const char *p = data;
    uint64_t word;
    for (size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        memcpy(&word, p + i, sizeof word);
        sum = (sum ^ word) * 0x100000001b3u;
    }
    return sum;
}

static mlxn_status io_error(const char *path)
{
    return mlxn_fail(errno == ENOENT ? MLXN_ERR_NOT_FOUND : MLXN_ERR_IO, "%s: %s", path,
                     strerror(errno ? errno : EIO));
}

static mlxn_status check_key(const char *op, const char *path, const char *key)
{
    if (!path || !key)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is NULL", op, path ? "key" : "path");
    if (strlen(key) > 64)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: key has %zu characters, needs at most 64", op,
                         strlen(key));
    return MLXN_OK;
}

/* The groups to or from a file, piece by piece, and their checksum. */
static mlxn_status move_groups(const mlxn_screen *s, FILE *file, const char *path, int load,
                               uint64_t *sum)
{
    const size_t bytes = mlxn_screen_bytes(s);
    char *piece = malloc(PIECE_BYTES);
    mlxn_status status = piece ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "screen: out of memory");
    *sum = 0xcbf29ce484222325u;
    for (size_t at = 0; at < bytes && status == MLXN_OK; at += PIECE_BYTES) {
        const size_t n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        errno = 0;
        if (load && fread(piece, 1, n, file) != n)
            status = ferror(file) ? io_error(path)
                                  : mlxn_fail(MLXN_ERR_FORMAT, "%s: the screen is cut off", path);
        if (status == MLXN_OK)
            status = load ? mlxn_buffer_write(s->groups, at, piece, n)
                          : mlxn_buffer_read(s->groups, at, piece, n);
        if (status == MLXN_OK && !load && fwrite(piece, 1, n, file) != n)
            status = io_error(path);
        if (status == MLXN_OK)
            *sum = checksum_of(*sum, piece, n);
    }
    free(piece);
    return status;
}

static mlxn_status write_file(const mlxn_screen *s, FILE *file, const char *path, const char *key)
{
    union {
        screen_header h;
        char bytes[HEADER_BYTES];
    } header = {.h = {.rows = s->rows,
                      .cols = s->cols,
                      .bytes = mlxn_screen_bytes(s),
                      .row_norm = s->row_norm,
                      .wide_error = s->wide_error}};
    memcpy(header.h.magic, magic, sizeof magic);
    snprintf(header.h.key, sizeof header.h.key, "%s", key);
    memcpy(header.h.wide, s->wide, sizeof s->wide);
    uint64_t sum;
    if (fseek(file, HEADER_BYTES, SEEK_SET))
        return io_error(path);
    MLXN_TRY(move_groups(s, file, path, 0, &sum));
    header.h.checksum = checksum_of(sum, &header.h, sizeof header.h);
    if (fseek(file, 0, SEEK_SET) || fwrite(header.bytes, 1, HEADER_BYTES, file) != HEADER_BYTES ||
        fflush(file) || fsync(fileno(file)))
        return io_error(path);
    return MLXN_OK;
}

mlxn_status mlxn_screen_save(const mlxn_screen *s, const char *path, const char *key)
{
    if (!s)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "screen_save: screen is NULL");
    MLXN_TRY(check_key("screen_save", path, key));
    const size_t room = strlen(path) + 32;
    char *partial = malloc(room);
    if (!partial)
        return mlxn_fail(MLXN_ERR_MEMORY, "screen_save: out of memory");
    snprintf(partial, room, "%s.%ld", path, (long)getpid());
    FILE *file = fopen(partial, "wb");
    mlxn_status status = file ? write_file(s, file, partial, key) : io_error(partial);
    if (file && fclose(file) && status == MLXN_OK)
        status = io_error(partial);
    if (status == MLXN_OK && rename(partial, path))
        status = io_error(path);
    if (file && status != MLXN_OK)
        unlink(partial);
    free(partial);
    return status;
}

static mlxn_status check_header(const screen_header *h, const mlxn_screen *s, const char *path,
                                const char *key)
{
    if (memcmp(h->magic, magic, sizeof magic))
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: is no screen of this version", path);
    if (memchr(h->key, 0, sizeof h->key) == NULL || strcmp(h->key, key))
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: is the screen of another matrix", path);
    if (h->rows != s->rows || h->cols != s->cols || h->bytes != mlxn_screen_bytes(s))
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: is a screen of [%lld, %lld], needs [%lld, %lld]",
                         path, (long long)h->rows, (long long)h->cols, (long long)s->rows,
                         (long long)s->cols);
    for (int i = 0; i < SCREEN_WIDE; i++)
        if (h->wide[i] < (i ? h->wide[i - 1] + 1 : 0) || h->wide[i] >= s->cols)
            return mlxn_fail(MLXN_ERR_FORMAT, "%s: wide column %d is %d", path, i, h->wide[i]);
    return MLXN_OK;
}

static mlxn_status read_file(mlxn_screen *s, FILE *file, const char *path, const char *key)
{
    union {
        screen_header h;
        char bytes[HEADER_BYTES];
    } header;
    uint64_t sum, wanted;
    if (fread(header.bytes, 1, HEADER_BYTES, file) != HEADER_BYTES)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: the screen is cut off", path);
    MLXN_TRY(check_header(&header.h, s, path, key));
    MLXN_TRY(move_groups(s, file, path, 1, &sum));
    wanted = header.h.checksum;
    header.h.checksum = 0;
    if (checksum_of(sum, &header.h, sizeof header.h) != wanted)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: the screen's checksum is wrong", path);
    memcpy(s->wide, header.h.wide, sizeof s->wide);
    s->row_norm = header.h.row_norm;
    s->wide_error = header.h.wide_error;
    return MLXN_OK;
}

mlxn_status mlxn_screen_load(mlxn_buffer *weight, const char *path, const char *key,
                             mlxn_screen **out)
{
    matmul_weight w;
    mlxn_screen *s = NULL;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "screen_load: out is NULL");
    *out = NULL;
    MLXN_TRY(mlxn_screen_check_weight("screen_load", weight, &w));
    MLXN_TRY(check_key("screen_load", path, key));
    FILE *file = fopen(path, "rb");
    if (!file)
        return io_error(path);
    mlxn_status status = mlxn_screen_alloc(weight, &w, &s);
    if (status == MLXN_OK)
        status = read_file(s, file, path, key);
    fclose(file);
    if (status != MLXN_OK) {
        mlxn_screen_release(s);
        return status;
    }
    *out = s;
    return MLXN_OK;
}
