/* qkv_prepare_refusals_test.c - what qkv_prepare and rope refuse, and in which words: the operand
 * and both numbers. */
#include "rig.h"

/* A good call of q [2, 4, 64], k and v [2, 1, 64] with caches, and room for wrong operands. */
typedef struct setup {
    const rig_device *on;
    mlxn_buffer *x, *y, *kx, *ky, *vx, *vy, *w, *kc, *vc, *freqs, *positions, *slots, *cosine,
        *sine;
    mlxn_qkv_prepare_args a;
} setup;

static mlxn_buffer *make(const setup *s, mlxn_dtype dtype, int64_t a, int64_t b, int64_t c)
{
    const int64_t shape[3] = {a, b, c};
    return rig_buffer(s->on->device, dtype, c ? 3 : b ? 2 : 1, shape, NULL);
}

static setup begin(void)
{
    int n;
    setup s = {.on = rig_devices(&n)};
    s.x = make(&s, MLXN_F32, 2, 4, 64);
    s.y = make(&s, MLXN_F32, 2, 4, 64);
    s.kx = make(&s, MLXN_F32, 2, 1, 64);
    s.ky = make(&s, MLXN_F32, 2, 1, 64);
    s.vx = make(&s, MLXN_F32, 2, 1, 64);
    s.vy = make(&s, MLXN_F32, 2, 1, 64);
    s.w = make(&s, MLXN_BF16, 64, 0, 0);
    s.kc = make(&s, MLXN_F16, 8, 1, 64);
    s.vc = make(&s, MLXN_F16, 8, 1, 64);
    s.freqs = make(&s, MLXN_F32, 32, 2, 0);
    s.positions = make(&s, MLXN_I32, 2, 0, 0);
    s.slots = make(&s, MLXN_I64, 2, 0, 0);
    s.cosine = make(&s, MLXN_F32, 2, 32, 0);
    s.sine = make(&s, MLXN_F32, 2, 32, 0);
    s.a =
        (mlxn_qkv_prepare_args){.size = sizeof s.a,
                                .q = {s.x, s.y, s.w, NULL, MLXN_NORM_WEIGHTED, MLXN_ROPE_NEOX},
                                .k = {s.kx, s.ky, NULL, s.kc, MLXN_NORM_WEIGHTLESS, MLXN_ROPE_NEOX},
                                .v = {s.vx, NULL, NULL, s.vc, MLXN_NORM_NONE, MLXN_ROPE_NONE},
                                .rotary_pairs = 32,
                                .positions = s.positions,
                                .freqs = s.freqs,
                                .attention_factor = 1,
                                .slots = s.slots,
                                .eps = 1e-6f,
                                .weight_bias = 1};
    return s;
}

static void end(setup *s)
{
    mlxn_buffer *all[] = {s->x,  s->y,  s->kx,    s->ky,        s->vx,    s->vy,     s->w,
                          s->kc, s->vc, s->freqs, s->positions, s->slots, s->cosine, s->sine};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
    CHECK_STATUS(mlxn_encoder_reset(s->on->encoder), MLXN_OK);
}

/* The good call with one change must fail with this code and text. */
#define REFUSES(code, text, ...)                                                 \
    do {                                                                         \
        mlxn_qkv_prepare_args a = s.a;                                           \
        __VA_ARGS__;                                                             \
        CHECK_FAILS(mlxn_qkv_prepare(s.on->encoder, &a), MLXN_ERR_##code, text); \
    } while (0)

TEST(qkv_prepare_accepts_the_base_call)
{
    setup s = begin();
    CHECK_STATUS(mlxn_qkv_prepare(s.on->encoder, &s.a), MLXN_OK);
    rig_finish(s.on, MLXN_OK);
    end(&s);
}

TEST(qkv_prepare_refuses_operands)
{
    setup s = begin();
    mlxn_buffer *flat = make(&s, MLXN_F32, 512, 0, 0), *f16 = make(&s, MLXN_F16, 2, 1, 64);
    mlxn_buffer *d32 = make(&s, MLXN_F32, 2, 1, 32), *t3 = make(&s, MLXN_F32, 3, 1, 64);
    mlxn_buffer *w63 = make(&s, MLXN_F32, 63, 0, 0), *i32 = make(&s, MLXN_I32, 64, 0, 0);
    mlxn_buffer *c2 = make(&s, MLXN_F16, 8, 2, 64), *ci = make(&s, MLXN_I32, 8, 1, 64);
    CHECK_FAILS(mlxn_qkv_prepare(NULL, &s.a), MLXN_ERR_ARGUMENT, "encoder is NULL");
    CHECK_STATUS(mlxn_qkv_prepare(s.on->encoder, NULL), MLXN_ERR_ARGUMENT);
    REFUSES(ARGUMENT, "q.input, k.input and v.input are NULL",
            a.q.input = a.k.input = a.v.input = NULL);
    REFUSES(ARGUMENT, "q.input is NULL, but the part has other operands", a.q.input = NULL);
    REFUSES(ARGUMENT, "q.output is NULL", a.q.output = NULL);
    REFUSES(ARGUMENT, "v.output is NULL and so is the cache", a.v.cache = NULL);
    REFUSES(ARGUMENT, "q.cache is given", a.q.cache = s.kc);
    REFUSES(SHAPE, "q.input has 1 dimensions, needs 3", a.q.input = flat);
    REFUSES(DTYPE, "q.input is i32", a.q.input = i32);
    REFUSES(DTYPE, "k.input is f16, needs f32", a.k.input = f16);
    REFUSES(DTYPE, "k.output is f16, needs f32", a.k.output = f16);
    REFUSES(SHAPE, "k.input has 32 in dimension 2, needs 64", a.k.input = d32);
    REFUSES(SHAPE, "k.input has 3 in dimension 0, needs 2", a.k.input = t3);
    REFUSES(SHAPE, "q.output has 1 in dimension 1, q.input has 4", a.q.output = s.vy);
    REFUSES(ARGUMENT, "q.weight is NULL", a.q.weight = NULL);
    REFUSES(ARGUMENT, "k.weight is given, but the norm is not WEIGHTED", a.k.weight = s.w);
    REFUSES(SHAPE, "q.weight has 63 in dimension 0, needs 64", a.q.weight = w63);
    REFUSES(DTYPE, "q.weight is i32", a.q.weight = i32);
    REFUSES(ARGUMENT, "norm of q.input is 0", a.q.norm = (mlxn_norm_kind)0);
    REFUSES(SHAPE, "k.cache has 2 in dimension 1, needs 1", a.k.cache = c2);
    REFUSES(DTYPE, "k.cache is i32", a.k.cache = ci);
    REFUSES(ARGUMENT, "slots is NULL", a.slots = NULL);
    REFUSES(DTYPE, "slots is f32, needs i32, i64", a.slots = s.cosine);
    REFUSES(SHAPE, "slots has 64 in dimension 0, needs 2", a.slots = i32);
    REFUSES(ARGUMENT, "slots is given without a cache", a.k.cache = a.v.cache = NULL,
            a.v.output = s.vy);
    mlxn_buffer *extra[] = {flat, f16, d32, t3, w63, i32, c2, ci};
    for (size_t i = 0; i < sizeof extra / sizeof *extra; i++)
        mlxn_buffer_release(extra[i]);
    end(&s);
}

TEST(qkv_prepare_refuses_angles)
{
    setup s = begin();
    mlxn_buffer *f31 = make(&s, MLXN_F32, 31, 2, 0), *p3 = make(&s, MLXN_I32, 3, 0, 0);
    mlxn_buffer *c31 = make(&s, MLXN_F32, 2, 31, 0);
    REFUSES(ARGUMENT, "rotary_pairs is 31, q.rope needs 32", a.rotary_pairs = 31);
    REFUSES(ARGUMENT, "rotary_pairs is 33, q.rope needs 1 to 32", a.rotary_pairs = 33,
            a.q.rope = MLXN_ROPE_PREFIX);
    REFUSES(ARGUMENT, "rotary_pairs is 0, q.rope needs 1 to 32", a.rotary_pairs = 0,
            a.q.rope = MLXN_ROPE_PROPORTIONAL);
    REFUSES(ARGUMENT, "q.rope is 0, not a pairing", a.q.rope = (mlxn_rope_pairing)0);
    REFUSES(ARGUMENT, "v.rope is 2", a.v.rope = MLXN_ROPE_NEOX);
    REFUSES(ARGUMENT, "freqs is NULL", a.freqs = NULL);
    REFUSES(ARGUMENT, "freqs and tables are both given", a.cos = s.cosine, a.sin = s.sine);
    REFUSES(ARGUMENT, "sin is NULL", a.freqs = NULL, a.cos = s.cosine, a.positions = NULL);
    REFUSES(SHAPE, "sin has 31 in dimension 1, needs 32", a.freqs = NULL, a.cos = s.cosine,
            a.sin = c31, a.positions = NULL);
    REFUSES(ARGUMENT, "positions is given together with tables", a.freqs = NULL, a.cos = s.cosine,
            a.sin = s.sine);
    REFUSES(SHAPE, "freqs has 31 in dimension 0, needs 32", a.freqs = f31);
    REFUSES(DTYPE, "freqs is bf16, needs f32", a.freqs = s.w);
    REFUSES(SHAPE, "positions has 3 in dimension 0, needs 2", a.positions = p3);
    REFUSES(DTYPE, "positions is f32", a.positions = s.freqs);
    REFUSES(ARGUMENT, "position_start is 5, needs 0 with positions", a.position_start = 5);
    REFUSES(ARGUMENT, "position_start is 2147483647, needs 0 to 2147483646", a.positions = NULL,
            a.position_start = INT32_MAX);
    REFUSES(ARGUMENT, "position_start is -1", a.positions = NULL, a.position_start = -1);
    REFUSES(ARGUMENT, "attention_factor is 0", a.attention_factor = 0);
    REFUSES(ARGUMENT, "attention_factor is nan", a.attention_factor = NAN);
    REFUSES(ARGUMENT, "positions is given, but no part has a rotation",
            a.q.rope = a.k.rope = MLXN_ROPE_NONE);
    REFUSES(ARGUMENT, "rotary_pairs is 32, but no part has a rotation",
            a.q.rope = a.k.rope = MLXN_ROPE_NONE, a.freqs = a.positions = NULL);
    REFUSES(ARGUMENT, "eps is -1", a.eps = -1);
    REFUSES(ARGUMENT, "eps is inf", a.eps = HUGE_VALF);
    REFUSES(ARGUMENT, "weight_bias is 1, needs 0 without a weight", a.q.norm = MLXN_NORM_WEIGHTLESS,
            a.q.weight = NULL);
    REFUSES(ARGUMENT, "rounding is 2", a.rounding = (mlxn_rounding)2);
    mlxn_buffer_release(f31);
    mlxn_buffer_release(p3);
    mlxn_buffer_release(c31);
    end(&s);
}

TEST(qkv_prepare_refuses_overlaps)
{
    const int64_t shape[3] = {2, 4, 64}, folded[3] = {64, 64, 1}, gapped[3] = {256, 64, 1};
    setup s = begin();
    mlxn_buffer *both = make(&s, MLXN_F32, 1024, 0, 0);
    mlxn_buffer *low = rig_view(both, 3, shape, gapped, 0),
                *mid = rig_view(both, 3, shape, gapped, 64);
    mlxn_buffer *fold = rig_view(both, 3, shape, folded, 0);
    REFUSES(OVERLAP, "q.output and q.input overlap and are not the same view", a.q.input = low,
            a.q.output = mid);
    REFUSES(OVERLAP, "q.output overlaps itself", a.q.output = fold);
    REFUSES(OVERLAP, "k.output and v.input overlap", a.k.output = s.vx);
    REFUSES(OVERLAP, "k.output and v.output overlap", a.v.output = s.ky);
    REFUSES(OVERLAP, "k.cache and v.cache overlap", a.v.cache = s.kc);
    REFUSES(OVERLAP, "k.output and v.input overlap", a.k.output = a.v.input = s.kx);
    mlxn_qkv_prepare_args a = s.a; /* two parts may read one input, out of place */
    a.v.input = s.kx;
    CHECK_STATUS(mlxn_qkv_prepare(s.on->encoder, &a), MLXN_OK);
    mlxn_buffer_release(both);
    mlxn_buffer_release(low);
    mlxn_buffer_release(mid);
    mlxn_buffer_release(fold);
    end(&s);
}

static mlxn_status rope(const setup *s, mlxn_buffer *in, mlxn_buffer *out,
                        mlxn_rope_pairing pairing, int64_t pairs, mlxn_buffer *freqs)
{
    return mlxn_rope(s->on->encoder,
                     MLXN_DESC(mlxn_rope_args, .input = in, .output = out, .pairing = pairing,
                               .rotary_pairs = pairs, .freqs = freqs, .attention_factor = 1));
}

TEST(rope_refusals)
{
    setup s = begin();
    CHECK_STATUS(mlxn_rope(s.on->encoder, NULL), MLXN_ERR_ARGUMENT);
    CHECK_FAILS(rope(&s, NULL, s.y, MLXN_ROPE_NEOX, 32, s.freqs), MLXN_ERR_ARGUMENT,
                "rope: input is NULL");
    CHECK_FAILS(rope(&s, s.x, NULL, MLXN_ROPE_NEOX, 32, s.freqs), MLXN_ERR_ARGUMENT,
                "output is NULL");
    CHECK_FAILS(rope(&s, s.x, s.y, MLXN_ROPE_NONE, 0, NULL), MLXN_ERR_ARGUMENT, "pairing is");
    CHECK_FAILS(rope(&s, s.x, s.y, (mlxn_rope_pairing)8, 32, s.freqs), MLXN_ERR_ARGUMENT,
                "pairing is 8, not a pairing");
    CHECK_FAILS(rope(&s, s.x, s.y, MLXN_ROPE_NEOX, 16, s.freqs), MLXN_ERR_ARGUMENT,
                "rotary_pairs is 16, pairing needs 32");
    CHECK_FAILS(rope(&s, s.x, s.ky, MLXN_ROPE_NEOX, 32, s.freqs), MLXN_ERR_SHAPE,
                "output has 1 in dimension 1, input has 4");
    CHECK_FAILS(rope(&s, s.x, s.y, MLXN_ROPE_NEOX, 32, NULL), MLXN_ERR_ARGUMENT, "freqs is NULL");
    CHECK_FAILS(rope(&s, s.w, s.y, MLXN_ROPE_NEOX, 32, s.freqs), MLXN_ERR_SHAPE, "needs 3");
    end(&s);
}
