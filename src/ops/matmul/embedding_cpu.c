/* embedding_cpu.c - output[i] = scale * table[ids[i]], read from the packed layout (packed.h); a
 * plain row is packed as row 0 of a group first.  The value of an element is fma(s, u, t): s*u is
 * exact in every format, so this is the one rounding of s*u + t. */
#include "ops/matmul/dispatch.h"
#include "ops/matmul/pack.h"
#include "ops/matmul/unpack.h"

/* Element p of a tile's quants (packed.h), less the zero point. */
static int quant_at(mlxn_dtype dtype, const uint8_t *q, int p)
{
    const packed_format f = packed_format_of(dtype);
    if (dtype == MLXN_Q8_0)
        return q[p] - f.zero_point;
    const int half = p >> 8; /* k below 16, or not */
    int u = q[p & 255] >> 4 * half & 15;
    if (f.quant_bytes == 320)
        u |= (q[256 + p / 8] >> (p & 7) & 1) << 4;
    if (f.quant_bytes == 384)
        u |= (q[256 + 64 * half + p % 64] >> 2 * (p / 64 & 3) & 3) << 4;
    return u - f.zero_point;
}

static inline float lane_of(vf v, int lane)
{
    float x[16];
    vf_store(x, v);
    return x[lane];
}

/* 32 values of row `lane` of a group. */
CPU_INLINE void read_quants_as(mlxn_dtype dtype, unpack_group g, int64_t tile, int lane,
                               float out[PACKED_K])
{
    const packed_format f = packed_format_of(dtype);
    const uint8_t *q = g.quants + tile * f.quant_bytes;
    float u[PACKED_K];
    vf s, t;
    unpack_scales(dtype, g.super + (tile >> 3) * f.super_bytes, g.scales + tile * f.scale_bytes, &s,
                  &t);
    const vf s0 = vf_set(lane_of(s, lane)), t0 = vf_set(lane_of(t, lane));
    for (int k = 0; k < PACKED_K; k++)
        u[k] = (float)quant_at(dtype, q, 64 * (k / 4) + 4 * lane + k % 4);
    const int dual = f.kind == PACKED_DUAL;
    const vf offset = f.kind == PACKED_OFFSET ? t0 : vf_set(0);
    vf_store(out, vf_fma(s0, vf_load(u), offset));
    vf_store(out + 16, vf_fma(dual ? t0 : s0, vf_load(u + 16), offset));
}

CPU_INLINE void read_floats_as(mlxn_dtype dtype, const uint8_t *group, int64_t tile, int lane,
                               float out[PACKED_K])
{
    for (int k = 0; k < PACKED_K; k++) {
        const int64_t at = (tile * PACKED_K + k) * PACKED_ROWS + lane;
        vf_store_n(out + k, vf_load_as_n(dtype, group, at, 1), 1);
    }
}

static void read_tile(mlxn_dtype dtype, const uint8_t *group, int64_t tiles, int64_t tile, int lane,
                      float out[PACKED_K])
{
    const unpack_group g = unpack_group_at(packed_format_of(dtype), group, tiles);
    switch (dtype) {
#define QUANTS(name)                                     \
    case MLXN_##name:                                    \
        read_quants_as(MLXN_##name, g, tile, lane, out); \
        return;
#define FLOATS(name)                                         \
    case MLXN_##name:                                        \
        read_floats_as(MLXN_##name, group, tile, lane, out); \
        return;
        QUANTS(Q4_0)
        QUANTS(Q4_1)
        QUANTS(Q5_0)
        QUANTS(Q5_1)
        QUANTS(Q8_0)
        QUANTS(Q4_K)
        QUANTS(Q5_K)
        QUANTS(Q6_K)
        FLOATS(F32)
        FLOATS(F16)
        FLOATS(BF16)
#undef QUANTS
#undef FLOATS
    default:
        return;
    }
}

static void write_row(const embedding_params *p, const uint8_t *group, int lane, void *output,
                      int64_t at)
{
    const int64_t tiles = packed_tiles(p->table.cols);
    const vf scale = vf_set(p->scale);
    for (int64_t tile = 0; tile < tiles; tile++) {
        float x[PACKED_K];
        read_tile((mlxn_dtype)p->table.dtype, group, tiles, tile, lane, x);
        for (int half = 0; half < PACKED_K; half += 16) {
            const int64_t k = tile * PACKED_K + half, left = p->table.cols - k;
            if (left > 0)
                vf_store_as_n((mlxn_dtype)p->output_dtype, output, at + k,
                              vf_mul(scale, vf_load(x + half)), left < 16 ? (int)left : 16);
        }
    }
}

CPU_KERNEL(embedding)
{
    const embedding_params *p = call->args;
    const matmul_weight *w = &p->table;
    const packed_format f = packed_format_of((mlxn_dtype)w->dtype);
    const size_t group_bytes = packed_group_bytes(f, packed_tiles(w->cols));
    const uint8_t *table = call->ptr[0];
    const uint32_t *ids = call->ptr[1]; /* a negative id is a large one */
    int64_t begin, end;
    cpu_split(call, p->ids, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const int64_t id = ids[i];
        if (id >= w->rows) {
            mlxn_cpu_fault(call, "embedding: id", id, w->rows);
            continue;
        }
        const uint8_t *group = table + (size_t)(id / PACKED_ROWS) * group_bytes;
        if (!w->packed) {
            uint8_t *own = (uint8_t *)call->shared + call->thread * group_bytes;
            pack_group((mlxn_dtype)w->dtype, table + id * w->row_bytes, 0, 1, w->cols, own);
            group = own;
        }
        write_row(p, group, w->packed ? (int)(id % PACKED_ROWS) : 0, call->ptr[2],
                  i * p->output_stride);
    }
}
