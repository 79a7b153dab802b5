/* test.c - the harness behind test.h. */
#include "test.h"

#include <stdarg.h>
#include <time.h>
#include <unistd.h>

static test_case *cases;
static int failures_in_case, full_tier, verbose, fail_fast;
static char backend[32] = "cpu";
enum { MAX_WITHOUT = 16 };
static const char *without[MAX_WITHOUT];
static int n_without;
static int device_index;
static int hashes;
static struct {
    uint64_t hash;
    size_t outputs, bytes;
} seen; /* of the case */
void (*test_on_failure)(void);

void test_register(test_case *c)
{
    test_case **at = &cases;
    while (*at && strcmp((*at)->name, c->name) < 0)
        at = &(*at)->next;
    c->next = *at;
    *at = c;
}

void test_failed(const char *file, int line, const char *format, ...)
{
    va_list args;
    if (test_on_failure) {
        test_on_failure();
    } else if (failures_in_case++ < 20) {
        printf("  %s:%d: ", file, line);
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
        printf("\n");
    }
    if (fail_fast)
        exit(1);
}

void test_note(const char *format, ...)
{
    va_list args;
    if (!verbose)
        return;
    printf("  ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

const char *test_backend(void)
{
    return backend;
}

int test_device_index(void)
{
    return device_index;
}

/* One bit pattern for every NaN of a float dtype; other values as they are. */
static uint32_t one_nan(mlxn_dtype dtype, uint32_t bits)
{
    const uint32_t infinity = dtype == MLXN_F32    ? 0x7f800000u
                              : dtype == MLXN_F16  ? 0x7c00u
                              : dtype == MLXN_BF16 ? 0x7f80u
                                                   : UINT32_MAX;
    const uint32_t magnitude = bits & (dtype == MLXN_F32 ? 0x7fffffffu : 0x7fffu);
    return magnitude > infinity ? UINT32_MAX : bits;
}

/* FNV-1a over values. */
void test_seen(mlxn_dtype dtype, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    const size_t size = mlxn_dtype_block_bytes(dtype) == 4   ? 4
                        : mlxn_dtype_block_bytes(dtype) == 2 ? 2
                                                             : 1;
    if (!hashes)
        return;
    for (size_t i = 0; i + size <= bytes; i += size) {
        uint32_t bits = 0;
        memcpy(&bits, p + i, size);
        seen.hash = (seen.hash ^ one_nan(dtype, bits)) * 0x100000001b3u;
    }
    seen.outputs++;
    seen.bytes += bytes;
}

static void set_device(const char *name)
{
    const char *colon = strchr(name, ':');
    snprintf(backend, sizeof backend, "%.*s", (int)(colon ? colon - name : 31), name);
    device_index = colon ? atoi(colon + 1) : 0;
}

int test_full(void)
{
    return full_tier;
}

void test_quick(void)
{
    full_tier = 0;
}

int test_status(mlxn_status got, mlxn_status want, const char *file, int line, const char *what)
{
    if (got == want)
        return 1;
    test_failed(file, line, "%s: got \"%s\" (%s), want \"%s\"", what, mlxn_status_string(got),
                mlxn_last_error(), mlxn_status_string(want));
    return 0;
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

float test_uniform(uint64_t *state, float lo, float hi)
{
    return lo + (hi - lo) * (float)((double)(test_random(state) >> 40) * 0x1p-24);
}

float test_normal(uint64_t *state)
{
    double u = ((double)(test_random(state) >> 12) + 0.5) * 0x1p-52;
    double v = (double)(test_random(state) >> 12) * 0x1p-52;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

/* Digits of the significand and the smallest normal exponent of a float dtype. */
static void format_of(mlxn_dtype dtype, int *digits, int *min_exponent)
{
    *digits = dtype == MLXN_F32 ? 24 : dtype == MLXN_F16 ? 11 : 8;
    *min_exponent = dtype == MLXN_F16 ? -14 : -126;
}

void test_damage(const char *path, long at, int byte, long size)
{
    FILE *file = fopen(path, "r+b");
    REQUIRE(file);
    if (size >= 0)
        CHECK(ftruncate(fileno(file), size) == 0);
    if (at >= 0) {
        fseek(file, at, SEEK_SET);
        fputc(byte, file);
    }
    fclose(file);
}

double test_ulp(double got, double exact, double scale, mlxn_dtype dtype)
{
    int digits, min_exponent, e;
    format_of(dtype, &digits, &min_exponent);
    if (isnan(got) || isnan(exact))
        return isnan(got) && isnan(exact) ? 0 : HUGE_VAL;
    if (got == exact)
        return 0;
    frexp(fabs(scale), &e);
    if (e - 1 < min_exponent)
        e = min_exponent + 1;
    return fabs(got - exact) / ldexp(1.0, e - digits);
}

/* The bits of `value` in a format of `digits` significand digits, rounded to nearest even. */
static uint32_t encode_float(double value, int digits, int min_exponent, int exponent_bits)
{
    uint32_t sign = signbit(value) ? 1u << (exponent_bits + digits - 1) : 0;
    uint32_t inf = ((1u << exponent_bits) - 1) << (digits - 1);
    int e;
    if (isnan(value))
        return sign | inf | 1u << (digits - 2);
    value = fabs(value);
    if (isinf(value))
        return sign | inf;
    if (value == 0)
        return sign;
    frexp(value, &e);
    e = e - 1 < min_exponent ? min_exponent : e - 1;
    double scaled = nearbyint(ldexp(value, digits - 1 - e));
    if (scaled >= ldexp(1.0, digits))
        scaled /= 2, e++;
    if (e > -min_exponent + 1)
        return sign | inf;
    uint32_t bits = (uint32_t)scaled;
    if (bits < 1u << (digits - 1))
        return sign | bits;
    return sign | ((uint32_t)(e - min_exponent + 1) << (digits - 1)) |
           (bits & ((1u << (digits - 1)) - 1));
}

void test_store(mlxn_dtype dtype, void *data, size_t index, double value)
{
    if (dtype == MLXN_F32) {
        ((float *)data)[index] = (float)value;
        return;
    }
    int digits, min_exponent;
    format_of(dtype, &digits, &min_exponent);
    ((uint16_t *)data)[index] =
        (uint16_t)encode_float(value, digits, min_exponent, dtype == MLXN_F16 ? 5 : 8);
}

double test_load(mlxn_dtype dtype, const void *data, size_t index)
{
    if (dtype == MLXN_F32)
        return (double)((const float *)data)[index];
    int digits, min_exponent;
    format_of(dtype, &digits, &min_exponent);
    uint32_t bits = ((const uint16_t *)data)[index];
    uint32_t fraction = bits & ((1u << (digits - 1)) - 1);
    int e = (int)((bits & 0x7fff) >> (digits - 1)), top = dtype == MLXN_F16 ? 31 : 255;
    double value;
    if (e == top)
        value = fraction ? (double)NAN : HUGE_VAL;
    else if (e == 0)
        value = ldexp(fraction, min_exponent - digits + 1);
    else
        value = ldexp(fraction | 1u << (digits - 1), e - 1 + min_exponent - digits + 1);
    return bits & 0x8000 ? -value : value;
}

static int selected(const char *name, int n, char **filters)
{
    for (int i = 0; i < n_without; i++)
        if (strstr(name, without[i]))
            return 0;
    for (int i = 0; i < n; i++)
        if (strstr(name, filters[i]))
            return 1;
    return n == 0;
}

int test_run(const char *filter)
{
    int n = 0;
    for (test_case *c = cases; c; c = c->next)
        if (strstr(c->name, filter)) {
            c->run();
            n++;
        }
    return n;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0, list = 0;
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        full_tier |= !strcmp(argv[at], "--full");
        verbose |= !strcmp(argv[at], "-v");
        fail_fast |= !strcmp(argv[at], "--fail-fast");
        list |= !strcmp(argv[at], "--list");
        hashes |= !strcmp(argv[at], "--hashes");
        if (!strcmp(argv[at], "--without") && at + 1 < argc && n_without < MAX_WITHOUT)
            without[n_without++] = argv[++at];
        else if (!strcmp(argv[at], "--device") && at + 1 < argc)
            set_device(argv[++at]);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (test_case *c = cases; c; c = c->next) {
        if (!selected(c->name, argc - at, argv + at))
            continue;
        if (list) {
            printf("%s\n", c->name);
            continue;
        }
        struct timespec start, end;
        failures_in_case = 0;
        seen.outputs = seen.bytes = 0;
        seen.hash = 0xcbf29ce484222325u;
        timespec_get(&start, TIME_UTC);
        c->run();
        timespec_get(&end, TIME_UTC);
        double seconds =
            (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
        if (failures_in_case || verbose || seconds > 10)
            printf("%s %s (%.2f s)\n", failures_in_case ? "FAIL" : "ok  ", c->name, seconds);
        if (seen.outputs)
            printf("hash %016llx %s: %zu outputs, %zu bytes\n", (unsigned long long)seen.hash,
                   c->name, seen.outputs, seen.bytes);
        failures_in_case ? failed++ : passed++;
    }
    if (!list)
        printf("%d passed, %d failed\n", passed, failed);
    return failed || (!list && !passed);
}
