/* emulator_test.c - the emulator finds each planted error and nothing in the correct twins, on one
 * OS thread and on two; the dialect's maths and conversions give the bits of the CPU's. */
#include "test.h"
#include "emulator.h"
#include "isa/math_probe.h"
#include "ops/rig.h"

extern const char mlxn_kernel_text_planted[];

static const emu_library *planted(int checked)
{
    static emu_library *libraries[2];
    static char log[4096];
    if (!libraries[checked])
        libraries[checked] = emu_compile(mlxn_kernel_text_planted, checked, log, sizeof log);
    if (!libraries[checked])
        test_failed(__FILE__, __LINE__, "%s", log);
    return libraries[checked];
}

typedef enum finding { CLEAN, RACE, BOUNDS, UNINITIALISED, DIVERGENCE, ALIAS, EARLY } finding;

static const struct {
    const char *kernel;
    uint32_t groups;
    int in_place;
    finding want;
    const char *text; /* part of the report */
} plants[] = {
    {"reverse", 1, 0, CLEAN, ""},
    {"reverse", 2, 0, CLEAN, ""},
    {"reverse_no_barrier", 1, 0, UNINITIALISED, "part"},
    {"reverse_simd_barrier", 1, 0, UNINITIALISED, "part"},
    {"reverse_in_simd", 1, 0, CLEAN, ""},
    {"reverse_shuffle", 1, 0, RACE, "part"},
    {"reuse", 1, 0, RACE, "after read"},
    {"uninitialised", 1, 0, UNINITIALISED, "thread 56"},
    {"same_element", 1, 0, CLEAN, ""},
    {"same_element", 2, 0, RACE, "y["},
    {"other_group", 2, 0, CLEAN, ""},
    {"other_group", 2, 1, RACE, "group"},
    {"past_end", 2, 0, CLEAN, ""}, /* room is for two groups */
    {"past_end", 1, 0, BOUNDS, "y[byte 256] of 256"},
    {"before_start", 1, 0, BOUNDS, "x[byte -4]"},
    {"shared_past_end", 1, 0, BOUNDS, "part[byte 252] of 252"},
    {"misaligned", 1, 0, BOUNDS, "misaligned"},
    {"barrier_in_branch", 1, 0, DIVERGENCE, "32 of 64 threads wait at a barrier"},
    {"shuffle_in_branch", 1, 0, DIVERGENCE, "the others wait in a simdgroup operation"},
    {"two_barriers", 1, 0, DIVERGENCE, "different barriers"},
    {"bytes", 1, 0, CLEAN, ""},
    {"bytes_and_float", 1, 0, RACE, "y[byte "},
    {"atomic_flags", 2, 0, CLEAN, ""},
    {"atomic_and_plain", 1, 0, RACE, "y[byte 0]"},
    {"atomic_counts", 1, 0, CLEAN, ""},
    {"atomic_counts", 2, 0, CLEAN, ""},
    {"atomic_counts_no_barrier", 1, 0, RACE, "count"},
    {"atomic_uninitialised", 1, 0, UNINITIALISED, "atomic access by thread"},
    {"in_place", 1, 0, CLEAN, ""},
    {"in_place", 1, 1, CLEAN, ""},
    {"in_place_undeclared", 1, 0, CLEAN, ""},
    {"in_place_undeclared", 1, 1, ALIAS, "also reached as"},
    {"early", 2, 0, CLEAN, ""},
    {"early_write", 1, 0, EARLY, "write of y[byte 0]"},
    {"early_read", 1, 0, EARLY, "read of x[byte 0]"},
    {"early_never_waits", 1, 0, EARLY, "ends without k_wait()"},
};

/* The findings of one plant; the output in y (128 floats). */
static long run_plant(size_t i, int checked, uint64_t seed, int workers, float *y, emu_report *r)
{
    static _Alignas(256) float x[128], out[128];
    int32_t n = 64;
    size_t bytes = plants[i].groups * 64 * sizeof *x;
    for (int k = 0; k < 128; k++) {
        x[k] = (float)(k + 1);
        out[k] = 0;
    }
    if (!strcmp(plants[i].kernel, "past_end") && plants[i].groups == 2)
        bytes = sizeof x; /* 65 elements are used */
    const emu_buffer buffers[] = {{x, bytes}, {plants[i].in_place ? x : out, bytes}, {&n, 4}};
    const emu_launch launch = {.kernel = plants[i].kernel,
                               .buffers = buffers,
                               .n_buffers = 3,
                               .groups = {plants[i].groups, 1, 1},
                               .threads = 64,
                               .seed = seed,
                               .workers = workers,
                               .early = !strncmp(plants[i].kernel, "early", 5),
                               .unsettled = strcmp(plants[i].kernel, "early") ? 1 : 0};
    long findings = emu_dispatch(planted(checked), &launch, r);
    memcpy(y, plants[i].in_place ? x : out, sizeof out);
    return findings;
}

TEST(emulator_finds_planted_errors)
{
    REQUIRE(planted(1));
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            emu_report r;
            float y[128];
            int workers = 1 + (int)(seed & 1);
            if (!strcmp(plants[i].kernel, "past_end") && plants[i].groups == 2)
                continue;
            long n = run_plant(i, 1, seed, workers, y, &r);
            const long by_kind[] = {n == 0,       r.races, r.bounds, r.uninitialised,
                                    r.divergence, r.alias, r.early};
            finding want = plants[i].want;
            /* whether a missing barrier shows as a race or as a read before the write depends on
             * the order */
            long found = want == UNINITIALISED ? r.uninitialised + r.races : by_kind[want];
            if (!found || (want == CLEAN && n) ||
                (seed == 0 && want != RACE && !strstr(r.first, plants[i].text)))
                test_failed(__FILE__, __LINE__, "%s, seed %d: %ld findings: %s", plants[i].kernel,
                            (int)seed, n, r.first);
        }
}

static size_t plant_of(const char *kernel, uint32_t groups)
{
    size_t i = 0;
    while (strcmp(plants[i].kernel, kernel) || plants[i].groups != groups)
        i++;
    return i;
}

TEST(emulator_runs_correct_kernels)
{
    const size_t reverse = plant_of("reverse", 2), counts = plant_of("atomic_counts", 2);
    REQUIRE(planted(0) && planted(1));
    for (uint64_t seed = 0; seed < 6; seed++)
        for (int checked = 0; checked < 2; checked++) {
            emu_report r;
            float y[128];
            CHECK(run_plant(reverse, checked, seed, 2, y, &r) == 0);
            for (int k = 0; k < 128; k++)
                CHECK(y[k] == (float)(k / 64 * 64 + 64 - k % 64));
            CHECK(r.shared_bytes >= 64 * sizeof(float));
            CHECK(run_plant(plant_of("in_place", 1), checked, seed, 1, y, &r) == 0);
            CHECK(y[5] == 7);
            uint32_t sum;
            CHECK(run_plant(counts, checked, seed, 2, y, &r) == 0);
            memcpy(&sum, y, sizeof sum);
            CHECK(sum == 2 * 64 * 63 / 2);
        }
}

TEST(emulator_refuses)
{
    char log[2048];
    emu_report r;
    const emu_buffer none = {NULL, 0};
    emu_launch launch = {.kernel = "reverse", .buffers = &none, .n_buffers = 1, .threads = 64};
    REQUIRE(planted(1));
    CHECK(emu_parameters(planted(1), "reverse") == 3);
    CHECK(emu_parameters(planted(1), "nothing") == -1);
    CHECK(emu_dispatch(planted(1), &launch, &r) == -1);
    launch.kernel = "nothing";
    CHECK(emu_dispatch(planted(1), &launch, &r) == -1);
    CHECK(!emu_compile("KERNEL(broken) {", 1, log, sizeof log) && strstr(log, "error"));
}

/* ---- maths ---- */

static long dispatch(const char *kernel, const emu_buffer *buffers, int n)
{
    emu_report r;
    const emu_launch launch = {
        .kernel = kernel, .buffers = buffers, .n_buffers = n, .groups = {1, 1, 1}, .threads = 32};
    return emu_dispatch(planted(0), &launch, &r);
}

TEST(kernel_maths_has_the_bits_of_the_cpu)
{
    enum { N = 1 << 16 };
    static float x[N], y[3 * N], want[N];
    static const float special[] = {0.0f,   -0.0f,   INFINITY, -INFINITY, NAN,    1.0f,
                                    1e-40f, -1e-40f, 88.73f,   88.72f,    -87.4f, -103.9f,
                                    -104.f, 0.625f,  -0.625f,  1e38f,     1e-45f, 0.7071068f};
    uint64_t seed = 3;
    int32_t n = N;
    REQUIRE(planted(0));
    for (int i = 0; i < N; i++) { /* all bit patterns in steps, then small numbers, then special */
        uint32_t u = (uint32_t)i * 65521u;
        if (i % 2)
            x[i] = test_normal(&seed) * 20;
        else
            memcpy(&x[i], &u, sizeof u);
    }
    memcpy(x, special, sizeof special);
    const emu_buffer buffers[] = {{x, sizeof x}, {y, sizeof y}, {&n, 4}};
    CHECK(dispatch("maths", buffers, 3) == 0);
    for (int f = 0; f < MATH_FUNCTIONS; f++) {
        mlxn_cpu_math_probe_portable((math_function)f, x, want, N);
        for (int i = 0; i < N; i++)
            if (memcmp(&want[i], &y[f * N + i], 4) && !(isnan(want[i]) && isnan(y[f * N + i])))
                test_failed(__FILE__, __LINE__, "function %d of %a: %a, the CPU's %a", f,
                            (double)x[i], (double)y[f * N + i], (double)want[i]);
    }
}

TEST(kernel_angles_are_exact_to_2_24)
{
    enum { N = 4096 };
    static int32_t position[N];
    static float freqs[32], y[N * 32];
    float sine[16], cosine[16];
    uint64_t seed = 5;
    int32_t n = N;
    double worst = 0;
    REQUIRE(planted(0));
    for (int i = 0; i < 16; i++) {
        double f = pow(1e4, -i / 16.0);
        freqs[i] = (float)f;
        freqs[16 + i] = (float)(f - (double)freqs[i]);
    }
    for (int i = 0; i < N; i++)
        position[i] = (int32_t)(test_random(&seed) >> (i % 4 ? 44 : 33));
    const emu_buffer buffers[] = {
        {position, sizeof position}, {freqs, sizeof freqs}, {y, sizeof y}, {&n, 4}};
    CHECK(dispatch("angles", buffers, 4) == 0);
    for (int i = 0; i < N; i++) {
        mlxn_cpu_angle_probe_portable(position[i], freqs, freqs + 16, sine, cosine);
        CHECK(!memcmp(sine, y + i * 32, sizeof sine) &&
              !memcmp(cosine, y + i * 32 + 16, sizeof cosine));
        for (int k = 0; k < 16 && position[i] < 1 << 20; k++) {
            long double a =
                (long double)position[i] * ((long double)freqs[k] + (long double)freqs[16 + k]);
            worst = fmax(worst, fabs((double)(sinl(a) - (long double)y[i * 32 + k])));
            worst = fmax(worst, fabs((double)(cosl(a) - (long double)y[i * 32 + 16 + k])));
        }
    }
    test_note("sine and cosine to position 2^20: largest error %.3g", worst);
    CHECK(worst <= 0x1p-24);
}

TEST(kernel_conversions)
{
    enum { N = 1 << 16 };
    static float y[2 * 65536], x[N];
    static uint16_t z[2 * 65536], w[2 * N];
    int32_t n = N;
    REQUIRE(planted(0));
    for (int i = 0; i < N; i++) {
        uint32_t u = (uint32_t)i * 65521u;
        memcpy(&x[i], &u, sizeof u);
        if (i % 2)
            x[i] = ldexpf((float)(i + 0x10000) / 0x20000, i % 48 - 28); /* ties and subnormals */
    }
    const emu_buffer buffers[] = {
        {y, sizeof y}, {z, sizeof z}, {x, sizeof x}, {w, sizeof w}, {&n, 4}};
    CHECK(dispatch("conversions", buffers, 5) == 0);
    for (int d = 0; d < 2; d++) {
        mlxn_dtype dtype = d ? MLXN_BF16 : MLXN_F16;
        for (uint32_t i = 0; i < 65536; i++) {
            uint16_t h = (uint16_t)i, back;
            double want = test_load(dtype, &h, 0), got = (double)y[d * 65536 + (int)i];
            CHECK(isnan(want) ? isnan(got) : want == got);
            CHECK(isnan(want) || z[d * 65536 + (int)i] == h);
            if (isnan(x[i]))
                continue;
            test_store(dtype, &back, 0, (double)x[i]);
            if (back != w[d * N + (int)i])
                test_failed(__FILE__, __LINE__, "%a to %s: %04x, exact %04x", (double)x[i],
                            mlxn_dtype_name(dtype), w[d * N + (int)i], back);
        }
    }
}
