#!/bin/sh
# lint_test.sh SOURCE_ROOT: lint.sh accepts the kernel texts and rejects each planted violation.
# Ends with "N passed, N failed".
root=$1
here=$root/tests/emulator
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

if sh "$here/lint.sh" "$root"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi

# plant WANT TEXT: the text in a kernel file; WANT "ok" or "bad"
plant() {
    printf '#include "kernels/dialect.h"\n#include "kernels/math.h"\nstruct k_args {\n    int32_t n;\n};\n%b\n' "$2" >"$work/x.kernel"
    if sh "$here/lint.sh" "$root" "$work/x.kernel" >"$work/log" 2>&1; then got=ok; else got=bad; fi
    if [ $got = "$1" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "wanted $1: $2"
        cat "$work/log"
    fi
}
head='KERNEL(k_test, IN(float, x, 0), OUT(float, y, 1), ARGS(k_args, a, 2))\n{\n    SHARED_ARRAY(float, s, 4);\n    s[0] = x[0];\n'
plant ok "$head    y[0] = s[0] + k_exp(x[1]);\n}"
plant ok "FN float k_first(GLOBAL(const float) p)\n{\n    return p[0]; /* device, sin(x), double */\n}\n$head    y[0] = k_first(x);\n}"
plant bad "$head    y[0] = s[0] + 1.0;\n}"
plant bad "$head    uint thread = k_thread3.x;\n    y[0] = s[thread];\n}"
plant bad "$head    GLOBAL(float) z = s;\n    y[0] = z[0];\n}"
plant bad "$head    SHARED(float) z = y;\n    y[0] = z[0];\n}"
plant bad "FN float k_first(SHARED(const float) p)\n{\n    return p[0];\n}\n$head    y[0] = k_first(x);\n}"
plant bad "FN float k_first(float *p)\n{\n    return p[0];\n}\n$head    y[0] = 0.0f;\n}"
plant bad "FN float k_first(const float * p)\n{\n    return p[0];\n}\n$head    y[0] = 0.0f;\n}"
plant bad "$head    x[0] = 1.0f;\n}"
plant bad "$head    double z = 1;\n    y[0] = (float)z;\n}"
plant bad "$head    long long z = 1;\n    y[0] = (float)z;\n}"
plant bad "FN float first(GLOBAL(const float) p)\n{\n    return p[0];\n}\n$head    y[0] = first(x);\n}"
plant bad "static float k_first(float v)\n{\n    return v;\n}\n$head    y[0] = k_first(x[0]);\n}"
plant bad "FN void k_set(float &v)\n{\n    v = 1.0f;\n}\n$head    y[0] = 1.0f;\n}"
plant bad "FN float sinf(float v);\n$head    y[0] = sinf(x[0]);\n}"
plant bad "$head    y[0] = __builtin_sqrtf(x[0]);\n}"
plant bad "$head    float half = 1.0f;\n    y[0] = half;\n}"
plant bad "$head    goto out;\nout:\n    y[0] = 1.0f;\n}"
plant bad "$head    threadgroup_barrier();\n}"
plant bad "$head    y[0] = (float)threadIdx.x;\n}"
plant ok "K_CONSTANT(k_width, 0);\n$head    y[0] = s[0] * (float)k_width;\n}"
plant ok "#include \"kernels/matrix.h\"\n$head    k_matrix_store(k_matrix_zero(), s, 8);\n}"
plant bad "#include \"kernels/matrix.h\"\n$head    k_matrix_store(k_matrix_zero(), y, 8);\n}"
plant bad "$head    y[0] = undeclared;\n}"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
