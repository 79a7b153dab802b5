/* support.h - small things that several commands need: failures, time, memory, files, output. */
#ifndef MLXN_CLI_SUPPORT_H
#define MLXN_CLI_SUPPORT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <mlxn/status.h>

/* The exit code for a status: 0, or 1 with the library's detail text on stderr.  MLXN_ERR_CANCELLED
 * is quiet and 0: nobody reads the output any more (see cli_flush). */
int cli_exit(mlxn_status status);

/* Seconds of a clock that only goes forward. */
double cli_seconds(void);
/* The largest resident set of this process so far, in bytes; 0 where it is not known. */
uint64_t cli_peak_bytes(void);
uint64_t cli_random_seed(void);

/* Flushes stdout.  A closed pipe is MLXN_ERR_CANCELLED, other failures are MLXN_ERR_IO. */
mlxn_status cli_flush(void);

/* All of a file ("-": stdin) in memory to be freed, with a NUL behind it. */
mlxn_status cli_read_file(const char *path, char **text, size_t *bytes);

#endif
