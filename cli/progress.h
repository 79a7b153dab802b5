/* progress.h - a bar on stderr, where that is a terminal; nothing otherwise. */
#ifndef MLXN_CLI_PROGRESS_H
#define MLXN_CLI_PROGRESS_H

#include <stdint.h>

typedef struct progress {
    const char *label;
    double last; /* when it was drawn last */
    int drawn;
} progress;

/* Draws done of total, at most ten times a second. */
void progress_update(progress *bar, uint64_t done, uint64_t total);
/* Takes the bar off the screen; to be called before anything else is written to stderr. */
void progress_clear(progress *bar);

#endif
