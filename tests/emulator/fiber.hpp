// fiber.hpp - a stack of its own for every thread of a group, and the switch between them: ten
// instructions on x86-64 and arm64, ucontext elsewhere.  Only callee-saved registers are kept, as
// the ABIs demand.
#pragma once
#include <stddef.h>
#include <stdlib.h>
#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#if defined(EMU_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(EMU_UCONTEXT)
#define EMU_SWITCH 1
extern "C" void emu_switch(void **save_here, void *continue_at);
#else
#include <ucontext.h>
#endif

namespace emu
{
#if defined(EMU_SWITCH)
typedef void *context;
inline void switch_to(context *from, context *to)
{
    emu_switch(from, *to);
}
#else
typedef ucontext_t context;
inline void switch_to(context *from, context *to)
{
    swapcontext(from, to);
}
#endif

enum { STACK_BYTES = 128 << 10 };

// Makes `c` start `entry`, which never returns, on the stack [bottom, bottom + STACK_BYTES).
inline void prepare(context *c, char *bottom, size_t colour, void (*entry)())
{
    // Stacks of one alignment would fall into the same few cache sets.
    char *top = bottom + STACK_BYTES - 64 - colour % 61 * 192;
#if defined(EMU_SWITCH) && defined(__x86_64__)
    void **sp = (void **)top;
    *--sp = nullptr; // where a caller's return address would be
    *--sp = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    *c = sp;
#elif defined(EMU_SWITCH)
    void **sp = (void **)(top - 160);
    for (int i = 0; i < 20; i++)
        sp[i] = nullptr;
    sp[11] = (void *)entry; // x30
    *c = sp;
#else
    getcontext(c);
    c->uc_stack.ss_sp = bottom;
    c->uc_stack.ss_size = (size_t)(top - bottom);
    c->uc_link = nullptr;
    makecontext(c, entry, 0);
#endif
}
} // namespace emu
