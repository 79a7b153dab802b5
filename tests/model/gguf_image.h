/* gguf_image.h - GGUF files in memory of exactly their size, so that a sanitizer sees a read past
 * the end, and one that has something of everything. */
#ifndef MLXN_TEST_GGUF_IMAGE_H
#define MLXN_TEST_GGUF_IMAGE_H

#include "gguf_writer.h"

typedef struct gguf_image {
    unsigned char *data; /* to be freed */
    size_t bytes;
} gguf_image;

/* What the writer holds. */
gguf_image gguf_image_of(gguf_writer *w);
/* Begins a file with a key of each type, arrays and some tensors. */
void gguf_sample(gguf_writer *w);

#endif
