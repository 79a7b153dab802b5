/* test.h - the test harness: TEST(name) { ... } defines and registers a case; CHECK records a
 * failure and goes on, REQUIRE records it and leaves the case.
 *   mlxn-test [--full] [--list] [-v] [--fail-fast] [--hashes] [--without TEXT ...]
 *             [--device NAME[:INDEX]] [FILTER ...]
 * runs the cases whose name contains a filter and no TEXT, and ends with "N passed, N failed". With
 * --hashes each case prints a hash of all that it read from the device, to be compared with that of
 * another device. */
#ifndef MLXN_TEST_H
#define MLXN_TEST_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <mlxn/mlxn.h>

typedef struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
} test_case;

void test_register(test_case *c);
void test_failed(const char *file, int line, const char *format, ...) MLXN_PRINTF(3, 4);
extern void (*test_on_failure)(void); /* called in place of printing */
int test_run(const char *filter);     /* runs the cases whose name contains it; how many */
/* The device that --device names, for tests that can run on any; "cpu" 0 without it. */
const char *test_backend(void);
int test_device_index(void);
/* These were read from the device: they go into the hash of the case, all NaNs as one, since which
 * NaN a sum of NaNs is differs from machine to machine. */
void test_seen(mlxn_dtype dtype, const void *data, size_t bytes);
int test_full(void);                                       /* whether this is the long tier */
void test_quick(void);                                     /* from here on it is not */
void test_note(const char *format, ...) MLXN_PRINTF(1, 2); /* printed with -v */

#define TEST(id)                                                      \
    static void test_##id(void);                                      \
    static test_case test_case_##id = {#id, test_##id, NULL};         \
    __attribute__((constructor)) static void test_register_##id(void) \
    {                                                                 \
        test_register(&test_case_##id);                               \
    }                                                                 \
    static void test_##id(void)

#define CHECK(cond)                                       \
    do {                                                  \
        if (!(cond))                                      \
            test_failed(__FILE__, __LINE__, "%s", #cond); \
    } while (0)
#define REQUIRE(cond)                                     \
    do {                                                  \
        if (!(cond)) {                                    \
            test_failed(__FILE__, __LINE__, "%s", #cond); \
            return;                                       \
        }                                                 \
    } while (0)
/* The call must answer `want`; a mismatch prints both and the detail text. */
#define CHECK_STATUS(call, want) test_status((call), (want), __FILE__, __LINE__, #call)
#define REQUIRE_OK(call)                                              \
    do {                                                              \
        if (!test_status((call), MLXN_OK, __FILE__, __LINE__, #call)) \
            return;                                                   \
    } while (0)
/* The call must fail with `want` and its detail text must contain `text`. */
#define CHECK_FAILS(call, want, text)                                                        \
    do {                                                                                     \
        if (test_status((call), (want), __FILE__, __LINE__, #call) &&                        \
            !strstr(mlxn_last_error(), (text)))                                              \
            test_failed(__FILE__, __LINE__, "detail \"%s\" lacks \"%s\"", mlxn_last_error(), \
                        (text));                                                             \
    } while (0)
int test_status(mlxn_status got, mlxn_status want, const char *file, int line, const char *what);

/* A small generator with a state of its own (splitmix64): tests are repeatable. */
uint64_t test_random(uint64_t *state);
float test_uniform(uint64_t *state, float lo, float hi);
float test_normal(uint64_t *state);

/* Writes a byte of a file that is there (at -1: none) and gives it a size (-1: its own). */
void test_damage(const char *path, long at, int byte, long size);

/* Distance of `got` from the exact value, in units of the last place of a dtype (f32, f16, bf16) at
 * the magnitude of `scale` (at least the smallest normal). */
double test_ulp(double got, double exact, double scale, mlxn_dtype dtype);

/* Scalars of a float dtype, converted by arithmetic alone (apart from the library's own code). */
double test_load(mlxn_dtype dtype, const void *data, size_t index);
void test_store(mlxn_dtype dtype, void *data, size_t index, double value); /* nearest even */

#endif
