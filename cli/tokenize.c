/* tokenize.c - `mlxn tokenize`: text on stdin to a JSON array of ids on stdout, or back. */
#include <stdlib.h>
#include "cache.h"
#include "commands.h"
#include "json.h"
#include "load.h"
#include "support.h"

typedef struct tokenize_values {
    common_values common;
    int bos, special, decode;
} tokenize_values;

#define AT(field) offsetof(tokenize_values, field)
static const option options[] = {
    COMMON_MODEL,
    {0, "bos", OPTION_FLAG, NULL, AT(bos), 0, 0, "Put the BOS token first."},
    {0, "special", OPTION_FLAG, NULL, AT(special), 0, 0,
     "Parse control tokens written in the text; with --decode, write them."},
    {0, "decode", OPTION_FLAG, NULL, AT(decode), 0, 0,
     "The other way round: a JSON array of ids on stdin to text on stdout."},
    COMMON_VERBOSE,
};

static mlxn_status encode(const mlxn_tokenizer *tokenizer, const tokenize_values *v,
                          const char *text, size_t bytes)
{
    uint32_t flags =
        (v->bos ? (uint32_t)MLXN_TOKENS_BOS : 0) | (v->special ? (uint32_t)MLXN_TOKENS_SPECIAL : 0);
    int32_t *ids;
    size_t count;
    MLXN_TRY(load_encode(tokenizer, text, bytes, flags, &ids, &count));
    fputc('[', stdout);
    for (size_t i = 0; i < count; i++)
        printf("%s%d", i ? "," : "", (int)ids[i]);
    fputs("]\n", stdout);
    free(ids);
    return cli_flush();
}

static mlxn_status decode_ids(const mlxn_tokenizer *tokenizer, uint32_t flags, const int32_t *ids,
                              size_t count)
{
    size_t bytes = 0, capacity;
    /* The first call only asks for the length. */
    mlxn_status status = mlxn_tokenizer_decode(tokenizer, ids, count, flags, NULL, 0, &bytes);
    if (status != MLXN_OK && !bytes)
        return status;
    capacity = bytes;
    char *text = malloc(capacity + 1);
    if (!text)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory for %zu bytes of text", bytes);
    status = mlxn_tokenizer_decode(tokenizer, ids, count, flags, text, capacity, &bytes);
    if (status == MLXN_OK) {
        fwrite(text, 1, bytes, stdout);
        status = cli_flush();
    }
    free(text);
    return status;
}

static mlxn_status decode(const mlxn_tokenizer *tokenizer, const tokenize_values *v,
                          const char *text, size_t bytes)
{
    int32_t *ids;
    size_t count;
    MLXN_TRY(json_read_ids("standard input", text, bytes, &ids, &count));
    mlxn_status status =
        decode_ids(tokenizer, v->special ? (uint32_t)MLXN_TOKENS_SPECIAL : 0, ids, count);
    free(ids);
    return status;
}

static mlxn_status tokenize(const tokenize_values *v)
{
    loaded l;
    char *text = NULL;
    size_t bytes;
    mlxn_status status = load_open(&v->common, LOAD_TOKENIZER, &l);
    if (status == MLXN_OK)
        status = cli_read_file("-", &text, &bytes);
    if (status == MLXN_OK)
        status = (v->decode ? decode : encode)(l.tokenizer, v, text, bytes);
    free(text);
    load_release(&l);
    return status;
}

static int tokenize_main(const command *self, int argc, char **argv)
{
    tokenize_values v = {.common = COMMON_DEFAULTS};
    int code = args_parse(self, argc, argv, &v, NULL, NULL);
    if (code != ARGS_GO_ON)
        return code;
    if (v.decode && v.bos)
        return args_usage(self, "--bos and --decode exclude each other");
    return cli_exit(tokenize(&v));
}

const command command_tokenize = {.name = "tokenize",
                                  .summary = "Turn text into token ids, or back.",
                                  .operands = "",
                                  .words = "",
                                  .options = options,
                                  .n_options = OPTION_COUNT(options),
                                  .main = tokenize_main};
