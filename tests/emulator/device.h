/* device.h - a device whose kernels are kernel text in the emulator, so that the tests of an
 * operator run unchanged on it: host checks, parameter struct, plan and kernel text together. */
#ifndef MLXN_TESTS_EMULATOR_DEVICE_H
#define MLXN_TESTS_EMULATOR_DEVICE_H

#include "core/gpu.h"
#include "emulator.h"
#include "ops/rig.h"

typedef struct emu_device {
    mlxn_device base;
    mlxn_gpu_traits traits; /* threads_wanted, schedule and processors are free to change */
    int checked;            /* texts are compiled with all checks */
    /* one text is replaced by a library (a mutant of it) */
    const char *text;
    const emu_library *library;
    /* how the next dispatches run */
    uint32_t groups[2]; /* at most so many along x and y, 0: as planned; for texts that stride, */
    const char *whole_grid; /* but not entries that contain this */
    uint64_t seed;
    int workers;
    int general; /* as from PTX: code that was made for no constants */
    /* for broken text: findings fail no test, a commit does not fail; faults other than `want`
     * count as findings */
    int quiet;
    mlxn_status want;
    /* what happened */
    long findings, launches;
    const mlxn_work *work; /* the recording that runs: a commit's, or a graph's */
    const char *watch;     /* watched: launches whose entry contains it */
    long watched;
    emu_report report; /* of the last launch with findings */
    void *scratch;
    size_t scratch_bytes;
    uint32_t *faults; /* a word a kernel of the library */
} emu_device;

emu_device *emu_device_open(int checked);

/* The compiled text, kept; NULL after a failure, which is recorded. */
const emu_library *emu_text(const char *text, int checked);

/* What rig_devices() gives in this program: the checked text, then fast ones with other numbers of
 * threads, schedules, orders and OS threads.  All must give the same bits. */
const rig_device *emu_devices(int *count);

#endif
