/* support.c - see support.h. */
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

int cli_exit(mlxn_status status)
{
    if (status == MLXN_OK || status == MLXN_ERR_CANCELLED)
        return 0;
    const char *detail = mlxn_last_error();
    fprintf(stderr, "mlxn: %s\n", *detail ? detail : mlxn_status_string(status));
    return 1;
}

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Linux says it in /proc, which unlike getrusage does not count what a parent had before exec. */
uint64_t cli_peak_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    unsigned long long kib = 0;
    char line[256];
    struct rusage usage;
    if (file) {
        while (fgets(line, sizeof line, file) && sscanf(line, "VmHWM: %llu kB", &kib) != 1) {
        }
        fclose(file);
        return (uint64_t)kib * 1024;
    }
    if (getrusage(RUSAGE_SELF, &usage))
        return 0;
#if defined(__APPLE__)
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

/* 32 bits, so that the printed number is short enough to type again. */
uint64_t cli_random_seed(void)
{
    uint32_t seed = 0;
    FILE *file = fopen("/dev/urandom", "rb");
    size_t got = file ? fread(&seed, sizeof seed, 1, file) : 0;
    if (file)
        fclose(file);
    if (!got)
        seed = (uint32_t)(cli_seconds() * 1e6) * 2654435761u ^ (uint32_t)getpid();
    return seed;
}

/* Whether nobody reads stdout any more: for a write that failed inside stdio, its errno lost. */
static int reader_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

mlxn_status cli_flush(void)
{
    errno = 0;
    if (!fflush(stdout) && !ferror(stdout))
        return MLXN_OK;
    int error = errno;
    if (error == EPIPE || (!error && reader_gone()))
        return MLXN_ERR_CANCELLED;
    return mlxn_fail(MLXN_ERR_IO, "standard output: %s",
                     error ? strerror(error) : "an earlier write failed");
}

static mlxn_status read_all(FILE *file, const char *name, char **text, size_t *bytes)
{
    size_t capacity = 1 << 16, length = 0;
    char *data = malloc(capacity);
    while (data) {
        length += fread(data + length, 1, capacity - length - 1, file);
        if (ferror(file)) {
            free(data);
            return mlxn_fail(MLXN_ERR_IO, "%s: %s", name, strerror(errno));
        }
        if (feof(file)) {
            data[length] = 0;
            *text = data;
            *bytes = length;
            return MLXN_OK;
        }
        if (length + 1 == capacity) {
            char *larger = capacity > SIZE_MAX / 2 ? NULL : realloc(data, capacity * 2);
            if (!larger)
                free(data);
            data = larger;
            capacity *= 2;
        }
    }
    return mlxn_fail(MLXN_ERR_MEMORY, "%s: no memory for its text", name);
}

mlxn_status cli_read_file(const char *path, char **text, size_t *bytes)
{
    if (!strcmp(path, "-"))
        return read_all(stdin, "standard input", text, bytes);
    FILE *file = fopen(path, "rb");
    if (!file)
        return mlxn_fail(MLXN_ERR_IO, "%s: %s", path, strerror(errno));
    mlxn_status status = read_all(file, path, text, bytes);
    fclose(file);
    return status;
}
