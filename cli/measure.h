/* measure.h - times what is recorded into an encoder: many times in a graph, and statistics. */
#ifndef MLXN_CLI_MEASURE_H
#define MLXN_CLI_MEASURE_H

#include <mlxn/mlxn.h>

enum { MEASURE_MAX = 1000 }; /* samples of one thing */

/* Records the i-th run of what is measured. */
typedef mlxn_status (*measure_record)(mlxn_encoder *encoder, void *context, int i);

/* A graph of `runs` runs with barriers between them, replayed so often in one commit that a sample
 * takes milliseconds; so neither recording nor the commit itself is in the time. */
typedef struct measurement {
    mlxn_graph *graph;
    int runs, replays;
    double samples[MEASURE_MAX]; /* seconds a run */
    int count;
} measurement;

/* Records and warms up.  measure_close also after a failure. */
mlxn_status measure_open(mlxn_encoder *encoder, measure_record record, void *context, int runs,
                         measurement *out);
/* Takes one more sample. */
mlxn_status measure_sample(mlxn_encoder *encoder, measurement *m);
void measure_close(measurement *m);

typedef struct measure_summary {
    double median, low, high; /* the middle, the smallest and the largest sample */
} measure_summary;

/* Of n samples, or of the ratios of two series taken in turns (b NULL: none). */
measure_summary measure_summarise(const double *a, const double *b, int n);

#endif
