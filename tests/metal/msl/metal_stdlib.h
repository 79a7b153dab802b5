/* metal_stdlib.h - stands in for Apple's <metal_stdlib> when clang checks the texts that Metal gets
 * (check_language.py): address spaces are clang's, so that pointers of different spaces do not mix,
 * and there is nothing here that docs/metal-language.md does not list. */
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef uint uint2 __attribute__((ext_vector_type(2)));
typedef uint uint3 __attribute__((ext_vector_type(3)));
typedef uint uint4 __attribute__((ext_vector_type(4)));
typedef float float4 __attribute__((ext_vector_type(4)));

#define kernel
#define thread
#define device      __attribute__((address_space(1)))
#define constant    const __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))

struct atomic_uint {
    uint value;
};

namespace metal
{
enum memory_order { memory_order_relaxed };
enum class mem_flags { mem_device = 1, mem_threadgroup = 2 };
mem_flags operator|(mem_flags, mem_flags);
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);
float simd_shuffle_xor(float, ushort);
uint simd_shuffle_xor(uint, ushort);
int simd_shuffle_xor(int, ushort);
uint atomic_fetch_or_explicit(device atomic_uint *, uint, memory_order);
uint atomic_fetch_or_explicit(threadgroup atomic_uint *, uint, memory_order);
uint atomic_fetch_add_explicit(device atomic_uint *, uint, memory_order);
uint atomic_fetch_add_explicit(threadgroup atomic_uint *, uint, memory_order);
float fma(float, float, float);
template <typename T, int Columns, int Rows> struct simdgroup_matrix {
    T elements[2]; /* a lane's part, not to be named */
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
template <typename T, int Columns, int Rows>
simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T);
template <typename T, int Columns, int Rows>
void simdgroup_load(simdgroup_matrix<T, Columns, Rows> &, threadgroup const T *, ulong);
template <typename T, int Columns, int Rows>
void simdgroup_store(simdgroup_matrix<T, Columns, Rows>, threadgroup T *, ulong);
template <typename T, int K, int Columns, int Rows>
void simdgroup_multiply_accumulate(simdgroup_matrix<T, Columns, Rows> &,
                                   simdgroup_matrix<T, K, Rows>, simdgroup_matrix<T, Columns, K>,
                                   simdgroup_matrix<T, Columns, Rows>);
namespace precise
{
float sqrt(float);
}
} // namespace metal

template <typename To, typename From> To as_type(From from)
{
    static_assert(sizeof(To) == sizeof(From), "as_type keeps the size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
