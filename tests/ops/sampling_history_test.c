/* sampling_history_test.c - repeat_penalty and step_advance: what is drawn and what came before, on
 * every device of the rig. */
#include "logits.h"

/* ---- repeat_penalty ---- */

TEST(sampling_repeat_penalty)
{
    const int32_t history[] = {3, 5, 3, 0, 1, 3};
    const float x[] = {1, -2, 3, 4, 5, 0, -0.0f};
    /* entries 4 .. 6 of a ring of 6, of which entry 6 has come round to place 0 */
    static const struct {
        int32_t counter;
        int64_t last_n;
        uint32_t ids; /* bits of the ids that are hit */
    } cases[] = {{0, 6, 0},
                 {1, 6, 1 << 3},
                 {2, 1, 1 << 5},
                 {7, 3, 1 << 1 | 1 << 3},
                 {6, 6, 1 | 2 | 8 | 32},
                 {INT32_MAX, 2, 1 << 3}};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++)
        for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
            const rig_device *on = &devices[d];
            const size_t c = i / 2, in_place = i % 2;
            float got[7];
            mlxn_buffer *logits = rig_vector(on->device, MLXN_F32, 7, x);
            mlxn_buffer *output = rig_vector(on->device, MLXN_F32, 7, NULL);
            mlxn_buffer *ring = rig_vector(on->device, MLXN_I32, 6, history);
            mlxn_buffer *counter = rig_vector(on->device, MLXN_I32, 1, &cases[c].counter);
            CHECK_STATUS(mlxn_repeat_penalty(on->encoder,
                                             MLXN_DESC(mlxn_repeat_penalty_args, .logits = logits,
                                                       .history = ring, .counter = counter,
                                                       .last_n = cases[c].last_n, .penalty = 3,
                                                       .output = in_place ? NULL : output)),
                         MLXN_OK);
            rig_finish(on, MLXN_OK);
            rig_read(logits, got);
            if (!in_place) {
                CHECK(!memcmp(got, x, sizeof got)); /* the input is left alone */
                rig_read(output, got);
            }
            for (int k = 0; k < 7; k++) {
                float want = !(cases[c].ids >> k & 1) ? x[k] : x[k] > 0 ? x[k] / 3 : x[k] * 3;
                CHECK(!memcmp(&got[k], &want, sizeof want));
            }
            mlxn_buffer_release(logits);
            mlxn_buffer_release(output);
            mlxn_buffer_release(ring);
            mlxn_buffer_release(counter);
        }
}

/* An id of the history outside the vocabulary is a fault; the others are penalised. */
TEST(sampling_repeat_penalty_faults)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    const float x[4] = {2, 2, 2, 2};
    const int32_t four = 4;
    for (int i = 0; i < 2 * n; i++) {
        const int32_t history[4] = {1, i % 2 ? 4 : -1, 1, 3};
        const int d = i / 2;
        float got[4];
        mlxn_buffer *logits = rig_vector(devices[d].device, MLXN_F32, 4, x);
        mlxn_buffer *ring = rig_vector(devices[d].device, MLXN_I32, 4, history);
        mlxn_buffer *counter = rig_vector(devices[d].device, MLXN_I32, 1, &four);
        CHECK_STATUS(mlxn_repeat_penalty(devices[d].encoder,
                                         MLXN_DESC(mlxn_repeat_penalty_args, .logits = logits,
                                                   .history = ring, .counter = counter, .last_n = 4,
                                                   .penalty = 2)),
                     MLXN_OK);
        rig_finish(&devices[d], MLXN_ERR_FAULT);
        rig_read(logits, got);
        CHECK(got[0] == 2 && got[1] == 1 && got[2] == 2 && got[3] == 1);
        mlxn_buffer_release(logits);
        mlxn_buffer_release(ring);
        mlxn_buffer_release(counter);
    }
}

/* ---- step_advance ---- */

typedef struct step {
    mlxn_buffer *token, *ids, *positions, *counter, *history, *a, *b;
} step;

static step make_step(const rig_device *on, int32_t token, int32_t position, int32_t counter)
{
    step s = {rig_vector(on->device, MLXN_I32, 1, &token),
              rig_vector(on->device, MLXN_I32, 1, NULL),
              rig_vector(on->device, MLXN_I32, 1, &position),
              rig_vector(on->device, MLXN_I32, 1, &counter),
              rig_vector(on->device, MLXN_I32, 5, NULL),
              rig_vector(on->device, MLXN_I32, 1, NULL),
              rig_vector(on->device, MLXN_I32, 1, NULL)};
    return s;
}

static void free_step(step *s)
{
    mlxn_buffer *all[] = {s->token, s->ids, s->positions, s->counter, s->history, s->a, s->b};
    for (int i = 0; i < 7; i++)
        mlxn_buffer_release(all[i]);
}

TEST(sampling_step_advance)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        step s = make_step(&devices[d], 42, 9, 7);
        for (int i = 0; i < 2; i++) /* twice in one commit, the second without the optional parts */
            CHECK_STATUS(
                mlxn_step_advance(devices[d].encoder,
                                  MLXN_DESC(mlxn_step_advance_args, .token = s.token,
                                            .ids = i ? s.token : s.ids, .positions = s.positions,
                                            .counter = s.counter, .history = i ? NULL : s.history,
                                            .slots_a = s.a, .capacity_a = 4,
                                            .slots_b = i ? NULL : s.b, .capacity_b = i ? 0 : 1000)),
                MLXN_OK);
        rig_finish(&devices[d], MLXN_OK);
        CHECK(rig_int(s.ids, 0) == 42 && rig_int(s.token, 0) == 42);
        CHECK(rig_int(s.positions, 0) == 11 && rig_int(s.counter, 0) == 9);
        CHECK(rig_int(s.a, 0) == 3 && rig_int(s.b, 0) == 10);
        for (int i = 0; i < 5; i++)
            CHECK(rig_int(s.history, i) == (i == 2 ? 42 : 0));
        free_step(&s);
    }
}

TEST(sampling_step_advance_faults)
{
    static const int32_t bad[][2] = {{-1, 0}, {INT32_MAX, 0}, {0, -1}, {0, INT32_MAX}};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int k = 0; k < 4 * n; k++) {
        const rig_device *on = &devices[k / 4];
        const int i = k % 4;
        step s = make_step(on, 42, bad[i][0], bad[i][1]);
        CHECK_STATUS(
            mlxn_step_advance(on->encoder, MLXN_DESC(mlxn_step_advance_args, .token = s.token,
                                                     .ids = s.ids, .positions = s.positions,
                                                     .counter = s.counter, .history = s.history)),
            MLXN_OK);
        rig_finish(on, MLXN_ERR_FAULT);
        CHECK(rig_int(s.ids, 0) == 0 && rig_int(s.history, 0) == 0);
        CHECK(rig_int(s.positions, 0) == bad[i][0] && rig_int(s.counter, 0) == bad[i][1]);
        free_step(&s);
    }
}
