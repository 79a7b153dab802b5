/* real_model.h - where the real model lies that some tests need: Gemma 3 270M, Q4_K_M. */
#ifndef MLXN_TEST_REAL_MODEL_H
#define MLXN_TEST_REAL_MODEL_H

#include <mlxn/tokenizer.h>

/* The path: $MLXN_TEST_MODEL, else mlxn/models/gemma-3-270m-q4_k_m.gguf under $XDG_CACHE_HOME or
 * ~/.cache.  NULL, after failing the test with advice, if no such file can be read. */
const char *real_model_path(void);
/* The open file, the same one each time (not retained); NULL as above. */
mlxn_gguf *real_model(void);

#endif
