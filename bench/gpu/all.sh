#!/bin/sh
# On a machine with an NVIDIA GPU: builds, runs the operators' tests and the model's on the GPU, then
# the benches.  One command; what it prints is short; it fails if a test does.
# usage: bench/gpu/all.sh [MODEL.gguf]    (default: $MLXN_TEST_MODEL, or where `mlxn pull` puts it)
#   MLXN_GPU_BUILD  the build folder, /tmp/mlxn-gpu
#   MLXN_GPU_OUT    where step.json and step.svg go, the build folder
#   MLXN_GPU_PARTS  what to run of "tests model bench step replay"
set -u
cd "$(dirname "$0")/../.."
build=${MLXN_GPU_BUILD:-/tmp/mlxn-gpu}
out=${MLXN_GPU_OUT:-$build}
parts=${MLXN_GPU_PARTS:-tests model bench step replay}
[ $# -gt 0 ] && export MLXN_TEST_MODEL="$1"
model=${MLXN_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/mlxn/models/gemma-3-270m-q4_k_m.gguf}

part() { # NAME: whether it is asked for
    case " $parts " in *" $1 "*) echo "== $1" ;; *) return 1 ;; esac
}

failed=0
tests() { # LINES ARGUMENTS...: the last lines of what they say, and whether one failed
    lines=$1
    shift
    "$build/tests/mlxn-test" --device cuda "$@" >"$build.tests" 2>&1 || failed=1
    tail -n "$lines" "$build.tests"
}

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.max.mem,power.limit \
    --format=csv,noheader
if ! { cmake -S . -B "$build" -DMLXN_WERROR=ON &&
    cmake --build "$build" -j "$(nproc)"; } >"$build.log" 2>&1; then
    tail -n 40 "$build.log"
    exit 1
fi
"$build/cli/mlxn" info | sed -n '/^device cuda/,/^    /p' | sed '$d'

if part tests; then
    tests 60 --without real
fi
if part model; then
    tests 40 -v gemma3_real
    "$build/cli/mlxn" run -m "$model" --device cuda --temp 0 -n 48 -p "The capital of France is" \
        2>&1 | tail -n 12
fi
if part bench; then
    for mode in fast exact; do
        "$build/cli/mlxn" bench -m "$model" --device cuda --matmul $mode -p 512 -n 256 -r 10
    done
    echo "edges full:"
    MLXN_CUDA_EDGES=full "$build/cli/mlxn" bench -m "$model" --device cuda -p 0 -n 256 -r 5 |
        tail -n 1
    echo "edges programmatic:"
    MLXN_CUDA_EDGES=programmatic "$build/cli/mlxn" bench -m "$model" --device cuda -p 0 -n 256 \
        -r 5 | tail -n 1
fi
if part step; then
    "$build/cli/mlxn" bench step -m "$model" --device cuda
    "$build/cli/mlxn" bench step -m "$model" --device cuda -o json >"$out/step.json" &&
        python3 bench/gpu/timeline.py "$out/step.json" "$out/step.svg"
fi
part replay && bench/gpu/replay.sh "$build"
exit "$failed"
