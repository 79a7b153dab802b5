/* sampling_refusals_test.c - what the sampling operators refuse. */
#include "logits.h"

typedef struct operands {
    mlxn_encoder *encoder;
    mlxn_buffer *x, *rows;           /* logits: f32 [8], [2, 4] */
    mlxn_buffer *i1, *c1, *p1, *d1;  /* i32 [1], each its own memory */
    mlxn_buffer *i2, *i9, *f1, *f9;  /* i32 and f32 of other lengths */
    mlxn_buffer *far, *alias, *cube; /* on another device; i32 [1] inside of x; x as [2, 2, 2] */
} operands;

static operands open_operands(void)
{
    int n;
    const rig_device *on = &rig_devices(&n)[0], *other = &rig_devices(&n)[1];
    operands o = {.encoder = on->encoder,
                  .x = rig_vector(on->device, MLXN_F32, 8, NULL),
                  .rows = logits_buffer(on, 2, 4, NULL),
                  .i1 = rig_vector(on->device, MLXN_I32, 1, NULL),
                  .c1 = rig_vector(on->device, MLXN_I32, 1, NULL),
                  .p1 = rig_vector(on->device, MLXN_I32, 1, NULL),
                  .d1 = rig_vector(on->device, MLXN_I32, 1, NULL),
                  .i2 = rig_vector(on->device, MLXN_I32, 2, NULL),
                  .i9 = rig_vector(on->device, MLXN_I32, 9, NULL),
                  .f1 = rig_vector(on->device, MLXN_F32, 1, NULL),
                  .f9 = rig_vector(on->device, MLXN_F32, 9, NULL),
                  .far = rig_vector(other->device, MLXN_F32, 8, NULL)};
    CHECK_STATUS(mlxn_buffer_view(o.x, MLXN_I32, 1, (int64_t[]){1}, NULL, 4, &o.alias), MLXN_OK);
    o.cube = rig_view(o.x, 3, (int64_t[]){2, 2, 2}, NULL, 0);
    return o;
}

static void close_operands(operands *o)
{
    mlxn_buffer *all[] = {o->x,  o->rows, o->i1, o->c1,  o->p1,    o->d1,  o->i2,
                          o->i9, o->f1,   o->f9, o->far, o->alias, o->cube};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}

#define FAILS(op, status, text, ...)                                                               \
    CHECK_FAILS(mlxn_##op(o.encoder, MLXN_DESC(mlxn_##op##_args, __VA_ARGS__)), MLXN_ERR_##status, \
                text)

TEST(sampling_choices_refuse)
{
    operands o = open_operands();
    CHECK_FAILS(mlxn_argmax(NULL, NULL), MLXN_ERR_ARGUMENT, "encoder");
    CHECK_FAILS(mlxn_argmax(o.encoder, NULL), MLXN_ERR_ARGUMENT, "argmax");
    FAILS(argmax, ARGUMENT, "logits is NULL", .ids = o.i1);
    FAILS(argmax, ARGUMENT, "ids is NULL", .logits = o.x);
    FAILS(argmax, ARGUMENT, "another device", .logits = o.far, .ids = o.i1);
    FAILS(argmax, DTYPE, "logits is i32", .logits = o.i9, .ids = o.i1);
    FAILS(argmax, DTYPE, "ids is f32", .logits = o.x, .ids = o.f1);
    FAILS(argmax, SHAPE, "logits has 3 dimensions", .logits = o.cube, .ids = o.i1);
    FAILS(argmax, SHAPE, "ids has 1 elements, needs 2", .logits = o.rows, .ids = o.i1);
    FAILS(argmax, OVERLAP, "ids and logits", .logits = o.x, .ids = o.alias);
    FAILS(top_k, SHAPE, "room for 9 a row, needs 1 to 8", .logits = o.x, .ids = o.i9,
          .values = o.f9);
    FAILS(top_k, SHAPE, "room for 0", .logits = o.rows, .ids = o.i1, .values = o.f1);
    FAILS(top_k, SHAPE, "values has 9", .logits = o.x, .ids = o.i1, .values = o.f9);
    FAILS(top_k, ARGUMENT, "values is NULL", .logits = o.x, .ids = o.i1);
    FAILS(top_k, OVERLAP, "ids and logits", .logits = o.x, .ids = o.alias, .values = o.f1);
    FAILS(logprob, SHAPE, "targets has 1 elements, needs 2", .logits = o.rows, .targets = o.i1,
          .logprobs = o.f9);
    FAILS(logprob, SHAPE, "logprobs has 9", .logits = o.rows, .targets = o.i2, .logprobs = o.f9);
    FAILS(logprob, DTYPE, "targets is f32", .logits = o.x, .targets = o.f1, .logprobs = o.f1);
    close_operands(&o);
}

TEST(sampling_draws_refuse)
{
    operands o = open_operands();
    CHECK_FAILS(mlxn_sample(o.encoder, NULL), MLXN_ERR_ARGUMENT, "sample");
    FAILS(repeat_penalty, ARGUMENT, "last_n is 10", .logits = o.x, .history = o.i9, .counter = o.i1,
          .last_n = 10, .penalty = 1);
    FAILS(repeat_penalty, ARGUMENT, "last_n is 0", .logits = o.x, .history = o.i9, .counter = o.i1,
          .penalty = 1);
    FAILS(repeat_penalty, ARGUMENT, "penalty is 0", .logits = o.x, .history = o.i9, .counter = o.i1,
          .last_n = 1);
    FAILS(repeat_penalty, OVERLAP, "logits and counter", .logits = o.x, .history = o.i9,
          .counter = o.alias, .last_n = 1, .penalty = 1);
    FAILS(sample, ARGUMENT, "counter is NULL", .logits = o.x, .token = o.i1, .temperature = 1,
          .top_p = 1);
    FAILS(sample, ARGUMENT, "top_p is 0", .logits = o.x, .token = o.i1, .counter = o.c1);
    FAILS(sample, ARGUMENT, "top_p is 1.5", .logits = o.x, .token = o.i1, .counter = o.c1,
          .top_p = 1.5f);
    FAILS(sample, ARGUMENT, "min_p is -1", .logits = o.x, .token = o.i1, .counter = o.c1,
          .top_p = 1, .min_p = -1);
    FAILS(sample, ARGUMENT, "min_p is nan", .logits = o.x, .token = o.i1, .counter = o.c1,
          .top_p = 1, .min_p = NAN);
    FAILS(sample, ARGUMENT, "temperature is -1", .logits = o.x, .token = o.i1, .counter = o.c1,
          .top_p = 1, .temperature = -1);
    FAILS(sample, ARGUMENT, "top_k is -1", .logits = o.x, .token = o.i1, .counter = o.c1,
          .top_p = 1, .top_k = -1);
    FAILS(sample, OVERLAP, "token and logits", .logits = o.x, .token = o.alias, .counter = o.c1,
          .top_p = 1);
    FAILS(sample, OVERLAP, "token and counter", .logits = o.x, .token = o.i1, .counter = o.i1,
          .top_p = 1);
    FAILS(sample, SHAPE, "token has 2", .logits = o.x, .token = o.i2, .counter = o.c1, .top_p = 1);
    FAILS(step_advance, ARGUMENT, "token is NULL", .ids = o.i1);
    FAILS(step_advance, ARGUMENT, "positions is NULL", .token = o.i1, .ids = o.d1);
    FAILS(step_advance, SHAPE, "ids has 2", .token = o.i1, .ids = o.i2, .positions = o.p1,
          .counter = o.c1);
    FAILS(step_advance, OVERLAP, "counter and positions", .token = o.i1, .ids = o.d1,
          .positions = o.p1, .counter = o.p1);
    /* B18: a ring of no slots */
    FAILS(step_advance, ARGUMENT, "capacity of slots_a is 0", .token = o.i1, .ids = o.i1,
          .positions = o.p1, .counter = o.c1, .slots_a = o.d1);
    FAILS(step_advance, DTYPE, "history is f32", .token = o.i1, .ids = o.i1, .positions = o.p1,
          .counter = o.c1, .history = o.f9);
    close_operands(&o);
}
