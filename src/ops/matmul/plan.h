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

#include "ops/matmul/dispatch.h"
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
    return m;
}

/* Several products of one input.  Products whose activations are prepared alike share them. */
typedef struct group_plan {
    matmul_plan product[MATMUL_GROUP_MAX];
    size_t activations_at[MATMUL_GROUP_MAX]; /* a single row: in a thread's scratch, else shared */
    int prepares[MATMUL_GROUP_MAX];          /* the first with these activations */
    size_t activations;                      /* bytes of all */
    size_t shared_bytes, thread_bytes;
    size_t unpacked_at, packed_at, gate_at; /* in a thread's scratch, after a single row */
} group_plan;

static inline int plan_prepared_alike(const matmul_plan *a, const matmul_plan *b)
{
    return a->quantised == b->quantised &&
           (!a->quantised || (a->format.zero_point == b->format.zero_point &&
                              (a->format.kind == PACKED_DUAL) == (b->format.kind == PACKED_DUAL)));
}

static inline size_t plan_larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Floats of both products of a gate, for PLAN_GROUPS groups of columns. */
static inline size_t plan_gate_bytes(const matmul_plan *m)
{
    return 2 * (size_t)m->slab_rows * PLAN_GROUPS * PACKED_ROWS * sizeof(float);
}

static inline group_plan plan_group(const matmul_group_params *g)
{
    group_plan p = {.activations = 0};
    const int single = g->rows == 1;
    size_t unpacked = 0, packed = 0;
    for (int i = 0; i < g->count; i++) {
        const matmul_params one = matmul_product_of(g, i);
        const matmul_plan m = p.product[i] = plan_of(&one);
        p.prepares[i] = 1;
        p.activations_at[i] = p.activations;
        for (int j = 0; j < i; j++)
            if (plan_prepared_alike(&m, &p.product[j])) {
                p.prepares[i] = 0;
                p.activations_at[i] = p.activations_at[j];
            }
        if (p.prepares[i])
            p.activations += m.panel_bytes * (size_t)m.panels;
        unpacked = plan_larger(unpacked, single ? 0 : PLAN_GROUPS * m.unpacked_bytes);
        packed = plan_larger(packed, one.weight.packed ? 0 : PLAN_GROUPS * m.group_bytes);
    }
    p.shared_bytes = single ? 0 : p.activations;
    p.unpacked_at = single ? p.activations : 0;
    p.packed_at = p.unpacked_at + unpacked;
    p.gate_at = p.packed_at + packed;
    p.thread_bytes = p.gate_at + (g->gate && !single ? plan_gate_bytes(&p.product[0]) : 0);
    return p;
}

#endif
