#!/bin/sh
# On a machine with an NVIDIA GPU: whether the operators' tests read the same bytes from the GPU as
# from the emulator (behind the fake driver), case by case, all outputs, f32 too.  First with the
# portable text alone, where every case must be the same; then with the kernels for CUDA alone, whose
# cases that differ are named.  NaNs count as one.  Fails if a test does or a portable case differs.
# usage: bench/gpu/hashes.sh [BUILD [FILTER ...]]    (default: every operator)
set -eu
cd "$(dirname "$0")/../.."
build=${1:-/tmp/mlxn-gpu}
[ $# -gt 0 ] && shift
operators=${*:-attention_ elementwise_ embedding_ fused_ matmul_ norm_ qkv_ rope_ sampling_}
where=$(mktemp -d)
trap 'rm -rf "$where"' EXIT

cases() { # OUT PREFIX...: the run of every operator's cases; their hashes
    out=$1
    shift
    if ! "$@" "$build/tests/mlxn-test" --device cuda --hashes -v --without 32_bits $operators \
        >"$where/$out.log" 2>&1; then
        echo "$out:"
        grep -v "^hash\|^ok" "$where/$out.log"
        exit 1
    fi
    sed -n 's/^hash \([0-9a-f]*\) \(.*\):.*/\2 \1/p' "$where/$out.log" | sort >"$where/$out"
}

cases emulator tests/cuda/on_fake.sh "$build"
cases gpu env MLXN_CUDA_PORTABLE=1
cases planned env
echo "worst errors on the GPU:"
grep -v "^hash\|^ok" "$where/gpu.log"
echo "operator: cases with the emulator's bytes, of them all; outputs, bytes"
awk 'FNR == NR { want[$1] = $2; next }
    /^hash/ { name = substr($3, 1, length($3) - 1); split(name, part, "_"); o = part[1]
              same[o] += want[name] == $2; all[o]++; outputs[o] += $4; bytes[o] += $6 }
    END { for (o in all) { print "  " o ": " same[o] " of " all[o] "; " outputs[o] ", " bytes[o]
                           bad += same[o] < all[o] } exit bad > 0 }' \
    "$where/emulator" "$where/gpu.log" && failed=0 || failed=1
echo "portable text, not the same:"
comm -13 "$where/emulator" "$where/gpu" | sed 's/^/  /'
echo "with the kernels for CUDA alone, not the same:"
comm -13 "$where/emulator" "$where/planned" | sed 's/ .*//; s/^/  /'
exit "$failed"
