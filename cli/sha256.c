/* sha256.c - SHA-256 as FIPS 180-4 writes it (sections 4.1.2, 4.2.2, 5.1.1 and 6.2). */
#include "sha256.h"

#include <stdio.h>
#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* One step of section 6.2.2; a to h are v[-i mod 8], so nothing is moved. */
static inline void step(uint32_t v[8], int i, uint32_t kw)
{
#define V(n) v[((n)-i) & 7]
    uint32_t a = V(0), e = V(4);
    uint32_t t1 = V(7) + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & V(5)) ^ (~e & V(6))) + kw;
    uint32_t t2 =
        (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & V(1)) ^ (a & V(2)) ^ (V(1) & V(2)));
    V(3) += t1;
    V(7) = t1 + t2;
#undef V
}

static void compress(uint32_t state[8], const unsigned char *block)
{
    uint32_t w[64], v[8];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 |
               (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
    for (int t = 16; t < 64; t++) {
        uint32_t a = w[t - 15], b = w[t - 2];
        w[t] = w[t - 16] + (rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) + w[t - 7] +
               (rotr(b, 17) ^ rotr(b, 19) ^ b >> 10);
    }
    memcpy(v, state, sizeof v);
    /* After a step every variable takes its neighbour's name: eight steps are one turn. */
    for (int t = 0; t < 64; t += 8)
        for (int i = 0; i < 8; i++)
            step(v, i, K[t + i] + w[t + i]);
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

void sha256_init(sha256 *s)
{
    *s = (sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                            0x1f83d9ab, 0x5be0cd19}};
}

void sha256_update(sha256 *s, const void *data, size_t bytes)
{
    const unsigned char *in = data;
    size_t held = s->bytes % 64;
    s->bytes += bytes;
    if (held) {
        size_t n = bytes < 64 - held ? bytes : 64 - held;
        memcpy(s->block + held, in, n);
        in += n;
        bytes -= n;
        if (held + n < 64)
            return;
        compress(s->state, s->block);
    }
    for (; bytes >= 64; in += 64, bytes -= 64)
        compress(s->state, in);
    if (bytes)
        memcpy(s->block, in, bytes);
}

void sha256_final(sha256 *s, char hex[SHA256_HEX])
{
    unsigned char tail[72] = {0x80};
    uint64_t bits = s->bytes * 8;
    size_t pad = 1 + (119 - s->bytes % 64) % 64; /* so that the length ends a block */
    for (int i = 0; i < 8; i++)
        tail[pad + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_update(s, tail, pad + 8);
    for (int i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", (unsigned)s->state[i]);
}
