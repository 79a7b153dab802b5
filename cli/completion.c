/* completion.c - `mlxn completion bash`: a completion script made from the option tables. */
#include <stdio.h>
#include <string.h>
#include "commands.h"
#include "support.h"

/* The first word of every command once, or the second words of `first`. */
static void print_words(const char *first)
{
    size_t length = first ? strlen(first) : 0;
    const char *separator = "";
    for (const command *const *c = commands; *c; c++) {
        const char *name = (*c)->name, *space = strchr(name, ' ');
        if (!first && !space) {
            printf("%s%s", separator, name);
            separator = " ";
        } else if (first && space && (size_t)(space - name) == length &&
                   !memcmp(name, first, length)) {
            printf("%s%s", separator, space + 1);
            separator = " ";
        }
    }
}

static void print_flag_pattern(const command *c, const option *o)
{
    if (o->letter)
        printf("'%s -%c'", c->name, o->letter);
    if (o->name)
        printf("%s'%s --%s'", o->letter ? "|" : "", c->name, o->name);
}

/* What may follow an option: the words of a choice, files, or nothing that can be known. */
static void print_value_case(const command *c, const option *o)
{
    printf("    ");
    print_flag_pattern(c, o);
    fputs(") ", stdout);
    if (o->kind == OPTION_CHOICE) {
        fputs("COMPREPLY=($(compgen -W '", stdout);
        for (const char *s = o->value; *s; s++)
            fputc(*s == '|' ? ' ' : *s, stdout);
        fputs("' -- \"$cur\")); ", stdout);
    } else if (o->kind == OPTION_TEXT && !strncmp(o->value, "FILE", 4)) {
        fputs("COMPREPLY=($(compgen -f -- \"$cur\")); ", stdout);
    }
    fputs("return ;;\n", stdout);
}

static void print_option_case(const command *c)
{
    printf("    '%s') words='", c->name);
    for (size_t i = 0; i < c->n_options; i++) {
        if (c->options[i].letter)
            printf("-%c ", c->options[i].letter);
        if (c->options[i].name)
            printf("--%s ", c->options[i].name);
    }
    printf("-h --help'; operands='%s'; files=%d ;;\n", c->words ? c->words : "", !c->words);
}

static void print_bash(void)
{
    fputs("# bash completion for mlxn, made by `mlxn completion bash`\n"
          "_mlxn() {\n"
          "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "  local name=${COMP_WORDS[1]} parts= words= operands= files=0\n"
          "  if [ \"$COMP_CWORD\" = 1 ]; then\n"
          "    COMPREPLY=($(compgen -W '",
          stdout);
    print_words(NULL);
    fputs(" --help --version' -- \"$cur\")); return\n  fi\n  case \"$name ${COMP_WORDS[2]}\" in\n",
          stdout);
    for (const command *const *c = commands; *c; c++)
        if (strchr((*c)->name, ' '))
            printf("    '%s') [ \"$COMP_CWORD\" != 2 ] && name='%s' ;;\n", (*c)->name, (*c)->name);
    fputs("  esac\n  case \"$name $prev\" in\n", stdout);
    for (const command *const *c = commands; *c; c++)
        for (size_t i = 0; i < (*c)->n_options; i++)
            if ((*c)->options[i].kind != OPTION_FLAG)
                print_value_case(*c, &(*c)->options[i]);
    fputs("  esac\n  case \"$name\" in\n", stdout);
    for (const command *const *c = commands; *c; c++)
        print_option_case(*c);
    fputs("  esac\n  if [ \"$COMP_CWORD\" = 2 ]; then\n    case \"$name\" in\n", stdout);
    for (const command *const *c = commands; *c; c++) {
        if (strchr((*c)->name, ' '))
            continue;
        printf("      '%s') parts='", (*c)->name);
        print_words((*c)->name);
        fputs("' ;;\n", stdout);
    }
    fputs("    esac\n  fi\n"
          "  case \"$cur\" in\n"
          "    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
          "    *) COMPREPLY=($(compgen -W \"$parts $operands\" -- \"$cur\"))\n"
          "       [ \"$files\" = 1 ] && COMPREPLY+=($(compgen -f -- \"$cur\")) ;;\n"
          "  esac\n"
          "}\n"
          "complete -o filenames -F _mlxn mlxn\n",
          stdout);
}

static int completion_main(const command *self, int argc, char **argv)
{
    const char *shell;
    int n, code = args_parse(self, argc, argv, NULL, &shell, &n);
    if (code != ARGS_GO_ON)
        return code;
    if (strcmp(shell, "bash"))
        return args_usage(self, "there is a completion for bash, not for \"%s\"", shell);
    print_bash();
    return cli_exit(cli_flush());
}

const command command_completion = {.name = "completion",
                                    .summary = "Print the shell completion script.",
                                    .operands = "bash",
                                    .words = "bash",
                                    .min_operands = 1,
                                    .max_operands = 1,
                                    .main = completion_main};
