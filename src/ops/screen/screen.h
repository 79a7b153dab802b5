/* screen.h - a screen's layout and the parameters of its kernels.
 *
 * 16 rows form a group, 32 elements of k a tile, as in ops/matmul/packed.h.  A group is one run of
 * bytes, a multiple of 64:
 *
 *   codes of all tiles, 256 bytes each: the nibbles c of packed.h's 4-bit layout
 *   | multipliers of all tiles, 16 bytes m | wide columns, [32][16] int8 | 16 f32 base
 *   | 16 f32 wide scale | 16 f32 rest
 *
 * The coarse copy of an element is base * m * (c - 7.5), of a wide column wide scale * code.  base
 * and wide scale have 11 significant bits, so that all of these are floats.  `rest` bounds the norm
 * of what the narrow columns miss; what the wide ones miss is bounded by wide_error for all rows.
 *
 * The bound of a row, with narrow activations xn, wide ones xw, all x, T tiles, u = 2^-24:
 *
 *   product <= coarse + rest |xn| + wide_error |xw| + row_norm (|x - rounded x| + slack |x|)
 *
 * The difference from rounding counts in exact mode, where the coarse product takes the rounded
 * activations.  slack covers f32: the product of mlxn_matmul is off by at most (T + 34) u |w||x|
 * (its chain of T + 32 roundings and one of the scales), the coarse one by 2 (T + 3) u for the
 * narrow part and 2 * 36 u for the wide one (a coarse row is no longer than twice the row), the sum
 * of the bound by 6 u: together below (3 T + 120) u, and (3 T + 128) 2u is taken. */
#ifndef MLXN_OPS_SCREEN_SCREEN_H
#define MLXN_OPS_SCREEN_SCREEN_H

#include <mlxn/screen.h>
#include "ops/matmul/plan.h"

enum {
    SCREEN_WIDE = 32,
    SCREEN_TILE = 256,  /* bytes of codes */
    SCREEN_SAMPLE = 16, /* one row of so many is looked at to choose the wide columns */
};

struct mlxn_screen {
    int64_t rows, cols;
    mlxn_buffer *groups;        /* u8 */
    int32_t wide[SCREEN_WIDE];  /* columns, ascending; q8_0 has at least as many */
    float row_norm, wide_error; /* largest of all finite rows, rounded up */
};

typedef struct screen_energy_params {
    matmul_weight weight;
    int64_t step; /* every step-th row */
} screen_energy_params;

typedef struct screen_pack_params {
    matmul_weight weight;
    int32_t wide[SCREEN_WIDE];
} screen_pack_params;

typedef struct screened_matmul_params {
    matmul_params matmul; /* of one row, in the mode asked for */
    int32_t wide[SCREEN_WIDE];
    float row_norm, wide_error;
    int64_t k;
} screened_matmul_params;

static inline size_t screen_group_bytes(int64_t tiles)
{
    const size_t bytes = (size_t)tiles * (SCREEN_TILE + PACKED_ROWS) + SCREEN_WIDE * PACKED_ROWS +
                         3 * PACKED_ROWS * sizeof(float);
    return (bytes + 63) & ~(size_t)63;
}

/* Where the parts of a group begin. */
static inline size_t screen_multipliers_at(int64_t tiles)
{
    return (size_t)tiles * SCREEN_TILE;
}

static inline size_t screen_wide_at(int64_t tiles)
{
    return (size_t)tiles * (SCREEN_TILE + PACKED_ROWS);
}

static inline size_t screen_floats_at(int64_t tiles)
{
    return screen_wide_at(tiles) + SCREEN_WIDE * PACKED_ROWS;
}

/* A thread's scratch, as offsets: the activations of the coarse product and of the mode, a group of
 * rows to multiply, and three lists of ranks (ops/sampling/order.h). */
typedef struct screened_plan {
    matmul_plan fast, mode;
    int64_t candidates; /* rows multiplied first: k, or a group's */
    size_t mode_at, rows_at, lists_at, thread_bytes;
} screened_plan;

static inline screened_plan screened_plan_of(const screened_matmul_params *p)
{
    matmul_params fast = p->matmul;
    fast.fast = 1;
    screened_plan s = {.fast = plan_of(&fast), .mode = plan_of(&p->matmul)};
    s.candidates = p->k > PACKED_ROWS ? p->k : PACKED_ROWS;
    s.mode_at = s.fast.panel_bytes;
    s.rows_at = s.mode_at + s.mode.panel_bytes;
    s.lists_at = s.rows_at + s.fast.group_bytes;
    s.thread_bytes = plan_align(s.lists_at + (size_t)(s.candidates + 2 * p->k) * sizeof(uint64_t));
    return s;
}

/* Weight operands, and an empty screen, for screen.c and screen_file.c. */
mlxn_status mlxn_screen_check_weight(const char *op, const mlxn_buffer *weight, matmul_weight *w);
mlxn_status mlxn_screen_alloc(mlxn_buffer *weight, const matmul_weight *w, mlxn_screen **out);

#endif
