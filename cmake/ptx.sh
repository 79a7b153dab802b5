#!/bin/sh
# Runs cmake/ptx.py on src/backends/cuda/ptx with the NVRTC that it is meant for, from PyPI.
# usage: cmake/ptx.sh [--check] TEXT.c ...
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
check=
if [ "$1" = --check ]; then
    check=$1
    shift
fi
where=$(mktemp -d)
trap 'rm -rf "$where"' EXIT
"$root/cmake/nvrtc.sh" cu11 11.8.89 "$where"
mkdir -p "$root/src/backends/cuda/ptx"
LD_LIBRARY_PATH="$where" python3 "$root/cmake/ptx.py" $check "$where/libnvrtc.so" "$root/src/backends/cuda/ptx" "$@"
