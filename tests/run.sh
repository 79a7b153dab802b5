#!/usr/bin/env bash
# All tests of a build; the last line is their sum, "N passed, N failed".
# usage: tests/run.sh BUILD_FOLDER [--full]
set -uo pipefail
tests=$(cd "$(dirname "$0")" && pwd)
build=$1
shift
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# part NAME COMMAND...: shows its output and adds what it counted; one that ends badly without
# saying why is a failure of its own.
part() {
    local name=$1 rc counts
    shift
    "$@" 2>&1 | tee "$log"
    rc=$?
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    if [ -z "$counts" ]; then
        echo "FAILED $name: it did not end (exit code $rc)"
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + ${counts%% *}))
    counts=${counts#*, }
    failed=$((failed + ${counts%% *}))
    if [ "$rc" -ne 0 ] && [ "${counts%% *}" -eq 0 ]; then
        echo "FAILED $name: exit code $rc"
        failed=$((failed + 1))
    fi
}

part "library" "$build/tests/mlxn-test" "$@"
part "kernel text" "$build/tests/emulator/mlxn-emulator-test" "$@"
part "CUDA host code" "$build/tests/cuda/mlxn-cuda-test" "$@"
part "Metal on a simulator" "$build/tests/metal/mlxn-metal-test" "$@"
part "command" python3 "$tests/cli/run.py" --mlxn "$build/cli/mlxn" "$@"
part "installation" "$tests/install/run.sh" "$build"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
