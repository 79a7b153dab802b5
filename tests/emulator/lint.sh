#!/bin/sh
# lint.sh SOURCE_ROOT [FILE...]: rules of the Metal Shading Language that a C++ compiler does not
# know, checked on kernel text (by default all of it).  Stands in for a Metal compiler, which only
# Apple's systems have: clang's address spaces reject a mix of device, constant, group and thread
# pointers and double arithmetic; patterns reject the rest.  Text for CUDA alone (x_cuda.kernel) is
# no text of Metal's.
root=$1
shift
if [ $# -eq 0 ]; then
    set -- $(find "$root/src" -name '*.kernel' ! -name '*_cuda.kernel' | sort) "$root"/src/kernels/math.h \
        "$root"/src/kernels/vector.h "$root"/src/kernels/quants.h "$root"/src/kernels/blocks.h \
        $(grep -lE '^#include "kernels/(dialect|types)' "$root"/src/ops/*/*.h)
fi
status=0

# Comments, string literals and #include lines away, line numbers kept.
bare() {
    sed -e 's@"[^"]*"@""@g' "$1" | awk '
        { line = $0; out = ""
          while (length(line)) {
              if (inside) { at = index(line, "*/"); if (!at) { line = ""; break }
                            inside = 0; line = substr(line, at + 2) }
              else { at = index(line, "/*"); if (!at) { out = out line; break }
                     out = out substr(line, 1, at - 1); inside = 1; line = substr(line, at + 2) } }
          sub(/\/\/.*/, "", out); print out }'
}
reject() { # reject FILE WHY PATTERN [EXCEPTION]
    if found=$(bare "$1" | grep -nE "$3" | grep -vE "${4:-^$}"); then
        echo "$1: $2:"
        echo "$found" | sed 's/^/    /'
        status=1
    fi
}

for file in "$@"; do
    case $file in
    *.kernel)
        if ! command -v clang++ >/dev/null; then
            echo "clang++ is needed" && exit 1
        fi
        clang++ -std=c++14 -fsyntax-only -DK_LINT -I"$root/src" -Wall -Wextra -Wno-unused \
            -Wno-unused-parameter -Wno-unused-function -Wno-unused-const-variable -Werror \
            -Wdouble-promotion -Wimplicit-float-conversion -Wfloat-conversion \
            -x c++ "$file" || status=1
        ;;
    esac
    reject "$file" "no double, no long long, no C++ that MSL lacks" \
        '\b(double|long long|long double|goto|virtual|throw|try|catch|new|delete|dynamic_cast|typeid|wchar_t|size_t|thread_local|alignas)\b'
    reject "$file" "a word of MSL or CUDA in place of the dialect's" \
        '\b(device|constant|threadgroup|thread|kernel|vertex|fragment|half|bfloat|sampler|texture|simdgroup_barrier|threadgroup_barrier|simd_sum|as_type|__[a-z_]+|threadIdx|blockIdx|atomic_[a-z_]+)\b'
    reject "$file" "maths of the backend; use math.h" \
        '(^|[^_[:alnum:]])(sin|cos|tan|sincos|asin|acos|atan|atan2|exp|exp2|exp10|expm1|log|log2|log10|log1p|pow|tanh|sinh|cosh|sqrt|rsqrt|cbrt|fma|fabs|abs|floor|ceil|rint|round|trunc|fmin|fmax|min|max|ldexp|frexp)f?[[:space:]]*\('
    reject "$file" "a pointer without an address space" \
        '\b(float|uint|int|ushort|uchar|char|bool|void|uint[234]|u?int(32|64)_t|bits|k_[a-z0-9_]+|qkv_[a-z_]+)[[:space:]]+(const[[:space:]]+)?\*[[:space:]]*[A-Za-z_(]'
    reject "$file" "a helper whose name metal:: might have" '^FN .*[ *]([a-z0-9]+)\('
    reject "$file" "a helper without FN" \
        '^(static|inline)[[:space:]]'
    reject "$file" "a reference without REF" '[A-Za-z0-9_>][[:space:]]&[a-z_]+[[:space:]]*[,)]'
    reject "$file" "group memory outside a kernel's body" '^SHARED_ARRAY|^[[:space:]]*SHARED_ARRAY[^;]*=' 
done
exit $status
