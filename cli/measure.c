/* measure.c - see measure.h. */
#include <stdlib.h>
#include "measure.h"
#include "support.h"

#define SAMPLE_SECONDS 2e-3

static mlxn_status replay(mlxn_encoder *encoder, const measurement *m, double *seconds)
{
    MLXN_TRY(mlxn_encoder_reset(encoder));
    for (int i = 0; i < m->replays; i++)
        MLXN_TRY(mlxn_graph_replay(encoder, m->graph));
    double start = cli_seconds();
    MLXN_TRY(mlxn_encoder_commit(encoder));
    MLXN_TRY(mlxn_encoder_wait(encoder));
    *seconds = cli_seconds() - start;
    return MLXN_OK;
}

mlxn_status measure_open(mlxn_encoder *encoder, measure_record record, void *context, int runs,
                         measurement *m)
{
    double seconds = 0;
    *m = (measurement){.runs = runs, .replays = 1};
    MLXN_TRY(mlxn_encoder_reset(encoder));
    for (int i = 0; i < runs; i++) {
        MLXN_TRY(record(encoder, context, i));
        MLXN_TRY(mlxn_encoder_barrier(encoder));
    }
    MLXN_TRY(mlxn_graph_capture(encoder, &m->graph));
    MLXN_TRY(replay(encoder, m, &seconds)); /* warms up */
    MLXN_TRY(replay(encoder, m, &seconds));
    if (seconds < SAMPLE_SECONDS)
        m->replays = (int)(SAMPLE_SECONDS / (seconds > 1e-7 ? seconds : 1e-7)) + 1;
    return MLXN_OK;
}

mlxn_status measure_sample(mlxn_encoder *encoder, measurement *m)
{
    double seconds;
    if (m->count == MEASURE_MAX)
        return mlxn_fail(MLXN_ERR_STATE, "measure: more than %d samples", MEASURE_MAX);
    MLXN_TRY(replay(encoder, m, &seconds));
    m->samples[m->count++] = seconds / m->runs / m->replays;
    return MLXN_OK;
}

void measure_close(measurement *m)
{
    mlxn_graph_release(m->graph);
    m->graph = NULL;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

measure_summary measure_summarise(const double *a, const double *b, int n)
{
    double sorted[MEASURE_MAX];
    for (int i = 0; i < n; i++)
        sorted[i] = b ? a[i] / b[i] : a[i];
    qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
    return (measure_summary){sorted[n / 2], sorted[0], sorted[n - 1]};
}
