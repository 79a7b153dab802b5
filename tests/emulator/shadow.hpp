// shadow.hpp - what is known about every byte of memory that a dispatch may write: the last write
// and the reads since, each with thread, group and the number of barriers passed before it.
//
// Access a happened before access b if both are of one group and a barrier lies between, or a
// simdgroup barrier if they are of one simdgroup, or they are of one thread.  Two accesses of which
// neither happened before the other race if one of them is a plain write.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace emu
{
enum { ONE, ONE_SIMD, ONE_GROUP, MANY_GROUPS }; // whose accesses a record stands for

struct record {
    uint32_t group1 = 0; // group + 1; 0: none
    uint16_t thread = 0;
    uint8_t parameter = 0, spread : 2, atomic : 1;
    uint32_t barriers = 0, simd_barriers = 0;
    record() : spread(ONE), atomic(0)
    {
    }
    explicit operator bool() const
    {
        return group1 != 0;
    }
};

struct cell {
    record write, reads;
};

inline bool before(const record &a, const record &b)
{
    if (!a)
        return true;
    if (a.group1 != b.group1 || a.spread == MANY_GROUPS)
        return false;
    if (a.barriers < b.barriers)
        return true;
    if (a.thread == b.thread && a.spread == ONE)
        return true;
    return a.spread != ONE_GROUP && a.thread / 32 == b.thread / 32 &&
           a.simd_barriers < b.simd_barriers;
}

// The record that `access` races with, nullptr if there is none.
inline const record *racing(const cell &c, const record &access, bool writes)
{
    if (!(c.write.atomic && access.atomic) && !before(c.write, access))
        return &c.write;
    if (writes && !before(c.reads, access))
        return &c.reads;
    return nullptr;
}

inline void note(cell &c, const record &access, bool writes)
{
    if (writes) {
        c.write = access;
        c.reads = record();
        return;
    }
    if (before(c.reads, access)) { // what comes after this read comes after the earlier ones
        c.reads = access;
        return;
    }
    record &r = c.reads;
    if (r.group1 != access.group1) {
        r.spread = MANY_GROUPS;
    } else if (r.spread <= ONE_SIMD && r.thread / 32 == access.thread / 32) {
        r.spread = ONE_SIMD;
        if (access.simd_barriers > r.simd_barriers)
            r.simd_barriers = access.simd_barriers;
    } else if (r.spread != MANY_GROUPS) {
        r.spread = ONE_GROUP;
    }
}
} // namespace emu
