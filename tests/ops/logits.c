/* logits.c - see logits.h. */
#include "logits.h"

float *logits_random(uint64_t seed, int64_t n, float spread)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = spread * test_normal(&seed);
    return x;
}

mlxn_buffer *logits_buffer(const rig_device *on, int64_t rows, int64_t vocab, const float *x)
{
    return rig_buffer(on->device, MLXN_F32, 2, (int64_t[]){rows, vocab}, x);
}

static int before(const float *x, int32_t a, int32_t b) /* the order of the header; NaN last */
{
    if (isnan(x[a]) || isnan(x[b]))
        return isnan(x[a]) == isnan(x[b]) ? a < b : isnan(x[b]);
    return x[a] != x[b] ? x[a] > x[b] : a < b;
}

static const float *sorting;
static int compare_ids(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    return i == j ? 0 : before(sorting, i, j) ? -1 : 1;
}

int32_t *logits_sorted(const float *x, int64_t n)
{
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)i;
    sorting = x;
    qsort(ids, (size_t)n, sizeof *ids, compare_ids);
    return ids;
}
