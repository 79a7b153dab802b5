/* device.h - a device whose kernels are kernel text in the emulator, so that the tests of an
 * operator run unchanged on it: host checks, parameter struct, plan and kernel text together. */
#ifndef MLXN_TESTS_EMULATOR_DEVICE_H
#define MLXN_TESTS_EMULATOR_DEVICE_H

#include "core/internal.h"
#include "emulator.h"
#include "ops/rope/qkv_plan.h"

typedef struct emu_device {
    mlxn_device base;
    const emu_library *library;
    /* how the next dispatches run */
    qkv_schedule schedule;
    uint32_t threads; /* a group; 0: as planned */
    uint32_t groups;  /* at most so many along x and y, 0: as planned; groups then take strides */
    uint64_t seed;
    int workers;
    /* for broken text: findings fail no test, a commit does not fail; faults other than `want`
     * count as findings */
    int quiet;
    mlxn_status want;
    /* what happened */
    long findings, dispatches, rows_dispatches;
    emu_report report; /* of the last dispatch with findings */
} emu_device;

emu_device *emu_device_open(const emu_library *library);

#endif
