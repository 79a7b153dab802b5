/* json.h - what the command needs of JSON (RFC 8259): strings and numbers out, arrays of token ids
 * in. */
#ifndef MLXN_CLI_JSON_H
#define MLXN_CLI_JSON_H

#include <stdint.h>
#include <stdio.h>
#include <mlxn/status.h>

/* Bytes as a string: always valid UTF-8, ill-formed sequences as U+FFFD. */
void json_string(FILE *out, const char *text, size_t bytes);
/* Numbers with digits enough to read the same value back; not finite: null. */
void json_float(FILE *out, float value);
void json_double(FILE *out, double value);

/* Reads `text`, one array of integers of 32 bits, into *ids (to be freed) and *count.
 * MLXN_ERR_FORMAT names `name` and the byte where it goes wrong. */
mlxn_status json_read_ids(const char *name, const char *text, size_t bytes, int32_t **ids,
                          size_t *count);

#endif
