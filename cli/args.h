/* args.h - option tables.  One table a command drives parsing, --help and shell completion.
 *
 * An option writes into a field of the command's struct of values, found by its offset.  An option
 * has a letter (-m), a long name (--model, also --model=VALUE), or both; its value is the next
 * argument whatever it looks like, so that `-n -1` works.  Letters are not joined.  "--" ends the
 * options. */
#ifndef MLXN_CLI_ARGS_H
#define MLXN_CLI_ARGS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum option_kind {
    OPTION_FLAG,   /* int: set to 1 */
    OPTION_TEXT,   /* const char * */
    OPTION_INT,    /* int64_t, min to max */
    OPTION_INTS,   /* int_list: numbers joined by commas, each min to max */
    OPTION_REAL,   /* double, min to max */
    OPTION_CHOICE, /* int: the index of the word in `value`, "exact|fast" */
    OPTION_DEVICE, /* device_name: "cpu", "cuda:1" */
} option_kind;

#define INT_LIST_MAX 16
typedef struct int_list {
    int64_t value[INT_LIST_MAX];
    int count;
} int_list;

typedef struct device_name {
    char backend[32]; /* "": not given */
    int index;
} device_name;

typedef struct option {
    char letter;      /* 0: none */
    const char *name; /* without the dashes; NULL: none */
    option_kind kind;
    const char *value; /* what --help calls the value; the words of a choice */
    size_t offset;
    double min, max;
    const char *help;
} option;

typedef struct command {
    const char *name; /* "run"; two words for a part of another command, "bench ops" */
    const char *summary;
    const char *operands; /* for --help: "", "[FILE]" */
    const char *words;    /* what completion offers as operand; "" none, NULL files */
    int min_operands, max_operands;
    const option *options;
    size_t n_options;
    int (*main)(const struct command *self, int argc, char **argv);
} command;

#define OPTION_COUNT(table) (sizeof(table) / sizeof *(table))

/* What args_parse answers if the command shall go on; other answers are the exit code. */
#define ARGS_GO_ON (-1)
#define EXIT_USAGE 2

/* Reads argv[1] .. argv[argc - 1] into `values`; operands go to `operands` (room for the command's
 * max_operands).  -h and --help print the help on stdout and answer 0; anything wrong is named on
 * stderr, with the usage line, and answers EXIT_USAGE. */
int args_parse(const command *self, int argc, char **argv, void *values, const char **operands,
               int *n_operands);
/* "mlxn run: TEXT" and the usage line on stderr; answers EXIT_USAGE. */
int args_usage(const command *self, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
