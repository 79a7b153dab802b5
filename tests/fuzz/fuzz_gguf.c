/* fuzz_gguf.c - libFuzzer target: any bytes as a GGUF file.  What opens is walked whole and handed
 * to the tokenizer; an inconsistent answer aborts. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "model/gguf_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char text[] = "the  abc\n\n\nh\xc3\xa9 <b><bb></s> \xe2\x96\x81 <x>aaaaaaa \xff";
    mlxn_gguf *g = NULL;
    mlxn_tokenizer *t = NULL;
    if (mlxn_gguf_open_memory(data, bytes, "fuzz", &g) != MLXN_OK)
        return 0;
    const char *wrong = gguf_walk(g);
    if (!wrong && mlxn_tokenizer_create(g, &t) == MLXN_OK)
        wrong = tokenizer_walk(t, text, sizeof text - 1);
    if (wrong) {
        fprintf(stderr, "%s\n", wrong);
        abort();
    }
    mlxn_tokenizer_release(t);
    mlxn_gguf_release(g);
    return 0;
}
