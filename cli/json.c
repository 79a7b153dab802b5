/* json.c - see json.h. */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the well-formed UTF-8 sequence at `s` (Unicode table 3-7), 0 if there is none. */
static size_t utf8_sequence(const unsigned char *s, size_t bytes)
{
    static const struct {
        unsigned char first, last, low, high; /* range of the first and of the second byte */
        unsigned char length;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (s[0] < rows[r].first || s[0] > rows[r].last)
            continue;
        size_t length = rows[r].length;
        if (length > bytes || (length > 1 && (s[1] < rows[r].low || s[1] > rows[r].high)))
            return 0;
        for (size_t i = 2; i < length; i++)
            if (s[i] < 0x80 || s[i] > 0xbf)
                return 0;
        return length;
    }
    return 0;
}

void json_string(FILE *out, const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    fputc('"', out);
    for (size_t i = 0; i < bytes;) {
        size_t length = utf8_sequence(s + i, bytes - i);
        if (!length) {
            fputs("\\ufffd", out);
            length = 1;
        } else if (s[i] == '"' || s[i] == '\\') {
            fprintf(out, "\\%c", s[i]);
        } else if (s[i] == '\n') {
            fputs("\\n", out);
        } else if (s[i] < 0x20 || s[i] == 0x7f) {
            fprintf(out, "\\u%04x", s[i]);
        } else {
            fwrite(s + i, 1, length, out);
        }
        i += length;
    }
    fputc('"', out);
}

void json_float(FILE *out, float value)
{
    if (isfinite(value))
        fprintf(out, "%.9g", (double)value);
    else
        fputs("null", out);
}

void json_double(FILE *out, double value)
{
    if (isfinite(value))
        fprintf(out, "%.17g", value);
    else
        fputs("null", out);
}

typedef struct reader {
    const char *name, *text;
    size_t bytes, at;
} reader;

static void skip_space(reader *r)
{
    while (r->at < r->bytes && memchr(" \t\r\n", r->text[r->at], 4))
        r->at++;
}

static mlxn_status expected(const reader *r, const char *what)
{
    return mlxn_fail(MLXN_ERR_FORMAT, "%s: byte %zu: %s expected", r->name, r->at, what);
}

static int take(reader *r, char c)
{
    skip_space(r);
    if (r->at == r->bytes || r->text[r->at] != c)
        return 0;
    r->at++;
    return 1;
}

static mlxn_status read_id(reader *r, int32_t *out)
{
    skip_space(r);
    size_t start = r->at;
    int negative = r->at < r->bytes && r->text[r->at] == '-';
    int64_t value = 0;
    size_t digits = r->at += (size_t)negative;
    for (; r->at < r->bytes && r->text[r->at] >= '0' && r->text[r->at] <= '9'; r->at++) {
        value = value * 10 + (r->text[r->at] - '0');
        if (value > INT32_MAX) {
            r->at = start;
            return expected(r, "an integer of 32 bits");
        }
    }
    if (r->at == digits || (r->text[digits] == '0' && r->at > digits + 1)) {
        r->at = start;
        return expected(r, "an integer");
    }
    *out = (int32_t)(negative ? -value : value);
    return MLXN_OK;
}

mlxn_status json_read_ids(const char *name, const char *text, size_t bytes, int32_t **ids,
                          size_t *count)
{
    reader r = {name, text, bytes, 0};
    /* An id takes at least a digit and a comma. */
    int32_t *list = malloc((bytes / 2 + 1) * sizeof *list);
    size_t n = 0;
    mlxn_status status = MLXN_OK;
    if (!list)
        return mlxn_fail(MLXN_ERR_MEMORY, "%s: no memory for the ids", name);
    if (!take(&r, '['))
        status = expected(&r, "'['");
    else if (!take(&r, ']')) {
        do
            status = read_id(&r, &list[n++]);
        while (status == MLXN_OK && take(&r, ','));
        if (status == MLXN_OK && !take(&r, ']'))
            status = expected(&r, "',' or ']'");
    }
    skip_space(&r);
    if (status == MLXN_OK && r.at != bytes)
        status = expected(&r, "the end");
    if (status != MLXN_OK) {
        free(list);
        return status;
    }
    *ids = list;
    *count = n;
    return MLXN_OK;
}
