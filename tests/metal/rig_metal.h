/* rig_metal.h - see rig_metal.c. */
#ifndef MLXN_TESTS_RIG_METAL_H
#define MLXN_TESTS_RIG_METAL_H

#include "metalsim.h"
#include "ops/rig.h"

const rig_device *metal_devices(int *count);

#endif
