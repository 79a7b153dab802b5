/* math_test.c - exp, log, tanh and sincos of math.h on every SIMD path: the stated bounds against
 * float64 (angles: long double), special values, and equal bits. */
#include "rig.h"
#include "isa/math_probe.h"

typedef struct probe {
    const char *path;
    void (*run)(math_function f, const float *x, float *y, int n);
    void (*angle)(int64_t position, const float *hi, const float *lo, float *sine, float *cosine);
} probe;

/* The probes of the paths that this machine can run, best first. */
static int probes(probe *out)
{
    static const probe all[] = {
        {"portable", mlxn_cpu_math_probe_portable, mlxn_cpu_angle_probe_portable},
#if defined(MLXN_HAVE_AVX2)
        {"avx2", mlxn_cpu_math_probe_avx2, mlxn_cpu_angle_probe_avx2},
        {"avx512", mlxn_cpu_math_probe_avx512, mlxn_cpu_angle_probe_avx512},
#endif
#if defined(MLXN_HAVE_NEON)
        {"neon", mlxn_cpu_math_probe_neon, mlxn_cpu_angle_probe_neon},
        {"dotprod", mlxn_cpu_math_probe_dotprod, mlxn_cpu_angle_probe_dotprod},
#endif
    };
    int n_devices, n = 0;
    const rig_device *devices = rig_cpu_devices(&n_devices);
    for (int i = 0; i < n_devices && devices[i].threads == 1; i++)
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (!strcmp(all[k].path, devices[i].path))
                out[n++] = all[k];
    CHECK(n > 0);
    return n;
}

static const struct {
    const char *name;
    double (*exact)(double);
    double bound;
} functions[MATH_FUNCTIONS] = {{"exp", exp, 1.0}, {"log", log, 1.0}, {"tanh", tanh, 2.0}};

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Error in ulp; values that must be met exactly answer 0 or infinity. */
static double error_of(double got, double exact)
{
    if (fabs(exact) >= 0x1.ffffffp+127) /* rounds to infinity */
        return got == (exact > 0 ? HUGE_VAL : -HUGE_VAL) ? 0 : HUGE_VAL;
    if (fabs(exact) < 0x1p-150)
        return fabs(got) <= 0x1p-149 && signbit(got) == signbit(exact) ? 0 : HUGE_VAL;
    return test_ulp(got, exact, exact, MLXN_F32);
}

/* Floats 0, step, 2 step, ... as bit patterns on the best path against float64; on the others, with
 * a coarser step, for equal bits. */
static void sweep(math_function f, uint64_t step, uint64_t step_of_others)
{
    enum { BLOCK = 1024 };
    static float x[BLOCK], y[BLOCK], z[BLOCK];
    probe p[RIG_MAX];
    rig_worst worst = {0};
    int n = probes(p);
    for (uint64_t at = 0; at < 1ull << 32; at += BLOCK * step) {
        for (int i = 0; i < BLOCK; i++)
            x[i] = from_bits((uint32_t)(at + (uint64_t)i * step));
        p[0].run(f, x, y, BLOCK);
        for (int i = 0; i < BLOCK; i++)
            rig_record(&worst, error_of((double)y[i], functions[f].exact((double)x[i])), "%a",
                       (double)x[i]);
    }
    for (uint64_t at = 0; at < 1ull << 32; at += BLOCK * step_of_others) {
        for (int i = 0; i < BLOCK; i++)
            x[i] = from_bits((uint32_t)(at + (uint64_t)i * step_of_others));
        p[0].run(f, x, y, BLOCK);
        for (int k = 1; k < n; k++) {
            p[k].run(f, x, z, BLOCK);
            for (int i = 0; i < BLOCK; i++)
                if (memcmp(&y[i], &z[i], sizeof *y) && !(isnan(y[i]) && isnan(z[i])))
                    test_failed(__FILE__, __LINE__, "%s(%a): %a on %s, %a on %s", functions[f].name,
                                (double)x[i], (double)y[i], p[0].path, (double)z[i], p[k].path);
        }
    }
    test_note("%s: worst %.4f ulp at %s", functions[f].name, worst.ulp, worst.where);
    if (worst.ulp > functions[f].bound)
        test_failed(__FILE__, __LINE__, "%s is off by %g ulp at %s", functions[f].name, worst.ulp,
                    worst.where);
}

TEST(math_exp)
{
    sweep(MATH_EXP, test_full() ? 1 : 4099, test_full() ? 257 : 30011);
}

TEST(math_log)
{
    sweep(MATH_LOG, test_full() ? 1 : 4099, test_full() ? 257 : 30011);
}

TEST(math_tanh)
{
    sweep(MATH_TANH, test_full() ? 1 : 4099, test_full() ? 257 : 30011);
}

/* A NaN result for `want` NaN, else the very bits. */
static void check_value(math_function f, float x, float want)
{
    probe p[RIG_MAX];
    int n = probes(p);
    float in[16], out[16];
    for (int i = 0; i < 16; i++)
        in[i] = x;
    for (int k = 0; k < n; k++) {
        p[k].run(f, in, out, 16);
        for (int i = 0; i < 16; i++)
            if (isnan(want) ? !isnan(out[i]) : memcmp(&out[i], &want, sizeof want) != 0)
                test_failed(__FILE__, __LINE__, "%s(%a) is %a on %s, not %a", functions[f].name,
                            (double)x, (double)out[i], p[k].path, (double)want);
    }
}

TEST(math_special_values)
{
    const float inf = HUGE_VALF, nan = NAN;
    check_value(MATH_EXP, nan, nan);
    check_value(MATH_EXP, inf, inf);
    check_value(MATH_EXP, -inf, 0.0f);
    check_value(MATH_EXP, 0.0f, 1.0f);
    check_value(MATH_EXP, -0.0f, 1.0f);
    check_value(MATH_EXP, 0x1p-149f, 1.0f);
    check_value(MATH_EXP, 88.8f, inf);
    check_value(MATH_EXP, 3e38f, inf);
    check_value(MATH_EXP, -103.98f, 0.0f);
    check_value(MATH_EXP, -103.9f, 0x1p-149f);
    check_value(MATH_EXP, -3e38f, 0.0f);
    check_value(MATH_LOG, nan, nan);
    check_value(MATH_LOG, inf, inf);
    check_value(MATH_LOG, -inf, nan);
    check_value(MATH_LOG, -1.0f, nan);
    check_value(MATH_LOG, -0x1p-149f, nan);
    check_value(MATH_LOG, 0.0f, -inf);
    check_value(MATH_LOG, -0.0f, -inf);
    check_value(MATH_LOG, 1.0f, 0.0f);
    check_value(MATH_TANH, nan, nan);
    check_value(MATH_TANH, inf, 1.0f);
    check_value(MATH_TANH, -inf, -1.0f);
    check_value(MATH_TANH, 0.0f, 0.0f);
    check_value(MATH_TANH, -0.0f, -0.0f);
    check_value(MATH_TANH, 0x1p-149f, 0x1p-149f);
    check_value(MATH_TANH, -20.0f, -1.0f);
}

/* Largest error of sine and cosine over the pairs of a head at one position; equal bits on all
 * paths. */
static double angle_error(const probe *p, int n, double theta, int dim, int64_t position)
{
    double worst = 0;
    for (int first = 0; first < dim / 2; first += 16) {
        float hi[16], lo[16], s[16], c[16], s2[16], c2[16];
        for (int j = 0; j < 16; j++) {
            double f = pow(theta, -2.0 * (first + j) / dim);
            hi[j] = (float)f;
            lo[j] = (float)(f - (double)hi[j]);
        }
        p[0].angle(position, hi, lo, s, c);
        for (int k = 1; k < n; k++) {
            p[k].angle(position, hi, lo, s2, c2);
            if (memcmp(s, s2, sizeof s) || memcmp(c, c2, sizeof c))
                test_failed(__FILE__, __LINE__, "angle at %lld: %s and %s differ",
                            (long long)position, p[0].path, p[k].path);
        }
        for (int j = 0; j < 16; j++) {
            long double a =
                powl((long double)theta, -2.0L * (first + j) / dim) * (long double)position;
            worst = fmax(worst, fabs((double)((long double)s[j] - sinl(a))));
            worst = fmax(worst, fabs((double)((long double)c[j] - cosl(a))));
        }
    }
    return worst;
}

TEST(math_angle_bound)
{
    static const int64_t fixed[] = {0,    1,    2,     3,      710,    711,     1608,
                                    1609, 4095, 65535, 131071, 524288, 1048575, 1048576};
    probe p[RIG_MAX];
    int n = probes(p), random = test_full() ? 20000 : 120;
    uint64_t seed = 7;
    for (int k = 0; k < 4; k++) {
        double theta = k & 1 ? 1e6 : 1e4, worst = 0;
        for (int i = 0; i < random + 14; i++) {
            int64_t position = i < 14 ? fixed[i] : (int64_t)(test_random(&seed) >> 44);
            worst = fmax(worst, angle_error(p, n, theta, k & 2 ? 512 : 256, position));
        }
        test_note("theta %g: worst %.3f * 2^-24 up to 2^20", theta, ldexp(worst, 24));
        CHECK(worst <= 0x1p-24);
    }
}

/* Past 2^20 the error grows with the frequency's own 2^-48: 2^-24 + position * 2^-44. */
TEST(math_angle_far)
{
    static const int64_t fixed[] = {(1 << 24) - 1, 1 << 24, (1 << 24) + 1, 0x7fffffff};
    probe p[RIG_MAX];
    int n = probes(p);
    uint64_t seed = 8;
    for (int i = 0; i < 100; i++) {
        int64_t position = i < 4 ? fixed[i] : (int64_t)(test_random(&seed) >> (33 + i % 10));
        double worst = angle_error(p, n, 1e4, 256, position);
        if (worst > 0x1p-24 + (double)position * 0x1p-44)
            test_failed(__FILE__, __LINE__, "position %lld: error %g", (long long)position, worst);
    }
}
