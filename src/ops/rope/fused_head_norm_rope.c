/* fused_head_norm_rope.c - the two fused head norm and rotation operators of fixed layout: checks,
 * and a launch of the kernel of qkv_prepare with one part.  Contracts at the public header. */
#include <math.h>
#include "ops/check.h"
#include "ops/rope/qkv_prepare.h"

/* What the two have in common; COMMON takes it from the descriptor `a` of either. */
typedef struct common {
    const char *op;
    mlxn_encoder *enc;
    mlxn_dtype dtype;
    mlxn_buffer *input, *output, *norm_weight;
    uint32_t n_tokens, n_heads, head_dim, half_rope_dim;
    float eps;
} common;
#define COMMON(name, encoder, type, a)                                                             \
    {                                                                                              \
        .op = (name), .enc = (encoder), .dtype = (type), .input = (a).input, .output = (a).output, \
        .norm_weight = (a).norm_weight, .n_tokens = (a).n_tokens, .n_heads = (a).n_heads,          \
        .head_dim = (a).head_dim, .half_rope_dim = (a).half_rope_dim, .eps = (a).eps,              \
    }

static mlxn_status check_counts(const common *c, int64_t *elements)
{
    size_t n;
    const struct {
        const char *name;
        uint32_t value;
    } counts[] = {{"n_tokens", c->n_tokens}, {"n_heads", c->n_heads}, {"head_dim", c->head_dim}};
    for (int i = 0; i < 3; i++)
        if (!counts[i].value)
            return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is 0", c->op, counts[i].name);
    if (c->half_rope_dim > c->head_dim / 2)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: half_rope_dim is %u, needs at most %u", c->op,
                         c->half_rope_dim, c->head_dim / 2);
    if (mlxn_mul_overflows((size_t)c->n_tokens * c->n_heads, c->head_dim, &n) || n > INT64_MAX)
        return mlxn_fail(MLXN_ERR_OVERFLOW,
                         "%s: n_tokens %u times n_heads %u times head_dim %u passes 2^63", c->op,
                         c->n_tokens, c->n_heads, c->head_dim);
    *elements = (int64_t)n;
    return MLXN_OK;
}

/* Checks the common operands and describes them as the first part. */
static mlxn_status check_common(const common *c, qkv_params *p, mlxn_buffer *buffers[])
{
    int64_t elements = 0;
    MLXN_TRY(check_counts(c, &elements)); /* so that a row cannot overflow */
    const int64_t dim = c->head_dim, row = dim * c->n_heads;
    MLXN_TRY(mlxn_op_operand(c->op, "input", c->enc, c->input, 1u << c->dtype, 0));
    MLXN_TRY(mlxn_op_operand(c->op, "output", c->enc, c->output, 1u << c->dtype, 0));
    MLXN_TRY(
        mlxn_op_operand(c->op, "norm_weight", c->enc, c->norm_weight, 1u << c->dtype, OP_OPTIONAL));
    MLXN_TRY(mlxn_op_dense(c->op, "input", c->input, elements));
    MLXN_TRY(mlxn_op_dense(c->op, "output", c->output, elements));
    MLXN_TRY(mlxn_op_dense(c->op, "norm_weight", c->norm_weight, dim));
    MLXN_TRY(mlxn_op_float(c->op, "eps", c->eps, c->eps >= 0 && isfinite(c->eps), ">= 0, finite"));
    MLXN_TRY(mlxn_op_disjoint(c->op, "output", c->output, "input", c->input, 1));
    MLXN_TRY(mlxn_op_disjoint(c->op, "output", c->output, "norm_weight", c->norm_weight, 0));
    buffers[QKV_INPUT] = c->input;
    buffers[QKV_OUTPUT] = c->output;
    buffers[QKV_WEIGHT] = c->norm_weight;
    p->part[0] = (qkv_part_params){
        .heads = c->n_heads,
        .input_token = row,
        .input_head = dim,
        .output_token = row,
        .output_head = dim,
        .norm = c->norm_weight ? MLXN_NORM_WEIGHTED : MLXN_NORM_WEIGHTLESS,
        .weight_dtype = (int32_t)c->dtype,
    };
    p->tokens = c->n_tokens;
    p->dim = dim;
    p->rotary_pairs = c->half_rope_dim;
    p->dtype = (int32_t)c->dtype;
    p->eps = c->eps;
    p->attention_factor = 1.0f;
    return MLXN_OK;
}

/* A table: f32, rows of half_rope_dim elements, `stride` apart. */
static mlxn_status check_table(const common *c, const char *name, mlxn_buffer *table,
                               const char *stride_name, int64_t stride)
{
    int64_t last, needs;
    MLXN_TRY(mlxn_op_operand(c->op, name, c->enc, table, DT(F32), 0));
    if (c->n_tokens > 1 && stride < (int64_t)c->half_rope_dim)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is %lld, needs at least %u", c->op, stride_name,
                         (long long)stride, c->half_rope_dim);
    if (__builtin_mul_overflow((int64_t)c->n_tokens - 1, stride, &last) ||
        __builtin_add_overflow(last, (int64_t)c->half_rope_dim, &needs))
        return mlxn_fail(MLXN_ERR_OVERFLOW, "%s: %s %lld times %u tokens passes 2^63", c->op,
                         stride_name, (long long)stride, c->n_tokens);
    if (table->elements < needs)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has %lld elements, needs %lld", c->op, name,
                         (long long)table->elements, (long long)needs);
    MLXN_TRY(mlxn_op_dense(c->op, name, table, table->elements));
    return mlxn_op_disjoint(c->op, "output", c->output, name, table, 0);
}

mlxn_status mlxn_fused_head_norm_rope_bf16(mlxn_encoder *enc,
                                           const mlxn_fused_head_norm_rope_bf16_args *args)
{
    const char *op = "fused_head_norm_rope_bf16";
    qkv_params p = {0};
    mlxn_buffer *buffers[QKV_OPERANDS] = {0};
    MLXN_TRY(mlxn_op_encoder(op, enc));
    OP_ARGS(op, mlxn_fused_head_norm_rope_bf16_args, a, args);
    const common c = COMMON(op, enc, MLXN_BF16, a);
    MLXN_TRY(check_common(&c, &p, buffers));
    if (a.half_rope_dim) {
        MLXN_TRY(check_table(&c, "cos_cache", a.cos_cache, "cos_row_stride", a.cos_row_stride));
        MLXN_TRY(check_table(&c, "sin_cache", a.sin_cache, "sin_row_stride", a.sin_row_stride));
        MLXN_TRY(mlxn_qkv_pairing(op, "half_rope_dim", MLXN_ROPE_PREFIX, p.dim, p.rotary_pairs,
                                  &p.part[0]));
        p.angles = QKV_ANGLES_TABLES;
        p.cos_stride = a.cos_row_stride;
        p.sin_stride = a.sin_row_stride;
        buffers[QKV_COS] = a.cos_cache;
        buffers[QKV_SIN] = a.sin_cache;
    }
    return mlxn_qkv_launch(enc, &p, buffers);
}

/* Frequencies: freqs, or theta and freq_factors. */
static mlxn_status check_freqs(const common *c, const mlxn_fused_head_norm_rope_f32_args *a,
                               qkv_params *p)
{
    int64_t pairs = c->half_rope_dim;
    MLXN_TRY(mlxn_op_operand(c->op, "positions_buf", c->enc, a->positions_buf, DT(U32), 0));
    MLXN_TRY(mlxn_op_dense(c->op, "positions_buf", a->positions_buf, c->n_tokens));
    MLXN_TRY(mlxn_op_disjoint(c->op, "output", c->output, "positions_buf", a->positions_buf, 0));
    p->position_dtype = MLXN_U32;
    if (a->freqs) {
        if (a->freq_factors || a->theta != 0)
            return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: freqs and %s are both given", c->op,
                             a->freq_factors ? "freq_factors" : "theta");
        MLXN_TRY(mlxn_op_operand(c->op, "freqs", c->enc, a->freqs, DT(F32), 0));
        MLXN_TRY(mlxn_op_shape(c->op, "freqs", a->freqs, 2, pairs, 2, 0));
        MLXN_TRY(mlxn_op_dense(c->op, "freqs", a->freqs, 2 * pairs));
        p->angles = QKV_ANGLES_FREQS;
        return mlxn_op_disjoint(c->op, "output", c->output, "freqs", a->freqs, 0);
    }
    MLXN_TRY(
        mlxn_op_float(c->op, "theta", a->theta, a->theta > 0 && isfinite(a->theta), "> 0, finite"));
    MLXN_TRY(mlxn_op_operand(c->op, "freq_factors", c->enc, a->freq_factors, DT(F32), OP_OPTIONAL));
    MLXN_TRY(mlxn_op_dense(c->op, "freq_factors", a->freq_factors, pairs));
    MLXN_TRY(mlxn_op_disjoint(c->op, "output", c->output, "freq_factors", a->freq_factors, 0));
    p->angles = QKV_ANGLES_THETA;
    for (int k = 0; k < 32; k++) {
        double power = pow((double)a->theta, -2.0 * ldexp(1.0, k) / (double)c->head_dim);
        p->theta_power[k][0] = (float)power;
        p->theta_power[k][1] = (float)(power - (double)p->theta_power[k][0]);
    }
    return MLXN_OK;
}

mlxn_status mlxn_fused_head_norm_rope_f32(mlxn_encoder *enc,
                                          const mlxn_fused_head_norm_rope_f32_args *args)
{
    const char *op = "fused_head_norm_rope_f32";
    qkv_params p = {0};
    mlxn_buffer *buffers[QKV_OPERANDS] = {0};
    MLXN_TRY(mlxn_op_encoder(op, enc));
    OP_ARGS(op, mlxn_fused_head_norm_rope_f32_args, a, args);
    const common c = COMMON(op, enc, MLXN_F32, a);
    MLXN_TRY(check_common(&c, &p, buffers));
    if (a.half_rope_dim) {
        MLXN_TRY(check_freqs(&c, &a, &p));
        MLXN_TRY(mlxn_qkv_pairing(op, "half_rope_dim", MLXN_ROPE_PROPORTIONAL, p.dim,
                                  p.rotary_pairs, &p.part[0]));
        buffers[QKV_POSITIONS] = a.positions_buf;
        buffers[QKV_FREQS] = a.freqs;
        buffers[QKV_FACTORS] = a.freq_factors;
    }
    return mlxn_qkv_launch(enc, &p, buffers);
}
