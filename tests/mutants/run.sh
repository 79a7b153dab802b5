#!/bin/sh
# run.sh LIST - shows that the tests can fail: applies each break of a list (LIST.txt here) to a
# copy of the tree, rebuilds what changed and runs the tests of its filter, which must fail.
# One SIMD path is enough for that.  Ends with "N passed, N failed": caught and missed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
list=$here/$1.txt
root=$(cd "$here/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R "$root/CMakeLists.txt" "$root/cmake" "$root/include" "$root/src" "$root/tests" "$copy"
cmake -S "$copy" -B "$copy/build" -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS=-O1 -DMLXN_BUILD_CLI=OFF \
    -DMLXN_BUILD_BENCH=OFF -DMLXN_ISAS=portable > "$copy/log"
build() { cmake --build "$copy/build" --target mlxn-test -j "${JOBS:-2}" > "$copy/log" 2>&1; }
build || { cat "$copy/log"; exit 1; }

caught=0 missed=0
while IFS= read -r line; do
    case $line in '' | '#'*) continue ;; esac
    what=${line%% | *}; line=${line#* | }
    file=${line%% | *}; line=${line#* | }
    filter=${line##* | }; edit=${line% | *}
    cp "$copy/$file" "$copy/saved"
    sed "$edit" "$copy/saved" > "$copy/$file"
    verdict=caught
    if cmp -s "$copy/saved" "$copy/$file"; then
        verdict="missed (the edit changes nothing)"
    elif ! build; then
        verdict="missed (it does not build)"
    elif timeout 120 "$copy/build/tests/mlxn-test" "$filter" > "$copy/log" 2>&1; then
        verdict=missed
    fi
    if [ "$verdict" = caught ]; then caught=$((caught + 1)); else missed=$((missed + 1)); fi
    echo "$verdict: $what"
    cp "$copy/saved" "$copy/$file"
    touch "$copy/$file"
done < "$list"
echo "$caught passed, $missed failed"
[ "$missed" = 0 ]
