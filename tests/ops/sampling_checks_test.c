/* sampling_checks_test.c - what the sampling operators refuse. */
#include "logits.h"

TEST(sampling_checks)
{
    int n;
    const rig_device *on = &rig_devices(&n)[0], *other = &rig_devices(&n)[1];
    mlxn_encoder *e = on->encoder;
    mlxn_buffer *x = rig_vector(on->device, MLXN_F32, 8, NULL);
    mlxn_buffer *rows = logits_buffer(on, 2, 4, NULL),
                *i1 = rig_vector(on->device, MLXN_I32, 1, NULL);
    mlxn_buffer *c1 = rig_vector(on->device, MLXN_I32, 1, NULL);
    mlxn_buffer *p1 = rig_vector(on->device, MLXN_I32, 1, NULL);
    mlxn_buffer *d1 = rig_vector(on->device, MLXN_I32, 1, NULL);
    mlxn_buffer *i2 = rig_vector(on->device, MLXN_I32, 2, NULL);
    mlxn_buffer *i9 = rig_vector(on->device, MLXN_I32, 9, NULL);
    mlxn_buffer *f1 = rig_vector(on->device, MLXN_F32, 1, NULL);
    mlxn_buffer *f9 = rig_vector(on->device, MLXN_F32, 9, NULL);
    mlxn_buffer *far = rig_vector(other->device, MLXN_F32, 8, NULL), *alias = NULL, *cube = NULL;
    CHECK_STATUS(mlxn_buffer_view(x, MLXN_I32, 1, (int64_t[]){1}, NULL, 4, &alias), MLXN_OK);
    CHECK_STATUS(mlxn_buffer_view(x, MLXN_F32, 3, (int64_t[]){2, 2, 2}, NULL, 0, &cube), MLXN_OK);
#define FAILS(op, status, text, ...) \
    CHECK_FAILS(mlxn_##op(e, MLXN_DESC(mlxn_##op##_args, __VA_ARGS__)), MLXN_ERR_##status, text)
    CHECK_FAILS(mlxn_argmax(NULL, NULL), MLXN_ERR_ARGUMENT, "encoder");
    CHECK_FAILS(mlxn_argmax(e, NULL), MLXN_ERR_ARGUMENT, "argmax");
    CHECK_FAILS(mlxn_sample(e, NULL), MLXN_ERR_ARGUMENT, "sample");
    FAILS(argmax, ARGUMENT, "logits is NULL", .ids = i1);
    FAILS(argmax, ARGUMENT, "ids is NULL", .logits = x);
    FAILS(argmax, ARGUMENT, "another device", .logits = far, .ids = i1);
    FAILS(argmax, DTYPE, "logits is i32", .logits = i9, .ids = i1);
    FAILS(argmax, DTYPE, "ids is f32", .logits = x, .ids = f1);
    FAILS(argmax, SHAPE, "logits has 3 dimensions", .logits = cube, .ids = i1);
    FAILS(argmax, SHAPE, "ids has 1 elements, needs 2", .logits = rows, .ids = i1);
    FAILS(argmax, OVERLAP, "ids and logits", .logits = x, .ids = alias);
    FAILS(top_k, SHAPE, "room for 9 a row, needs 1 to 8", .logits = x, .ids = i9, .values = f9);
    FAILS(top_k, SHAPE, "room for 0", .logits = rows, .ids = i1, .values = f1);
    FAILS(top_k, SHAPE, "values has 9", .logits = x, .ids = i1, .values = f9);
    FAILS(top_k, ARGUMENT, "values is NULL", .logits = x, .ids = i1);
    FAILS(top_k, OVERLAP, "ids and logits", .logits = x, .ids = alias, .values = f1);
    FAILS(logprob, SHAPE, "targets has 1 elements, needs 2", .logits = rows, .targets = i1,
          .logprobs = f9);
    FAILS(logprob, SHAPE, "logprobs has 9", .logits = rows, .targets = i2, .logprobs = f9);
    FAILS(logprob, DTYPE, "targets is f32", .logits = x, .targets = f1, .logprobs = f1);
    FAILS(repeat_penalty, ARGUMENT, "last_n is 10", .logits = x, .history = i9, .counter = i1,
          .last_n = 10, .penalty = 1);
    FAILS(repeat_penalty, ARGUMENT, "last_n is 0", .logits = x, .history = i9, .counter = i1,
          .penalty = 1);
    FAILS(repeat_penalty, ARGUMENT, "penalty is 0", .logits = x, .history = i9, .counter = i1,
          .last_n = 1);
    FAILS(repeat_penalty, OVERLAP, "logits and counter", .logits = x, .history = i9,
          .counter = alias, .last_n = 1, .penalty = 1);
    FAILS(sample, ARGUMENT, "counter is NULL", .logits = x, .token = i1, .temperature = 1,
          .top_p = 1);
    FAILS(sample, ARGUMENT, "top_p is 0", .logits = x, .token = i1, .counter = c1);
    FAILS(sample, ARGUMENT, "top_p is 1.5", .logits = x, .token = i1, .counter = c1, .top_p = 1.5f);
    FAILS(sample, ARGUMENT, "min_p is -1", .logits = x, .token = i1, .counter = c1, .top_p = 1,
          .min_p = -1);
    FAILS(sample, ARGUMENT, "min_p is nan", .logits = x, .token = i1, .counter = c1, .top_p = 1,
          .min_p = NAN);
    FAILS(sample, ARGUMENT, "temperature is -1", .logits = x, .token = i1, .counter = c1,
          .top_p = 1, .temperature = -1);
    FAILS(sample, ARGUMENT, "top_k is -1", .logits = x, .token = i1, .counter = c1, .top_p = 1,
          .top_k = -1);
    FAILS(sample, OVERLAP, "token and logits", .logits = x, .token = alias, .counter = c1,
          .top_p = 1);
    FAILS(sample, OVERLAP, "token and counter", .logits = x, .token = i1, .counter = i1,
          .top_p = 1);
    FAILS(sample, SHAPE, "token has 2", .logits = x, .token = i2, .counter = c1, .top_p = 1);
    FAILS(step_advance, ARGUMENT, "token is NULL", .ids = i1);
    FAILS(step_advance, ARGUMENT, "positions is NULL", .token = i1, .ids = d1);
    FAILS(step_advance, SHAPE, "ids has 2", .token = i1, .ids = i2, .positions = p1, .counter = c1);
    FAILS(step_advance, OVERLAP, "counter and positions", .token = i1, .ids = d1, .positions = p1,
          .counter = p1);
    /* B18: a ring of no slots */
    FAILS(step_advance, ARGUMENT, "capacity of slots_a is 0", .token = i1, .ids = i1,
          .positions = p1, .counter = c1, .slots_a = d1);
    FAILS(step_advance, DTYPE, "history is f32", .token = i1, .ids = i1, .positions = p1,
          .counter = c1, .history = f9);
    mlxn_buffer *all[] = {x, rows, i1, c1, p1, d1, i2, i9, f1, f9, far, alias, cube};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}
