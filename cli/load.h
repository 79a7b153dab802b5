/* load.h - the options that every command on a model has, and what they load. */
#ifndef MLXN_CLI_LOAD_H
#define MLXN_CLI_LOAD_H

#include <mlxn/mlxn.h>
#include "args.h"

/* The first member of the values of every command that uses the tables' rows below. */
typedef struct common_values {
    const char *model;
    device_name device;
    int64_t threads;
    int matmul, output; /* indices of the words in the rows below */
    int verbose;
    int screen;
} common_values;

#define COMMON_MODEL                                                                            \
    {                                                                                           \
        'm', "model", OPTION_TEXT, "FILE|NAME", offsetof(common_values, model), 0, 0,           \
            "The model: a GGUF file, or a name that `mlxn pull` knows. Default: " DEFAULT_MODEL \
            "."                                                                                 \
    }
#define COMMON_THREADS                                                                  \
    {                                                                                   \
        't', "threads", OPTION_INT, "N", offsetof(common_values, threads), 0,           \
            MLXN_CPU_THREADS_MAX,                                                       \
            "CPU threads. Default 0: as many as the CPUs that this process may run on." \
    }
#define COMMON_DEVICE                                                                      \
    {                                                                                      \
        0, "device", OPTION_DEVICE, "NAME[:INDEX]", offsetof(common_values, device), 0, 0, \
            "The device, as `mlxn info` lists them. Default: the best there is."           \
    }
#define COMMON_MATMUL                                                                            \
    {                                                                                            \
        0, "matmul", OPTION_CHOICE, "exact|fast", offsetof(common_values, matmul), 0, 0,         \
            "exact: activations and cache in f32. fast: activations rounded to int8 in blocks, " \
            "cache in f16. Default: fast."                                                       \
    }
#define COMMON_OUTPUT                                                                    \
    {                                                                                    \
        0, "output", OPTION_CHOICE, "text|jsonl", offsetof(common_values, output), 0, 0, \
            "What stdout gets: text, or one JSON object a line. Default: text."          \
    }
#define COMMON_SCREEN                                                                            \
    {                                                                                            \
        0, "screen", OPTION_FLAG, NULL, offsetof(common_values, screen), 0, 0,                   \
            "Compute only the largest logits, exactly, from a coarse copy of the output matrix " \
            "that rules out the other rows; the copy is made once and kept in the cache."        \
    }
#define COMMON_VERBOSE                                                             \
    {                                                                              \
        'v', "verbose", OPTION_FLAG, NULL, offsetof(common_values, verbose), 0, 0, \
            "Say more on stderr."                                                  \
    }

enum { MATMUL_EXACT_WORD, MATMUL_FAST_WORD };
enum { OUTPUT_TEXT_WORD, OUTPUT_JSONL_WORD };
#define COMMON_DEFAULTS            \
    {                              \
        .matmul = MATMUL_FAST_WORD \
    }

typedef struct loaded {
    char *path;
    mlxn_gguf *gguf;
    mlxn_device *device;
    mlxn_tokenizer *tokenizer;
    mlxn_model *model;
    mlxn_model_info info;
    mlxn_device_info device_info;
} loaded;

enum { LOAD_TOKENIZER = 1, LOAD_MODEL = 2 };

/* Loads the file's metadata, and what `parts` names; load_release also after a failure. */
mlxn_status load_open(const common_values *common, int parts, loaded *out);
void load_release(loaded *l);

mlxn_status load_device(const device_name *name, int64_t threads, mlxn_device **out);
mlxn_matmul_mode load_matmul(const common_values *common);

/* Text to ids, to be freed; at least room for one. */
mlxn_status load_encode(const mlxn_tokenizer *tokenizer, const char *text, size_t bytes,
                        uint32_t flags, int32_t **ids, size_t *count);

#endif
