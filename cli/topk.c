/* topk.c - selection by a heap of k entries whose root is the worst one kept. */
#include "topk.h"

#include <math.h>
#include <stdlib.h>
#include "json.h"

static int better(scored_id a, scored_id b)
{
    int nan_a = isnan(a.logit), nan_b = isnan(b.logit);
    if (nan_a != nan_b)
        return nan_b;
    if (!nan_a && a.logit != b.logit)
        return a.logit > b.logit;
    return a.id < b.id;
}

static int compare(const void *a, const void *b)
{
    return better(*(const scored_id *)a, *(const scored_id *)b) ? -1 : 1;
}

static void sift_down(scored_id *heap, size_t count, size_t at)
{
    for (;;) {
        size_t worst = at, child = 2 * at + 1;
        for (size_t c = child; c < child + 2 && c < count; c++)
            if (better(heap[worst], heap[c]))
                worst = c;
        if (worst == at)
            return;
        scored_id moved = heap[at];
        heap[at] = heap[worst];
        heap[worst] = moved;
        at = worst;
    }
}

size_t topk_select(const float *logits, size_t count, size_t k, scored_id *top)
{
    size_t kept = k < count ? k : count;
    if (!kept)
        return 0;
    for (size_t i = 0; i < kept; i++)
        top[i] = (scored_id){logits[i], (int32_t)i};
    for (size_t i = kept / 2; i-- > 0;)
        sift_down(top, kept, i);
    for (size_t i = kept; i < count; i++) {
        scored_id next = {logits[i], (int32_t)i};
        if (better(next, top[0])) {
            top[0] = next;
            sift_down(top, kept, 0);
        }
    }
    qsort(top, kept, sizeof *top, compare);
    return kept;
}

void topk_json(FILE *out, const scored_id *top, size_t count)
{
    fputc('[', out);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s[%d,", i ? "," : "", (int)top[i].id);
        json_float(out, top[i].logit);
        fputc(']', out);
    }
    fputc(']', out);
}
