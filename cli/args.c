/* args.c - the parser behind args.h. */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 32, HELP_WIDTH = 96 };

static void print_usage(const command *self, FILE *out)
{
    fprintf(out, "usage: mlxn %s%s%s%s\n", self->name, self->n_options ? " [options]" : "",
            *self->operands ? " " : "", self->operands);
}

int args_usage(const command *self, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "mlxn %s: ", self->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    print_usage(self, stderr);
    fprintf(stderr, "`mlxn %s --help` lists the options.\n", self->name);
    return EXIT_USAGE;
}

/* Wraps `text` between HELP_COLUMN and HELP_WIDTH; the cursor is at `column`. */
static void print_wrapped(const char *text, int column, FILE *out)
{
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        int gap = column < HELP_COLUMN ? HELP_COLUMN - column : 1;
        fprintf(out, "%*s%.*s", gap, "", word, text);
        column += gap + word;
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_option(const option *o, FILE *out)
{
    char head[96];
    int n = 0;
    if (o->letter)
        n = snprintf(head, sizeof head, "  -%c%s", o->letter, o->name ? ", " : "");
    else
        n = snprintf(head, sizeof head, "      ");
    if (o->name)
        n += snprintf(head + n, sizeof head - (size_t)n, "--%s", o->name);
    if (o->kind != OPTION_FLAG)
        n += snprintf(head + n, sizeof head - (size_t)n, " %s", o->value);
    fputs(head, out);
    if (n >= HELP_COLUMN) {
        fputc('\n', out);
        n = 0;
    }
    print_wrapped(o->help, n, out);
}

static void print_help(const command *self, FILE *out)
{
    static const option help = {.letter = 'h', .name = "help", .help = "Print this text."};
    print_usage(self, out);
    fprintf(out, "%s\n\n", self->summary);
    for (size_t i = 0; i < self->n_options; i++)
        print_option(&self->options[i], out);
    print_option(&help, out);
}

/* One number at *text, up to a comma or the end; moves *text behind it. */
static int read_int(const option *o, const char **text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(*text, &end, 10);
    if (end == *text || errno || (*end && *end != ',') || (double)value < o->min ||
        (double)value > o->max)
        return 0;
    *out = value;
    *text = end;
    return 1;
}

static int read_ints(const option *o, const char *text, int_list *out)
{
    int_list list = {.count = 0};
    for (;;) {
        if (list.count == INT_LIST_MAX || !read_int(o, &text, &list.value[list.count]))
            return 0;
        list.count++;
        if (!*text)
            break;
        text++;
    }
    *out = list;
    return 1;
}

static int read_real(const option *o, const char *text, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= o->min && value <= o->max))
        return 0;
    *out = value;
    return 1;
}

static int read_choice(const char *words, const char *text, int *out)
{
    size_t length = strlen(text);
    for (int i = 0;; i++) {
        size_t word = strcspn(words, "|");
        if (word == length && !memcmp(words, text, word)) {
            *out = i;
            return 1;
        }
        if (!words[word])
            return 0;
        words += word + 1;
    }
}

static int read_device(const char *text, device_name *out)
{
    static const option number = {.max = 1024};
    device_name device = {.index = 0};
    size_t length = strcspn(text, ":");
    int64_t index = 0;
    if (!length || length >= sizeof device.backend)
        return 0;
    memcpy(device.backend, text, length);
    text += length;
    if (*text++ && (!read_int(&number, &text, &index) || *text))
        return 0;
    device.index = (int)index;
    *out = device;
    return 1;
}

/* Whether `text` is a value of the option; if so it is stored. */
static int store(const option *o, const char *text, void *values)
{
    void *field = (char *)values + o->offset;
    switch (o->kind) {
    case OPTION_FLAG:
        *(int *)field = 1;
        return 1;
    case OPTION_TEXT:
        *(const char **)field = text;
        return 1;
    case OPTION_INT:
        return read_int(o, &text, field) && !*text;
    case OPTION_INTS:
        return read_ints(o, text, field);
    case OPTION_REAL:
        return read_real(o, text, field);
    case OPTION_CHOICE:
        return read_choice(o->value, text, field);
    case OPTION_DEVICE:
        return read_device(text, field);
    }
    return 0;
}

static int bad_value(const command *self, const option *o, const char *arg, const char *text)
{
    if (o->kind == OPTION_CHOICE)
        return args_usage(self, "%s takes one of %s, not \"%s\"", arg, o->value, text);
    if (o->kind == OPTION_DEVICE)
        return args_usage(self, "%s takes %s, not \"%s\"", arg, o->value, text);
    if (o->kind == OPTION_REAL)
        return args_usage(self, "%s takes a number from %g to %g, not \"%s\"", arg, o->min, o->max,
                          text);
    return args_usage(self, "%s takes %s from %.0f to %.0f, not \"%s\"", arg,
                      o->kind == OPTION_INTS ? "integers joined by commas, each" : "an integer",
                      o->min, o->max, text);
}

/* The option that `arg` names; *value is the text after "=" in --name=VALUE, else NULL. */
static const option *find(const command *self, const char *arg, const char **value)
{
    *value = NULL;
    for (size_t i = 0; i < self->n_options; i++) {
        const option *o = &self->options[i];
        if (arg[1] != '-') {
            if (o->letter && arg[1] == o->letter && !arg[2])
                return o;
        } else if (o->name) {
            size_t length = strcspn(arg + 2, "=");
            if (strlen(o->name) == length && !memcmp(o->name, arg + 2, length)) {
                if (arg[2 + length])
                    *value = arg + 3 + length;
                return o;
            }
        }
    }
    return NULL;
}

/* Takes argv[*i], an option, and its value. */
static int parse_option(const command *self, int argc, char **argv, int *i, void *values)
{
    const char *arg = argv[*i], *value;
    const option *o = find(self, arg, &value);
    if (!o)
        return args_usage(self, "unknown option %s", arg);
    if (o->kind == OPTION_FLAG) {
        if (value)
            return args_usage(self, "--%s takes no value", o->name);
    } else if (!value) {
        if (*i + 1 == argc)
            return args_usage(self, "%s needs a value: %s", arg, o->value);
        value = argv[++*i];
    }
    return store(o, value, values) ? ARGS_GO_ON : bad_value(self, o, arg, value);
}

int args_parse(const command *self, int argc, char **argv, void *values, const char **operands,
               int *n_operands)
{
    int n = 0, options = 1;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (options && !strcmp(arg, "--")) {
            options = 0;
        } else if (options && (!strcmp(arg, "-h") || !strcmp(arg, "--help"))) {
            print_help(self, stdout);
            return 0;
        } else if (options && arg[0] == '-' && arg[1]) {
            int code = parse_option(self, argc, argv, &i, values);
            if (code != ARGS_GO_ON)
                return code;
        } else {
            if (n == self->max_operands)
                return args_usage(self, "unexpected argument \"%s\"", arg);
            operands[n++] = arg;
        }
    }
    if (n < self->min_operands)
        return args_usage(self, "%s is missing", self->operands);
    if (n_operands)
        *n_operands = n;
    return ARGS_GO_ON;
}
