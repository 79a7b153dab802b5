#!/usr/bin/env bash
# verify.sh [REPORT]: everything that only a Mac can tell.  Builds, runs all tests on the CPU and the
# operators' and the model's on Metal, compares the tokens of both, measures.  What it prints goes
# into a report too (mlxn-mac-report.txt), whose last line is the sum, "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."
report=${1:-mlxn-mac-report.txt}
passed=0
failed=0

# step NAME COMMAND...: adds the tests it counted, or itself where it counts none.
step() {
    local name=$1 log rc counts
    shift
    echo "## $name: $*"
    log=$(mktemp)
    "$@" 2>&1 </dev/null | tee "$log"
    rc=$?
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    rm -f "$log"
    if [ -n "$counts" ]; then
        passed=$((passed + ${counts%% *}))
        counts=${counts#*, }
        failed=$((failed + ${counts%% *}))
        [ "$rc" -eq 0 ] || [ "${counts%% *}" -gt 0 ] || failed=$((failed + 1))
    elif [ "$rc" -eq 0 ]; then
        passed=$((passed + 1))
    else
        echo "FAILED $name: exit code $rc"
        failed=$((failed + 1))
    fi
}

build() {
    cmake -S . -B build-mac -DCMAKE_BUILD_TYPE=Release && cmake --build build-mac --parallel
}

everything() {
    step "machine" sw_vers
    step "processor" sysctl -n machdep.cpu.brand_string
    step "commit" git rev-parse HEAD
    step "build" build
    step "devices" build-mac/cli/mlxn info
    step "tests on the CPU" build-mac/tests/mlxn-test --without real
    step "tests on Metal" build-mac/tests/mlxn-test --device metal --without 32_bits \
        attention elementwise embedding matmul norm_ qkv_prepare rope_ sampling_ tiny_
    step "products by the portable text on Metal" env MLXN_METAL_PORTABLE=1 \
        build-mac/tests/mlxn-test --device metal matmul
    step "model" build-mac/cli/mlxn pull gemma3-270m
    step "same tokens on CPU and Metal" tests/metal/same_tokens.sh build-mac/cli/mlxn 32
    step "speed on the CPU" build-mac/cli/mlxn bench --device cpu
    step "speed on Metal" build-mac/cli/mlxn bench --device metal
    step "operators on Metal" build-mac/cli/mlxn bench ops --device metal
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

everything | tee "$report"
