#!/bin/sh
# On a machine with an NVIDIA GPU and a toolkit: builds, shows the device, runs the tests of the
# operators and of the model on it.  usage: bench/gpu/check.sh [TEST_FILTER ...]
set -eu
cd "$(dirname "$0")/../.."
build=${MLXN_GPU_BUILD:-/tmp/mlxn-gpu}
log=$build.log
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem --format=csv,noheader
if ! { cmake -S . -B "$build" -DMLXN_WERROR=ON &&
    cmake --build "$build" -j "$(nproc)"; } >"$log" 2>&1; then
    tail -n 40 "$log"
    exit 1
fi
"$build/cli/mlxn" info | sed -n '/^device cuda/,/^    /p' | sed '$d'
"$build/tests/mlxn-test" --device cuda -v "$@"
