/* rope_test.c - rope_freqs against float64 and YaRN's published form, and what it refuses; the
 * pairings of rope.  Its other results and refusals: with qkv_prepare, whose kernel it runs. */
#include "heads.h"

/* ---- frequencies ---- */

static int read_freqs(const rig_device *on, mlxn_rope_freqs_args *a, int64_t pairs, float *out)
{
    const int64_t shape[2] = {pairs, 2};
    mlxn_buffer *b = rig_buffer(on->device, MLXN_F32, 2, shape, NULL);
    a->size = sizeof *a;
    a->output = b;
    int ok = test_status(mlxn_rope_freqs(on->device, a), MLXN_OK, __FILE__, __LINE__, "rope_freqs");
    rig_read(b, out);
    mlxn_buffer_release(b);
    return ok;
}

TEST(rope_freqs_accuracy)
{
    enum { PAIRS = 256 };
    static const double thetas[] = {1e4, 1e6, 500000, 1.5};
    float table[PAIRS][2], factors[PAIRS];
    int n;
    const rig_device *on = rig_devices(&n);
    for (int i = 0; i < PAIRS; i++)
        factors[i] = i % 3 ? 1.0f + (float)i : 1e30f;
    mlxn_buffer *f = rig_vector(on->device, MLXN_F32, PAIRS, factors);
    for (int k = 0; k < 16; k++) {
        int64_t dim = k & 4 ? 2 * PAIRS : 640;
        double scale = k & 8 ? 0.125 : 1;
        mlxn_rope_freqs_args a = {.exponent_dim = dim,
                                  .theta = thetas[k % 4],
                                  .scale = scale,
                                  .freq_factors = k & 8 ? f : NULL};
        REQUIRE(read_freqs(on, &a, PAIRS, table[0]));
        for (int i = 0; i < PAIRS; i++) {
            long double want =
                powl((long double)thetas[k % 4], -2.0L * i / (long double)dim) * (long double)scale;
            if (k & 8)
                want /= (long double)factors[i];
            long double got = (long double)table[i][0] + (long double)table[i][1];
            if (fabsl(got - want) > want * 0x1p-48L + 0x1p-149L) /* the low part may underflow */
                test_failed(__FILE__, __LINE__, "theta %g dim %lld pair %d: %Lg, exact %Lg",
                            thetas[k % 4], (long long)dim, i, got, want);
        }
    }
    mlxn_buffer_release(f);
}

/* YaRN by its published form: wavelength against the original context. */
TEST(rope_freqs_yarn)
{
    enum { PAIRS = 64 };
    const double theta = 1e6, factor = 4, context = 32768, fast = 32, slow = 1, pi = acos(-1);
    float table[PAIRS][2];
    int n, kept = 0, divided = 0, between = 0;
    const rig_device *on = rig_devices(&n);
    mlxn_rope_freqs_args a = {.exponent_dim = 2 * PAIRS,
                              .theta = theta,
                              .scale = 1,
                              .yarn_factor = factor,
                              .yarn_beta_fast = fast,
                              .yarn_beta_slow = slow,
                              .yarn_original_context = 32768};
    REQUIRE(read_freqs(on, &a, PAIRS, table[0]));
    double low = floor(PAIRS * log(context / (fast * 2 * pi)) / log(theta));
    double high = ceil(PAIRS * log(context / (slow * 2 * pi)) / log(theta));
    for (int i = 0; i < PAIRS; i++) {
        double f = pow(theta, -(double)i / PAIRS), got = (double)table[i][0] + (double)table[i][1];
        double keep = 1 - fmin(1, fmax(0, (i - low) / (high - low)));
        CHECK(fabs(got / (f / factor * (1 - keep) + f * keep) - 1) < 1e-13);
        kept += fabs(got / f - 1) < 1e-13;
        divided += fabs(got * factor / f - 1) < 1e-13;
        between += got < f * (1 - 1e-9) && got * factor > f * (1 + 1e-9);
    }
    CHECK(kept > 5 && divided > 5 && between > 5 && kept + divided + between == PAIRS);
}

static mlxn_status freqs(mlxn_device *dev, mlxn_buffer *out, mlxn_buffer *factors, int64_t dim,
                         double theta, double scale)
{
    return mlxn_rope_freqs(dev,
                           MLXN_DESC(mlxn_rope_freqs_args, .output = out, .freq_factors = factors,
                                     .exponent_dim = dim, .theta = theta, .scale = scale));
}

TEST(rope_freqs_rejections)
{
    const int64_t shape[2] = {8, 2}, wrong[2] = {8, 3};
    const float zeros[8] = {0};
    int n;
    const rig_device *on = rig_devices(&n);
    mlxn_device *dev = on->device;
    mlxn_buffer *out = rig_buffer(dev, MLXN_F32, 2, shape, NULL);
    mlxn_buffer *three = rig_buffer(dev, MLXN_F32, 2, wrong, NULL);
    mlxn_buffer *half = rig_buffer(dev, MLXN_F16, 2, shape, NULL);
    mlxn_buffer *factors = rig_vector(dev, MLXN_F32, 8, zeros);
    mlxn_buffer *seven = rig_vector(dev, MLXN_F32, 7, NULL);
    CHECK_FAILS(freqs(NULL, out, NULL, 16, 1e4, 1), MLXN_ERR_ARGUMENT, "device is NULL");
    CHECK_STATUS(mlxn_rope_freqs(dev, NULL), MLXN_ERR_ARGUMENT);
    CHECK_FAILS(freqs(dev, NULL, NULL, 16, 1e4, 1), MLXN_ERR_ARGUMENT, "output is NULL");
    CHECK_FAILS(freqs(dev, half, NULL, 16, 1e4, 1), MLXN_ERR_DTYPE, "output is f16, needs f32");
    CHECK_FAILS(freqs(dev, three, NULL, 16, 1e4, 1), MLXN_ERR_SHAPE, "has 3 in dimension 1");
    CHECK_FAILS(freqs(on[1].device, out, NULL, 16, 1e4, 1), MLXN_ERR_ARGUMENT, "another device");
    CHECK_FAILS(freqs(dev, out, seven, 16, 1e4, 1), MLXN_ERR_SHAPE, "freq_factors has 7");
    CHECK_FAILS(freqs(dev, out, factors, 16, 1e4, 1), MLXN_ERR_ARGUMENT, "freq_factors[0] is 0");
    CHECK_FAILS(freqs(dev, out, NULL, 15, 1e4, 1), MLXN_ERR_ARGUMENT,
                "exponent_dim is 15, 8 pairs need 16");
    CHECK_FAILS(freqs(dev, out, NULL, 16, 0, 1), MLXN_ERR_ARGUMENT, "theta is 0, needs > 0");
    CHECK_FAILS(freqs(dev, out, NULL, 16, (double)NAN, 1), MLXN_ERR_ARGUMENT, "theta is nan");
    CHECK_FAILS(freqs(dev, out, NULL, 16, 1e4, 0), MLXN_ERR_ARGUMENT, "scale is 0");
    mlxn_buffer *all[] = {out, three, half, factors, seven};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mlxn_buffer_release(all[i]);
}

/* ---- rope ---- */

/* Which elements are a pair, and which way the rotation goes: cos 0, sin 1 turns (a, b) into
 * (-b, a), all else stays. */
TEST(rope_pairings)
{
    enum { D = 12, H = 3 };
    static const mlxn_rope_pairing whole[] = {MLXN_ROPE_NEOX, MLXN_ROPE_INTERLEAVED};
    int n;
    const rig_device *on = rig_devices(&n);
    for (int pairing = MLXN_ROPE_NEOX; pairing <= MLXN_ROPE_INTERLEAVED_PROPORTIONAL; pairing++) {
        int is_whole = pairing == (int)whole[0] || pairing == (int)whole[1];
        heads_case c = {.dim = D, .pairs = is_whole ? D / 2 : H};
        const int64_t shape[3] = {1, 1, D}, table[2] = {1, c.pairs};
        float x[D], y[D], want[D], one[D] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        for (int i = 0; i < D; i++)
            want[i] = x[i] = (float)(i + 1);
        for (int64_t i = 0; i < c.pairs; i++) {
            int64_t lo, hi;
            heads_pair(&c, (mlxn_rope_pairing)pairing, i, &lo, &hi);
            want[lo] = -x[hi];
            want[hi] = x[lo];
        }
        for (int k = 0; k < n; k++) {
            mlxn_buffer *in = rig_buffer(on[k].device, MLXN_F32, 3, shape, x);
            mlxn_buffer *out = rig_buffer(on[k].device, MLXN_F32, 3, shape, NULL);
            mlxn_buffer *cosine = rig_buffer(on[k].device, MLXN_F32, 2, table, NULL);
            mlxn_buffer *sine = rig_buffer(on[k].device, MLXN_F32, 2, table, one);
            CHECK_STATUS(
                mlxn_rope(on[k].encoder,
                          MLXN_DESC(mlxn_rope_args, .input = in, .output = out,
                                    .pairing = (mlxn_rope_pairing)pairing, .rotary_pairs = c.pairs,
                                    .cos = cosine, .sin = sine, .attention_factor = 1)),
                MLXN_OK);
            rig_finish(&on[k], MLXN_OK);
            rig_read(out, y);
            CHECK(!memcmp(y, want, sizeof y));
            mlxn_buffer_release(in);
            mlxn_buffer_release(out);
            mlxn_buffer_release(cosine);
            mlxn_buffer_release(sine);
        }
    }
}
