/* archive_test.c - compiled pipelines on disk: found again by the next device, distrusted when a
 * file is not what was kept, and never the reason of a failure. */
#include "rig_metal.h"
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

extern const char mlxn_kernel_text_user[];
enum { N = 64 };

static char folder[64];

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/mlxn-archive-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    setenv("MLXN_KERNEL_CACHE", folder, 1);
}

/* The files of the folder whose name ends so, the last one's path in `path`; removes them where
 * `path` is NULL. */
static int files(const char *ending, char *path, size_t size)
{
    int n = 0;
    char name[400];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        const size_t length = strlen(e->d_name), end = strlen(ending);
        if (e->d_name[0] == '.' || length < end || strcmp(e->d_name + length - end, ending))
            continue;
        n++;
        snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
        if (path)
            snprintf(path, size, "%s", name);
        else
            remove(name);
    }
    if (d)
        closedir(d);
    return n;
}

static void remove_folder(void)
{
    files("", NULL, 0);
    CHECK(rmdir(folder) == 0);
    setenv("MLXN_KERNEL_CACHE", "off", 1);
}

/* A device of its own runs user_add; whether y = x + 1, and what it cost to get the pipeline. */
static int use(long *compiled, long *archived)
{
    static const float value = 1;
    float x[N] = {0}, y[N] = {0};
    const metalsim_counts before = metalsim_count;
    const mlxn_kernel_desc user = {
        .size = sizeof user, .name = "user_add", .metal_text = mlxn_kernel_text_user};
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    CHECK_STATUS(mlxn_device_open("metal", 0, &device), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    CHECK_STATUS(mlxn_kernel_register(device, &user), MLXN_OK);
    const mlxn_operand operands[] = {{rig_vector(device, MLXN_F32, N, x), MLXN_READ},
                                     {rig_vector(device, MLXN_F32, N, NULL), MLXN_WRITE}};
    CHECK_STATUS(mlxn_dispatch(encoder, MLXN_DESC(mlxn_dispatch_args, .kernel = "user_add",
                                                  .operands = operands, .n_operands = 2,
                                                  .args = &value, .args_bytes = sizeof value,
                                                  .groups = {1, 1, 1}, .threads = N)),
                 MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    rig_read(operands[1].buffer, y);
    for (int i = 0; i < 2; i++)
        mlxn_buffer_release(operands[i].buffer);
    mlxn_encoder_release(encoder);
    mlxn_device_release(device);
    *compiled = metalsim_count.compiled - before.compiled;
    *archived = metalsim_count.archived - before.archived;
    for (int i = 0; i < N; i++)
        if (y[i] != 1)
            return 0;
    return 1;
}

TEST(metal_archive_is_found_again)
{
    long compiled, archived;
    const long live = metalsim_live(NULL, 0);
    make_folder();
    CHECK(use(&compiled, &archived) && compiled == 1);
    CHECK(files(".file", NULL, 0) == 1); /* an entry without its file: nothing is there */
    CHECK(use(&compiled, &archived) && compiled == 1);
    CHECK(use(&compiled, &archived) && compiled == 0 && archived == 1);
    CHECK(files("", NULL, 0) == 2); /* the archive and its entry, no temporary file */
    CHECK(metalsim_live(NULL, 0) == live);
    remove_folder();
}

TEST(metal_archive_off)
{
    long compiled, archived;
    make_folder();
    setenv("MLXN_KERNEL_CACHE", "off", 1);
    CHECK(use(&compiled, &archived) && compiled == 1 && archived == 0);
    setenv("MLXN_KERNEL_CACHE", "/proc/nowhere", 1); /* cannot be written: no failure */
    CHECK(use(&compiled, &archived) && compiled == 1);
    metalsim.macos = 10; /* a system without archives */
    setenv("MLXN_KERNEL_CACHE", folder, 1);
    CHECK(use(&compiled, &archived) && compiled == 1 && archived == 0);
    metalsim.macos = 15;
    CHECK(files("", NULL, 0) == 0);
    remove_folder();
}

/* A damaged archive or entry costs a compilation, which mends it. */
TEST(metal_archive_distrusts_files)
{
    long compiled, archived;
    char path[400];
    struct stat info;
    make_folder();
    CHECK(use(&compiled, &archived));
    static const char *const endings[] = {".file", ".bin"};
    for (int e = 0; e < 2; e++) {
        REQUIRE(files(endings[e], path, sizeof path) == 1 && !stat(path, &info));
        for (long at = 0; at < info.st_size; at += 5) {
            test_damage(path, at, 0x5a, -1);
            CHECK(use(&compiled, &archived) && compiled == 1);
            CHECK(use(&compiled, &archived) && compiled == 0);
        }
        for (long size = 0; size <= info.st_size + 7; size += 7) {
            test_damage(path, -1, 0, size);
            CHECK(use(&compiled, &archived) && compiled == (size != info.st_size));
        }
    }
    remove_folder();
}

/* An entry that vouches for a file which Metal refuses: a new archive takes its place. */
TEST(metal_archive_of_another_format)
{
    long compiled, archived;
    char path[400], again[400];
    struct stat info;
    make_folder();
    metalsim_fail(METALSIM_FAIL_ARCHIVE, 3); /* opened: empty, added to, written; then refused */
    CHECK(use(&compiled, &archived) && compiled == 1);
    REQUIRE(files(".file", path, sizeof path) == 1 && !stat(path, &info));
    CHECK(use(&compiled, &archived) && compiled == 1);
    metalsim_heal();
    CHECK(files(".file", again, sizeof again) == 1 && !strcmp(path, again));
    CHECK(use(&compiled, &archived) && compiled == 0);
    remove_folder();
}

TEST(metal_archive_failures)
{
    long compiled, archived;
    const long live = metalsim_live(NULL, 0);
    make_folder();
    for (int after = 0; after < 4; after++) { /* opening, adding, writing, none of these */
        metalsim_fail(METALSIM_FAIL_ARCHIVE, after);
        CHECK(use(&compiled, &archived) && compiled == 1);
        metalsim_heal();
        CHECK(files("", NULL, 0) == (after == 3 ? 2 : 0));
    }
    CHECK(metalsim_live(NULL, 0) == live);
    remove_folder();
}
