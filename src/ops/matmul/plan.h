/* plan.h - how a matmul divides its rows and its scratch; shared by the operator, which sizes the
 * scratch, and the kernels.  None of it changes a result.
 *
 * Activation rows are prepared in panels of `rows` rows, a panel as consecutive blocks of 32 k:
 *   fast:  int8 q[rows][32], float a[rows], float ja[rows], int32 start[2][rows]
 *   exact: float x[32][rows], float sum[rows]
 * with a the scale, ja the block sum times a, and start what a byte dot product begins with (the
 * correction for the zero point; for q6_k one a half).
 *
 * A group of 16 rows of the weight is unpacked to tiles of (fast) 512 bytes of quants or (exact)
 * [32][16] floats, followed by the scale vectors s and t. */
#ifndef MLXN_OPS_MATMUL_PLAN_H
#define MLXN_OPS_MATMUL_PLAN_H

#include "ops/matmul/matmul.h"
#include "ops/matmul/packed.h"

enum {
    PLAN_PANEL = 6,                    /* activation rows a panel; a single row is its own panel */
    PLAN_SLAB_ROWS = PLAN_PANEL * 256, /* rows prepared at a time: bounds the scratch */
    PLAN_GROUPS = 2,                   /* groups unpacked at a time */
    PLAN_FAST_TILE = 512 + 128,
    PLAN_EXACT_TILE = 2048 + 128,
};

typedef struct matmul_plan {
    packed_format format;
    int64_t tiles, groups;
    int64_t panel_rows;        /* 1 or PLAN_PANEL */
    int64_t slab_rows, panels; /* a slab's */
    int quantised;             /* the activations are int8 */
    size_t group_bytes;        /* packed */
    size_t block_bytes;        /* activations: 32 k of a panel */
    size_t panel_bytes;
    size_t unpacked_tile, unpacked_bytes; /* unpacked: a tile, a group */
    size_t shared_activations;            /* bytes of the activations that the team shares */
    size_t thread_bytes;                  /* a thread's own scratch */
} matmul_plan;

static inline size_t plan_align(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static inline matmul_plan plan_of(const matmul_params *p)
{
    matmul_plan m = {.format = packed_format_of((mlxn_dtype)p->weight.dtype)};
    const int single = p->rows == 1;
    m.tiles = packed_tiles(p->weight.cols);
    m.groups = packed_groups(p->weight.rows);
    m.quantised = p->fast && m.format.kind != PACKED_FLOAT;
    m.panel_rows = single ? 1 : PLAN_PANEL;
    m.slab_rows = p->rows < PLAN_SLAB_ROWS ? p->rows : PLAN_SLAB_ROWS;
    m.panels = (m.slab_rows + m.panel_rows - 1) / m.panel_rows;
    m.group_bytes = packed_group_bytes(m.format, m.tiles);
    m.block_bytes = (size_t)m.panel_rows * (m.quantised ? 48 : 132);
    m.panel_bytes = plan_align(m.block_bytes * (size_t)m.tiles);
    m.unpacked_tile = m.quantised ? PLAN_FAST_TILE : PLAN_EXACT_TILE;
    m.unpacked_bytes = m.unpacked_tile * (size_t)m.tiles;
    m.shared_activations = single ? 0 : m.panel_bytes * (size_t)m.panels;
    m.thread_bytes = single ? m.panel_bytes : m.unpacked_bytes * PLAN_GROUPS;
    if (!p->weight.packed)
        m.thread_bytes += m.group_bytes * PLAN_GROUPS;
    return m;
}

#endif
