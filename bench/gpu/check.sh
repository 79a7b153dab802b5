#!/bin/sh
# On a machine with an NVIDIA GPU and a toolkit: the operators' tests under compute-sanitizer, an
# operator a process, side by side; and with the PTX that the library embeds in place of NVRTC.
# usage: bench/gpu/check.sh [BUILD [TOOL ...]]    (default: memcheck racecheck)
#   MLXN_GPU_SECONDS  the longest that a process may run, 200
set -u
cd "$(dirname "$0")/../.."
build=${1:-/tmp/mlxn-gpu}
[ $# -gt 0 ] && shift
seconds=${MLXN_GPU_SECONDS:-200}
PATH=$PATH:/usr/local/cuda/bin
operators="attention_ elementwise_ embedding_ fused_ matmul_batch matmul_block matmul_float
    matmul_group_gate matmul_group_many matmul_group_matches matmul_many norm_ qkv_prepare_batch
    qkv_prepare_f qkv_prepare_matches qkv_prepare_matrix qkv_prepare_same rope_ sampling_ tiny_"
export build seconds

if [ ! -x "$build/tests/mlxn-test" ]; then
    cmake -S . -B "$build" -DMLXN_WERROR=ON >"$build.log" || exit 1
    cmake --build "$build" -j "$(nproc)" --target mlxn-test >>"$build.log" || exit 1
fi

embedded() { # all operators' tests, their code from the embedded PTX
    echo "embedded PTX: $(MLXN_NVRTC=/dev/null "$build/tests/mlxn-test" --device cuda \
        --without 32_bits $operators 2>&1 | tail -n 1)"
}

# The tests of an operator under a tool; one line, more where it found something.
one() { # TOOL OPERATOR
    log=$(mktemp)
    timeout "$seconds" compute-sanitizer --tool "$1" --error-exitcode 9 \
        "$build/tests/mlxn-test" --device cuda --without 32_bits "$2" >"$log" 2>&1
    rc=$?
    echo "$1 $2: exit code $rc, $(grep -E "passed," "$log"), $(grep SUMMARY "$log" | tail -n 1)"
    [ "$rc" -eq 0 ] || grep "=====" "$log" | head -n 12
    rm -f "$log"
    return "$rc"
}

if [ "${1:-}" = one ]; then
    one "$2" "$3"
    exit
fi
embedded
failed=0
for tool in ${*:-memcheck racecheck}; do
    echo "$operators" | xargs -n 1 | xargs -P "$(nproc)" -I OPERATOR "$0" "$build" one "$tool" OPERATOR ||
        failed=1
done
exit "$failed"
