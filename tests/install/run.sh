#!/usr/bin/env bash
# Installs a build into a fresh prefix and uses it as a stranger would: what is exported, the
# examples and README's program built outside the tree, once by pkg-config and once by find_package,
# and the installed command.  usage: tests/install/run.sh BUILD_FOLDER
set -uo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
passed=0
failed=0

# check NAME COMMAND...: one test; what it printed is shown if it fails.
check() {
    local name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $name"
        sed 's/^/  /' "$work/log" | tail -n 20
    fi
}

# prints EXPECTED COMMAND...: whether the command prints just that.
prints() {
    local expected=$1 got
    shift
    got=$("$@") || return 1
    [ "$got" = "$expected" ] || { echo "printed: $got"; echo "expected: $expected"; return 1; }
}

by_make() {
    make -C "$source_dir" BUILD="$build" PREFIX="$work/a prefix" install && [ -x "$work/a prefix/bin/mlxn" ]
}

only_our_symbols() {
    exported
    ! grep -v -E '^(mlxn_|MLXN_0)' "$work/exported" && grep -qx mlxn_device_open "$work/exported"
}

exported() {
    nm -D --defined-only "$lib/libmlxn.so" | awk '{print $3}' | sed 's/@.*//' | sort -u >"$work/exported"
}

# A program that links the static library shares its names: those that are not ours are its own.
static_names() {
    local names
    names=$(nm -g --defined-only "$lib/libmlxn.a" | awk 'NF == 3 {print $3}')
    [ "$(echo "$names" | grep -c '^mlxn_')" -gt 100 ] || { echo "no names found"; return 1; }
    ! echo "$names" | grep -v '^mlxn_'
}

# Every function that a public header declares is there to be called.
all_declared_symbols() {
    local missing=0 name
    exported
    cat "$prefix"/include/mlxn/*.h "$prefix"/include/mlxn/ops/*.h | tr '\n' ' ' |
        grep -oE 'MLXN_API [^;{]*;' | grep -oE 'mlxn_[a-z0-9_]+\(' | tr -d '(' | sort -u >"$work/declared"
    [ "$(wc -l <"$work/declared")" -gt 50 ] || { echo "only $(wc -l <"$work/declared") declared"; return 1; }
    for name in $(comm -13 "$work/exported" "$work/declared"); do
        echo "declared, not exported: $name"
        missing=1
    done
    return $missing
}

# Each public header compiles by itself, in C and in C++.
headers_alone() {
    local header
    cd "$prefix/include" || return 1
    for header in $(find mlxn -name '*.h'); do
        echo "#include <$header>" >"$work/header.c"
        "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -I. -c "$work/header.c" -o "$work/header.o" || return 1
        cp "$work/header.c" "$work/header.cpp"
        "${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror -I. -c "$work/header.cpp" -o "$work/header.o" || return 1
    done
}

flags() {
    if [ -n "$pkg_config" ]; then
        PKG_CONFIG_PATH=$lib/pkgconfig "$pkg_config" "$@" mlxn
    else
        echo "-I$prefix/include -L$lib -lmlxn"
    fi
}

by_pkg_config() { # FILE NAME
    # shellcheck disable=SC2046
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror "$1" -o "$work/$2" $(flags --cflags --libs) \
        "-Wl,-rpath,$lib"
}

readme_program() {
    awk '/^```c$/ {on = 1; next} /^```$/ {on = 0} on' "$source_dir/README.md" >"$work/readme.c"
    [ "$(wc -l <"$work/readme.c")" -ge 20 ] && cmp "$work/readme.c" "$source_dir/examples/norm.c" &&
        by_pkg_config "$work/readme.c" readme
}

by_cmake() {
    cp -r "$source_dir/examples" "$work/examples" &&
        cmake -S "$work/examples" -B "$work/examples/build" -DCMAKE_PREFIX_PATH="$prefix" &&
        cmake --build "$work/examples/build"
}

norm_output="0.36515 0.73030 1.09545 1.46059
-1.41421 0.00000 1.41421 0.00000"
kernel_output="12 14 16 18 30 32 34 36"

pkg_config=$(command -v pkg-config || command -v pkgconf)
[ -n "$pkg_config" ] || echo "not run: mlxn.pc, for want of pkg-config"
check "make install, a space in its prefix" by_make
check "install" cmake --install "$build" --prefix "$prefix"
if [ "$failed" -ne 0 ]; then # nothing else can be tested
    echo "$passed passed, $failed failed"
    exit 1
fi
lib=$(dirname "$(find "$prefix" -name libmlxn.so | head -n 1)")
check "exports only mlxn_*" only_our_symbols
check "exports all that is declared" all_declared_symbols
check "static library: only mlxn_*" static_names
check "headers compile alone" headers_alone
check "README compiles" readme_program
check "README runs" prints "$norm_output" "$work/readme"
check "pkg-config" by_pkg_config "$source_dir/examples/kernel.c" kernel
check "a user's kernel, pkg-config" prints "$kernel_output" "$work/kernel"
check "find_package" by_cmake
check "norm, find_package" prints "$norm_output" "$work/examples/build/norm"
check "a user's kernel, find_package" prints "$kernel_output" "$work/examples/build/kernel"
version=$(sed -n 's/^Version: //p' "$lib/pkgconfig/mlxn.pc")
check "installed command" prints "mlxn $version" "$prefix/bin/mlxn" --version
check "manual" test -s "$prefix/share/man/man1/mlxn.1"
check "completion" bash -n "$prefix/share/bash-completion/completions/mlxn"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
