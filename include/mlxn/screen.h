/* screen.h - the largest products of a row with a matrix, reading only a part of the matrix.
 *
 * A greedy choice, or a draw from the K best, needs the K largest logits and no others.  A screen
 * is a coarse copy of a q8_0 matrix, about 4.5 bits an element, with a bound for each row of what
 * the copy leaves out.  The copy gives every row an upper bound; the rows whose bound is under the
 * K-th largest product found so far cannot be among the K largest, and are never read.
 *
 * With w a row, q its coarse copy, x the input as the product's mode has it:
 *
 *   w.x = q.x + (w - q).x <= q.x + |w - q| |x|                                  (Cauchy-Schwarz)
 *
 * The 32 columns of the largest energy, which hold most of the outliers, are kept in 8 bits and
 * count towards q but not towards the norms.  |w - q| is computed once, rounded up; what f32
 * arithmetic can be off by is added (src/ops/screen/screen.h).  So the result holds for every
 * input: only the number of rows read in full depends on it.  CPU only. */
#ifndef MLXN_SCREEN_H
#define MLXN_SCREEN_H

#include <mlxn/ops/matmul.h>

MLXN_EXTERN_C_BEGIN

typedef struct mlxn_screen mlxn_screen;

#define MLXN_SCREEN_TOP_MAX 1024 /* products that can be asked for */

/* Makes the screen of a plain, dense q8_0 [N, K] matrix with all threads of its device, and waits.
 */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_screen_create(mlxn_buffer *weight, mlxn_screen **out);
MLXN_API void mlxn_screen_release(mlxn_screen *screen);
/* Bytes that a product reads of the screen, whatever the input. */
MLXN_API size_t mlxn_screen_bytes(const mlxn_screen *screen);

/* Writes the screen to a file: whole, or not at all.  `key` (at most 64 characters) says what the
 * matrix is, say by the sha256 of its file. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_screen_save(const mlxn_screen *screen, const char *path,
                                                      const char *key);
/* Reads a screen of `weight` back.  A file that is damaged, or of another shape or key, is
 * MLXN_ERR_FORMAT; no file, MLXN_ERR_NOT_FOUND. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_screen_load(mlxn_buffer *weight, const char *path,
                                                      const char *key, mlxn_screen **out);

/* output[n] = the product of row n, bit for bit that of mlxn_matmul, if it is one of the `k`
 * largest or equals the k-th; -INFINITY for all other rows.  NaN products count as not there.
 * Argmax, top_k up to k and sampling with top_k <= k give on this output what they give on all
 * products. */
typedef struct mlxn_screened_matmul_args {
    size_t size;
    mlxn_buffer *input;        /* one row of K: f32, bf16 or f16 */
    mlxn_buffer *weight;       /* what the screen was made of: q8_0 [N, K], plain */
    const mlxn_screen *screen; /* may be released once the call is recorded */
    mlxn_buffer *output;       /* one row of N: f32 */
    mlxn_buffer *rows_read;    /* i32 [1], may be NULL: rows that were read in full */
    int64_t k;                 /* 1 to MLXN_SCREEN_TOP_MAX and N */
    mlxn_matmul_mode mode;
} mlxn_screened_matmul_args;
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_screened_matmul(mlxn_encoder *encoder,
                                                          const mlxn_screened_matmul_args *args);

MLXN_EXTERN_C_END
#endif
