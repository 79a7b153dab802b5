/* attention_refusals_test.c - what attention refuses before it records anything, and in which
 * words: the operand and both numbers. */
#include "attention_problem.h"

/* Operands that fit (Q to POSITIONS), and others that do not. */
enum {
    Q,
    O,
    K,
    V,
    POSITIONS,
    POSITIONS_5,
    POSITIONS_F32,
    TABLE,
    K_F32,
    K_OF_7,
    K_3_HEADS,
    V_9_SLOTS,
    O_3_TOKENS,
    Q_MATRIX,
    ROOM, /* for views */
    Q_SELF_OVERLAP,
    Q_STRIDED,
    ROOM_K, /* two views of the same storage */
    ROOM_O,
    FAR, /* on another device */
    OPERANDS
};

typedef struct fixture {
    mlxn_buffer *b[OPERANDS];
    mlxn_encoder *encoder;
    mlxn_attention_args good;
} fixture;

static fixture open_fixture(void)
{
    static const struct {
        mlxn_dtype dtype;
        int rank;
        int64_t shape[3];
    } plain[Q_SELF_OVERLAP] = {
        [Q] = {F32, 3, {4, 2, 8}},          [O] = {F32, 3, {4, 2, 8}},
        [K] = {F16, 3, {10, 1, 8}},         [V] = {F16, 3, {10, 1, 8}},
        [POSITIONS] = {MLXN_I32, 1, {4}},   [POSITIONS_5] = {MLXN_I32, 1, {5}},
        [POSITIONS_F32] = {F32, 1, {4}},    [TABLE] = {MLXN_I32, 2, {1, 10}},
        [K_F32] = {F32, 3, {10, 1, 8}},     [K_OF_7] = {F16, 3, {10, 1, 7}},
        [K_3_HEADS] = {F16, 3, {10, 3, 8}}, [V_9_SLOTS] = {F16, 3, {9, 1, 8}},
        [O_3_TOKENS] = {F32, 3, {3, 2, 8}}, [Q_MATRIX] = {F32, 2, {4, 16}},
        [ROOM] = {F32, 3, {4, 3, 8}},
    };
    const int64_t *qs = plain[Q].shape, *ks = plain[K].shape;
    fixture f = {0};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int i = 0; i < Q_SELF_OVERLAP; i++)
        f.b[i] = rig_buffer(devices[0].device, plain[i].dtype, plain[i].rank, plain[i].shape, NULL);
    f.b[Q_SELF_OVERLAP] = rig_view(f.b[ROOM], 3, qs, (int64_t[]){16, 8, 1}, 0);
    f.b[Q_STRIDED] = rig_view(f.b[ROOM], 3, qs, (int64_t[]){17, 1, 2}, 0);
    f.b[ROOM_K] = rig_view(f.b[ROOM], 3, ks, NULL, 0);
    f.b[ROOM_O] = rig_view(f.b[ROOM], 3, qs, NULL, 32);
    f.b[FAR] = rig_buffer(devices[1].device, F32, 3, qs, NULL);
    CHECK_STATUS(mlxn_encoder_create(devices[0].device, &f.encoder), MLXN_OK);
    f.good = (mlxn_attention_args){.size = sizeof f.good,
                                   .q = f.b[Q],
                                   .k = f.b[K],
                                   .v = f.b[V],
                                   .output = f.b[O],
                                   .positions = f.b[POSITIONS],
                                   .slot_map = LIN,
                                   .scale = 1,
                                   .max_keys = 10};
    return f;
}

/* What is good is still taken. */
static void close_fixture(fixture *f)
{
    CHECK_STATUS(mlxn_attention(f->encoder, &f->good), MLXN_OK);
    CHECK_STATUS(problem_finish(f->encoder), MLXN_OK);
    for (int i = 0; i < OPERANDS; i++)
        mlxn_buffer_release(f->b[i]);
}

#define REFUSED(status, text, ...)                                           \
    do {                                                                     \
        mlxn_attention_args a = f.good;                                      \
        __VA_ARGS__;                                                         \
        CHECK_FAILS(mlxn_attention(f.encoder, &a), MLXN_ERR_##status, text); \
    } while (0)

TEST(attention_refuses_operands)
{
    fixture f = open_fixture();
    mlxn_buffer **b = f.b;
    CHECK_FAILS(mlxn_attention(NULL, &f.good), MLXN_ERR_ARGUMENT, "encoder");
    CHECK_FAILS(mlxn_attention(f.encoder, NULL), MLXN_ERR_ARGUMENT, "attention");
    REFUSED(ARGUMENT, "size", a.size = 0);
    REFUSED(ARGUMENT, "q is NULL", a.q = NULL);
    REFUSED(ARGUMENT, "k is NULL", a.k = NULL);
    REFUSED(ARGUMENT, "v is NULL", a.v = NULL);
    REFUSED(ARGUMENT, "output is NULL", a.output = NULL);
    REFUSED(ARGUMENT, "positions is NULL", a.positions = NULL);
    REFUSED(ARGUMENT, "another device", a.q = b[FAR]);
    REFUSED(DTYPE, "q is i32", a.q = b[TABLE]);
    REFUSED(DTYPE, "v is f32, needs f16", a.v = b[K_F32]); /* B9: sizes are those of the dtype */
    REFUSED(DTYPE, "output is f16, needs f32", a.output = b[V]);
    REFUSED(DTYPE, "positions is f32", a.positions = b[POSITIONS_F32]);
    REFUSED(SHAPE, "q has 2 dimensions", a.q = b[Q_MATRIX]);
    REFUSED(SHAPE, "k has 7", a.k = b[K_OF_7]);
    REFUSED(SHAPE, "v has 9", a.v = b[V_9_SLOTS]);
    REFUSED(SHAPE, "no multiple of 3", a.k = a.v = b[K_3_HEADS]);
    REFUSED(SHAPE, "output has 3", a.output = b[O_3_TOKENS]);
    REFUSED(SHAPE, "positions has 5", a.positions = b[POSITIONS_5]);
    REFUSED(SHAPE, "stride 2", a.q = b[Q_STRIDED]);
    REFUSED(OVERLAP, "output and q", a.output = b[Q]);
    REFUSED(OVERLAP, "output and q", a.q = a.output = b[Q_SELF_OVERLAP]);
    REFUSED(OVERLAP, "output and k", (a.k = b[ROOM_K], a.v = b[K_F32], a.output = b[ROOM_O]));
    close_fixture(&f);
}

TEST(attention_refuses_slots_and_numbers)
{
    fixture f = open_fixture();
    mlxn_buffer **b = f.b;
    REFUSED(ARGUMENT, "slot_map is 0", a.slot_map = (mlxn_slot_map)0);
    REFUSED(ARGUMENT, "table is NULL", a.slot_map = TAB);
    REFUSED(ARGUMENT, "table is given", a.table = b[TABLE]);
    REFUSED(ARGUMENT, "sequences is given", a.sequences = b[POSITIONS]);
    REFUSED(SHAPE, "sequences has 5",
            (a.sequences = b[POSITIONS_5], a.table = b[TABLE], a.slot_map = TAB));
    REFUSED(SHAPE, "table has 1 dim", (a.table = b[POSITIONS], a.slot_map = TAB));
    REFUSED(ARGUMENT, "scale is 0", a.scale = 0);
    REFUSED(ARGUMENT, "scale is inf", a.scale = HUGE_VALF);
    REFUSED(ARGUMENT, "softcap is -1", a.softcap = -1);
    REFUSED(ARGUMENT, "softcap is nan", a.softcap = NAN);
    REFUSED(ARGUMENT, "precision is 2", a.precision = (mlxn_attention_precision)2);
    REFUSED(ARGUMENT, "window is -1", a.window = -1);
    REFUSED(ARGUMENT, "max_keys is 0", a.max_keys = 0);
    REFUSED(ARGUMENT, "max_keys is", a.max_keys = (int64_t)1 << 40);
    close_fixture(&f);
}
