#!/bin/sh
# What a graph costs beside its kernels, for each kind of edges.  usage: bench/gpu/replay.sh [BUILD]
set -eu
cd "$(dirname "$0")/../.."
build=${1:-/tmp/mlxn-gpu}
for edges in full programmatic chain; do
    MLXN_CUDA_EDGES=$edges "$build/bench/bench-replay" cuda
done
