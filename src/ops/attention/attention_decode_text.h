/* attention_decode_text.h - of attention_decode.kernel what comes before a sum: what its code is
 * made for, how keys and heads are divided among groups and lanes, loads of queries, keys and
 * values.  Kernel text. */
#ifndef MLXN_OPS_ATTENTION_ATTENTION_DECODE_TEXT_H
#define MLXN_OPS_ATTENTION_ATTENTION_DECODE_TEXT_H

#include "kernels/dialect.h"
#include "kernels/vector.h"
#include "ops/attention/attention_text.h"

K_CONSTANT(decode_made_q_dtype, 0);
K_CONSTANT(decode_made_table, 1);   /* whether the slots are in a table */
K_CONSTANT(decode_made_softcap, 2); /* whether there is one */
K_CONSTANT(decode_made_whole, 3);   /* whether slices are whole */
K_CONSTANT(decode_made_few, 4);     /* whether a unit is a chunk for every position */
K_CONSTANT(decode_made_single, 5);  /* whether heads are one slice */
K_CONSTANT(decode_made_wide, 6);    /* whether eight elements are loaded at once */

enum {
    DECODE_ROWS = ATTENTION_SPLIT_ROWS,
    DECODE_PARTS = 2, /* of the rows */
    DECODE_OF_PART = DECODE_ROWS / DECODE_PARTS,
    DECODE_KEYS = 8, /* of a simdgroup */
    DECODE_EIGHTS = ATTENTION_KEYS / DECODE_KEYS,
    DECODE_SLICE = ATTENTION_STAGED,
    DECODE_QUADS = DECODE_SLICE / 4 /* fours of a slice: a thread folds one of one row */
};

/* A group's rows: `rows` heads of one query and one key head; of the values one slice. */
struct decode_tile {
    int64_t token, head;
    int key_head, rows;
    int unit, slice;
};

FN int decode_slices(CONSTANT(attention_launch_params) a)
{
    return decode_made_single > 0 ? 1 : ((int)a->p.dim + DECODE_SLICE - 1) / DECODE_SLICE;
}
FN bool decode_wide(CONSTANT(attention_launch_params) a)
{
    return k_known(decode_made_wide, a->wide) != 0;
}
/* Fours of a record that may be part of the head only. */
FN int decode_partial(CONSTANT(attention_launch_params) a)
{
    return decode_wide(a) ? 0 : 1;
}

FN decode_tile decode_locate(CONSTANT(attention_launch_params) a, attention_thread g)
{
    const uint shared = (uint)a->p.heads / (uint)a->p.kv_heads;
    const uint key_head = g.group_y / (uint)a->head_blocks;
    const uint block = (g.group_y - key_head * (uint)a->head_blocks) * (uint)a->heads;
    decode_tile y;
    y.token = g.group_z;
    y.head = key_head * shared + block;
    y.key_head = (int)key_head;
    y.rows = shared - block < (uint)a->heads ? (int)(shared - block) : a->heads;
    y.unit = (int)(g.group_x / (uint)decode_slices(a));
    y.slice = (int)(g.group_x % (uint)decode_slices(a));
    return y;
}

/* A query's units of work: its chunks, or, if there are many, its spans. */
struct decode_units {
    int first, last; /* chunks */
    int chunks;      /* of a unit */
    int from, count; /* units: number of the first, how many */
};

FN decode_units decode_divide(CONSTANT(attention_launch_params) a, int position)
{
    decode_units y;
    y.first = attention_first_key(&a->p, position) / ATTENTION_KEYS;
    y.last = position / ATTENTION_KEYS;
    y.chunks = decode_made_few > 0 || y.last - y.first < ATTENTION_MANY ? 1 : ATTENTION_SPAN;
    y.from = y.first / y.chunks;
    y.count = y.last / y.chunks - y.from + 1;
    return y;
}

/* A simdgroup's eight keys of the chunk, and the first row of its part. */
FN int decode_eight_of(attention_thread g)
{
    return (int)g.simd % DECODE_EIGHTS;
}
FN int decode_row(attention_thread g)
{
    return (int)g.simd / DECODE_EIGHTS * DECODE_OF_PART;
}

/* The key of the chunk and the row whose score a lane has: lanes 2 i and 2 i + 1 have the same. */
FN int decode_scored_key(attention_thread g)
{
    return decode_eight_of(g) * DECODE_KEYS + (int)g.lane / DECODE_ROWS;
}
FN int decode_scored_row(attention_thread g)
{
    return decode_row(g) + (int)g.lane % DECODE_ROWS / DECODE_PARTS;
}

/* ---- loads ---- */

/* The eight of the head that a lane has of a slice. */
FN int decode_block(int slice, attention_thread g)
{
    return slice * (DECODE_SLICE / 8) + (int)g.lane;
}

FN bool decode_in_head(CONSTANT(attention_launch_params) a, int element)
{
    return decode_made_whole > 0 || element < (int)a->p.dim;
}

/* Eight elements as they are stored. */
template <class D> struct decode_eight {
    uint4 w;
};
template <> struct decode_eight<k_f32> {
    uint4 w, next;
};
template <class D> FN decode_eight<D> decode_zero(D)
{
    decode_eight<D> y;
    y.w = k_uint4(0u, 0u, 0u, 0u);
    return y;
}
FN decode_eight<k_f32> decode_zero(k_f32)
{
    decode_eight<k_f32> y;
    y.w = y.next = k_uint4(0u, 0u, 0u, 0u);
    return y;
}
template <class D> FN decode_eight<D> decode_read(D, GLOBAL(const uchar) p)
{
    decode_eight<D> y;
    y.w = ((GLOBAL(const uint4))p)[0];
    return y;
}
FN decode_eight<k_f32> decode_read(k_f32, GLOBAL(const uchar) p)
{
    decode_eight<k_f32> y;
    y.w = ((GLOBAL(const uint4))p)[0];
    y.next = ((GLOBAL(const uint4))p)[1];
    return y;
}
/* Of `there` elements, which need not be aligned; absent ones are 0. */
FN uint decode_word(GLOBAL(const ushort) p, int there)
{
    const uint low = there > 0 ? (uint)p[0] : 0u;
    return there > 1 ? low | (uint)p[1] << 16 : low;
}
template <class D> FN decode_eight<D> decode_read_some(D, GLOBAL(const uchar) p, int there)
{
    GLOBAL(const ushort) x = (GLOBAL(const ushort))p;
    decode_eight<D> y;
    y.w = k_uint4(decode_word(x, there), decode_word(x + 2, there - 2),
                  decode_word(x + 4, there - 4), decode_word(x + 6, there - 6));
    return y;
}
FN decode_eight<k_f32> decode_read_some(k_f32, GLOBAL(const uchar) p, int there)
{
    uint x[8];
    K_UNROLL
    for (int i = 0; i < 8; i++)
        x[i] = i < there ? ((GLOBAL(const uint))p)[i] : 0u;
    decode_eight<k_f32> y;
    y.w = k_uint4(x[0], x[1], x[2], x[3]);
    y.next = k_uint4(x[4], x[5], x[6], x[7]);
    return y;
}
template <class D> FN k_floats<8> decode_floats(D, REF(decode_eight<D>) x)
{
    return k_elements_of(D(), x.w);
}
FN k_floats<8> decode_floats(k_f32, REF(decode_eight<k_f32>) x)
{
    const k_floats<4> low = k_floats_of(x.w), high = k_floats_of(x.next);
    k_floats<8> y;
    for (int i = 0; i < 4; i++) {
        y.v[i] = low.v[i];
        y.v[i + 4] = high.v[i];
    }
    return y;
}

/* A lane's elements of a slice of the rows' queries; absent ones are 0. */
struct decode_query {
    k_floats<8> v[DECODE_OF_PART];
};

/* Those of one row from `from` on. */
template <class D>
FN k_floats<8> decode_load_eight(D, CONSTANT(attention_launch_params) a, GLOBAL(const uchar) q,
                                 int64_t from, int element)
{
    if (decode_wide(a))
        return k_load(D(), k_width<8>(), q, from);
    k_floats<8> y;
    for (int i = 0; i < 8; i++)
        y.v[i] = element + i < (int)a->p.dim ? k_load(D(), k_width<1>(), q, from + i).v[0] : 0.0f;
    return y;
}

template <class D>
FN decode_query decode_load_query(D, CONSTANT(attention_launch_params) a, REF(attention_operands) o,
                                  REF(decode_tile) at, int slice, attention_thread g)
{
    const bool there = decode_in_head(a, decode_block(slice, g) * 8);
    const int64_t q =
        at.token * a->p.q_token + at.head * a->p.q_head + (there ? decode_block(slice, g) * 8 : 0);
    decode_query y;
    K_UNROLL
    for (int r = 0; r < DECODE_OF_PART; r++) {
        const int row = decode_row(g) + r;
        y.v[r] = decode_load_eight(D(), a, o.q, q + (row < at.rows ? row : 0) * a->p.q_head,
                                   decode_block(slice, g) * 8);
        for (int i = 0; i < 8; i++)
            y.v[r].v[i] = there ? y.v[r].v[i] : 0.0f;
    }
    return y;
}

FN int decode_q_dtype(CONSTANT(attention_launch_params) a)
{
    return k_known(decode_made_q_dtype, a->p.q_dtype);
}
FN decode_query decode_query_as(CONSTANT(attention_launch_params) a, REF(attention_operands) o,
                                REF(decode_tile) at, int slice, attention_thread g)
{
    const int dtype = decode_q_dtype(a);
    if (dtype == K_F32)
        return decode_load_query(k_f32(), a, o, at, slice, g);
    if (dtype == K_F16)
        return decode_load_query(k_f16(), a, o, at, slice, g);
    return decode_load_query(k_bf16(), a, o, at, slice, g);
}

/* Slots of the keys at positions first .. first + 7; for one that is not between `from` and `last`,
 * that of its neighbour which is. */
struct decode_slots {
    int slot[DECODE_KEYS];
    uint lost; /* a key that is seen has none */
};

FN decode_slots decode_find_slots(CONSTANT(attention_launch_params) a, REF(attention_operands) o,
                                  int64_t token, int first, int from, int last)
{
    const int slots = (int)a->p.slots;
    decode_slots y;
    y.lost = 0u;
    K_UNROLL
    for (int j = 0; j < DECODE_KEYS; j++) {
        y.slot[j] = first + j < from ? from : first + j;
        y.slot[j] = y.slot[j] < last ? y.slot[j] : last;
    }
    if (a->p.slot_map == ATTENTION_RING) {
        const int turn = (int)((uint)y.slot[0] / (uint)slots) * slots;
        K_UNROLL
        for (int j = 0; j < DECODE_KEYS; j++) {
            y.slot[j] -= turn;
            y.slot[j] -= y.slot[j] >= slots ? slots : 0;
        }
    }
    if (decode_made_table != 0 && a->p.slot_map == ATTENTION_BY_TABLE) {
        const int64_t row = (a->sequences != 0 ? o.sequences[token] : 0) * a->p.table_columns;
        K_UNROLL
        for (int j = 0; j < DECODE_KEYS; j++) {
            y.slot[j] = o.table[row + y.slot[j]];
            if ((uint)y.slot[j] >= (uint)slots) {
                y.slot[j] = 0;
                y.lost = 1u;
            }
        }
    }
    return y;
}

/* A lane's elements of a slice of a simdgroup's keys or values. */
template <class D> struct decode_eights {
    decode_eight<D> v[DECODE_KEYS];
};
template <class D> struct decode_loaded {
    decode_eights<D> k, v; /* of the first slice; of the group's */
    decode_slots at;
};

/* Eight elements from `element` on, which is at p; absent ones are 0. */
template <class D>
FN decode_eight<D> decode_fetch(D, CONSTANT(attention_launch_params) a, GLOBAL(const uchar) p,
                                int element)
{
    if (!decode_in_head(a, element))
        return decode_zero(D());
    if (decode_wide(a))
        return decode_read(D(), p);
    return decode_read_some(D(), p, (int)a->p.dim - element);
}

template <class D>
FN decode_eights<D> decode_load_keys(CONSTANT(attention_launch_params) a, REF(attention_operands) o,
                                     REF(decode_tile) at, REF(decode_slots) slots, int slice,
                                     attention_thread g)
{
    const int block = decode_block(slice, g);
    GLOBAL(const uchar) k = o.k + at.key_head * (int64_t)a->k_head + block * a->eight;
    decode_eights<D> y;
    K_UNROLL
    for (int j = 0; j < DECODE_KEYS; j++)
        y.v[j] = decode_fetch(D(), a, k + (int64_t)slots.slot[j] * a->k_step, block * 8);
    return y;
}

/* Of chunk c, those keys between `from` and `last`; the values of others are 0. */
template <class D>
FN decode_loaded<D> decode_load(CONSTANT(attention_launch_params) a, REF(attention_operands) o,
                                REF(decode_tile) at, int c, int from, int last, attention_thread g)
{
    const int first = c * ATTENTION_KEYS + decode_eight_of(g) * DECODE_KEYS;
    decode_loaded<D> y;
    y.at = decode_find_slots(a, o, at.token, first, from, last);
    const int key_block = decode_block(0, g), value_block = decode_block(at.slice, g);
    GLOBAL(const uchar) k = o.k + at.key_head * (int64_t)a->k_head + key_block * a->eight;
    GLOBAL(const uchar) v = o.v + at.key_head * (int64_t)a->v_head + value_block * a->eight;
    K_UNROLL
    for (int j = 0; j < DECODE_KEYS; j++) {
        const int64_t slot = y.at.slot[j];
        y.k.v[j] = decode_fetch(D(), a, k + slot * a->k_step, key_block * 8);
        y.v.v[j] = decode_fetch(D(), a, v + slot * a->v_step, value_block * 8);
    }
    if (first < from || first + DECODE_KEYS - 1 > last)
        K_UNROLL
    for (int j = 0; j < DECODE_KEYS; j++)
        if (first + j < from || first + j > last)
            y.v.v[j] = decode_zero(D());
    return y;
}

#endif
