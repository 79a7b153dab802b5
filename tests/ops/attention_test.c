/* attention_test.c - attention against a float64 reference, bit equality over everything that must
 * not matter (paths, threads, batch splits), windows, extreme values, replay.  Slots and tables:
 * attention_slots_test.c; refusals: attention_refusals_test.c. */
#include "attention_problem.h"

static const attention_spec specs[] = {
    {"one key", 1, 1, 1, 1, 0, 0, 0, 1, 0, F32, F32, LIN},
    {"gemma decode", 1, 4, 1, 256, 700, 0, 0, 0, 0, F32, F16, LIN},
    {"gemma decode, window", 1, 4, 1, 256, 700, 512, 512, 0, 0, F32, F16, RING},
    {"gemma prefill", 40, 4, 1, 256, 0, 0, 0, 0.0625f, 0, F32, F16, LIN},
    {"window over chunks", 70, 4, 1, 64, 230, 0, 40, 0, 0, F32, F16, LIN},
    {"ring", 9, 8, 2, 80, 600, 299, 290, 0, 0, F32, F32, RING},
    {"table", 33, 6, 3, 33, 250, 0, 0, 0, 0, F32, BF16, TAB},
    {"softcap", 20, 2, 2, 16, 260, 0, 0, 4, 5, F32, F32, LIN},
    {"f16 out", 12, 5, 5, 7, 100, 0, 13, 0, 0, F16, F16, LIN},
    {"bf16", 12, 3, 1, 128, 20, 0, 0, 0, 0, BF16, BF16, LIN},
    {"large head", 3, 2, 1, 1024, 40, 0, 0, 0, 0, F32, F16, LIN},
    {"odd head", 7, 1, 1, 337, 255, 0, 2, 0, 0, F32, F32, LIN},
    {"gemma global decode", 1, 4, 1, 512, 700, 0, 0, 0, 0, F32, F16, LIN},
    {"two slices, spans", 1, 2, 1, 512, 4400, 0, 0, 0, 0, BF16, BF16, LIN},
    {"one past a slice", 1, 5, 1, 257, 300, 0, 0, 0, 5, F32, BF16, TAB},
    {"part of a slice", 2, 4, 2, 320, 290, 70, 60, 0, 0, F32, F32, RING},
    {"half a slice", 1, 6, 2, 384, 100, 0, 33, 0, 0, F16, F16, LIN},
    {"many heads", 2, 71, 1, 64, 30, 0, 0, 0, 0, F32, BF16, TAB},
    {"window of one", 20, 1, 1, 32, 250, 0, 1, 0, 0, F32, F32, LIN},
    {"negative scale", 5, 1, 1, 48, 0, 0, 0, -0.3f, 0, F32, F32, LIN},
    {"steep", 6, 2, 1, 64, 600, 0, 0, 40, 0, F32, F32, LIN},
};

TEST(attention_reference_and_paths)
{
    problem_check_all(specs, sizeof specs / sizeof *specs, 100);
}

/* Where attention may be fast, results have a bound in place of bits, on whatever device; padding
 * and queries without a slot are left alone all the same, with no effect on their neighbours. */
TEST(attention_fast)
{
    static const attention_spec fast[] = {
        {"prefill", 37, 4, 1, 256, 0, 0, 0, 0.0625f, 0, F32, F16, LIN},
        {"ring", 18, 4, 1, 256, 300, 90, 70, 0, 0, F32, F16, RING},
        {"three heads", 21, 6, 2, 128, 130, 0, 0, 0, 0, F16, F16, LIN},
        {"many heads", 16, 20, 1, 128, 5, 0, 9, 0, 0, BF16, F16, LIN},
        {"steep", 16, 1, 1, 128, 200, 0, 0, 3, 0, F32, F16, LIN},
    };
    int n;
    const rig_device *devices = rig_devices(&n);
    for (size_t i = 0; i < sizeof fast / sizeof *fast; i++) {
        problem p;
        problem_make(&p, &fast[i], 400 + i);
        p.precision = MLXN_ATTENTION_FAST;
        p.positions[3] = -7;
        const size_t row = problem_bytes(&p) / (size_t)p.s.tokens;
        for (int d = 0; d < n; d++) {
            uint8_t *out = problem_run(devices[d].device, &p, 0);
            const double worst = problem_worst(&p, out);
            test_note("%s, %s: %.3f of the bound", p.s.name, devices[d].path, worst);
            if (!(worst <= 1))
                test_failed(__FILE__, __LINE__, "%s, %s: %g times the bound", p.s.name,
                            devices[d].path, worst);
            for (size_t b = 0; b < row; b++)
                CHECK(out[3 * row + b] == 0x77);
            free(out);
        }
        p.positions[5] = (int32_t)p.max_keys; /* a fault; the others are computed */
        uint8_t *out = malloc(problem_bytes(&p));
        memset(out, 0x77, problem_bytes(&p));
        CHECK_STATUS(problem_run_part(devices[0].device, &p, 0, p.s.tokens, out), MLXN_ERR_FAULT);
        for (size_t b = 0; b < row; b++)
            CHECK(out[5 * row + b] == 0x77);
        p.positions[5] = -1;
        CHECK(problem_worst(&p, out) <= 1);
        free(out);
        problem_free(&p);
    }
}

TEST(attention_batch_splits)
{
    static const int64_t pieces[] = {1, 2, 7, 16, 31};
    const attention_spec *cases[] = {&specs[4], &specs[5], &specs[6]};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int i = 0; i < 3; i++) {
        problem p;
        problem_make(&p, cases[i], 200 + (uint64_t)i);
        uint8_t *whole = problem_run(devices[0].device, &p, 0);
        for (int d = 0; d < n; d++)
            for (int k = (d + 1) % 2; k < 5; k += 2) {
                uint8_t *parts = problem_run(devices[d].device, &p, pieces[k]);
                if (memcmp(whole, parts, problem_bytes(&p)) != 0)
                    test_failed(__FILE__, __LINE__, "%s, %s: other bits in pieces of %d", p.s.name,
                                devices[d].path, (int)pieces[k]);
                free(parts);
            }
        free(whole);
        problem_free(&p);
    }
}

/* With q = 0 all visible keys weigh the same; with v_j the unit vector of j the output shows which
 * they are: 1/W for each of exactly W keys, the query's own the last, and exactly 0 elsewhere. */
TEST(attention_window_is_exact)
{
    static const int64_t windows[] = {1, 2, 16, 17, 256, 257, 300};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int w = 0; w < 7; w++)
        for (int tokens = 1; tokens <= 5; tokens += 4) {
            attention_spec s = {"window",   tokens, 1, 1,   512, 400, 0,
                                windows[w], 1,      0, F32, F32, LIN};
            problem p;
            problem_make(&p, &s, 1);
            memset(p.q, 0, (size_t)(s.tokens * s.dim) * sizeof *p.q);
            for (int64_t j = 0; j < p.keys; j++)
                for (int64_t i = 0; i < s.dim; i++)
                    p.v[j * s.dim + i] = i == j;
            for (int d = 0; d < n; d++) {
                uint8_t *out = problem_run(devices[d].device, &p, 0);
                for (int64_t k = 0; k < tokens * s.dim; k++) {
                    int64_t age = s.start + k / s.dim - k % s.dim;
                    float want = age >= 0 && age < s.window ? 1.0f / (float)s.window : 0;
                    CHECK((float)test_load(F32, out, (size_t)k) == want);
                }
                free(out);
            }
            problem_free(&p);
        }
}

/* Scores of +-1e4 do not overflow, a score of -inf weighs nothing. */
TEST(attention_extreme_scores)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    const attention_spec s = {"extreme", 2, 1, 1, 16, 600, 0, 0, 1, 0, F32, F32, LIN};
    problem p;
    problem_make(&p, &s, 9);
    for (int64_t i = 0; i < 32; i++)
        p.q[i] = i % 16 == 0 ? 1e4 : 0;
    for (int64_t j = 0; j < p.keys; j++)
        p.k[j * 16] = j == 77 ? 1 : -1;
    p.k[80 * 16] = -3e38; /* times 1e4: -inf */
    for (int d = 0; d < n; d++) {
        uint8_t *out = problem_run(devices[d].device, &p, 0);
        for (int64_t i = 0; i < 32; i++)
            CHECK(test_load(F32, out, (size_t)i) == p.v[77 * 16 + i % 16]);
        free(out);
    }
    problem_free(&p);
}

/* What a query does not see has no effect on it, be it infinite or NaN and seen by its neighbours
 * in the same call.  An infinite value that it sees is its result. */
TEST(attention_unseen_values)
{
    enum { TOKENS = 9, DIM = 24 };
    static const double poison[] = {HUGE_VAL, -HUGE_VAL, (double)NAN};
    int n;
    const rig_device *devices = rig_devices(&n);
    const attention_spec s = {"unseen", TOKENS, 2, 1, DIM, 250, 0, 5, 0, 0, F32, F32, LIN};
    for (int i = 0; i < 3; i++) {
        problem p;
        problem_make(&p, &s, 11);
        uint8_t *good = problem_run(devices[0].device, &p, 0);
        const size_t row = problem_bytes(&p) / TOKENS;
        const int64_t oldest = 250 - 4, newest = p.keys - 1;
        for (int64_t e = 0; e < DIM; e++)
            p.v[oldest * DIM + e] = p.v[newest * DIM + e] = poison[i];
        for (int d = 0; d < n; d++) {
            uint8_t *out = problem_run(devices[d].device, &p, 0);
            for (size_t t = 0; t < TOKENS; t++) {
                const int sees = t == 0 || t == TOKENS - 1;
                CHECK(!memcmp(good + t * row, out + t * row, row) == !sees);
                const double first = test_load(F32, out + t * row, 0);
                CHECK(isfinite(first) == !sees);
                CHECK(!sees || isnan(poison[i]) || first == poison[i]);
            }
            free(out);
        }
        free(good);
        problem_free(&p);
    }
}

/* Records one query of a problem with linear slots: q, k, v, output, position. */
static mlxn_status record_query(mlxn_encoder *encoder, const problem *p, mlxn_buffer *const b[5])
{
    return mlxn_attention(encoder, MLXN_DESC(mlxn_attention_args, .q = b[0], .k = b[1], .v = b[2],
                                             .output = b[3], .positions = b[4], .slot_map = LIN,
                                             .window = p->s.window, .scale = p->s.scale,
                                             .max_keys = p->s.tokens));
}

/* Who moves the position from replay to replay. */
typedef enum mover { BY_HOST, BY_STEP_BEFORE, BY_STEP_BEHIND } mover;

static mlxn_status record_step(mlxn_encoder *encoder, mlxn_buffer *const b[7])
{
    return mlxn_step_advance(encoder, MLXN_DESC(mlxn_step_advance_args, .token = b[5], .ids = b[5],
                                                .positions = b[4], .counter = b[6]));
}

/* A query that was recorded once gives, replayed at every `stride`th position, what fresh launches
 * give. */
static void check_replays(mlxn_device *device, const attention_spec *s, mover by, int32_t stride)
{
    const int64_t one = 1, shape[] = {1, s->heads, s->dim}, row = s->heads * s->dim;
    const size_t bytes = (size_t)row * sizeof(float);
    problem p;
    mlxn_encoder *encoder = NULL;
    mlxn_graph *graph = NULL;
    problem_make(&p, s, 5);
    uint8_t *want = problem_run(device, &p, 0);
    float *q = malloc(bytes), *got = malloc(bytes);
    mlxn_buffer *b[7] = {
        rig_buffer(device, F32, 3, shape, NULL), problem_cache(device, &p, p.k, 0, s->tokens - 1),
        problem_cache(device, &p, p.v, 0, s->tokens - 1), rig_buffer(device, F32, 3, shape, NULL)};
    for (int i = 4; i < 7; i++) /* position, token, counter */
        b[i] = rig_buffer(device, MLXN_I32, 1, &one, NULL);
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    if (by == BY_STEP_BEFORE)
        CHECK_STATUS(record_step(encoder, b), MLXN_OK);
    CHECK_STATUS(record_query(encoder, &p, b), MLXN_OK);
    if (by == BY_STEP_BEHIND)
        CHECK_STATUS(record_step(encoder, b), MLXN_OK);
    REQUIRE_OK(mlxn_graph_capture(encoder, &graph));
    for (int32_t t = by == BY_STEP_BEFORE; t < s->tokens; t += stride) {
        for (int64_t i = 0; i < row; i++)
            q[i] = (float)p.q[t * row + i];
        CHECK_STATUS(mlxn_buffer_write(b[0], 0, q, bytes), MLXN_OK);
        if (by == BY_HOST)
            CHECK_STATUS(mlxn_buffer_write(b[4], 0, &t, sizeof t), MLXN_OK);
        CHECK_STATUS(mlxn_graph_replay(encoder, graph), MLXN_OK);
        CHECK_STATUS(problem_finish(mlxn_encoder_retain(encoder)), MLXN_OK);
        rig_read_part(b[3], 0, got, bytes);
        CHECK(!memcmp(got, want + (size_t)t * bytes, bytes));
        CHECK_STATUS(mlxn_encoder_reset(encoder), MLXN_OK);
    }
    mlxn_encoder_release(encoder);
    mlxn_graph_release(graph);
    for (int i = 0; i < 7; i++)
        mlxn_buffer_release(b[i]);
    free(q);
    free(got);
    free(want);
    problem_free(&p);
}

/* The one behind the query lets a GPU read the position early. */
TEST(attention_moving_position)
{
    const attention_spec s = {"moving", 40, 4, 1, 64, 0, 0, 20, 0, 0, F32, F32, LIN};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        check_replays(devices[d].device, &s, BY_STEP_BEFORE, 1);
        check_replays(devices[d].device, &s, BY_STEP_BEHIND, 1);
    }
}

TEST(attention_replay)
{
    const attention_spec s = {"replay", 300, 4, 1, 64, 0, 0, 200, 0, 0, F32, F16, LIN};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++)
        check_replays(devices[d].device, &s, BY_HOST, 23);
}
