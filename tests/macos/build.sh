#!/usr/bin/env bash
# build.sh ARCHITECTURE FOLDER: the library, the command and the tests for macOS 13 and later, built
# on any system with the zig toolchain: no SDK, no framework.  ARCHITECTURE is arm64 or x86_64.
# The toolchain is a pinned Python package in a folder of its own outside the repository.
set -euo pipefail
architecture=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
zig=${XDG_CACHE_HOME:-$HOME/.cache}/mlxn/zig-0.17.1
if ! "$zig/bin/python" -m ziglang version >/dev/null 2>&1; then
    python3 -m venv "$zig"
    "$zig/bin/python" -m pip install -q --disable-pip-version-check ziglang==0.17.1
fi
case $architecture in
arm64) target=aarch64-macos.13.0 ;;
x86_64) target=x86_64-macos.13.0 ;;
*) echo "unknown architecture $architecture" && exit 1 ;;
esac
tool() { # NAME COMMAND: a program for CMake
    printf '#!/bin/sh\nexec "%s" -m ziglang %s "$@"\n' "$zig/bin/python" "$2" >"$folder/$1"
    chmod +x "$folder/$1"
}
tool cc "cc -target $target"
tool ar ar
tool ranlib ranlib
cmake -S "$root" -B "$folder/build" -G Ninja -DCMAKE_SYSTEM_NAME=Darwin \
    -DCMAKE_SYSTEM_PROCESSOR="$architecture" -DCMAKE_C_COMPILER="$folder/cc" \
    -DCMAKE_AR="$folder/ar" -DCMAKE_RANLIB="$folder/ranlib" -DCMAKE_INSTALL_NAME_TOOL=/bin/true \
    -DCMAKE_C_COMPILER_LAUNCHER= -DCMAKE_BUILD_TYPE=Release
cmake --build "$folder/build"
