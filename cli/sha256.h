/* sha256.h - SHA-256 (FIPS 180-4), to check what was downloaded. */
#ifndef MLXN_CLI_SHA256_H
#define MLXN_CLI_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX 65 /* with the NUL */

typedef struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    unsigned char block[64];
} sha256;

void sha256_init(sha256 *s);
void sha256_update(sha256 *s, const void *data, size_t bytes);
/* The digest in lower-case hexadecimal. */
void sha256_final(sha256 *s, char hex[SHA256_HEX]);

#endif
