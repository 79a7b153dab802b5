/* qkv_prepare.c - qkv_prepare and rope: checks, and the launch shared with fused_head_norm_rope.
 * Formulas at the public header, kernel in qkv_prepare_cpu.c. */
#include <math.h>
#include <string.h>
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/rope/qkv_prepare.h"
#include "ops/shared.h"

_Static_assert((int)K_F32 == MLXN_F32 && (int)K_F16 == MLXN_F16 && (int)K_BF16 == MLXN_BF16 &&
                   (int)K_I32 == MLXN_I32 && (int)K_I64 == MLXN_I64 && (int)K_U32 == MLXN_U32,
               "kernels/types.h follows mlxn_dtype");
_Static_assert((int)QKV_NORM_NONE == MLXN_NORM_NONE &&
                   (int)QKV_NORM_WEIGHTLESS == MLXN_NORM_WEIGHTLESS &&
                   (int)QKV_NORM_WEIGHTED == MLXN_NORM_WEIGHTED &&
                   (int)QKV_ROUND_EXACT == MLXN_ROUND_EXACT &&
                   (int)QKV_ROUND_MATCH_UNFUSED == MLXN_ROUND_MATCH_UNFUSED,
               "qkv_params.h follows mlxn/ops/rope.h");

int64_t mlxn_qkv_tokens_at_once(const qkv_params *p)
{
    int64_t heads = 1, tokens;
    for (int k = 0; k < QKV_PARTS; k++)
        heads = p->part[k].heads > heads ? p->part[k].heads : heads;
    tokens = 16 / heads;
    if (tokens * p->rotary_pairs > 2048)
        tokens = 2048 / p->rotary_pairs;
    return tokens < 1 ? 1 : tokens;
}

size_t mlxn_qkv_prepare_shared(const void *params, uint32_t n_threads)
{
    const qkv_params *p = params;
    /* carve() in the kernel: weights, ones and a staged head, frequencies, and for each token at
     * once two arrays of pairs and two of both members, all padded */
    size_t dim = ((size_t)p->dim + 15) / 16 * 16, pairs = ((size_t)p->rotary_pairs + 15) / 16 * 16;
    size_t twice = (2 * (size_t)p->rotary_pairs + 15) / 16 * 16;
    size_t tokens = (size_t)mlxn_qkv_tokens_at_once(p);
    return n_threads * sizeof(float) *
           ((QKV_PARTS + 2) * dim + 2 * pairs + tokens * 2 * (pairs + twice));
}

mlxn_status mlxn_qkv_pairing(const char *op, const char *name, mlxn_rope_pairing pairing,
                             int64_t dim, int64_t rotary_pairs, qkv_part_params *part)
{
    int whole = pairing == MLXN_ROPE_NEOX || pairing == MLXN_ROPE_INTERLEAVED;
    switch (pairing) {
    case MLXN_ROPE_NONE:
        part->pairs = QKV_PAIRS_NONE;
        return MLXN_OK;
    case MLXN_ROPE_NEOX:
    case MLXN_ROPE_PROPORTIONAL:
        part->pairs = QKV_PAIRS_SPLIT;
        part->offset = dim / 2;
        break;
    case MLXN_ROPE_PREFIX:
        part->pairs = QKV_PAIRS_SPLIT;
        part->offset = rotary_pairs;
        break;
    case MLXN_ROPE_INTERLEAVED:
    case MLXN_ROPE_INTERLEAVED_PREFIX:
    case MLXN_ROPE_INTERLEAVED_PROPORTIONAL:
        part->pairs = QKV_PAIRS_INTERLEAVED;
        break;
    default:
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is %d, not a pairing", op, name, (int)pairing);
    }
    if (whole && rotary_pairs != dim / 2)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: rotary_pairs is %lld, %s needs %lld", op,
                         (long long)rotary_pairs, name, (long long)(dim / 2));
    if (rotary_pairs < 1 || rotary_pairs > dim / 2)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: rotary_pairs is %lld, %s needs 1 to %lld", op,
                         (long long)rotary_pairs, name, (long long)(dim / 2));
    return MLXN_OK;
}

/* Past the caches pays where the outputs are larger than they are, and only as whole vectors. */
static int should_stream(const qkv_params *p, mlxn_buffer *const buffers[])
{
    size_t bytes = 0;
    int64_t grain = p->dim | (p->angles == QKV_ANGLES_NONE ? 0 : p->rotary_pairs);
    for (int k = 0; k < QKV_PARTS; k++) {
        const mlxn_buffer *in = buffers[k * QKV_PART_OPERANDS + QKV_INPUT];
        const mlxn_buffer *out = buffers[k * QKV_PART_OPERANDS + QKV_OUTPUT];
        if (!p->part[k].heads || !out)
            continue;
        if (in->storage == out->storage)
            return 0;
        grain |= p->part[k].offset;
        bytes += out->bytes;
    }
    return bytes >= (size_t)16 << 20 && grain % 16 == 0;
}

mlxn_status mlxn_qkv_launch(mlxn_encoder *enc, qkv_params *p,
                            mlxn_buffer *const buffers[QKV_OPERANDS])
{
    mlxn_operand operands[QKV_OPERANDS];
    p->present = 0;
    for (int i = 0; i < QKV_OPERANDS; i++) {
        int role = i < QKV_POSITIONS ? i % QKV_PART_OPERANDS : QKV_INPUT;
        operands[i].buffer = buffers[i];
        p->present |= (buffers[i] != NULL) << i;
        operands[i].access = role == QKV_OUTPUT || role == QKV_CACHE ? MLXN_WRITE : MLXN_READ;
    }
    p->stream = should_stream(p, buffers);
    return mlxn_launch(enc, MLXN_KERNEL_qkv_prepare, operands, QKV_OPERANDS, p, sizeof *p, NULL);
}

/* ---- checks ---- */

/* What the checks of one call need. */
typedef struct check {
    const char *op;
    mlxn_encoder *enc;
    qkv_params p;
    mlxn_buffer *buffers[QKV_OPERANDS];
    const char *names[QKV_OPERANDS];
} check;

static const char *const qkv_names[QKV_OPERANDS] = {
    "q.input",   "q.output", "q.weight",     "q.cache",  "k.input",  "k.output",
    "k.weight",  "k.cache",  "v.input",      "v.output", "v.weight", "v.cache",
    "positions", "freqs",    "freq_factors", "cos",      "sin",      "slots"};

static mlxn_status check_head_views(check *c, int first, qkv_part_params *part)
{
    mlxn_buffer *in = c->buffers[first + QKV_INPUT], *out = c->buffers[first + QKV_OUTPUT];
    const char *in_name = c->names[first + QKV_INPUT], *out_name = c->names[first + QKV_OUTPUT];
    int64_t dim = c->p.dim ? c->p.dim : -1, tokens = c->p.tokens ? c->p.tokens : -1;
    MLXN_TRY(mlxn_op_operand(c->op, in_name, c->enc, in, DT_FLOATS, 0));
    if (c->p.dtype)
        MLXN_TRY(mlxn_op_dtype(c->op, in_name, in, (mlxn_dtype)c->p.dtype));
    MLXN_TRY(mlxn_op_shape(c->op, in_name, in, 3, tokens, -1, dim));
    MLXN_TRY(mlxn_op_contiguous_last(c->op, in_name, in));
    c->p.dtype = (int32_t)in->dtype;
    c->p.tokens = in->shape[0];
    c->p.dim = in->shape[2];
    part->heads = in->shape[1];
    part->input_token = in->strides[0];
    part->input_head = in->strides[1];
    if (!out)
        return MLXN_OK;
    MLXN_TRY(mlxn_op_operand(c->op, out_name, c->enc, out, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_dtype(c->op, out_name, out, in->dtype));
    MLXN_TRY(mlxn_op_same_shape(c->op, out_name, out, in_name, in));
    MLXN_TRY(mlxn_op_contiguous_last(c->op, out_name, out));
    part->output_token = out->strides[0];
    part->output_head = out->strides[1];
    return MLXN_OK;
}

static mlxn_status check_weight(check *c, int first, qkv_part_params *part, mlxn_norm_kind norm)
{
    mlxn_buffer *w = c->buffers[first + QKV_WEIGHT];
    const char *name = c->names[first + QKV_WEIGHT];
    if (norm != MLXN_NORM_NONE && norm != MLXN_NORM_WEIGHTLESS && norm != MLXN_NORM_WEIGHTED)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: norm of %s is %d, not a norm kind", c->op,
                         c->names[first + QKV_INPUT], (int)norm);
    if (w && norm != MLXN_NORM_WEIGHTED)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is given, but the norm is not WEIGHTED", c->op,
                         name);
    part->norm = (int32_t)norm;
    if (norm != MLXN_NORM_WEIGHTED)
        return MLXN_OK;
    MLXN_TRY(mlxn_op_operand(c->op, name, c->enc, w, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_shape(c->op, name, w, 1, c->p.dim, 0, 0));
    MLXN_TRY(mlxn_op_contiguous_last(c->op, name, w));
    part->weight_dtype = (int32_t)w->dtype;
    return MLXN_OK;
}

static mlxn_status check_cache(check *c, int k, qkv_part_params *part)
{
    const int first = k * QKV_PART_OPERANDS;
    mlxn_buffer *cache = c->buffers[first + QKV_CACHE];
    const char *name = c->names[first + QKV_CACHE];
    if (!cache && !c->buffers[first + QKV_OUTPUT])
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is NULL%s", c->op, c->names[first + QKV_OUTPUT],
                         k ? " and so is the cache" : "");
    if (!cache)
        return MLXN_OK;
    if (k == 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is given, only k and v have one", c->op, name);
    MLXN_TRY(mlxn_op_operand(c->op, name, c->enc, cache, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_shape(c->op, name, cache, 3, -1, part->heads, c->p.dim));
    MLXN_TRY(mlxn_op_contiguous_last(c->op, name, cache));
    part->cache_dtype = (int32_t)cache->dtype;
    part->slots = cache->shape[0];
    part->cache_slot = cache->strides[0];
    part->cache_head = cache->strides[1];
    return MLXN_OK;
}

static mlxn_status check_part(check *c, int k, const mlxn_qkv_part *a, int64_t rotary_pairs)
{
    static const char *const rope_names[QKV_PARTS] = {"q.rope", "k.rope", "v.rope"};
    const int first = k * QKV_PART_OPERANDS;
    qkv_part_params *part = &c->p.part[k];
    if (!a->input) {
        if (a->output || a->weight || a->cache)
            return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is NULL, but the part has other operands",
                             c->op, c->names[first + QKV_INPUT]);
        return MLXN_OK;
    }
    c->buffers[first + QKV_INPUT] = a->input;
    c->buffers[first + QKV_OUTPUT] = a->output;
    c->buffers[first + QKV_WEIGHT] = a->weight;
    c->buffers[first + QKV_CACHE] = a->cache;
    MLXN_TRY(check_head_views(c, first, part));
    MLXN_TRY(check_weight(c, first, part, a->norm));
    MLXN_TRY(check_cache(c, k, part));
    if (k == 2 && a->rope != MLXN_ROPE_NONE)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: v.rope is %d, needs MLXN_ROPE_NONE", c->op,
                         (int)a->rope);
    return mlxn_qkv_pairing(c->op, rope_names[k], a->rope, c->p.dim, rotary_pairs, part);
}

static mlxn_status check_tables(check *c)
{
    qkv_params *p = &c->p;
    for (int i = QKV_COS; i <= QKV_SIN; i++) {
        MLXN_TRY(mlxn_op_operand(c->op, c->names[i], c->enc, c->buffers[i], DT(F32), 0));
        MLXN_TRY(
            mlxn_op_shape(c->op, c->names[i], c->buffers[i], 2, p->tokens, p->rotary_pairs, 0));
        MLXN_TRY(mlxn_op_contiguous_last(c->op, c->names[i], c->buffers[i]));
    }
    if (c->buffers[QKV_POSITIONS] || p->position_start)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is given together with tables", c->op,
                         c->buffers[QKV_POSITIONS] ? "positions" : "position_start");
    p->angles = QKV_ANGLES_TABLES;
    p->cos_stride = c->buffers[QKV_COS]->strides[0];
    p->sin_stride = c->buffers[QKV_SIN]->strides[0];
    return MLXN_OK;
}

static mlxn_status check_positions(check *c)
{
    qkv_params *p = &c->p;
    mlxn_buffer *positions = c->buffers[QKV_POSITIONS], *freqs = c->buffers[QKV_FREQS];
    MLXN_TRY(mlxn_op_operand(c->op, "freqs", c->enc, freqs, DT(F32), 0));
    MLXN_TRY(mlxn_op_shape(c->op, "freqs", freqs, 2, p->rotary_pairs, 2, 0));
    MLXN_TRY(mlxn_op_dense(c->op, "freqs", freqs, 2 * p->rotary_pairs));
    MLXN_TRY(mlxn_op_operand(c->op, "positions", c->enc, positions, DT(I32) | DT(U32) | DT(I64),
                             OP_OPTIONAL));
    MLXN_TRY(mlxn_op_shape(c->op, "positions", positions, 1, p->tokens, 0, 0));
    MLXN_TRY(mlxn_op_contiguous_last(c->op, "positions", positions));
    p->angles = QKV_ANGLES_FREQS;
    if (positions && p->position_start)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: position_start is %lld, needs 0 with positions",
                         c->op, (long long)p->position_start);
    if (positions)
        p->position_dtype = (int32_t)positions->dtype;
    else if (p->position_start < 0 || p->position_start > (int64_t)INT32_MAX + 1 - p->tokens)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "%s: position_start is %lld, needs 0 to %lld for %lld tokens", c->op,
                         (long long)p->position_start, (long long)INT32_MAX + 1 - p->tokens,
                         (long long)p->tokens);
    return MLXN_OK;
}

static mlxn_status check_angles(check *c)
{
    int rotates = 0, tables = c->buffers[QKV_COS] || c->buffers[QKV_SIN];
    for (int k = 0; k < QKV_PARTS; k++)
        rotates |= c->p.part[k].pairs != QKV_PAIRS_NONE;
    if (!rotates) {
        for (int i = QKV_POSITIONS; i <= QKV_SIN; i++)
            if (c->buffers[i])
                return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is given, but no part has a rotation",
                                 c->op, c->names[i]);
        if (c->p.rotary_pairs || c->p.position_start)
            return mlxn_fail(
                MLXN_ERR_ARGUMENT, "%s: %s is %lld, but no part has a rotation", c->op,
                c->p.rotary_pairs ? "rotary_pairs" : "position_start",
                (long long)(c->p.rotary_pairs ? c->p.rotary_pairs : c->p.position_start));
        return MLXN_OK;
    }
    float factor = c->p.attention_factor;
    MLXN_TRY(mlxn_op_float(c->op, "attention_factor", factor, factor > 0 && isfinite(factor),
                           "> 0, finite; 1 for none"));
    if (tables && c->buffers[QKV_FREQS])
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: freqs and tables are both given", c->op);
    return tables ? check_tables(c) : check_positions(c);
}

static mlxn_status check_slots(check *c)
{
    mlxn_buffer *slots = c->buffers[QKV_SLOTS];
    int cached =
        c->buffers[QKV_PART_OPERANDS + QKV_CACHE] || c->buffers[2 * QKV_PART_OPERANDS + QKV_CACHE];
    if (slots && !cached)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: slots is given without a cache", c->op);
    if (!cached)
        return MLXN_OK;
    MLXN_TRY(mlxn_op_operand(c->op, "slots", c->enc, slots, DT(I32) | DT(I64), 0));
    MLXN_TRY(mlxn_op_shape(c->op, "slots", slots, 1, c->p.tokens, 0, 0));
    MLXN_TRY(mlxn_op_contiguous_last(c->op, "slots", slots));
    c->p.slot_dtype = (int32_t)slots->dtype;
    return MLXN_OK;
}

/* Outputs and caches: distinct from every other operand, a part's output may be its input. */
static mlxn_status check_overlaps(const check *c)
{
    for (int i = 0; i < QKV_POSITIONS; i++) {
        int role = i % QKV_PART_OPERANDS;
        if (role != QKV_OUTPUT && role != QKV_CACHE)
            continue;
        MLXN_TRY(mlxn_op_distinct(c->op, c->names[i], c->buffers[i]));
        for (int j = 0; j < QKV_OPERANDS; j++)
            if (j != i)
                MLXN_TRY(mlxn_op_disjoint(c->op, c->names[i], c->buffers[i], c->names[j],
                                          c->buffers[j], role == QKV_OUTPUT && j == i - 1));
    }
    return MLXN_OK;
}

static mlxn_status check_eps(check *c, float eps, float bias)
{
    int weighted = 0;
    for (int k = 0; k < QKV_PARTS; k++)
        weighted |= c->p.part[k].heads && c->p.part[k].norm == MLXN_NORM_WEIGHTED;
    c->p.eps = eps;
    c->p.weight_bias = bias;
    MLXN_TRY(mlxn_op_float(c->op, "eps", eps, eps >= 0 && isfinite(eps), ">= 0, finite"));
    MLXN_TRY(mlxn_op_float(c->op, "weight_bias", bias, isfinite(bias), "a finite number"));
    return mlxn_op_float(c->op, "weight_bias", bias, weighted || bias == 0, "0 without a weight");
}

mlxn_status mlxn_qkv_prepare(mlxn_encoder *enc, const mlxn_qkv_prepare_args *args)
{
    check c = {.op = "qkv_prepare", .enc = enc};
    MLXN_TRY(mlxn_op_encoder(c.op, enc));
    OP_ARGS(c.op, mlxn_qkv_prepare_args, a, args);
    const mlxn_qkv_part *parts[QKV_PARTS] = {&a.q, &a.k, &a.v};
    memcpy(c.names, qkv_names, sizeof c.names);
    c.buffers[QKV_POSITIONS] = a.positions;
    c.buffers[QKV_FREQS] = a.freqs;
    c.buffers[QKV_COS] = a.cos;
    c.buffers[QKV_SIN] = a.sin;
    c.buffers[QKV_SLOTS] = a.slots;
    c.p.rotary_pairs = a.rotary_pairs;
    c.p.position_start = a.position_start;
    c.p.attention_factor = a.attention_factor;
    c.p.rounding = (int32_t)a.rounding;
    if (!a.q.input && !a.k.input && !a.v.input)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: q.input, k.input and v.input are NULL", c.op);
    if (a.rounding != MLXN_ROUND_EXACT && a.rounding != MLXN_ROUND_MATCH_UNFUSED)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: rounding is %d, not a rounding", c.op,
                         (int)a.rounding);
    for (int k = 0; k < QKV_PARTS; k++)
        MLXN_TRY(check_part(&c, k, parts[k], a.rotary_pairs));
    MLXN_TRY(check_eps(&c, a.eps, a.weight_bias));
    MLXN_TRY(check_angles(&c));
    MLXN_TRY(check_slots(&c));
    MLXN_TRY(check_overlaps(&c));
    return mlxn_qkv_launch(enc, &c.p, c.buffers);
}

mlxn_status mlxn_rope(mlxn_encoder *enc, const mlxn_rope_args *args)
{
    check c = {.op = "rope", .enc = enc};
    MLXN_TRY(mlxn_op_encoder(c.op, enc));
    OP_ARGS(c.op, mlxn_rope_args, a, args);
    memcpy(c.names, qkv_names, sizeof c.names);
    c.names[QKV_INPUT] = "input";
    c.names[QKV_OUTPUT] = "output";
    c.buffers[QKV_INPUT] = a.input;
    c.buffers[QKV_OUTPUT] = a.output;
    c.buffers[QKV_POSITIONS] = a.positions;
    c.buffers[QKV_FREQS] = a.freqs;
    c.buffers[QKV_COS] = a.cos;
    c.buffers[QKV_SIN] = a.sin;
    c.p.rotary_pairs = a.rotary_pairs;
    c.p.position_start = a.position_start;
    c.p.attention_factor = a.attention_factor;
    c.p.part[0].norm = MLXN_NORM_NONE;
    if (!a.output)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: output is NULL", c.op);
    if (a.pairing == MLXN_ROPE_NONE)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: pairing is MLXN_ROPE_NONE", c.op);
    MLXN_TRY(check_head_views(&c, 0, &c.p.part[0]));
    MLXN_TRY(mlxn_qkv_pairing(c.op, "pairing", a.pairing, c.p.dim, a.rotary_pairs, &c.p.part[0]));
    MLXN_TRY(check_angles(&c));
    MLXN_TRY(check_overlaps(&c));
    return mlxn_qkv_launch(enc, &c.p, c.buffers);
}
