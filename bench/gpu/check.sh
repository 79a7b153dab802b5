#!/bin/sh
# On a machine with an NVIDIA GPU and a toolkit: the tests of the operators, the core and the small
# models, a process each, side by side: with code by NVRTC, with the PTX that the library embeds,
# and under the tools of compute-sanitizer.  Says of each way how many passed, and names the rest.
# usage: bench/gpu/check.sh [BUILD [WAY ...]]    (ways: nvrtc ptx memcheck racecheck; default all)
#   MLXN_GPU_SECONDS  the longest that a process may run, 200
set -u
cd "$(dirname "$0")/../.."
build=${1:-/tmp/mlxn-gpu}
[ $# -gt 0 ] && shift
ways=${*:-nvrtc ptx memcheck racecheck}
PATH=$PATH:/usr/local/cuda/bin
prefixes="attention_ core_ dry_run_ elementwise_ embedding_ fused_ gemma3_tiny_ matmul_ norm_
    qkv_prepare_ rope_ sampling_"

if [ ! -x "$build/tests/mlxn-test" ]; then
    cmake -S . -B "$build" -DMLXN_WERROR=ON >"$build.log" || exit 1
    cmake --build "$build" -j "$(nproc)" --target mlxn-test >>"$build.log" || exit 1
fi

# A test; nothing is said of one that passes, and a tool has nothing to say of one that never calls
# the GPU.  Where a tool found something, the first lines of it.
one() { # WAY TEST
    log=$where/$1.$2
    set -- "$1" "$2" "$build/tests/mlxn-test" --device cuda "$2"
    case $1 in
    ptx) set -- "$1" "$2" env MLXN_NVRTC=/dev/null "$3" "$4" "$5" "$6" ;;
    *check) set -- "$1" "$2" compute-sanitizer --tool "$1" --error-exitcode 9 "$3" "$4" "$5" "$6" ;;
    esac
    way=$1 test=$2
    shift 2
    timeout "${MLXN_GPU_SECONDS:-200}" "$@" >"$log" 2>&1
    rc=$?
    [ "$rc" -eq 255 ] && grep -q "before first instrumented API call" "$log" && rc=0
    [ "$rc" -eq 0 ] && grep -q "^[1-9][0-9]* passed, 0 failed" "$log" && return 0
    echo "  $way $test: exit code $rc; $(grep -E "passed,|ERROR SUMMARY" "$log" | tr '\n' ' ')"
    grep "=====" "$log" | head -n 8
    return 1
}
if [ "${ways%% *}" = one ]; then
    one "$2" "$3"
    exit
fi

where=$(mktemp -d)
trap 'rm -rf "$where"' EXIT
export where
failed=0
for prefix in $prefixes; do
    "$build/tests/mlxn-test" --list --without 32_bits "$prefix"
done | grep -v " passed, \|^core_cpu_\|_real_" | sort -u >"$where/tests"
[ -s "$where/tests" ] || { echo "$build/tests/mlxn-test lists no tests" && exit 1; }
for way in $ways; do
    began=$(date +%s)
    xargs -P "$(nproc)" -I TEST "$0" "$build" one "$way" TEST <"$where/tests" >"$where/said" || failed=1
    bad=$(grep -c "exit code" "$where/said")
    echo "$way: $(($(wc -l <"$where/tests") - bad)) passed, $bad failed, $(($(date +%s) - began)) s"
    cat "$where/said"
done
exit "$failed"
