/* emulator.h - runs kernel text on the CPU: a C interface for the tests and for what stands in for
 * a GPU's driver in them.
 *
 * A text (dialect and kernels, as the build embeds it) is compiled by a C++ compiler into a shared
 * object and loaded.  A dispatch runs every group of a grid: each thread is a fiber, fibers run in
 * random order between their barriers, groups in random order on up to two OS threads.  A checked
 * library also reports
 *   race           two accesses of a byte, one a write, of two threads with no barrier between
 *                  (groups have none); simd barriers order a simdgroup, a shuffle orders nothing
 *   bounds         an access outside its buffer or array, or misaligned
 *   uninitialised  a read of group memory that the group never wrote
 *   divergence     a barrier or shuffle that not all threads reach, or reach at different lines
 *   alias          a written byte that is reached through an IN or OUT parameter and another one
 *   early          in a launch that may start early: a write before k_wait(), a read before it of
 *                  what an earlier dispatch may still write, or no k_wait() at all (found in every
 *                  library) */
#ifndef MLXN_TESTS_EMULATOR_H
#define MLXN_TESTS_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct emu_library emu_library;

enum { EMU_FAST = 0, EMU_CHECKED_TEXT = 1 };

/* Of the shared objects: one of another version cannot be opened. */
enum { EMU_VERSION = 5 };

/* NULL after a failure, with the compiler's messages in log. */
emu_library *emu_compile(const char *text, int checked, char *log, size_t log_size);
void emu_release(emu_library *library);
/* The two halves of emu_compile, with the shared object in a file.  build: whether it was made. */
int emu_compile_file(const char *text, int checked, const char *object, char *log, size_t log_size);
emu_library *emu_open(const char *object, char *log, size_t log_size);
/* The number of parameters of a kernel, -1 if there is none of that name. */
int emu_parameters(const emu_library *library, const char *kernel);
/* The size of its args struct, 0 if it has none. */
size_t emu_args_bytes(const emu_library *library, const char *kernel);
/* The parameters that it may write: bit i for parameter i. */
uint32_t emu_writes(const emu_library *library, const char *kernel);

/* The numbers of the constants (K_CONSTANT) that a text has, as bits.  One that a launch does not
 * give is what the text was compiled with, MLXN_CONSTANT_<number>, or K_OPEN without that. */
uint32_t emu_constants(const emu_library *library);

typedef struct emu_buffer {
    void *data; /* NULL: absent, any access is out of bounds */
    size_t bytes;
} emu_buffer;

/* How a byte was touched, as bits. */
enum { EMU_TOUCH_READ = 1, EMU_TOUCH_WRITE = 2, EMU_TOUCH_ATOMIC = 4, EMU_PAGE = 4096 };

/* Which bytes of a parameter were touched: flags are added to, byte i of it is flag first + i. */
typedef struct emu_touched {
    uint8_t *flags; /* NULL: not wanted */
    uint8_t *pages; /* 1 for each EMU_PAGE flags of which one is set */
    size_t first;
} emu_touched;

/* Zeroed memory of any size; pages that nobody touches cost nothing.  NULL: there is none. */
void *emu_sparse(size_t bytes);
void emu_sparse_free(void *memory, size_t bytes);

typedef struct emu_launch {
    const char *kernel;
    const emu_buffer *buffers; /* one for each parameter, the last one is the args struct */
    int n_buffers;
    uint32_t groups[3], threads; /* threads a group, 1 to 1024 */
    uint64_t seed;               /* 0: threads and groups in order */
    int workers;                 /* OS threads, 1 or 2 */
    int early;                   /* it may start before what it depends on has ended */
    uint32_t unsettled;          /* then: the parameters that earlier dispatches may be writing */
    const int32_t *constants;    /* for a library that one launch at a time uses */
    int n_constants;
    const emu_touched *touched; /* checked text: one a parameter; NULL: for none */
} emu_launch;

typedef struct emu_report {
    long races, bounds, uninitialised, divergence, alias, early;
    size_t shared_bytes; /* group memory used */
    char first[400];     /* the first finding; empty if there is none */
} emu_report;

/* Findings; -1 if there is no such kernel or the number of buffers is wrong. */
long emu_dispatch(const emu_library *library, const emu_launch *launch, emu_report *report);

#ifdef __cplusplus
}
#endif
#endif
