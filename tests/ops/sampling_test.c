/* sampling_test.c - sample: its draws, filters and distribution, and Philox, on every device of the
 * rig.
 *
 * sample is compared draw by draw with a reference that sorts the row, applies the filters in the
 * header's order in float64 and inverts the cumulative distribution in id order.  Where u falls
 * within 1e-5 of a border of two tokens (weights carry about 2^-22 of relative error, at most a few
 * 1e-6 of the total) either token is right; where a filter's border is that close the case is not
 * used. */
#include "logits.h"
#include "ops/sampling/draw.h"

#define CLOSE 1e-5

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
    int32_t *ids = logits_sorted(x, vocab);
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
            float *x = logits_random(i * 3 + (uint64_t)v, vocab, 3);
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
    float *x = logits_random(77, VOCAB, 1);
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
        CHECK(rig_int(token, 0) == 5);
        mlxn_buffer_release(logits);
        mlxn_buffer_release(token);
        mlxn_buffer_release(counter);
    }
}
