/* generate.h - one generation: its settings, and what it came to. */
#ifndef MLXN_CLI_GENERATE_H
#define MLXN_CLI_GENERATE_H

#include "load.h"

typedef struct run_values {
    common_values common;
    const char *prompt, *file;
    int64_t predict, context, chunk, seed;
    double temperature, top_p, min_p, repeat_penalty;
    int64_t top_k, repeat_last, top_logits;
    int ignore_eos, no_display_prompt;
} run_values;

typedef enum end_reason {
    END_TOKEN,       /* the model's end token */
    END_LENGTH,      /* -n */
    END_CONTEXT,     /* no room for another position */
    END_INTERRUPTED, /* Ctrl-C */
} end_reason;

typedef struct generation {
    uint64_t seed;
    size_t prompt_tokens, generated;
    double load_seconds, first_token_seconds; /* both since the command began */
    double prompt_seconds, seconds;
    end_reason reason;
    int32_t end_token;             /* -1 unless END_TOKEN */
    char tail[16];                 /* what an unfinished character came to at the end */
    uint64_t dispatches, barriers; /* of one step */
} generation;

/* The summary as text for stderr, or as one JSON object and a newline. */
void generation_text(const generation *g, const loaded *l, FILE *out);
void generation_json(const generation *g, const loaded *l, const run_values *v, FILE *out);

#endif
