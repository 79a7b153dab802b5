/* draw.h - where a draw lands and what top_p asks for, in integers, the same text for C and for
 * kernel text.
 *
 * A token's weight is exp((x - m) / T), m the largest logit, cut to a multiple of 2^-40 (of 2^-31
 * for more than 2^22 ids) and held as an integer, so a sum of weights is exact and below 2^63 and
 * no order of summing needs to be fixed. */
#ifndef MLXN_OPS_SAMPLING_DRAW_H
#define MLXN_OPS_SAMPLING_DRAW_H

#include "kernels/types.h"
#include "ops/sampling/philox.h"

/* A weight of 1, as a float. */
FN float draw_unit(int64_t vocab)
{
    return vocab <= 1 << 22 ? 0x1p40f : 0x1p31f;
}

/* The weight that a set must reach to hold the share top_p of `total`, rounded up, at least 1.
 * top_p is in (0, 1], given by its bits: m 2^-s. */
FN uint64_t draw_share(uint32_t top_p, uint64_t total)
{
    const uint32_t exponent = top_p >> 23;
    const uint64_t m = (top_p & 0x7fffffu) | (exponent != 0u ? 0x800000u : 0u);
    const int s = 150 - (int)(exponent != 0u ? exponent : 1u);
    /* total m = high 2^32 + low */
    const uint64_t product = (total & 0xffffffffu) * m, low = product & 0xffffffffu;
    const uint64_t high = (total >> 32) * m + (product >> 32), one = 1;
    uint64_t share = 0, rest = high | low;
    if (s < 32) {
        share = high << (32 - s) | low >> s;
        rest = low & ((one << s) - 1);
    } else if (s < 96) {
        share = high >> (s - 32);
        rest = (high & ((one << (s - 32)) - 1)) | low;
    }
    share += rest != 0 ? 1 : 0;
    return share < 1 ? 1 : share > total ? total : share;
}

/* Where the draw lands in [0, total): a token is drawn if its range in id order holds it. */
FN uint64_t draw_point(uint64_t seed, int32_t counter, uint64_t total)
{
    const uint64_t u = philox_draw(seed, (uint32_t)counter);
    const uint64_t low = (total & 0xffffffffu) * u, high = (total >> 32) * u + (low >> 32);
    return high << 8 | (low & 0xffffffffu) >> 24; /* total u / 2^24 */
}

#endif
