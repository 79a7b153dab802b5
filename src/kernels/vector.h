/* vector.h - several elements at once: loads and stores of 8, 16 or 32 bytes, for kernel text.
 *
 * A k_floats<V> holds V elements as floats, V 1, 4 or 8; the functions take the dtype as a tag, the
 * number as k_width<V>, a base and an element index that is a multiple of V.  The address must be
 * a multiple of 16 bytes, of 8 for four elements of two bytes, of the element for one. */
#ifndef MLXN_KERNELS_VECTOR_H
#define MLXN_KERNELS_VECTOR_H

#include "kernels/dialect.h"
#include "kernels/types.h"

template <int V> struct k_floats {
    float v[V];
};
template <int V> struct k_width {
};

template <class D> FN float k_low(D, uint word)
{
    return k_unpack(D(), (ushort)(word & 0xffffu));
}
template <class D> FN float k_high(D, uint word)
{
    return k_unpack(D(), (ushort)(word >> 16));
}
template <class D> FN uint k_word(D, float low, float high)
{
    return (uint)k_pack(D(), low) | (uint)k_pack(D(), high) << 16;
}
#if defined(__CUDACC__) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
FN uint k_word(k_bf16, float low, float high)
{
    uint y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}
#endif

template <class D> FN k_floats<1> k_load(D, k_width<1>, GLOBAL(const uchar) p, int64_t i)
{
    k_floats<1> y;
    y.v[0] = k_unpack(D(), ((GLOBAL(const typename D::bits))p)[i]);
    return y;
}
FN k_floats<4> k_floats_of(uint4 w)
{
    k_floats<4> y;
    y.v[0] = k_float(w.x);
    y.v[1] = k_float(w.y);
    y.v[2] = k_float(w.z);
    y.v[3] = k_float(w.w);
    return y;
}
/* 16 bytes as elements of a dtype, and back. */
FN k_floats<4> k_elements_of(k_f32, uint4 w)
{
    return k_floats_of(w);
}
template <class D> FN k_floats<8> k_elements_of(D, uint4 w)
{
    k_floats<8> y;
    y.v[0] = k_low(D(), w.x);
    y.v[1] = k_high(D(), w.x);
    y.v[2] = k_low(D(), w.y);
    y.v[3] = k_high(D(), w.y);
    y.v[4] = k_low(D(), w.z);
    y.v[5] = k_high(D(), w.z);
    y.v[6] = k_low(D(), w.w);
    y.v[7] = k_high(D(), w.w);
    return y;
}
FN uint4 k_words_of(k_f32, k_floats<4> x)
{
    return k_uint4(k_bits(x.v[0]), k_bits(x.v[1]), k_bits(x.v[2]), k_bits(x.v[3]));
}
template <class D> FN uint4 k_words_of(D, k_floats<8> x)
{
    return k_uint4(k_word(D(), x.v[0], x.v[1]), k_word(D(), x.v[2], x.v[3]),
                   k_word(D(), x.v[4], x.v[5]), k_word(D(), x.v[6], x.v[7]));
}
FN k_floats<4> k_load(k_f32, k_width<4>, GLOBAL(const uchar) p, int64_t i)
{
    return k_floats_of(((GLOBAL(const uint4))p)[i / 4]);
}
FN k_floats<8> k_load(k_f32, k_width<8>, GLOBAL(const uchar) p, int64_t i)
{
    const k_floats<4> a = k_load(k_f32(), k_width<4>(), p, i);
    const k_floats<4> b = k_load(k_f32(), k_width<4>(), p, i + 4);
    k_floats<8> y;
    for (int j = 0; j < 4; j++) {
        y.v[j] = a.v[j];
        y.v[j + 4] = b.v[j];
    }
    return y;
}
template <class D> FN k_floats<4> k_load(D, k_width<4>, GLOBAL(const uchar) p, int64_t i)
{
    const uint2 w = ((GLOBAL(const uint2))p)[i / 4];
    k_floats<4> y;
    y.v[0] = k_low(D(), w.x);
    y.v[1] = k_high(D(), w.x);
    y.v[2] = k_low(D(), w.y);
    y.v[3] = k_high(D(), w.y);
    return y;
}
template <class D> FN k_floats<8> k_load(D, k_width<8>, GLOBAL(const uchar) p, int64_t i)
{
    const uint4 w = ((GLOBAL(const uint4))p)[i / 8];
    return k_elements_of(D(), w);
}

template <class D> FN void k_store(D, k_floats<1> x, GLOBAL(uchar) p, int64_t i)
{
    ((GLOBAL(typename D::bits))p)[i] = k_pack(D(), x.v[0]);
}
FN void k_store(k_f32, k_floats<4> x, GLOBAL(uchar) p, int64_t i)
{
    ((GLOBAL(uint4))p)[i / 4] = k_words_of(k_f32(), x);
}
FN void k_store(k_f32, k_floats<8> x, GLOBAL(uchar) p, int64_t i)
{
    k_floats<4> a, b;
    for (int j = 0; j < 4; j++) {
        a.v[j] = x.v[j];
        b.v[j] = x.v[j + 4];
    }
    k_store(k_f32(), a, p, i);
    k_store(k_f32(), b, p, i + 4);
}
template <class D> FN void k_store(D, k_floats<4> x, GLOBAL(uchar) p, int64_t i)
{
    ((GLOBAL(uint2))p)[i / 4] = k_uint2(k_word(D(), x.v[0], x.v[1]), k_word(D(), x.v[2], x.v[3]));
}
template <class D> FN void k_store(D, k_floats<8> x, GLOBAL(uchar) p, int64_t i)
{
    ((GLOBAL(uint4))p)[i / 8] = k_words_of(D(), x);
}

/* V elements of a dtype known at run time, as they lie in memory, and as floats. */
template <int V> struct k_raw {
    uint4 at[V / 4];
};
template <int V> FN k_raw<V> k_load_raw(int dtype, GLOBAL(const uchar) p, int64_t i)
{
    k_raw<V> y;
    if (dtype == K_F32) {
        K_UNROLL
        for (int k = 0; k < V / 4; k++)
            y.at[k] = ((GLOBAL(const uint4))p)[i / 4 + k];
    } else if (V == 8) {
        y.at[0] = ((GLOBAL(const uint4))p)[i / 8];
    } else {
        const uint2 w = ((GLOBAL(const uint2))p)[i / 4];
        y.at[0] = k_uint4(w.x, w.y, 0u, 0u);
    }
    return y;
}
template <int V> FN k_floats<V> k_floats_of_raw(int dtype, k_raw<V> raw)
{
    k_floats<8> eight;
    k_floats<V> y;
    if (dtype == K_F32) {
        K_UNROLL
        for (int k = 0; k < V; k++)
            y.v[k] = k_floats_of(raw.at[k / 4]).v[k % 4];
        return y;
    }
    if (dtype == K_F16)
        eight = k_elements_of(k_f16(), raw.at[0]);
    else
        eight = k_elements_of(k_bf16(), raw.at[0]);
    K_UNROLL
    for (int k = 0; k < V; k++)
        y.v[k] = eight.v[k];
    return y;
}

/* Likewise with the dtype known at run time. */
template <int V> FN k_floats<V> k_load_as(int dtype, GLOBAL(const uchar) p, int64_t i)
{
    if (dtype == K_F32)
        return k_load(k_f32(), k_width<V>(), p, i);
    if (dtype == K_F16)
        return k_load(k_f16(), k_width<V>(), p, i);
    return k_load(k_bf16(), k_width<V>(), p, i);
}
template <int V> FN void k_store_as(int dtype, k_floats<V> x, GLOBAL(uchar) p, int64_t i)
{
    if (dtype == K_F32)
        k_store(k_f32(), x, p, i);
    else if (dtype == K_F16)
        k_store(k_f16(), x, p, i);
    else
        k_store(k_bf16(), x, p, i);
}

#endif
