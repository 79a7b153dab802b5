#!/bin/sh
# Runs a program of a build with the fake driver, so that it has a device "cuda".
# usage: tests/cuda/on_fake.sh BUILD_FOLDER PROGRAM [ARGUMENT ...]
set -eu
build=$(cd "$1" && pwd)
shift
MLXN_CUDA_DRIVER=$build/tests/cuda/libmlxn_fake_cuda.so
MLXN_NVRTC=$build/tests/cuda/libmlxn_fake_nvrtc.so
MLXN_KERNEL_CACHE=$build/tests/cuda/kernels
MLXN_CUDA_PORTABLE=1 # the fake runs no text for CUDA alone
export MLXN_CUDA_DRIVER MLXN_NVRTC MLXN_KERNEL_CACHE MLXN_CUDA_PORTABLE
exec "$@"
