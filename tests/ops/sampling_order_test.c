/* sampling_order_test.c - argmax, top_k and logprob against plain float64 code, on every device of
 * the rig. */
#include "logits.h"

/* Runs argmax and top_k(k) on every device; ids must be those of the sort. */
static void check_order(const float *x, int64_t rows, int64_t vocab, int64_t k)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    int32_t *ids = malloc((size_t)(rows * k) * sizeof *ids);
    float *values = malloc((size_t)(rows * k) * sizeof *values);
    int32_t *tops = malloc((size_t)rows * sizeof *tops), *want = malloc((size_t)(rows * k) * 4);
    for (int64_t r = 0; r < rows; r++) {
        int32_t *sorted = logits_sorted(x + r * vocab, vocab);
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
            float *x = logits_random(i + 1, total, 5);
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
    float *x = logits_random(3, 3000, 1);
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
        float *x = logits_random(50 + i, rows * vocab, cases[i].spread), first[32], got[32];
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
