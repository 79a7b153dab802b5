/* cache.c - see cache.h. */
#include "backends/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = MLXN_CACHE_PATH, MAX_BYTES = 256 << 20 };

typedef struct file_head {
    char magic[8];
    mlxn_hash key, sum;
    uint64_t bytes;
} file_head;

static const char MAGIC[8] = {'m', 'l', 'x', 'n', 'k', 'c', '0', '1'};

/* ---- hash ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

/* Two chains over words of 8 bytes, the second fed by the first. */
mlxn_hash mlxn_hash_add(mlxn_hash h, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    const uint64_t length = bytes;
    for (; bytes > 0; bytes -= bytes < 8 ? bytes : 8, p += 8) {
        uint64_t word = 0;
        memcpy(&word, p, bytes < 8 ? bytes : 8);
        h.a = mix(h.a ^ word);
        h.b = mix(h.b + word * 0x9e3779b97f4a7c15u) ^ h.a;
    }
    h.a = mix(h.a ^ length);
    h.b = mix(h.b + length) ^ h.a;
    return h;
}

mlxn_hash mlxn_hash_text(mlxn_hash hash, const char *text)
{
    return mlxn_hash_add(hash, text, strlen(text) + 1);
}

/* ---- places ---- */

/* The folder's path; 0 where there is to be none. */
static int folder(char path[PATH_BYTES])
{
    const char *given = getenv("MLXN_KERNEL_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n;
    if (given && *given)
        n = strcmp(given, "off") ? snprintf(path, PATH_BYTES, "%s", given) : 0;
    else if (xdg && xdg[0] == '/')
        n = snprintf(path, PATH_BYTES, "%s/mlxn/kernels", xdg);
    else if (home && *home)
        n = snprintf(path, PATH_BYTES, "%s/.cache/mlxn/kernels", home);
    else
        n = 0;
    return n > 0 && n < PATH_BYTES - 64;
}

int mlxn_kernel_cache_is_on(void)
{
    char path[PATH_BYTES];
    return folder(path);
}

static int file_path(mlxn_hash key, const char *ending, char path[PATH_BYTES])
{
    if (!folder(path))
        return 0;
    size_t at = strlen(path);
    snprintf(path + at, PATH_BYTES - at, "/%016llx%016llx.%s", (unsigned long long)key.a,
             (unsigned long long)key.b, ending);
    return 1;
}

/* Makes every folder of a path that is missing. */
static int make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = 0;
        int failed = mkdir(path, 0777) && errno != EEXIST;
        if (!slash)
            return !failed;
        *slash = '/';
    }
}

/* ---- files ---- */

static int is_valid(const file_head *head, mlxn_hash key)
{
    return !memcmp(head->magic, MAGIC, sizeof MAGIC) && head->key.a == key.a &&
           head->key.b == key.b && head->bytes > 0 && head->bytes <= MAX_BYTES;
}

static int read_all(int file, void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(file, (char *)data + done, bytes - done);
        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

static int write_all(int file, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(file, (const char *)data + done, bytes - done);
        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

int mlxn_kernel_cache_load(mlxn_hash key, mlxn_code *out)
{
    char path[PATH_BYTES], rest;
    file_head head;
    unsigned char *data = NULL;
    *out = (mlxn_code){0};
    if (!file_path(key, "bin", path))
        return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    int ok = read_all(file, &head, sizeof head) && is_valid(&head, key) &&
             (data = malloc((size_t)head.bytes + 1)) != NULL &&
             read_all(file, data, (size_t)head.bytes) && read(file, &rest, 1) == 0;
    close(file);
    if (ok) {
        const mlxn_hash start = MLXN_HASH_START;
        const mlxn_hash sum = mlxn_hash_add(start, data, (size_t)head.bytes);
        ok = sum.a == head.sum.a && sum.b == head.sum.b;
    }
    if (!ok) {
        free(data);
        return 0;
    }
    data[head.bytes] = 0;
    *out = (mlxn_code){data, (size_t)head.bytes};
    return 1;
}

void mlxn_kernel_cache_store(mlxn_hash key, const mlxn_code *code)
{
    char path[PATH_BYTES], temporary[PATH_BYTES + 32], folders[PATH_BYTES];
    const mlxn_hash start = MLXN_HASH_START;
    file_head head = {.key = key, .bytes = code->bytes};
    if (!file_path(key, "bin", path) || !folder(folders) || !make_folders(folders))
        return;
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    head.sum = mlxn_hash_add(start, code->data, code->bytes);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int file = mkstemp(temporary);
    if (file < 0)
        return;
    int ok = write_all(file, &head, sizeof head) && write_all(file, code->data, code->bytes);
    ok &= close(file) == 0;
    if (!ok || rename(temporary, path))
        unlink(temporary);
}

/* ---- files of others ---- */

/* The hash of a file's contents; 0: it cannot be read, or is too large. */
static int hash_file(const char *path, mlxn_hash *out)
{
    const mlxn_hash start = MLXN_HASH_START;
    struct stat info;
    void *data = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    int ok = !fstat(file, &info) && S_ISREG(info.st_mode) && info.st_size > 0 &&
             info.st_size <= MAX_BYTES && (data = malloc((size_t)info.st_size)) != NULL &&
             read_all(file, data, (size_t)info.st_size);
    close(file);
    if (ok)
        *out = mlxn_hash_add(start, data, (size_t)info.st_size);
    free(data);
    return ok;
}

int mlxn_kernel_cache_find(mlxn_hash key, char path[MLXN_CACHE_PATH])
{
    mlxn_code entry;
    mlxn_hash is;
    if (!file_path(key, "file", path) || !mlxn_kernel_cache_load(key, &entry))
        return 0;
    const int same =
        entry.bytes == sizeof is && hash_file(path, &is) && !memcmp(entry.data, &is, sizeof is);
    free(entry.data);
    return same;
}

int mlxn_kernel_cache_begin(mlxn_hash key, char path[MLXN_CACHE_PATH])
{
    char folders[PATH_BYTES];
    if (!file_path(key, "XXXXXX", path) || !folder(folders) || !make_folders(folders))
        return 0;
    const int file = mkstemp(path);
    if (file < 0)
        return 0;
    close(file);
    unlink(path); /* the name is what is wanted */
    return 1;
}

/* Between the two steps the old entry does not fit the new file: then there is none. */
void mlxn_kernel_cache_keep(mlxn_hash key, const char *path)
{
    char place[PATH_BYTES];
    mlxn_hash is;
    if (file_path(key, "file", place) && hash_file(path, &is) && !rename(path, place))
        mlxn_kernel_cache_store(key, &(mlxn_code){&is, sizeof is});
    else
        unlink(path);
}
