/* philox.h - Philox 4x32-10, a counter-based generator: a block of 128 bits for each counter and
 * key, no state.  From Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011: ten rounds of two 32 x 32 bit products; the key goes up by Weyl constants.  The same
 * text for C and for kernel text. */
#ifndef MLXN_OPS_SAMPLING_PHILOX_H
#define MLXN_OPS_SAMPLING_PHILOX_H

#include "kernels/types.h"

typedef struct philox_block {
    uint32_t x[4];
} philox_block;

FN philox_block philox_4x32(philox_block c, uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xd2511f53u * c.x[0], b = (uint64_t)0xcd9e8d57u * c.x[2];
        c.x[0] = (uint32_t)(b >> 32) ^ c.x[1] ^ key0;
        c.x[1] = (uint32_t)b;
        c.x[2] = (uint32_t)(a >> 32) ^ c.x[3] ^ key1;
        c.x[3] = (uint32_t)a;
        key0 += 0x9e3779b9u; /* golden ratio */
        key1 += 0xbb67ae85u; /* sqrt(3) - 1 */
    }
    return c;
}

/* u = result / 2^24: the upper 24 bits of the first word of block (counter, 0, 0, 0), keyed by the
 * lower and upper half of seed. */
FN uint32_t philox_draw(uint64_t seed, uint32_t counter)
{
    const philox_block c = {{counter, 0u, 0u, 0u}};
    return philox_4x32(c, (uint32_t)seed, (uint32_t)(seed >> 32)).x[0] >> 8;
}

#endif
