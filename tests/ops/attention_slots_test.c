/* attention_slots_test.c - where the keys are: slot maps, long caches, padding, positions,
 * sequences and table entries out of range. */
#include "attention_problem.h"

TEST(attention_slot_maps)
{
    static const mlxn_slot_map maps[] = {LIN, RING, TAB};
    attention_spec s = {"maps", 21, 4, 2, 48, 300, 0, 100, 0, 0, F32, F16, LIN};
    int n;
    const rig_device *devices = rig_devices(&n);
    problem p;
    problem_make(&p, &s, 7);
    uint8_t *linear = problem_run(devices[0].device, &p, 0);
    for (int i = 0; i < 3 * n; i++) {
        problem other;
        s.map = maps[i % 3];
        s.slots = maps[i % 3] == RING ? 120 : 0; /* window + tokens - 1: each key still there */
        problem_make(&other, &s, 7);
        uint8_t *out = problem_run(devices[i / 3].device, &other, 0);
        CHECK(!memcmp(linear, out, problem_bytes(&p)));
        free(out);
        problem_free(&other);
    }
    free(linear);
    problem_free(&p);
}

/* Caches of many chunks, of more than a group of the merge takes at once, of more than one record
 * each can be left for; windows that begin and end anywhere.  Unused slots are NaN. */
TEST(attention_long_caches)
{
    static const attention_spec specs[] = {
        {"1501 keys", 2, 3, 1, 8, 1499, 0, 0, 2, 0, F32, F16, LIN},
        {"1501 keys, table", 2, 2, 2, 64, 1499, 0, 1200, 0, 0, F32, BF16, TAB},
        {"4501 keys", 1, 2, 1, 16, 4500, 0, 0, 3, 0, F32, F32, LIN},
        {"4501 keys, window", 2, 1, 1, 8, 4499, 4300, 4215, 2, 0, F32, F16, RING},
    };
    problem_check_all(specs, sizeof specs / sizeof *specs, 500);
}

/* Rows of padding and rows with a value out of range are left alone; the others are computed. */
static void check_untouched(mlxn_device *device, const problem *p, mlxn_status want,
                            const uint8_t *touched)
{
    size_t bytes = problem_bytes(p), row = bytes / (size_t)p->s.tokens;
    uint8_t *out = malloc(bytes);
    memset(out, 0x77, bytes);
    CHECK_STATUS(problem_run_part(device, p, 0, p->s.tokens, out), want);
    for (int64_t t = 0; t < p->s.tokens; t++) {
        int same = 1;
        for (size_t i = 0; i < row; i++)
            same &= out[(size_t)t * row + i] == 0x77;
        if (same == touched[t])
            test_failed(__FILE__, __LINE__, "row %d is %s", (int)t, same ? "missing" : "written");
    }
    free(out);
}

TEST(attention_padding_and_positions)
{
    attention_spec s = {"faults", 4, 2, 1, 16, 300, 0, 0, 0, 0, F32, F32, LIN};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        mlxn_device *device = devices[d].device;
        problem p;
        s.map = LIN;
        s.slots = 0;
        problem_make(&p, &s, 3);
        p.positions[1] = -1;
        p.positions[3] = INT32_MIN;
        check_untouched(device, &p, MLXN_OK, (const uint8_t[]){1, 0, 1, 0});
        p.slots += 40; /* more than max_keys */
        p.positions[1] = (int32_t)p.max_keys;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){1, 0, 1, 0});
        p.slots -= 40;
        p.max_keys = 1000; /* more than the linear cache holds */
        p.positions[1] = (int32_t)p.slots;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){1, 0, 1, 0});
        p.positions[3] = INT32_MAX;
        p.positions[1] = -1;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){1, 0, 1, 0});
        problem_free(&p);

        s.map = RING;
        s.slots = 310; /* B9, B18: more keys wanted than the ring has */
        problem_make(&p, &s, 3);
        p.max_keys = 1000;
        p.slots = 302;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){1, 1, 0, 0});
        problem_free(&p);
    }
}

TEST(attention_table_entries)
{
    const attention_spec s = {"table", 4, 2, 1, 16, 300, 0, 100, 0, 0, F32, F32, TAB};
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        mlxn_device *device = devices[d].device;
        problem p;
        problem_make(&p, &s, 3);
        p.max_keys = 1000;
        p.positions[0] = (int32_t)p.keys; /* the first past the table */
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){0, 1, 1, 1});
        p.positions[0] = 300; /* the first two queries see position 202, the others do not */
        p.table[202] = -1;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){0, 0, 1, 1});
        p.table[202] = (int32_t)p.slots;
        check_untouched(device, &p, MLXN_ERR_FAULT, (const uint8_t[]){0, 0, 1, 1});
        p.table[202] = INT32_MAX;
        p.table[5] = INT32_MIN; /* nobody sees it */
        p.positions[0] = p.positions[1] = -1;
        check_untouched(device, &p, MLXN_OK, (const uint8_t[]){0, 0, 1, 1});
        problem_free(&p);
    }
}

/* ---- several sequences in a call ---- */

enum { SEQUENCES = 3, COLUMNS = 320, DIM = 32, SLOTS = SEQUENCES * COLUMNS, QUERIES = 6 };

typedef struct sequences_case {
    int32_t positions[QUERIES], sequences[QUERIES], table[SLOTS];
    float q[QUERIES * DIM], kv[SLOTS * DIM];
} sequences_case;

static sequences_case *make_sequences(void)
{
    static const int32_t positions[] = {10, 300, 301, 5, 257, 302};
    static const int32_t sequences[] = {2, 0, 0, 1, 2, 0};
    sequences_case *c = malloc(sizeof *c);
    uint64_t seed = 4;
    memcpy(c->positions, positions, sizeof positions);
    memcpy(c->sequences, sequences, sizeof sequences);
    for (int i = 0; i < QUERIES * DIM; i++)
        c->q[i] = test_normal(&seed);
    for (int i = 0; i < SLOTS * DIM; i++)
        c->kv[i] = test_normal(&seed);
    for (int i = 0; i < SLOTS; i++) /* interleaved: 7 and 960 have no common factor */
        c->table[i] = i * 7 % SLOTS;
    return c;
}

/* Queries from .. from + n - 1; rows that are not written stay zero. */
static mlxn_status run_sequences(mlxn_device *device, const sequences_case *c, int64_t from,
                                 int64_t n, float *out)
{
    const int64_t shape[] = {n, 1, DIM};
    mlxn_buffer *b[] = {rig_buffer(device, F32, 3, (int64_t[]){SLOTS, 1, DIM}, c->kv),
                        rig_buffer(device, MLXN_I32, 2, (int64_t[]){SEQUENCES, COLUMNS}, c->table),
                        rig_buffer(device, F32, 3, shape, c->q + from * DIM),
                        rig_buffer(device, F32, 3, shape, NULL),
                        rig_buffer(device, MLXN_I32, 1, &n, c->positions + from),
                        rig_buffer(device, MLXN_I32, 1, &n, c->sequences + from)};
    mlxn_encoder *encoder = NULL;
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    CHECK_STATUS(
        mlxn_attention(encoder, MLXN_DESC(mlxn_attention_args, .q = b[2], .k = b[0], .v = b[0],
                                          .output = b[3], .positions = b[4], .sequences = b[5],
                                          .table = b[1], .slot_map = TAB, .scale = 0.2f,
                                          .max_keys = COLUMNS)),
        MLXN_OK);
    const mlxn_status status = problem_finish(encoder);
    rig_read_part(b[3], 0, out, (size_t)n * DIM * sizeof(float));
    for (int i = 0; i < 6; i++)
        mlxn_buffer_release(b[i]);
    return status;
}

/* Each with a row of the table of its own; they give what each gives alone. */
TEST(attention_sequences)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    sequences_case *c = make_sequences();
    float first[QUERIES * DIM], all[QUERIES * DIM], alone[DIM];
    for (int d = 0; d < n; d++) {
        float *out = d ? all : first;
        CHECK_STATUS(run_sequences(devices[d].device, c, 0, QUERIES, out), MLXN_OK);
        CHECK(!memcmp(first, out, sizeof first));
        for (int i = 0; i < QUERIES; i++) {
            CHECK_STATUS(run_sequences(devices[d].device, c, i, 1, alone), MLXN_OK);
            CHECK(!memcmp(first + i * DIM, alone, sizeof alone));
        }
    }
    CHECK(memcmp(first + DIM, first + 2 * DIM, sizeof alone) != 0);
    free(c);
}

/* A sequence without a row is a fault of its query alone; padding has no sequence. */
TEST(attention_sequences_out_of_range)
{
    static const int32_t bad[] = {-1, SEQUENCES, INT32_MAX};
    static const float zeros[DIM];
    int n;
    const rig_device *devices = rig_devices(&n);
    sequences_case *c = make_sequences();
    float good[QUERIES * DIM], out[QUERIES * DIM];
    for (int d = 0; d < n; d++) {
        CHECK_STATUS(run_sequences(devices[d].device, c, 0, QUERIES, good), MLXN_OK);
        for (int i = 0; i < 6; i++) {
            const int32_t position = c->positions[2], sequence = c->sequences[2];
            c->positions[2] = i < 3 ? position : -1 - i;
            c->sequences[2] = bad[i % 3];
            CHECK_STATUS(run_sequences(devices[d].device, c, 0, QUERIES, out),
                         i < 3 ? MLXN_ERR_FAULT : MLXN_OK);
            for (int t = 0; t < QUERIES; t++)
                CHECK(!memcmp(out + t * DIM, t == 2 ? zeros : good + t * DIM, sizeof zeros));
            c->positions[2] = position;
            c->sequences[2] = sequence;
        }
    }
    free(c);
}
