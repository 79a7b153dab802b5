/* sim_send.c - objc_msgSend: keeps the argument registers, asks sim_lookup for the method, jumps to
 * it, so that arguments on the stack stay where they are.  A message to nil answers zero.
 *
 * x86-64 (System V): a method that returns a struct in memory has its address in rdi, the receiver
 * in rsi: objc_msgSend_stret.  objc_msgSend_fpret, which metal-cpp calls for doubles, is the same
 * as objc_msgSend but for long double.  arm64: the address is in x8, one entry serves all. */
#include "sim.h"

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl objc_msgSend\n.type objc_msgSend, @function\n"
        ".globl objc_msgSend_fpret\n.type objc_msgSend_fpret, @function\n"
        "objc_msgSend_fpret:\n"
        "objc_msgSend:\n"
        "  test %rdi, %rdi\n  jz 1f\n"
        "  push %rbp\n  mov %rsp, %rbp\n  sub $192, %rsp\n"
        "  mov %rdi, (%rsp)\n  mov %rsi, 8(%rsp)\n  mov %rdx, 16(%rsp)\n  mov %rcx, 24(%rsp)\n"
        "  mov %r8, 32(%rsp)\n  mov %r9, 40(%rsp)\n  mov %rax, 48(%rsp)\n"
        "  movups %xmm0, 64(%rsp)\n  movups %xmm1, 80(%rsp)\n  movups %xmm2, 96(%rsp)\n"
        "  movups %xmm3, 112(%rsp)\n  movups %xmm4, 128(%rsp)\n  movups %xmm5, 144(%rsp)\n"
        "  movups %xmm6, 160(%rsp)\n  movups %xmm7, 176(%rsp)\n"
        "  call sim_lookup\n  mov %rax, %r11\n"
        "  mov (%rsp), %rdi\n  mov 8(%rsp), %rsi\n  mov 16(%rsp), %rdx\n  mov 24(%rsp), %rcx\n"
        "  mov 32(%rsp), %r8\n  mov 40(%rsp), %r9\n  mov 48(%rsp), %rax\n"
        "  movups 64(%rsp), %xmm0\n  movups 80(%rsp), %xmm1\n  movups 96(%rsp), %xmm2\n"
        "  movups 112(%rsp), %xmm3\n  movups 128(%rsp), %xmm4\n  movups 144(%rsp), %xmm5\n"
        "  movups 160(%rsp), %xmm6\n  movups 176(%rsp), %xmm7\n"
        "  leave\n  jmp *%r11\n"
        "1: xor %eax, %eax\n  xor %edx, %edx\n  xorps %xmm0, %xmm0\n  xorps %xmm1, %xmm1\n  ret\n"
        ".size objc_msgSend, .-objc_msgSend\n"
        ".globl objc_msgSend_stret\n.type objc_msgSend_stret, @function\n"
        "objc_msgSend_stret:\n"
        "  push %rbp\n  mov %rsp, %rbp\n  sub $64, %rsp\n"
        "  mov %rdi, (%rsp)\n  mov %rsi, 8(%rsp)\n  mov %rdx, 16(%rsp)\n  mov %rcx, 24(%rsp)\n"
        "  mov %r8, 32(%rsp)\n  mov %r9, 40(%rsp)\n"
        "  mov %rsi, %rdi\n  mov %rdx, %rsi\n  call sim_lookup\n  mov %rax, %r11\n"
        "  mov (%rsp), %rdi\n  mov 8(%rsp), %rsi\n  mov 16(%rsp), %rdx\n  mov 24(%rsp), %rcx\n"
        "  mov 32(%rsp), %r8\n  mov 40(%rsp), %r9\n"
        "  leave\n  jmp *%r11\n"
        ".size objc_msgSend_stret, .-objc_msgSend_stret\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl objc_msgSend\n.type objc_msgSend, %function\n"
        "objc_msgSend:\n"
        "  cbz x0, 1f\n"
        "  stp x29, x30, [sp, #-224]!\n  mov x29, sp\n"
        "  stp x0, x1, [sp, #16]\n  stp x2, x3, [sp, #32]\n  stp x4, x5, [sp, #48]\n"
        "  stp x6, x7, [sp, #64]\n  str x8, [sp, #80]\n"
        "  stp q0, q1, [sp, #96]\n  stp q2, q3, [sp, #128]\n  stp q4, q5, [sp, #160]\n"
        "  stp q6, q7, [sp, #192]\n"
        "  bl sim_lookup\n  mov x16, x0\n"
        "  ldp x0, x1, [sp, #16]\n  ldp x2, x3, [sp, #32]\n  ldp x4, x5, [sp, #48]\n"
        "  ldp x6, x7, [sp, #64]\n  ldr x8, [sp, #80]\n"
        "  ldp q0, q1, [sp, #96]\n  ldp q2, q3, [sp, #128]\n  ldp q4, q5, [sp, #160]\n"
        "  ldp q6, q7, [sp, #192]\n"
        "  ldp x29, x30, [sp], #224\n  br x16\n"
        "1: mov x1, #0\n  movi d0, #0\n  movi d1, #0\n  ret\n"
        ".size objc_msgSend, .-objc_msgSend\n");
#else
#error "the simulator's objc_msgSend is for x86-64 and arm64"
#endif
