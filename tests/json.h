/* json.h - a small JSON reader for test data.  The document is a tree in one arena, freed at once.
 * Numbers are doubles; strings are UTF-8, NUL-terminated, with their length. */
#ifndef MLXN_TEST_JSON_H
#define MLXN_TEST_JSON_H

#include <stddef.h>

typedef enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
} json_kind;

typedef struct json_value json_value;
struct json_value {
    json_kind kind;
    double number;           /* BOOL: 0 or 1 */
    const char *string;      /* STRING */
    size_t bytes;            /* of the string */
    size_t count;            /* elements of an ARRAY or OBJECT */
    const json_value *first; /* of them */
    const json_value *next;  /* in the parent */
    const char *key;         /* in the parent, if that is an OBJECT */
};

typedef struct json_document json_document;

/* NULL if the text is not JSON: *error says where (a byte offset). */
json_document *json_parse(const char *text, size_t bytes, size_t *error);
/* A file of tests/data; NULL, after test_failed(), if it cannot be read. */
json_document *json_load(const char *name);
void json_free(json_document *document);

const json_value *json_root(const json_document *document);
/* A member of an object; NULL if there is none, or `value` is no object or NULL. */
const json_value *json_get(const json_value *value, const char *key);
/* The string or number under a key; "" or 0 if there is none. */
const char *json_text(const json_value *value, const char *key);
double json_number(const json_value *value, const char *key);
/* An array's numbers as int32, at most `capacity`; returns their number. */
size_t json_ids(const json_value *array, int *out, size_t capacity);

#endif
