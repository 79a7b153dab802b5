/* progress.c - see progress.h. */
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

void progress_update(progress *bar, uint64_t done, uint64_t total)
{
    enum { WIDTH = 40 };
    static const char full[] = "########################################";
    const char *term = getenv("TERM");
    double now = cli_seconds();
    if (!isatty(STDERR_FILENO) || (term && !strcmp(term, "dumb")) || !total ||
        (bar->drawn && now - bar->last < 0.1))
        return;
    double share = (double)(done < total ? done : total) / (double)total;
    fprintf(stderr, "\r%s [%-*.*s] %3.0f%%", bar->label, WIDTH, (int)(share * WIDTH), full,
            share * 100);
    fflush(stderr);
    bar->last = now;
    bar->drawn = 1;
}

void progress_clear(progress *bar)
{
    if (bar->drawn)
        fputs("\r\033[K", stderr);
    bar->drawn = 0;
}
