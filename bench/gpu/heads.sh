#!/bin/sh
# On a machine with an NVIDIA GPU: the head norm and rotation beside a copy, the chain of single
# operators and other engines' layouts, in the shapes of docs/benchmarks.md.
# usage: bench/gpu/heads.sh [BUILD [CHART.svg]]    with a chart: the share of the copy over tokens
set -eu
cd "$(dirname "$0")/../.."
build=${1:-/tmp/mlxn-gpu}
if [ ! -x "$build/cli/mlxn" ]; then
    cmake -S . -B "$build" -DMLXN_WERROR=ON >"$build.log"
    cmake --build "$build" -j "$(nproc)" --target mlxn_command mlxn-test >>"$build.log"
fi
heads() {
    echo "head-norm-rope $*"
    "$build/cli/mlxn" bench head-norm-rope --device cuda --dtype bf16 -r 10 "$@"
}
heads --tokens 1,32,256,4096,32768 --heads 8 --kv-heads 4 --head-dim 256 --in-place --baselines
heads --tokens 1,4096,32768 --heads 8 --kv-heads 4 --head-dim 256 --in-place --angles tables
heads --tokens 1,4096,32768 --heads 8 --kv-heads 4 --head-dim 256 --in-place --cache
for angles in computed tables; do
    heads --tokens 32768 --heads 16 --kv-heads 8 --head-dim 256 --in-place --angles $angles
    heads --tokens 1,4096,32768 --heads 8 --kv-heads 4 --head-dim 512 --in-place --angles $angles
done
heads --tokens 32768 --heads 8 --kv-heads 4 --head-dim 512 --in-place --cache
heads --tokens 32768 --heads 32 --kv-heads 8 --head-dim 128 --in-place --baselines
[ $# -lt 2 ] && exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
share() { # NAME ARGUMENTS...
    name=$1
    shift
    "$build/cli/mlxn" bench head-norm-rope --device cuda --dtype bf16 -r 10 -o json --in-place \
        --tokens 16,64,256,1024,4096,16384,32768 --heads 8 --kv-heads 4 --head-dim 256 "$@" \
        >"$folder/$name"
}
share computed
share tables --angles tables
share cache --cache
python3 bench/gpu/shares.py "$2" "computed angles=$folder/computed" "tables=$folder/tables" \
    "computed, into the cache=$folder/cache"
