/* attention_chain.c - see attention_chain.h. */
#include "attention_chain.h"

enum { PARTS = 3 };

static mlxn_status record_norm(mlxn_encoder *encoder, const mlxn_qkv_prepare_args *a,
                               const mlxn_qkv_part *part, mlxn_buffer *from, mlxn_buffer *to)
{
    return mlxn_rms_norm(encoder, MLXN_DESC(mlxn_rms_norm_args, .input = from,
                                            .weight = part->weight, .output = to, .eps = a->eps,
                                            .weight_bias = part->weight ? a->weight_bias : 0));
}

static mlxn_status record_rope(mlxn_encoder *encoder, const mlxn_qkv_prepare_args *a,
                               const mlxn_qkv_part *part, mlxn_buffer *from, mlxn_buffer *to)
{
    return mlxn_rope(
        encoder, MLXN_DESC(mlxn_rope_args, .input = from, .output = to, .pairing = part->rope,
                           .rotary_pairs = a->rotary_pairs, .positions = a->positions,
                           .position_start = a->position_start, .freqs = a->freqs, .cos = a->cos,
                           .sin = a->sin, .attention_factor = a->attention_factor));
}

/* The operator itself with nothing to do but the copy. */
static mlxn_status record_cache(mlxn_encoder *encoder, const mlxn_qkv_prepare_args *a,
                                const mlxn_qkv_part *part, mlxn_buffer *from)
{
    return mlxn_qkv_prepare(encoder, MLXN_DESC(mlxn_qkv_prepare_args,
                                               .k = {.input = from,
                                                     .cache = part->cache,
                                                     .norm = MLXN_NORM_NONE,
                                                     .rope = MLXN_ROPE_NONE},
                                               .slots = a->slots));
}

mlxn_status attention_chain(mlxn_encoder *encoder, const mlxn_qkv_prepare_args *args,
                            mlxn_buffer *const work[3])
{
    const mlxn_qkv_part *parts[PARTS] = {&args->q, &args->k, &args->v};
    mlxn_buffer *at[PARTS]; /* where the values of a part lie by now; NULL: it is absent */
    for (int p = 0; p < PARTS; p++)
        at[p] = parts[p]->input;
    for (int p = 0; p < PARTS; p++) {
        mlxn_buffer *given = parts[p]->output ? parts[p]->output : at[p];
        mlxn_buffer *to = work ? work[p] : given;
        if (!at[p] || parts[p]->norm == MLXN_NORM_NONE)
            continue;
        MLXN_TRY(record_norm(encoder, args, parts[p], at[p], to));
        at[p] = to;
    }
    for (int p = 0; p < PARTS; p++) {
        mlxn_buffer *to = parts[p]->output ? parts[p]->output : at[p];
        if (!at[p] || parts[p]->rope == MLXN_ROPE_NONE)
            continue;
        MLXN_TRY(record_rope(encoder, args, parts[p], at[p], to));
        at[p] = to;
    }
    for (int p = 0; p < PARTS; p++)
        if (at[p] && parts[p]->cache)
            MLXN_TRY(record_cache(encoder, args, parts[p], at[p]));
    return MLXN_OK;
}
