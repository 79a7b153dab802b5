/* dialect.h - the kernel language: one text for Metal (MSL 2.1 and later), CUDA C++ (NVRTC), the
 * emulator of the tests (C++17) and clang's check of address spaces (K_LINT).
 *
 *   KERNEL(name, IN(T, x, 0), OUT(T, y, 1), INOUT(T, z, 2), ARGS(S, a, 3)) { ... }
 *     IN and OUT must not overlap any other parameter that is written; INOUT may (in place).
 *     The last parameter is ARGS, a struct of types.h.
 *   GLOBAL(T), SHARED(T), CONSTANT(T)  pointer types; no pointer is written without one
 *   REF(T)                             a const reference to a thread's own variable
 *   SHARED_ARRAY(T, name, n)           memory of the group, at the top of a kernel body only
 *   KERNEL_BOUND(name, threads, groups, ...)   of at most so many threads a group, with registers
 *     for so many groups at once on a multiprocessor (CUDA)
 *   K_CONSTANT(name, i);               at file scope: an int that is known when code is made, for
 *     conditions alone; number i of the launch's constants, or K_OPEN where it is not known
 *   k_known(constant, parameter)       the constant, or where it is open the parameter it repeats
 *   FN                                 in front of every helper
 *   k_group3 k_groups3 k_thread3 k_threads3 k_lane k_simd   exist in the kernel body only; a helper
 *     takes them as arguments
 *   k_barrier() k_simd_barrier()       also order device memory within the group, the simdgroup
 *   k_wait()                           the kernel may start before the dispatches that it depends
 *     on have ended: what they may have written is read, and anything is written, only after it;
 *     what no dispatch writes (weights) may be read before.  Every thread calls it once
 *   k_xor(v, m)                        the value of lane (lane xor m); no memory order
 *   k_atomic_or(p, v) k_atomic_add(p, v)   on GLOBAL(uint) and SHARED(uint), no memory order; give
 *     the value before
 *   k_load_once(p, i) k_store_once(p, i, v)   p[i] of 16 bytes that nothing reads again soon
 *   k_fma k_sqrt k_div                 each rounded once; other maths is in math.h
 *   k_byte_float(word, i)              2^23 plus byte i of word
 *   K_UNROLL                           in front of a loop of constant count that indexes registers
 *   K_ROLLED                           in front of a loop that is worth its code once only
 *
 * The host compiles with contraction of a * b + c off (--fmad=false, -ffp-contract=off; here for
 * Metal) and without fast maths.  A simdgroup has 32 lanes, groups are whole simdgroups of up to
 * 1024 threads, indices are int64_t. */
#ifndef MLXN_DIALECT_H
#define MLXN_DIALECT_H

/* K_ENTRY(name) is K_ENTRY_1.  In code that is made for one entry, MLXN_ENTRY_<name> is "~,1", it
 * is K_ENTRY_0 for all others: they become templates that nobody uses. */
#if defined(MLXN_ONE_ENTRY)
#define K_SECOND(a, b, ...) b
#define K_IS_CHOSEN(...)    K_SECOND(__VA_ARGS__, 0, 0)
#define K_JOIN_(a, b)       a##b
#define K_JOIN(a, b)        K_JOIN_(a, b)
#define K_ENTRY(name)       K_JOIN(K_ENTRY_, K_IS_CHOSEN(MLXN_ENTRY_##name))
#else
#define K_ENTRY(name) K_ENTRY_1
#endif

#if defined(__METAL_VERSION__) /* ---- Metal */
#include <metal_stdlib>
using namespace metal;
#pragma METAL fp contract(off)
#define KERNEL(name, ...)                                                          \
    kernel void name(__VA_ARGS__, uint3 k_group3 [[threadgroup_position_in_grid]], \
                     uint3 k_groups3 [[threadgroups_per_grid]],                    \
                     uint3 k_thread3 [[thread_position_in_threadgroup]],           \
                     uint3 k_threads3 [[threads_per_threadgroup]],                 \
                     uint k_lane [[thread_index_in_simdgroup]],                    \
                     uint k_simd [[simdgroup_index_in_threadgroup]])
#define IN(T, name, i)           const device T *name [[buffer(i)]]
#define OUT(T, name, i)          device T *name [[buffer(i)]]
#define INOUT(T, name, i)        device T *name [[buffer(i)]]
#define ARGS(T, name, i)         constant T &name [[buffer(i)]]
#define GLOBAL(T)                device T *
#define SHARED(T)                threadgroup T *
#define CONSTANT(T)              constant T *
#define REF(T)                   const thread T &
#define K_CONSTANT(name, i)      constant int name [[function_constant(i)]]
#define SHARED_ARRAY(T, name, n) threadgroup T name[n]
#define FN                       static inline
#define K_ALL_MEMORY             (mem_flags::mem_device | mem_flags::mem_threadgroup)
#define k_barrier()              threadgroup_barrier(K_ALL_MEMORY)
#define k_simd_barrier()         simdgroup_barrier(K_ALL_MEMORY)
#define k_wait()
#define k_xor(v, m) simd_shuffle_xor((v), (ushort)(m))
#define K_ATOMIC(name, operation, space)                                                       \
    static inline uint name(space uint *p, uint v)                                             \
    {                                                                                          \
        return atomic_##operation##_explicit((space atomic_uint *)p, v, memory_order_relaxed); \
    }
K_ATOMIC(k_atomic_or, fetch_or, device)
K_ATOMIC(k_atomic_or, fetch_or, threadgroup)
K_ATOMIC(k_atomic_add, fetch_add, device)
K_ATOMIC(k_atomic_add, fetch_add, threadgroup)
#define k_bits(f)           as_type<uint>(f)
#define k_float(u)          as_type<float>(u)
#define k_fma(a, b, c)      fma((a), (b), (c))
#define k_sqrt(x)           precise::sqrt(x)
#define k_div(a, b)         ((a) / (b))
#define k_uint4(a, b, c, d) uint4((a), (b), (c), (d))
#define k_uint2(a, b)       uint2((a), (b))
#define K_UNROLL            _Pragma("unroll")
#define K_ROLLED

#elif defined(__CUDACC__) /* ---- CUDA */
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
#if defined(__CUDACC_RTC__)
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif
#define K_ENTRY_1(bound, name, ...) extern "C" __global__ void bound name(__VA_ARGS__)
#define K_ENTRY_0(bound, name, ...) template <int> __global__ void name(__VA_ARGS__)
#define K_BOUND(threads, groups)    __launch_bounds__(threads, groups)
#define KERNEL(name, ...)           K_ENTRY(name)(, name, __VA_ARGS__)
#define KERNEL_BOUND(name, threads, groups, ...) \
    K_ENTRY(name)(K_BOUND(threads, groups), name, __VA_ARGS__)
#define IN(T, name, i)           const T *__restrict__ name
#define OUT(T, name, i)          T *__restrict__ name
#define INOUT(T, name, i)        T *name
#define ARGS(T, name, i)         const __grid_constant__ T name
#define GLOBAL(T)                T *
#define SHARED(T)                T *
#define CONSTANT(T)              const T *
#define REF(T)                   const T &
#define K_CONSTANT(name, i)      enum { name = MLXN_CONSTANT_##i }
#define SHARED_ARRAY(T, name, n) __shared__ T name[n]
#define FN                       static __device__ __forceinline__
#define k_group3                 blockIdx
#define k_groups3                gridDim
#define k_thread3                threadIdx
#define k_threads3               blockDim
#define k_lane                   (threadIdx.x & 31u)
#define k_simd                   (threadIdx.x >> 5)
#define k_barrier()              __syncthreads()
#define k_simd_barrier()         __syncwarp()
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 /* programmatic dependent launch */
#define k_wait() asm volatile("griddepcontrol.wait; griddepcontrol.launch_dependents;" ::: "memory")
#else
#define k_wait()
#endif
#define k_xor(v, m)           __shfl_xor_sync(0xffffffffu, (v), (m))
#define k_load_once(p, i)     __ldcs((p) + (i))
#define k_store_once(p, i, v) __stcs((p) + (i), (v))
#define k_atomic_or(p, v)     atomicOr((p), (v))
#define k_atomic_add(p, v)    atomicAdd((p), (v))
#define k_bits(f)             __float_as_uint(f)
#define k_float(u)            __uint_as_float(u)
#define k_fma(a, b, c)        __fmaf_rn((a), (b), (c))
#define k_sqrt(x)             __fsqrt_rn(x)
#define k_div(a, b)           __fdiv_rn((a), (b))
#define k_uint4(a, b, c, d)   make_uint4((a), (b), (c), (d))
#define k_uint2(a, b)         make_uint2((a), (b))
#define K_UNROLL              _Pragma("unroll")
#define K_ROLLED              _Pragma("unroll 1")

#elif defined(K_LINT) /* ---- clang, address spaces, no C library */
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef uint uint2 __attribute__((ext_vector_type(2)));
typedef uint uint3 __attribute__((ext_vector_type(3)));
typedef uint uint4 __attribute__((ext_vector_type(4)));
#define K_DEVICE  __attribute__((address_space(1)))
#define K_UNIFORM __attribute__((address_space(2)))
#define K_GROUP   __attribute__((address_space(3)))
#define KERNEL(name, ...)                                                                      \
    void name(__VA_ARGS__, uint3 k_group3, uint3 k_groups3, uint3 k_thread3, uint3 k_threads3, \
              uint k_lane, uint k_simd);                                                       \
    void name(__VA_ARGS__, uint3 k_group3, uint3 k_groups3, uint3 k_thread3, uint3 k_threads3, \
              uint k_lane, uint k_simd)
#define IN(T, name, i)           const K_DEVICE T *name
#define OUT(T, name, i)          K_DEVICE T *name
#define INOUT(T, name, i)        K_DEVICE T *name
#define ARGS(T, name, i)         const K_UNIFORM T &name
#define GLOBAL(T)                K_DEVICE T *
#define SHARED(T)                K_GROUP T *
#define CONSTANT(T)              const K_UNIFORM T *
#define REF(T)                   const T &
#define K_CONSTANT(name, i)      enum { name = 1 }
#define SHARED_ARRAY(T, name, n) static K_GROUP T name[n]
#define FN                       static inline
void k_barrier();
void k_simd_barrier();
void k_wait();
float k_xor(float v, uint m);
uint k_xor(uint v, uint m);
uint k_atomic_or(GLOBAL(uint) p, uint v);
uint k_atomic_or(SHARED(uint) p, uint v);
uint k_atomic_add(GLOBAL(uint) p, uint v);
uint k_atomic_add(SHARED(uint) p, uint v);
uint k_bits(float f);
float k_float(uint u);
float k_fma(float a, float b, float c);
float k_sqrt(float x);
float k_div(float a, float b);
#define k_uint4(a, b, c, d)      ((uint4)((a), (b), (c), (d)))
#define k_uint2(a, b)            ((uint2)((a), (b)))
#define K_UNROLL
#define K_ROLLED

#else /* ---- the emulator */
#include <mlxn_emulator.hpp>
#endif

#define k_known(constant, parameter) ((constant) == K_OPEN ? (parameter) : (constant))

#if !defined(k_load_once)
#define k_load_once(p, i)     ((p)[i])
#define k_store_once(p, i, v) ((p)[i] = (v))
#endif

#if !defined(KERNEL_BOUND)
#define KERNEL_BOUND(name, threads, groups, ...) KERNEL(name, __VA_ARGS__)
#endif

/* ---- dtypes, by integer operations alone ---- */

/* A dtype as a template argument, and what an element is stored in. */
struct k_f32 {
    typedef float bits;
};
struct k_f16 {
    typedef ushort bits;
};
struct k_bf16 {
    typedef ushort bits;
};

FN float k_unpack(k_f32, float v)
{
    return v;
}
FN float k_unpack(k_bf16, ushort h)
{
    return k_float((uint)h << 16);
}
#if defined(__CUDACC__)
FN float k_byte_float(uint word, int i)
{
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7650u | (uint)i));
}
FN float k_unpack(k_f16, ushort h)
{
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(h));
    return y;
}
#else
FN float k_byte_float(uint word, int i)
{
    return k_float(0x4b000000u | (word >> 8 * i & 255u));
}
FN float k_unpack(k_f16, ushort h)
{
    const uint sign = ((uint)h & 0x8000u) << 16, e = ((uint)h >> 10) & 31u, m = (uint)h & 0x3ffu;
    if (e == 31u)
        return k_float(sign | 0x7f800000u | (m ? m << 13 | 0x400000u : 0u));
    if (e == 0u) /* subnormal: m 2^-24 */
        return k_float(sign | k_bits((float)m * 0x1p-24f));
    return k_float(sign | (e + 112u) << 23 | m << 13);
}
#endif

FN float k_pack(k_f32, float v)
{
    return v;
}
/* Nearest even; NaN stays NaN, but not the same one everywhere. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
FN ushort k_pack(k_bf16, float v)
{
    ushort y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(v));
    return y;
}
#else
FN ushort k_pack(k_bf16, float v)
{
    const uint u = k_bits(v);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (ushort)(u >> 16 | 0x40u);
    return (ushort)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
#endif
#if defined(__CUDACC__)
FN ushort k_pack(k_f16, float v)
{
    ushort y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(v));
    return y;
}
#else
FN ushort k_pack(k_f16, float v)
{
    const uint u = k_bits(v), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (ushort)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x477ff000u) /* rounds to 65536 or more */
        return (ushort)(sign | 0x7c00u);
    if (a < 0x38800000u) /* subnormal: adding 0.5 rounds at 2^-24 */
        return (ushort)(sign | (k_bits(k_float(a) + 0.5f) - 0x3f000000u));
    return (ushort)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13));
}
#endif

/* ---- the reduction tree ---- */

/* Butterfly of distance 16, 8, 4, 2, 1 over the 32 lanes; every lane gets the sum.  Which element
 * went to which lane is stated by the caller. */
FN float k_simd_sum(float v)
{
    v += k_xor(v, 16u);
    v += k_xor(v, 8u);
    v += k_xor(v, 4u);
    v += k_xor(v, 2u);
    v += k_xor(v, 1u);
    return v;
}

/* Adds the squares of n elements of group memory, element i in lane i mod 32, ascending.  Four are
 * read at a time, so that the sums do not wait for each read. */
FN float k_add_squares(SHARED(const float) x, int n, uint lane, float sum)
{
    int i = (int)lane;
    for (; i + 96 < n; i += 128) {
        const float a = x[i], b = x[i + 32], c = x[i + 64], d = x[i + 96];
        sum = k_fma(a, a, sum);
        sum = k_fma(b, b, sum);
        sum = k_fma(c, c, sum);
        sum = k_fma(d, d, sum);
    }
    for (; i < n; i += 32)
        sum = k_fma(x[i], x[i], sum);
    return sum;
}

#endif
