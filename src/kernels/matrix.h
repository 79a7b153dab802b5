/* matrix.h - products of 8 x 8 matrices by a simdgroup as a whole, for kernel text of Metal and the
 * emulator.
 *
 *   k_matrix                     8 x 8 floats, spread over the lanes; which lane has which is not
 * told k_matrix_zero() k_matrix_load(p, pitch)      rows of group memory, `pitch` floats apart
 *   k_matrix_store(m, p, pitch)
 *   k_matrix_add(a, b, c)        c + a b
 *
 * All lanes of a simdgroup come to each of them together.  Apple states neither the order nor the
 * roundings of the sums, so only what is exact in every order (whole numbers, sums below 2^24) has
 * the same bits everywhere; the emulator adds k ascending, rounding each product and sum. */
#ifndef MLXN_KERNELS_MATRIX_H
#define MLXN_KERNELS_MATRIX_H

#include "kernels/dialect.h"

#if defined(__METAL_VERSION__) /* language 2.3, Apple7 and later */
typedef simdgroup_float8x8 k_matrix;
FN k_matrix k_matrix_zero()
{
    return make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
FN k_matrix k_matrix_load(SHARED(const float) p, int pitch)
{
    k_matrix y;
    simdgroup_load(y, p, (uint64_t)pitch);
    return y;
}
FN void k_matrix_store(k_matrix m, SHARED(float) p, int pitch)
{
    simdgroup_store(m, p, (uint64_t)pitch);
}
FN k_matrix k_matrix_add(k_matrix a, k_matrix b, k_matrix c)
{
    k_matrix y;
    simdgroup_multiply_accumulate(y, a, b, c);
    return y;
}
#elif defined(K_LINT)
struct k_matrix {
    float v[2];
};
k_matrix k_matrix_zero();
k_matrix k_matrix_load(SHARED(const float) p, int pitch);
void k_matrix_store(k_matrix m, SHARED(float) p, int pitch);
k_matrix k_matrix_add(k_matrix a, k_matrix b, k_matrix c);
#endif

#endif
