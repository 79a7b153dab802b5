/* json.c - the reader behind json.h: recursive descent over the whole of RFC 8259. */
#include "json.h"

#include "test.h"

enum { DEPTH_MAX = 64 };

typedef union block {
    union block *next;
    double align_number;
    long long align_integer;
} block;

struct json_document {
    block *blocks; /* one an allocation */
    json_value *root;
    const char *at, *end, *begin;
    int depth;
};

static void *allocate(json_document *d, size_t bytes)
{
    block *b = calloc(1, sizeof *b + bytes);
    if (!b)
        abort();
    b->next = d->blocks;
    d->blocks = b;
    return b + 1;
}

static void skip_space(json_document *d)
{
    while (d->at < d->end && strchr(" \t\r\n", *d->at) && *d->at)
        d->at++;
}

static int accept(json_document *d, char c)
{
    skip_space(d);
    if (d->at == d->end || *d->at != c)
        return 0;
    d->at++;
    return 1;
}

static int accept_word(json_document *d, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(d->end - d->at) < n || memcmp(d->at, word, n))
        return 0;
    d->at += n;
    return 1;
}

static long read_hex4(json_document *d)
{
    long value = 0;
    if (d->end - d->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef";
        const char *p = strchr(digits, *d->at | 0x20);
        if (!p || !*d->at || !*p)
            return -1;
        value = value * 16 + (p - digits);
        d->at++;
    }
    return value;
}

static size_t put_utf8(char *out, long c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}

/* After a backslash; returns the bytes written, 0 on an error. */
static size_t read_escape(json_document *d, char *out)
{
    const char *from = "\"\\/bfnrt", *to = "\"\\/\b\f\n\r\t";
    if (d->at == d->end || !*d->at)
        return 0;
    char c = *d->at++;
    const char *p = strchr(from, c);
    if (p) {
        *out = to[p - from];
        return 1;
    }
    if (c != 'u')
        return 0;
    long code = read_hex4(d);
    if (code >= 0xd800 && code < 0xdc00) {
        if (!accept_word(d, "\\u"))
            return 0;
        long low = read_hex4(d);
        if (low < 0xdc00 || low > 0xdfff)
            return 0;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    return code < 0 ? 0 : put_utf8(out, code);
}

static const char *read_string(json_document *d, size_t *bytes)
{
    const char *quote = d->at;
    while (quote < d->end && *quote != '"')
        quote += *quote == '\\' ? 2 : 1;
    if (quote >= d->end)
        return NULL;
    char *text = allocate(d, (size_t)(quote - d->at) + 1);
    size_t n = 0;
    while (d->at < quote) {
        if ((unsigned char)*d->at < 0x20)
            return NULL;
        if (*d->at != '\\') {
            text[n++] = *d->at++;
            continue;
        }
        d->at++;
        size_t more = read_escape(d, text + n);
        if (!more)
            return NULL;
        n += more;
    }
    d->at++;
    *bytes = n;
    return text;
}

static int read_value(json_document *d, json_value *v);

static int read_members(json_document *d, json_value *v, char close)
{
    const json_value **link = &v->first;
    if (accept(d, close))
        return 1;
    do {
        json_value *member = allocate(d, sizeof *member);
        size_t bytes;
        if (v->kind == JSON_OBJECT) {
            if (!accept(d, '"') || !(member->key = read_string(d, &bytes)) || !accept(d, ':'))
                return 0;
        }
        if (!read_value(d, member))
            return 0;
        *link = member;
        link = &member->next;
        v->count++;
    } while (accept(d, ','));
    return accept(d, close);
}

static int read_number(json_document *d, json_value *v)
{
    char copy[64], *stop;
    size_t n = 0;
    while (d->at + n < d->end && n < sizeof copy - 1 && d->at[n] &&
           strchr("+-.eE0123456789", d->at[n])) {
        copy[n] = d->at[n];
        n++;
    }
    copy[n] = 0;
    v->kind = JSON_NUMBER;
    v->number = strtod(copy, &stop);
    d->at += n;
    return n && !*stop && (copy[0] == '-' || (copy[0] >= '0' && copy[0] <= '9'));
}

static int read_value(json_document *d, json_value *v)
{
    int sound;
    if (++d->depth > DEPTH_MAX)
        return 0;
    if (accept(d, '{')) {
        v->kind = JSON_OBJECT;
        sound = read_members(d, v, '}');
    } else if (accept(d, '[')) {
        v->kind = JSON_ARRAY;
        sound = read_members(d, v, ']');
    } else if (accept(d, '"')) {
        v->kind = JSON_STRING;
        v->string = read_string(d, &v->bytes);
        sound = v->string != NULL;
    } else if (accept_word(d, "null")) {
        v->kind = JSON_NULL;
        sound = 1;
    } else if (accept_word(d, "true") || accept_word(d, "false")) {
        v->kind = JSON_BOOL;
        v->number = d->at[-2] == 'u';
        sound = 1;
    } else {
        sound = read_number(d, v);
    }
    d->depth--;
    return sound;
}

json_document *json_parse(const char *text, size_t bytes, size_t *error)
{
    json_document *d = calloc(1, sizeof *d);
    if (!d)
        abort();
    d->begin = d->at = text;
    d->end = text + bytes;
    d->root = allocate(d, sizeof *d->root);
    int sound = read_value(d, d->root);
    skip_space(d);
    if (sound && d->at == d->end)
        return d;
    if (error)
        *error = (size_t)(d->at - d->begin);
    json_free(d);
    return NULL;
}

json_document *json_load(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", MLXN_TEST_DATA, name);
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t bytes = 0, capacity = 0, n = 1, error = 0;
    while (file && n) {
        if (bytes == capacity) {
            capacity = capacity ? 2 * capacity : 65536;
            text = realloc(text, capacity);
            if (!text)
                abort();
        }
        n = fread(text + bytes, 1, capacity - bytes, file);
        bytes += n;
    }
    json_document *d = file ? json_parse(text, bytes, &error) : NULL;
    if (!d)
        test_failed(__FILE__, __LINE__, "%s: %s %zu", path, file ? "no JSON at byte" : "not there",
                    error);
    if (file)
        fclose(file);
    free(text);
    return d;
}

void json_free(json_document *d)
{
    while (d && d->blocks) {
        block *next = d->blocks->next;
        free(d->blocks);
        d->blocks = next;
    }
    free(d);
}

const json_value *json_root(const json_document *document)
{
    return document ? document->root : NULL;
}

const json_value *json_get(const json_value *value, const char *key)
{
    if (!value || value->kind != JSON_OBJECT)
        return NULL;
    for (const json_value *v = value->first; v; v = v->next)
        if (!strcmp(v->key, key))
            return v;
    return NULL;
}

const char *json_text(const json_value *value, const char *key)
{
    const json_value *v = json_get(value, key);
    return v && v->kind == JSON_STRING ? v->string : "";
}

double json_number(const json_value *value, const char *key)
{
    const json_value *v = json_get(value, key);
    return v && v->kind == JSON_NUMBER ? v->number : 0;
}

size_t json_ids(const json_value *array, int *out, size_t capacity)
{
    size_t n = 0;
    for (const json_value *v = array ? array->first : NULL; v && n < capacity; v = v->next)
        out[n++] = (int)v->number;
    return n;
}
