/* sampling_test.c - argmax, top_k, logprob, repeat_penalty, sample and step_advance against plain
 * float64 code, on every path and team size (or device of the rig); the sampler's distribution;
 * faults and checks.
 *
 * sample is compared draw by draw with a reference that sorts the row, applies the filters in the
 * header's order in float64 and inverts the cumulative distribution in id order.  Where u falls
 * within 1e-5 of a border of two tokens (weights carry about 2^-22 of relative error, at most a few
 * 1e-6 of the total) either token is right; where a filter's border is that close the case is not
 * used. */
#include "ops/sampling/draw.h"
#include "rig.h"

#define CLOSE 1e-5

static float *random_logits(uint64_t seed, int64_t n, float spread)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = spread * test_normal(&seed);
    return x;
}

static mlxn_buffer *logits_buffer(const rig_device *on, int64_t rows, int64_t vocab, const float *x)
{
    return rig_buffer(on->device, MLXN_F32, 2, (int64_t[]){rows, vocab}, x);
}

/* ---- argmax and top_k ---- */

static int before(const float *x, int32_t a, int32_t b) /* the order of the header; NaN last */
{
    if (isnan(x[a]) || isnan(x[b]))
        return isnan(x[a]) == isnan(x[b]) ? a < b : isnan(x[b]);
    return x[a] != x[b] ? x[a] > x[b] : a < b;
}

static const float *sorting;
static int compare_ids(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    return i == j ? 0 : before(sorting, i, j) ? -1 : 1;
}

/* The ids of a row in order. */
static int32_t *sorted_ids(const float *x, int64_t n)
{
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)i;
    sorting = x;
    qsort(ids, (size_t)n, sizeof *ids, compare_ids);
    return ids;
}

/* Runs argmax and top_k(k) on every device; ids must be those of the sort. */
static void check_order(const float *x, int64_t rows, int64_t vocab, int64_t k)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    int32_t *ids = malloc((size_t)(rows * k) * sizeof *ids);
    float *values = malloc((size_t)(rows * k) * sizeof *values);
    int32_t *tops = malloc((size_t)rows * sizeof *tops), *want = malloc((size_t)(rows * k) * 4);
    for (int64_t r = 0; r < rows; r++) {
        int32_t *sorted = sorted_ids(x + r * vocab, vocab);
        memcpy(want + r * k, sorted, (size_t)k * sizeof *want);
        free(sorted);
    }
    for (int d = 0; d < n; d++) {
        mlxn_buffer *logits = logits_buffer(&devices[d], rows, vocab, x);
        mlxn_buffer *top = rig_vector(devices[d].device, MLXN_I32, rows, NULL);
        mlxn_buffer *list = rig_vector(devices[d].device, MLXN_I32, rows * k, NULL);
        mlxn_buffer *best = rig_vector(devices[d].device, MLXN_F32, rows * k, NULL);
        CHECK_STATUS(mlxn_argmax(devices[d].encoder,
                                 MLXN_DESC(mlxn_argmax_args, .logits = logits, .ids = top)),
                     MLXN_OK);
        CHECK_STATUS(mlxn_top_k(devices[d].encoder, MLXN_DESC(mlxn_top_k_args, .logits = logits,
                                                              .ids = list, .values = best)),
                     MLXN_OK);
        rig_finish(&devices[d], MLXN_OK);
        rig_read(top, tops);
        rig_read(list, ids);
        rig_read(best, values);
        for (int64_t r = 0; r < rows; r++)
            CHECK(tops[r] == want[r * k]);
        CHECK(!memcmp(ids, want, (size_t)(rows * k) * sizeof *ids));
        for (int64_t i = 0; i < rows * k; i++)
            CHECK(!memcmp(&values[i], &x[i / k * vocab + ids[i]], sizeof(float)));
        mlxn_buffer_release(logits);
        mlxn_buffer_release(top);
        mlxn_buffer_release(list);
        mlxn_buffer_release(best);
    }
    free(ids);
    free(values);
    free(tops);
    free(want);
}

TEST(sampling_argmax_top_k)
{
    static const struct {
        int64_t rows, vocab, k;
    } cases[] = {{1, 1, 1},       {1, 7, 7},        {3, 100, 10},  {20, 333, 40},
                 {1, 1025, 1024}, {2, 20000, 1024}, {1, 128, 128}, {1, 100003, 40}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int kind = 0; kind < 3; kind++) {
            int64_t total = cases[i].rows * cases[i].vocab;
            float *x = random_logits(i + 1, total, 5);
            for (int64_t k = 0; kind == 1 && k < total; k++)
                x[k] = roundf(x[k]); /* many ties, both zeros among them */
            for (int64_t k = 0; kind == 2 && k < total; k++)
                x[k] = (float)k; /* ascending: the most that top_k has to move */
            check_order(x, cases[i].rows, cases[i].vocab, cases[i].k);
            free(x);
        }
}

/* B14: a row with -inf, ties, NaN; every id is one of the row. */
TEST(sampling_order_of_special_values)
{
    const float inf = HUGE_VALF;
    check_order((const float[]){1, -inf, 2}, 1, 3, 3);
    check_order((const float[]){NAN, -inf, NAN, -inf, 1, NAN}, 1, 6, 6);
    check_order((const float[]){NAN, NAN, NAN}, 1, 3, 3);
    check_order((const float[]){-inf, -inf}, 1, 2, 2);
    check_order((const float[]){-0.0f, 0.0f, -0.0f, 0.0f}, 1, 4, 3);
    check_order((const float[]){inf, 1, inf, NAN, -1e-45f, 0, 1e-45f}, 1, 7, 7);
    float *x = random_logits(3, 3000, 1);
    for (int i = 0; i < 3000; i += 3)
        x[i] = i % 2 ? NAN : -NAN;
    x[1] = x[2000] = 9;
    check_order(x, 1, 3000, 1024);
    check_order(x, 3, 1000, 700);
    free(x);
}

/* ---- logprob ---- */

static void run_logprob(const rig_device *on, const float *x, const int32_t *targets, int64_t rows,
                        int64_t vocab, float *out)
{
    mlxn_buffer *logits = logits_buffer(on, rows, vocab, x);
    mlxn_buffer *t = rig_vector(on->device, MLXN_I32, rows, targets);
    mlxn_buffer *y = rig_vector(on->device, MLXN_F32, rows, NULL);
    CHECK_STATUS(mlxn_logprob(on->encoder, MLXN_DESC(mlxn_logprob_args, .logits = logits,
                                                     .targets = t, .logprobs = y)),
                 MLXN_OK);
    rig_finish(on, MLXN_OK);
    rig_read(y, out);
    mlxn_buffer_release(logits);
    mlxn_buffer_release(t);
    mlxn_buffer_release(y);
}

/* The CPU and all devices, the same bits.  u = 2^-24.  exp(x - m): the subtraction u |x - m|, exp
 * 2u; 31 additions in a lane and 5 of the butterfly, and for the sums of n blocks n / 32 - 1 and 5:
 * the sum is right to (43 + n / 32 + mean |x - m|) u, weighted by p, and so is its logarithm in
 * absolute terms; log itself 1 ulp (2u |log|), and the last two subtractions u |x_t - m| and u
 * |result|. */
TEST(sampling_logprob)
{
    static const struct {
        int64_t rows, vocab;
        float spread;
    } cases[] = {{1, 1, 1}, {5, 31, 3}, {3, 1024, 0}, {2, 5000, 10}, {17, 1033, 4}, {1, 262144, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n;
        int64_t rows = cases[i].rows, vocab = cases[i].vocab;
        const rig_device *cpu = rig_cpu_devices(&n), *devices = rig_devices(&n);
        float *x = random_logits(50 + i, rows * vocab, cases[i].spread), first[32], got[32];
        int32_t targets[32];
        uint64_t seed = i;
        for (int64_t r = 0; r < rows; r++)
            targets[r] = (int32_t)(test_random(&seed) % (uint64_t)vocab);
        targets[0] = (int32_t)vocab - 1;
        run_logprob(cpu, x, targets, rows, vocab, first);
        for (int d = 0; d < n; d++) {
            run_logprob(&devices[d], x, targets, rows, vocab, got);
            CHECK(!memcmp(first, got, (size_t)rows * sizeof *got));
        }
        for (int64_t r = 0; r < rows; r++) {
            const float *row = x + r * vocab;
            double m = -HUGE_VAL, sum = 0, mean = 0;
            for (int64_t k = 0; k < vocab; k++)
                m = fmax(m, (double)row[k]);
            for (int64_t k = 0; k < vocab; k++) {
                double e = exp((double)row[k] - m);
                sum += e, mean += e * (m - (double)row[k]);
            }
            double want = (double)row[targets[r]] - m - log(sum);
            double bound = 0x1p-24 * (43 + (double)(vocab / 1024 / 32) + mean / sum + 2 * log(sum) +
                                      fabs((double)row[targets[r]] - m) + fabs(want));
            CHECK(fabs((double)first[r] - want) <= bound);
        }
        free(x);
    }
}

TEST(sampling_logprob_faults)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    const float x[6] = {0, 0, NAN, 1, 1, -HUGE_VALF};
    const int32_t targets[3] = {-1, 0, 2};
    for (int d = 0; d < n; d++) {
        const rig_device *on = &devices[d];
        float out[3] = {7, 7, 7};
        mlxn_buffer *logits = logits_buffer(on, 3, 2, x);
        mlxn_buffer *t = rig_vector(on->device, MLXN_I32, 3, targets);
        mlxn_buffer *o = rig_vector(on->device, MLXN_F32, 3, out);
        CHECK_STATUS(mlxn_logprob(on->encoder, MLXN_DESC(mlxn_logprob_args, .logits = logits,
                                                         .targets = t, .logprobs = o)),
                     MLXN_OK);
        rig_finish(on, MLXN_ERR_FAULT);
        rig_read(o, out);
        CHECK(out[0] == 7 && isnan(out[1]) && out[2] == 7);
        mlxn_buffer_release(logits);
        mlxn_buffer_release(t);
        mlxn_buffer_release(o);
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

/* ---- repeat_penalty and step_advance ---- */

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

static int32_t cell(mlxn_buffer *b, int64_t i)
{
    int32_t value = -99;
    rig_read_part(b, (size_t)i * 4, &value, 4);
    return value;
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
        CHECK(cell(s.ids, 0) == 42 && cell(s.token, 0) == 42);
        CHECK(cell(s.positions, 0) == 11 && cell(s.counter, 0) == 9);
        CHECK(cell(s.a, 0) == 3 && cell(s.b, 0) == 10);
        for (int i = 0; i < 5; i++)
            CHECK(cell(s.history, i) == (i == 2 ? 42 : 0));
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
        CHECK(cell(s.ids, 0) == 0 && cell(s.history, 0) == 0);
        CHECK(cell(s.positions, 0) == bad[i][0] && cell(s.counter, 0) == bad[i][1]);
        free_step(&s);
    }
}

/* ---- sample ---- */

/* The test vectors that Random123 publishes for Philox 4x32-10. */
TEST(sampling_philox_vectors)
{
    static const struct {
        philox_block counter;
        uint32_t key[2];
        philox_block want;
    } vectors[] = {
        {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{~0u, ~0u, ~0u, ~0u}}, {~0u, ~0u}, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         {0xa4093822, 0x299f31d0},
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}}};
    for (int i = 0; i < 3; i++) {
        philox_block got = philox_4x32(vectors[i].counter, vectors[i].key[0], vectors[i].key[1]);
        CHECK(!memcmp(&got, &vectors[i].want, sizeof got));
    }
    CHECK(philox_draw(0, 0) == 0x6627e8);
    CHECK(philox_draw(0x299f31d0a4093822u, 5) != philox_draw(0x299f31d1a4093822u, 5));
}

/* The smallest integer >= top_p total, and total u / 2^24 rounded down, in 128 bits. */
TEST(sampling_shares)
{
    static const float shares[] = {1,     0.5f,     0.95f,  0.1f,      0x1p-24f,  0x1.8p-30f,
                                   1e-9f, 0x1p-90f, 1e-30f, 0x1p-126f, 0x1p-149f, 0x1.fffffep-1f};
    uint64_t seed = 8;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        for (int k = 0; k < 1000; k++) {
            const uint64_t total = (test_random(&seed) >> (2 + k % 60)) + 1;
            const uint32_t u = philox_draw(seed, (uint32_t)k);
            int e;
            const uint64_t m = (uint64_t)ldexp(frexp((double)shares[i], &e), 24);
            const unsigned __int128 p = (unsigned __int128)total * m, one = 1;
            const int shift = 24 - e; /* share = m 2^-shift */
            const uint64_t want = shift >= 120 ? 1 : (uint64_t)((p + (one << shift) - 1) >> shift);
            uint32_t bits;
            memcpy(&bits, &shares[i], sizeof bits);
            CHECK(draw_share(bits, total) == (want ? want : 1));
            CHECK(draw_point(seed, k, total) == (uint64_t)((unsigned __int128)total * u >> 24));
        }
}

typedef struct filters {
    int64_t top_k;
    float temperature, top_p, min_p;
} filters;

/* Draws `count` tokens, counters from `first` on, in one replayed recording of sample and
 * step_advance. */
static int32_t *draw_tokens(const rig_device *on, const float *x, int64_t vocab, const filters *f,
                            uint64_t seed, int32_t first, int64_t count)
{
    const int32_t zero = 0;
    int32_t *tokens = malloc((size_t)count * sizeof *tokens), *ring;
    mlxn_buffer *logits = rig_vector(on->device, MLXN_F32, vocab, x);
    mlxn_buffer *history = rig_vector(on->device, MLXN_I32, count, NULL);
    mlxn_buffer *token = rig_vector(on->device, MLXN_I32, 1, &zero);
    mlxn_buffer *counter = rig_vector(on->device, MLXN_I32, 1, &first);
    mlxn_buffer *position = rig_vector(on->device, MLXN_I32, 1, &zero);
    mlxn_graph *graph = NULL;
    CHECK_STATUS(
        mlxn_sample(on->encoder,
                    MLXN_DESC(mlxn_sample_args, .logits = logits, .token = token,
                              .counter = counter, .seed = seed, .top_k = f->top_k,
                              .temperature = f->temperature, .top_p = f->top_p, .min_p = f->min_p)),
        MLXN_OK);
    CHECK_STATUS(mlxn_step_advance(on->encoder, MLXN_DESC(mlxn_step_advance_args, .token = token,
                                                          .ids = token, .positions = position,
                                                          .counter = counter, .history = history)),
                 MLXN_OK);
    CHECK_STATUS(mlxn_graph_capture(on->encoder, &graph), MLXN_OK);
    for (int64_t i = 0; i < count; i++)
        CHECK_STATUS(mlxn_graph_replay(on->encoder, graph), MLXN_OK);
    rig_finish(on, MLXN_OK);
    ring = malloc((size_t)count * sizeof *ring);
    rig_read(history, ring);
    for (int64_t i = 0; i < count; i++)
        tokens[i] = ring[(first + i) % count];
    free(ring);
    mlxn_graph_release(graph);
    mlxn_buffer *all[] = {logits, history, token, counter, position};
    for (int i = 0; i < 5; i++)
        mlxn_buffer_release(all[i]);
    return tokens;
}

/* The reference: p[id] of each token after the filters, in float64.  0: a filter's border is too
 * close to call. */
static int filtered(const float *x, int64_t vocab, const filters *f, double *p)
{
    int32_t *ids = sorted_ids(x, vocab);
    int64_t n = f->top_k && f->top_k < vocab ? f->top_k : vocab, kept;
    double top = (double)x[ids[0]], sum = 0, reached = 0, total = 0;
    int clear = 1;
    memset(p, 0, (size_t)vocab * sizeof *p);
    while (n > 1 && isnan(x[ids[n - 1]]))
        n--;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[ids[i]] - top);
    kept = n;
    if (f->top_p < 1)
        for (kept = 0; kept < n && reached < (double)f->top_p * sum; kept++) {
            reached += exp((double)x[ids[kept]] - top);
            clear &= fabs(reached / sum - (double)f->top_p) > 1e-6;
        }
    for (int64_t i = 0; i < kept; i++) {
        double d = (double)x[ids[i]] - top, share = exp(d);
        clear &= d == 0 || f->min_p == 0 || fabs(share - (double)f->min_p) > 1e-6 * share;
        if (share >= (double)f->min_p)
            total += p[ids[i]] = exp(d / (double)f->temperature);
    }
    for (int64_t i = 0; i < vocab; i++)
        p[i] /= total;
    free(ids);
    return clear;
}

/* Whether `token` is where u lies in the cumulative distribution, give or take CLOSE. */
static int drawn_right(const double *p, int64_t vocab, double u, int32_t token)
{
    double below = 0;
    if (token < 0 || token >= vocab || p[token] == 0)
        return 0;
    for (int64_t i = 0; i < token; i++)
        below += p[i];
    return u > below - CLOSE && u < below + p[token] + CLOSE;
}

static const filters filter_cases[] = {
    {0, 1, 1, 0},        {40, 1, 1, 0},           {1, 1, 1, 0},           {0, 0.7f, 0.9f, 0},
    {64, 1, 0.95f, 0},   {64, 1.5f, 0.8f, 0.02f}, {0, 1, 1, 0.1f},        {1024, 2, 0.99f, 0},
    {1025, 2, 0.99f, 0}, {3000, 1, 1, 0},         {2000, 1, 0.5f, 0.01f}, {0, 1, 1e-6f, 0},
    {0, 0.05f, 1, 0},    {0, 1e-30f, 1, 0},       {7, 1, 0.3f, 1},        {0, 3, 0.999f, 0.001f},
};

TEST(sampling_draws)
{
    static const int64_t vocabs[] = {11, 900, 5003};
    int n, used = 0;
    const rig_device *cpu = rig_cpu_devices(&n), *devices = rig_devices(&n);
    for (int v = 0; v < 3; v++)
        for (size_t i = 0; i < sizeof filter_cases / sizeof *filter_cases; i++) {
            int64_t vocab = vocabs[v], count = test_full() ? 400 : 24;
            const filters *f = &filter_cases[i];
            float *x = random_logits(i * 3 + (uint64_t)v, vocab, 3);
            double *p = malloc((size_t)vocab * sizeof *p);
            for (int64_t k = 0; i % 3 == 1 && k < vocab; k++)
                x[k] = roundf(x[k]); /* ties at every border */
            if (i % 4 == 0)
                x[1] = NAN, x[2] = -HUGE_VALF;
            int clear = filtered(x, vocab, f, p);
            used += clear;
            int32_t *first = draw_tokens(cpu, x, vocab, f, 99 + i, 10, count);
            for (int64_t k = 0; clear && k < count; k++) {
                double u = ldexp((double)philox_draw(99 + i, (uint32_t)(10 + k)), -24);
                if (!drawn_right(p, vocab, u, first[k]))
                    test_failed(__FILE__, __LINE__, "vocab %d, filters %d, draw %d: token %d",
                                (int)vocab, (int)i, (int)k, (int)first[k]);
            }
            for (int d = 0; d < n; d++) {
                const int slow = devices[d].slow && !test_full();
                int64_t some = slow ? 1 : count;
                if (slow && ((int)i + v + d) % 4) /* a quarter of the cases */
                    continue;
                int32_t *other = draw_tokens(&devices[d], x, vocab, f, 99 + i, 10, some);
                CHECK(!memcmp(first, other, (size_t)some * sizeof *first));
                free(other);
            }
            free(first);
            free(x);
            free(p);
        }
    test_note("%d of 48 cases are clear", used);
    CHECK(used >= 44);
}

/* The smallest set with probability >= top_p, lower ids first among equals: weights 1/2, 1/4, 1/4,
 * then four of 1/4 and shares that whole sets have exactly. */
TEST(sampling_top_p_border)
{
    enum { VOCAB = 1400, DRAWS = 16 }; /* too many for the list when top_k is 0 */
    const float two = 0.69314718f;
    static const struct {
        float top_p;
        uint32_t tokens; /* bits of ids 0 .. 3 that may come */
    } cases[] = {{0.4f, 2},  {0.6f, 3}, {0.74f, 3}, {0.76f, 11}, {1, 11},
                 {0.25f, 1}, {0.5f, 3}, {0.75f, 7}, {0.76f, 15}};
    int n;
    const rig_device *devices = rig_devices(&n);
    float x[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        x[i] = -HUGE_VALF;
    x[1] = two, x[0] = x[3] = 0;
    for (int c = 0; c < 9; c++) {
        if (c == 5)
            x[0] = x[1] = x[2] = x[3] = 0.1f;
        for (int k = 0; k < 2 * n; k++) {
            const filters f = {k % 2 ? 200 : 0, 1, cases[c].top_p, 0};
            int32_t *tokens = draw_tokens(&devices[k / 2], x, VOCAB, &f, 4, 0, DRAWS);
            uint32_t seen = 0;
            for (int i = 0; i < DRAWS; i++)
                seen |= tokens[i] < 4 ? 1u << tokens[i] : 1u << 31;
            CHECK(seen == cases[c].tokens);
            free(tokens);
        }
    }
}

/* top_p looks at what top_k leaves, the lower ids of many equal logits: weights 1 and 2599 times w.
 * The share is a little more than what 1 and 900 times w have, so one more is kept, and a bit lost
 * from any sum shows. */
TEST(sampling_top_p_of_top_k)
{
    enum { VOCAB = 3000, DRAWS = 24, TOP = 2500 };
    const float depth = 6; /* two groups of 2048 ids carry between low words */
    const double w = exp((double)-depth), share = (1 + 900 * w) / (1 + 2599 * w);
    const filters f = {2600, 1, nextafterf(nextafterf((float)share, 1), 1), 0};
    int n, high = 0;
    const rig_device *cpu = rig_cpu_devices(&n), *devices = rig_devices(&n);
    float x[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        x[i] = i == TOP ? depth : 0;
    int32_t *want = draw_tokens(cpu, x, VOCAB, &f, 3, 0, DRAWS);
    for (int i = 0; i < DRAWS; i++) {
        CHECK(want[i] <= 900 || want[i] == TOP);
        high += want[i] > 700 && want[i] <= 900;
    }
    CHECK(high > 0);
    for (int d = 0; d < n; d++) {
        int32_t *tokens = draw_tokens(&devices[d], x, VOCAB, &f, 3, 0, DRAWS);
        CHECK(!memcmp(want, tokens, DRAWS * sizeof *want));
        free(tokens);
    }
    free(want);
}

/* min_p looks at weights without the temperature: 1 and 0.37 here, drawn by as 1 and 0.78. */
TEST(sampling_min_p)
{
    enum { VOCAB = 1400, DRAWS = 8 };
    int n;
    const rig_device *devices = rig_devices(&n);
    float x[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        x[i] = -HUGE_VALF;
    x[70] = 3, x[900] = 2;
    for (int k = 0; k < 4 * n; k++) {
        const filters f = {k % 2 ? 0 : 50, 4, 1, k / 2 % 2 ? 0.5f : 0.3f};
        int32_t *tokens = draw_tokens(&devices[k / 4], x, VOCAB, &f, 2, 0, DRAWS);
        int first = 0, second = 0;
        for (int i = 0; i < DRAWS; i++) {
            first += tokens[i] == 70;
            second += tokens[i] == 900;
        }
        CHECK(first + second == DRAWS && first > 0 && (second > 0) == (k / 2 % 2 == 0));
        free(tokens);
    }
}

/* B15: u = 0 does not give a token of probability 0, nor does the largest u. */
TEST(sampling_extreme_u)
{
    enum { SEED = 12345, ZERO = 14333894, LARGEST = 82400021, VOCAB = 70001 };
    int n;
    const rig_device *devices = rig_devices(&n);
    static float x[VOCAB];
    CHECK(philox_draw(SEED, ZERO) == 0 && philox_draw(SEED, LARGEST) == 0xffffff);
    for (int i = 0; i < VOCAB; i++)
        x[i] = i % 7 == 0 ? NAN : -HUGE_VALF;
    x[1100] = -1, x[1700] = 2, x[VOCAB - 1] = -3;
    for (int d = 0; d < n; d++)
        for (int k = 0; k < 2; k++) {
            const filters f = {k ? 50 : 0, 1, 1, 0};
            int32_t *low = draw_tokens(&devices[d], x, VOCAB, &f, SEED, ZERO, 1);
            int32_t *high = draw_tokens(&devices[d], x, VOCAB, &f, SEED, LARGEST, 1);
            CHECK(low[0] == 1100 && high[0] == VOCAB - 1);
            free(low);
            free(high);
        }
}

/* NaN everywhere: token 0, as argmax; infinities: only they; temperature 0: argmax. */
TEST(sampling_degenerate_rows)
{
    enum { VOCAB = 1500, DRAWS = 16 };
    int n;
    const rig_device *devices = rig_devices(&n);
    float x[VOCAB];
    for (int d = 0; d < n; d++)
        for (int k = 0; k < 2; k++) {
            const filters f = {k ? 9 : 0, 1, 0.9f, 0.1f}, greedy = {k ? 9 : 0, 0, 0.9f, 0.1f};
            for (int i = 0; i < VOCAB; i++)
                x[i] = NAN;
            int32_t *a = draw_tokens(&devices[d], x, VOCAB, &f, 1, 0, 2);
            x[20] = -HUGE_VALF;
            int32_t *b = draw_tokens(&devices[d], x, VOCAB, &f, 1, 0, 2);
            x[VOCAB - 1] = -5;
            int32_t *last = draw_tokens(&devices[d], x, VOCAB, &f, 1, 0, 1);
            x[700] = HUGE_VALF, x[3] = 3e38f, x[1200] = x[1300] = HUGE_VALF;
            int32_t *c = draw_tokens(&devices[d], x, VOCAB, &f, 1, 0, DRAWS);
            int32_t *g = draw_tokens(&devices[d], x, VOCAB, &greedy, 1, 0, 2);
            CHECK(a[0] == 0 && a[1] == 0 && b[0] == 20 && b[1] == 20);
            CHECK(last[0] == VOCAB - 1 && g[0] == 700 && g[1] == 700);
            int counts[3] = {0};
            for (int i = 0; i < DRAWS; i++)
                counts[c[i] == 700 ? 0 : c[i] == 1200 ? 1 : 2] += c[i] % 100 == 0 && c[i] >= 700;
            CHECK(counts[0] + counts[1] + counts[2] == DRAWS && counts[0] && counts[1] &&
                  counts[2]);
            free(a);
            free(b);
            free(c);
            free(g);
            free(last);
        }
}

/* Pearson's chi-square of the draws, which are the same on all devices, against the exact
 * distribution.  With 19 degrees of freedom the
 * 99.99 % point is 52.4; the seeds are fixed, so the test cannot flicker. */
TEST(sampling_distribution)
{
    enum { VOCAB = 20, DRAWS = 8000 };
    int n;
    const rig_device *on = rig_cpu_devices(&n);
    const filters f = {0, 1.3f, 1, 0};
    float *x = random_logits(77, VOCAB, 1);
    double p[VOCAB];
    filtered(x, VOCAB, &f, p);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        int32_t *tokens = draw_tokens(on, x, VOCAB, &f, seed << 31, 1000, DRAWS);
        double counts[VOCAB] = {0}, chi = 0;
        for (int i = 0; i < DRAWS; i++)
            counts[tokens[i]]++;
        for (int i = 0; i < VOCAB; i++)
            chi += pow(counts[i] - DRAWS * p[i], 2) / (DRAWS * p[i]);
        test_note("seed %d: chi-square %.1f", (int)seed, chi);
        CHECK(chi < 52.4 && chi > 4);
        free(tokens);
    }
    free(x);
}

TEST(sampling_negative_counter_faults)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    const float x[1100] = {0};
    const int32_t minus = -1, keep = 5;
    for (int i = 0; i < 3 * n; i++) {
        const rig_device *on = &devices[i / 3];
        const int k = i % 3;
        mlxn_buffer *logits = rig_vector(on->device, MLXN_F32, 1100, x);
        mlxn_buffer *token = rig_vector(on->device, MLXN_I32, 1, &keep);
        mlxn_buffer *counter = rig_vector(on->device, MLXN_I32, 1, &minus);
        if (k < 2)
            CHECK_STATUS(mlxn_sample(on->encoder,
                                     MLXN_DESC(mlxn_sample_args, .logits = logits, .token = token,
                                               .counter = counter, .top_k = k ? 0 : 10,
                                               .temperature = 1, .top_p = 1)),
                         MLXN_OK);
        else
            CHECK_STATUS(mlxn_repeat_penalty(on->encoder,
                                             MLXN_DESC(mlxn_repeat_penalty_args, .logits = logits,
                                                       .history = token, .counter = counter,
                                                       .last_n = 1, .penalty = 2)),
                         MLXN_OK);
        rig_finish(on, MLXN_ERR_FAULT);
        CHECK(cell(token, 0) == 5);
        mlxn_buffer_release(logits);
        mlxn_buffer_release(token);
        mlxn_buffer_release(counter);
    }
}

/* ---- what the host refuses ---- */

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
