#!/usr/bin/env bash
# fetch.sh: the descriptions of Apple's frameworks that check_messages.py reads, pinned, into a
# folder outside the repository (printed): the metadata of pyobjc and the headers of metal-cpp.
# Nothing of it is installed or linked.
set -euo pipefail
folder=${XDG_CACHE_HOME:-$HOME/.cache}/mlxn/metal-metadata-1
if [ ! -e "$folder/complete" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m venv "$work/venv"
    pip() { "$work/venv/bin/pip" -q --disable-pip-version-check "$@" >&2; }
    pip download --no-deps --only-binary=:all: \
        --python-version 3.12 --platform macosx_10_13_universal2 --abi cp312 -d "$work" \
        pyobjc-framework-Metal==12.2.2 pyobjc-framework-Cocoa==12.2.2
    pip download --no-deps --no-binary=:all: -d "$work" \
        pymetal-cpp==0.1.5
    mkdir -p "$folder"
    for wheel in "$work"/*.whl; do
        python3 -m zipfile -e "$wheel" "$folder"
    done
    tar xzf "$work"/*.tar.gz -C "$work"
    cp -r "$work"/pymetal_cpp-*/thirdparty/metal-cpp "$folder/"
    touch "$folder/complete"
fi
echo "$folder"
