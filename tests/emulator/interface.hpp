// interface.hpp - what compiled kernel text and the runtime know of each other.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
struct uint2 {
    uint x, y;
};
struct uint3 {
    uint x, y, z;
};
struct alignas(16) uint4 {
    uint x, y, z, w;
};

namespace emu
{
struct region; // a buffer or array with its bounds and shadow; the runtime's own
enum access_kind { READ, WRITE, ATOMIC };

struct thread_info {
    uint3 group, groups, thread, threads;
    uint lane, simd;
};

struct runtime {
    const thread_info *(*self)();
    // The address of `size` bytes at `at`, after all checks; of scratch if they are not there.
    char *(*access)(region *, int64_t at, unsigned size, int kind);
    void (*barrier)(int site);
    void (*simd_barrier)(int site);
    uint (*exchange)(uint value, uint mask, int site);
    // The four words that every lane of the simdgroup brings, [lane][word].
    void (*gather)(const uint *mine, uint *all, int site);
    // The group's array that `key` stands for: memory (fast) or a region (checked).
    void *(*shared)(const void *key, const char *name, size_t bytes);
    void (*wait)();
};

// The constants of a text (K_CONSTANT): which it has, and their values for the next dispatch.
struct constant_list {
    uint32_t present;
    int at[32];
};

// What a loaded object describes: entry points with the text of their parameter list.
struct bindings {
    void *const *pointers; // by parameter: memory (fast), region (checked), args
};
struct entry {
    const char *name, *parameters;
    size_t args_bytes; // of the args struct
    void (*run)(const bindings *);
    entry *next;
};
} // namespace emu
