// mlxn_emulator.hpp - the emulator's side of the dialect: what kernel text is compiled against when
// it becomes a shared object for the CPU, and the interface to the runtime that runs it.
//
// In the checked form (EMU_CHECKED) GLOBAL, SHARED and kernel parameters are pointers that tell the
// runtime about every access; in the fast form they are plain pointers.  The runtime is in the
// program that loads the object and hands in a table of functions, so this file stays small and
// kernel text compiles in under a second.
#pragma once
#include <stdlib.h>
#include <string.h>
#include "interface.hpp"

namespace emu
{
// Static, not inline: the loader would make inline variables one for all objects of the process.
static const runtime *host;
static entry *entries;
static constant_list constants;
struct constant {
    int index;
    constant(int i, int compiled) : index(i)
    {
        constants.present |= 1u << i;
        constants.at[i] = compiled;
    }
    operator int() const
    {
        return constants.at[index];
    }
};
struct entry_list {
    entry_list(entry *e)
    {
        e->next = entries;
        entries = e;
    }
};

#if defined(EMU_CHECKED)
template <class T> struct bare {
    typedef T type;
};
template <class T> struct bare<const T> {
    typedef T type;
};

// An element that is read or written on use.
template <class T> struct element {
    typedef typename bare<T>::type value;
    region *r;
    int64_t at;
    operator value() const
    {
        value v;
        memcpy(&v, host->access(r, at, sizeof v, READ), sizeof v);
        return v;
    }
    const element &operator=(value v) const
    {
        memcpy(host->access(r, at, sizeof v, WRITE), &v, sizeof v);
        return *this;
    }
    const element &operator=(const element &other) const
    {
        return *this = (value)other;
    }
};

template <class T> struct pointer {
    region *r = nullptr;
    int64_t at = 0;
    pointer()
    {
    }
    pointer(region *r_, int64_t at_) : r(r_), at(at_)
    {
    }
    template <class U> explicit pointer(const pointer<U> &p) : r(p.r), at(p.at)
    {
    }
    operator pointer<const T>() const
    {
        return pointer<const T>(r, at);
    }
    element<T> operator[](int64_t i) const
    {
        return {r, at + i * (int64_t)sizeof(T)};
    }
    element<T> operator*() const
    {
        return {r, at};
    }
    pointer operator+(int64_t i) const
    {
        return {r, at + i * (int64_t)sizeof(T)};
    }
    pointer operator-(int64_t i) const
    {
        return {r, at - i * (int64_t)sizeof(T)};
    }
};
template <class T> struct pointer<const T> {
    region *r = nullptr;
    int64_t at = 0;
    pointer()
    {
    }
    pointer(region *r_, int64_t at_) : r(r_), at(at_)
    {
    }
    template <class U> explicit pointer(const pointer<U> &p) : r(p.r), at(p.at)
    {
    }
    element<const T> operator[](int64_t i) const
    {
        return {r, at + i * (int64_t)sizeof(T)};
    }
    element<const T> operator*() const
    {
        return {r, at};
    }
    pointer operator+(int64_t i) const
    {
        return {r, at + i * (int64_t)sizeof(T)};
    }
    pointer operator-(int64_t i) const
    {
        return {r, at - i * (int64_t)sizeof(T)};
    }
};
template <class T> pointer<T> at(void *p, pointer<T> *)
{
    return pointer<T>((region *)p, 0);
}
inline uint *atomic(pointer<uint> p)
{
    return (uint *)host->access(p.r, p.at, sizeof(uint), ATOMIC);
}
#else
template <class T> using pointer = T *;
template <class T> T *at(void *p, T **)
{
    return (T *)p;
}
inline uint *atomic(uint *p)
{
    return p;
}
#endif
inline uint atomic_or(pointer<uint> p, uint v)
{
    return __atomic_fetch_or(atomic(p), v, __ATOMIC_RELAXED);
}
inline uint atomic_add(pointer<uint> p, uint v)
{
    return __atomic_fetch_add(atomic(p), v, __ATOMIC_RELAXED);
}
template <class T> const T &at(void *p, const T *)
{
    return *(const T *)p;
}

// The names that the runner reads in a parameter list.
template <class T> using in = pointer<const T>;
template <class T> using out = pointer<T>;
template <class T> using inout = pointer<T>;
template <class T> using args = const T &;

template <class A> struct tag { // an argument's type, as a null pointer to choose at() by
    typedef A *type;
};
template <class T> struct tag<const T &> {
    typedef const T *type;
};
template <size_t... I> struct numbers {
};
template <size_t N, size_t... I> struct count : count<N - 1, N - 1, I...> {
};
template <size_t... I> struct count<0, I...> {
    typedef numbers<I...> type;
};
template <class... A, size_t... I> void call(void (*kernel)(A...), void *const *p, numbers<I...>)
{
    kernel(at(p[I], (typename tag<A>::type) nullptr)...);
}
template <class... A> void call(void (*kernel)(A...), void *const *p)
{
    call(kernel, p, typename count<sizeof...(A)>::type());
}
template <class T> struct args_size {
    static const size_t value = 0;
};
template <class T> struct args_size<const T &> {
    static const size_t value = sizeof(T);
};
template <class... A> constexpr size_t args_bytes(void (*)(A...))
{
    return (0 + ... + args_size<A>::value);
}

inline float exchange(float v, uint mask, int site)
{
    uint u;
    memcpy(&u, &v, sizeof u);
    u = host->exchange(u, mask, site);
    memcpy(&v, &u, sizeof v);
    return v;
}
inline uint exchange(uint v, uint mask, int site)
{
    return host->exchange(v, mask, site);
}
// The number in "(7)"; the name of a macro that is not defined is K_OPEN.
inline int number(const char *text)
{
    return *text == '(' ? (int)strtol(text + 1, nullptr, 10) : -1;
}
inline uint bits(float f)
{
    uint u;
    memcpy(&u, &f, sizeof u);
    return u;
}
inline float from_bits(uint u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

// ---- matrices of a simdgroup (kernels/matrix.h): lane i has elements 2 i and 2 i + 1, row by row
struct matrix {
    float v[2];
};
// A load or store needs all lanes, though none needs another's values.
inline void meet(int site)
{
    const uint nothing[4] = {0, 0, 0, 0};
    uint all[128];
    host->gather(nothing, all, site);
}
inline matrix load_matrix(pointer<const float> p, int pitch, int site)
{
    const int64_t at = 2 * (int64_t)host->self()->lane;
    meet(site);
    return {{p[at / 8 * pitch + at % 8], p[at / 8 * pitch + at % 8 + 1]}};
}
inline void store_matrix(const matrix &m, pointer<float> p, int pitch, int site)
{
    const int64_t at = 2 * (int64_t)host->self()->lane;
    meet(site);
    p[at / 8 * pitch + at % 8] = m.v[0];
    p[at / 8 * pitch + at % 8 + 1] = m.v[1];
}
inline matrix add_product(const matrix &a, const matrix &b, const matrix &c, int site)
{
    const uint mine[4] = {bits(a.v[0]), bits(a.v[1]), bits(b.v[0]), bits(b.v[1])};
    const int lane = (int)host->self()->lane, row = lane / 4, column = lane % 4 * 2;
    uint all[128];
    matrix y = c;
    host->gather(mine, all, site);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 2; i++)
            y.v[i] += from_bits(all[4 * (row * 4 + k / 2) + k % 2]) *
                      from_bits(all[4 * (k * 4 + column / 2) + 2 + i]);
    return y;
}
} // namespace emu

// The one symbol that the runner looks up.
extern "C" __attribute__((visibility("default"))) emu::entry *
mlxn_emulator_load(const emu::runtime *runtime, int *checked, emu::constant_list **constants)
{
    *constants = &emu::constants;
    emu::host = runtime;
#if defined(EMU_CHECKED)
    *checked = 1;
#else
    *checked = 0;
#endif
    return emu::entries;
}

#define EMU_TEXT_(...) #__VA_ARGS__
#define EMU_TEXT(...)  EMU_TEXT_(__VA_ARGS__)
#if !defined(K_ENTRY) // text without dialect.h
#define K_ENTRY(name) K_ENTRY_1
#endif
#define KERNEL(name, ...)      K_ENTRY(name)(name, __VA_ARGS__)
#define K_ENTRY_0(name, ...)   template <int> static void name(__VA_ARGS__)
#define K_ENTRY_1(name, ...)                                                                \
    static void name(__VA_ARGS__);                                                          \
    static void name##_run(const emu::bindings *b)                                          \
    {                                                                                       \
        emu::call(&name, b->pointers);                                                      \
    }                                                                                       \
    static emu::entry name##_entry = {#name, EMU_TEXT(__VA_ARGS__), emu::args_bytes(&name), \
                                      name##_run, nullptr};                                 \
    static emu::entry_list name##_listed(&name##_entry);                                    \
    static void name(__VA_ARGS__)
#define IN(T, name, i)    emu::in<T> name
#define OUT(T, name, i)   emu::out<T> name
#define INOUT(T, name, i) emu::inout<T> name
#define ARGS(T, name, i)  emu::args<T> name
#define GLOBAL(T)         emu::pointer<T>
#define SHARED(T)         emu::pointer<T>
#define CONSTANT(T)       const T *
#define REF(T)            const T &
#define K_CONSTANT(name, i) \
    static const emu::constant name(i, emu::number(EMU_TEXT(MLXN_CONSTANT_##i)))
#define SHARED_ARRAY(T, name, n)                                                                 \
    static const char name##_key = 0;                                                            \
    const emu::pointer<T> name = emu::at(emu::host->shared(&name##_key, #name, sizeof(T) * (n)), \
                                         (emu::pointer<T> *)nullptr)
#define FN                  static inline
#define k_group3            (emu::host->self()->group)
#define k_groups3           (emu::host->self()->groups)
#define k_thread3           (emu::host->self()->thread)
#define k_threads3          (emu::host->self()->threads)
#define k_lane              (emu::host->self()->lane)
#define k_simd              (emu::host->self()->simd)
#define k_barrier()         emu::host->barrier(__LINE__)
#define k_simd_barrier()    emu::host->simd_barrier(__LINE__)
#define k_wait()            emu::host->wait()
#define k_xor(v, m)         emu::exchange((v), (m), __LINE__)
#define k_atomic_or(p, v)   emu::atomic_or((p), (v))
#define k_atomic_add(p, v)  emu::atomic_add((p), (v))
#define k_bits(f)           emu::bits(f)
#define k_float(u)          emu::from_bits(u)
#define k_fma(a, b, c)      __builtin_fmaf((a), (b), (c))
#define k_sqrt(x)           __builtin_sqrtf(x)
#define k_div(a, b)         ((a) / (b))
#define k_uint4(a, b, c, d) (uint4{(a), (b), (c), (d)})
#define k_uint2(a, b)       (uint2{(a), (b)})
#define K_UNROLL
#define K_ROLLED
typedef emu::matrix k_matrix;
#define k_matrix_zero()             (emu::matrix{{0.0f, 0.0f}})
#define k_matrix_load(p, pitch)     emu::load_matrix((p), (pitch), __LINE__)
#define k_matrix_store(m, p, pitch) emu::store_matrix((m), (p), (pitch), __LINE__)
#define k_matrix_add(a, b, c)       emu::add_product((a), (b), (c), __LINE__)
