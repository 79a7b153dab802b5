/* load.c - see load.h. */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include "cache.h"
#include "progress.h"
#include "support.h"

mlxn_status load_device(const device_name *name, int64_t threads, mlxn_device **out)
{
    return mlxn_device_open_with(MLXN_DESC(mlxn_device_desc,
                                           .backend = *name->backend ? name->backend : NULL,
                                           .index = name->index, .threads = (uint32_t)threads),
                                 out);
}

mlxn_matmul_mode load_matmul(const common_values *common)
{
    return common->matmul == MATMUL_EXACT_WORD ? MLXN_MATMUL_EXACT : MLXN_MATMUL_FAST;
}

static int model_progress(void *context, uint64_t done, uint64_t total)
{
    progress_update(context, done, total);
    return 0;
}

/* Where the cache keeps the screen of the model, to be freed, and its key. */
static mlxn_status screen_file(const common_values *common, const char *model, char **path,
                               char key[SHA256_HEX])
{
    MLXN_TRY(cache_identify(common->model, model, key));
    MLXN_TRY(cache_path("screens", key, path));
    return cache_make_parents(*path);
}

static mlxn_status load_weights(const common_values *common, loaded *out)
{
    progress bar = {.label = "preparing weights"};
    char *screen = NULL, key[SHA256_HEX] = "";
    mlxn_status status = common->screen ? screen_file(common, out->path, &screen, key) : MLXN_OK;
    if (status == MLXN_OK)
        status =
            mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = out->device, .gguf = out->gguf,
                                        .progress = model_progress, .progress_context = &bar,
                                        .screen_path = screen, .screen_key = key),
                              &out->model);
    progress_clear(&bar);
    free(screen);
    MLXN_TRY(status);
    out->info.size = sizeof out->info;
    return mlxn_model_get_info(out->model, &out->info);
}

mlxn_status load_open(const common_values *common, int parts, loaded *out)
{
    double start = cli_seconds(), opened, tokenizer;
    *out = (loaded){.path = NULL};
    MLXN_TRY(cache_resolve(common->model, &out->path));
    MLXN_TRY(mlxn_gguf_open(out->path, &out->gguf));
    if (parts & LOAD_MODEL) {
        MLXN_TRY(load_device(&common->device, common->threads, &out->device));
        out->device_info.size = sizeof out->device_info;
        MLXN_TRY(mlxn_device_get_info(out->device, &out->device_info));
    }
    opened = cli_seconds();
    if (parts & LOAD_TOKENIZER)
        MLXN_TRY(mlxn_tokenizer_create(out->gguf, &out->tokenizer));
    tokenizer = cli_seconds();
    if (parts & LOAD_MODEL)
        MLXN_TRY(load_weights(common, out));
    if (common->verbose)
        fprintf(stderr, "mlxn: %s: opened in %.3f s, tokenizer %.3f s, weights %.3f s\n", out->path,
                opened - start, tokenizer - opened, cli_seconds() - tokenizer);
    return MLXN_OK;
}

void load_release(loaded *l)
{
    mlxn_model_release(l->model);
    mlxn_tokenizer_release(l->tokenizer);
    mlxn_device_release(l->device);
    mlxn_gguf_release(l->gguf);
    free(l->path);
    *l = (loaded){.path = NULL};
}

mlxn_status load_encode(const mlxn_tokenizer *tokenizer, const char *text, size_t bytes,
                        uint32_t flags, int32_t **ids, size_t *count)
{
    /* No token is shorter than a byte, so this is room for all of them, BOS and a space in front.
     */
    size_t capacity = bytes + 2;
    int32_t *list = malloc(capacity * sizeof *list), *smaller;
    if (!list)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory for %zu token ids", capacity);
    mlxn_status status =
        mlxn_tokenizer_encode(tokenizer, text, bytes, flags, list, capacity, count);
    if (status != MLXN_OK) {
        free(list);
        return status;
    }
    smaller = realloc(list, (*count + 1) * sizeof *list);
    *ids = smaller ? smaller : list;
    return MLXN_OK;
}
