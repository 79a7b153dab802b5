#!/usr/bin/env bash
# metal_cpp.sh METADATA_FOLDER BUILD_FOLDER: metal_cpp_test.cpp is compiled by clang against
# metal-cpp, with headers that stand in for the few declarations it takes from Apple's SDK, and run
# on the simulator.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
metadata=$1
build=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

header() { # PATH: from standard input
    mkdir -p "$work/$(dirname "$1")"
    cat >"$work/$1"
}
header TargetConditionals.h <<'EOF'
#pragma once
#define TARGET_OS_OSX 1
EOF
header IOSurface/IOSurfaceRef.h <<'EOF'
#pragma once
typedef struct __IOSurface *IOSurfaceRef;
EOF
header mach/mach.h <<'EOF'
#pragma once
typedef int kern_return_t;
typedef unsigned task_id_token_t;
EOF
header CoreFoundation/CoreFoundation.h <<'EOF'
#pragma once
typedef double CFTimeInterval;
EOF
header objc/runtime.h <<'EOF'
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
typedef struct objc_class *Class;
struct objc_object {
    Class isa;
};
typedef struct objc_object *id;
typedef struct objc_selector *SEL;
typedef struct objc_protocol Protocol;
typedef struct objc_method *Method;
typedef void (*IMP)(void);
typedef signed char BOOL;
typedef struct dispatch_queue_s *dispatch_queue_t;
typedef struct dispatch_data_s *dispatch_data_t;
extern "C" {
SEL sel_registerName(const char *);
Class objc_lookUpClass(const char *);
id objc_getClass(const char *);
Protocol *objc_getProtocol(const char *);
void *objc_autoreleasePoolPush(void);
void objc_autoreleasePoolPop(void *);
}
EOF
header objc/message.h <<'EOF'
#pragma once
#include <objc/runtime.h>
extern "C" {
void objc_msgSend(void);
void objc_msgSend_fpret(void);
void objc_msgSend_stret(void);
}
EOF

text=$build/kernels/user.c
clang++ -std=c++17 -fblocks -O1 -ffunction-sections -w -I"$work" -I"$metadata/metal-cpp" -I"$root/src" -I"$here" -c \
    "$here/metal_cpp_test.cpp" -o "$work/test.o"
clang -w -c "$text" -o "$work/text.o"
clang++ "$work/test.o" "$work/text.o" -L"$build/tests/metal" -lmetalsim -Wl,--gc-sections \
    -Wl,-rpath,"$build/tests/metal" -ldl -o "$work/test"
"$work/test"
