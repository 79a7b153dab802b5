/* real_model.c - finds and opens the model of real_model.h. */
#include "real_model.h"

#include <unistd.h>
#include "test.h"

static const char file_name[] = "mlxn/models/gemma-3-270m-q4_k_m.gguf";

const char *real_model_path(void)
{
    static char path[1024];
    const char *given = getenv("MLXN_TEST_MODEL"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (given && *given)
        snprintf(path, sizeof path, "%s", given);
    else if (cache && *cache)
        snprintf(path, sizeof path, "%s/%s", cache, file_name);
    else
        snprintf(path, sizeof path, "%s/.cache/%s", home ? home : "", file_name);
    if (access(path, R_OK) == 0)
        return path;
    test_failed(__FILE__, __LINE__,
                "no model at %s: get it with `mlxn pull gemma3-270m`, or name it in "
                "MLXN_TEST_MODEL",
                path);
    return NULL;
}

static mlxn_gguf *opened;

static void close_model(void)
{
    mlxn_gguf_release(opened);
}

mlxn_gguf *real_model(void)
{
    const char *path = opened ? NULL : real_model_path();
    if (path && test_status(mlxn_gguf_open(path, &opened), MLXN_OK, __FILE__, __LINE__, path))
        atexit(close_model);
    return opened;
}
