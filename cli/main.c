/* main.c - the mlxn command: finds the command that the first words name, and runs it.
 *
 * Tokens, scores and figures go to stdout, everything else to stderr.  Exit code 0: done; 1: it
 * failed, and stderr says why; 2: wrong usage.  A reader of stdout that goes away ends any command
 * quietly, so SIGPIPE is ignored and the writes are checked. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <mlxn/mlxn.h>
#include "commands.h"
#include "support.h"

const command *const commands[] = {
    &command_run,
    &command_score,
    &command_tokenize,
    &command_bench,
    &command_bench_ops,
    &command_bench_step,
    &command_bench_head_norm_rope,
    &command_info,
    &command_pull,
    &command_completion,
    NULL,
};

static void print_help(FILE *out)
{
    fprintf(out, "usage: mlxn COMMAND [options]\n"
                 "Language models on libmlxn.\n\n");
    for (const command *const *c = commands; *c; c++)
        fprintf(out, "  %-20s %s\n", (*c)->name, (*c)->summary);
    fprintf(
        out,
        "\n  -h, --help   Print this text; `mlxn COMMAND --help` lists a command's options.\n"
        "  --version    Print the version.\n\n"
        "To start: `mlxn pull gemma3-270m`, then `mlxn run -p \"The capital of France is\"`.\n");
}

/* How many arguments, from argv[1], spell the command's name; 0: they do not. */
static int words_matched(const command *c, int argc, char **argv)
{
    const char *name = c->name;
    for (int i = 1; i < argc; i++) {
        size_t length = strcspn(name, " ");
        if (strlen(argv[i]) != length || memcmp(argv[i], name, length))
            return 0;
        if (!name[length])
            return i;
        name += length + 1;
    }
    return 0;
}

/* The command with the longest name that the arguments spell. */
static const command *find_command(int argc, char **argv, int *words)
{
    const command *found = NULL;
    *words = 0;
    for (const command *const *c = commands; *c; c++) {
        int matched = words_matched(*c, argc, argv);
        if (matched > *words) {
            found = *c;
            *words = matched;
        }
    }
    return found;
}

/* A standard descriptor that is closed would be given to the next file that is opened, and what is
 * printed would go into it.  One that can only be used the other way round fails as a closed one
 * does. */
static void hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) /* then this is the lowest that is free */
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    int words;
    hold_standard_descriptors();
    const command *found = find_command(argc, argv, &words);
    signal(SIGPIPE, SIG_IGN);
    if (found) {
        int code = found->main(found, argc - words, argv + words);
        return code ? code : cli_exit(cli_flush());
    }
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("mlxn %s\n", mlxn_version_string());
    } else if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        print_help(stdout);
    } else {
        fprintf(stderr, "mlxn: unknown command \"%s\"; `mlxn --help` lists them\n", argv[1]);
        return EXIT_USAGE;
    }
    return cli_exit(cli_flush());
}
