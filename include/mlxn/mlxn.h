/* mlxn.h - the whole library: compute (device to ops) and the model layer on top of it. */
#ifndef MLXN_MLXN_H
#define MLXN_MLXN_H

#include <mlxn/status.h>
#include <mlxn/dtype.h>
#include <mlxn/device.h>
#include <mlxn/buffer.h>
#include <mlxn/encoder.h>
#include <mlxn/registry.h>
#include <mlxn/graph.h>
#include <mlxn/weights.h>
#include <mlxn/ops.h>
#include <mlxn/screen.h>
#include <mlxn/model.h>

#endif
