/* topk.h - the largest logits of a row, on the host, for --top-logits. */
#ifndef MLXN_CLI_TOPK_H
#define MLXN_CLI_TOPK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct scored_id {
    float logit;
    int32_t id;
} scored_id;

/* The min(k, count) largest of `logits` into `top` (room for k), descending, the lower id first on
 * ties; NaN comes last.  Answers how many. */
size_t topk_select(const float *logits, size_t count, size_t k, scored_id *top);
/* [[id,logit],...] */
void topk_json(FILE *out, const scored_id *top, size_t count);

#endif
