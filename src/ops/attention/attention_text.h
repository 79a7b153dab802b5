/* attention_text.h - what the kernel texts of attention share: operands, which keys a query sees,
 * rows of a group, records of chunks, pairs of value elements.  Kernel text. */
#ifndef MLXN_OPS_ATTENTION_ATTENTION_TEXT_H
#define MLXN_OPS_ATTENTION_ATTENTION_TEXT_H

#include "kernels/dialect.h"
#include "kernels/math.h"
#include "kernels/vector.h"
#include "ops/attention/attention_params.h"

#define ATTENTION_LOWEST -0x1.fffffep127f
#define ATTENTION_UNSEEN -1.0f /* in place of e_j >= 0 */

struct attention_thread {
    uint group_x, group_y, group_z, groups_x, tid, threads, lane, simd;
};
#define ATTENTION_THREAD                                                                           \
    {                                                                                              \
        k_group3.x, k_group3.y, k_group3.z, k_groups3.x, k_thread3.x, k_threads3.x, k_lane, k_simd \
    }

struct attention_operands {
    GLOBAL(const uchar) q;
    GLOBAL(const uchar) k;
    GLOBAL(const uchar) v;
    GLOBAL(uchar) output;
    GLOBAL(const int) positions;
    GLOBAL(const int) sequences;
    GLOBAL(const int) table;
    GLOBAL(float) records;
    GLOBAL(uint) fault;
};
/* INOUT, so that no compiler takes them for constant and reads them before k_wait(). */
#define ATTENTION_OPERAND_LIST                                                         \
    INOUT(uchar, q, 0), INOUT(uchar, k, 1), INOUT(uchar, v, 2), OUT(uchar, output, 3), \
        INOUT(int, positions, 4), INOUT(int, sequences, 5), INOUT(int, table, 6),      \
        INOUT(float, records, 7), OUT(uint, fault, 8), ARGS(attention_launch_params, a, 9)
#define ATTENTION_GATHER                                             \
    {                                                                \
        q, k, v, output, positions, sequences, table, records, fault \
    }

/* ---- who sees what ---- */

FN int attention_first_key(CONSTANT(attention_params) p, int position)
{
    return p->window != 0 && position >= p->window ? position - (int)p->window + 1 : 0;
}

/* Position of a query; -1 if it takes no part.  Bits of the word of faults, if that is why. */
struct attention_asked {
    int position;
    uint fault;
};

FN attention_asked attention_ask(CONSTANT(attention_launch_params) a, REF(attention_operands) o,
                                 int64_t t)
{
    CONSTANT(attention_params) p = &a->p;
    const int position = o.positions[t];
    attention_asked y = {-1, 0u};
    if (position < 0)
        return y;
    const int64_t seen = (int64_t)position + 1 - attention_first_key(p, position);
    const int64_t sequence = a->sequences != 0 ? o.sequences[t] : 0;
    if (position >= p->max_keys || (p->slot_map == ATTENTION_LINEAR && position >= p->slots) ||
        (p->slot_map == ATTENTION_RING && seen > p->slots) ||
        (p->slot_map == ATTENTION_BY_TABLE && position >= p->table_columns))
        y.fault = (uint)ATTENTION_FAULT_POSITION;
    else if (p->slot_map == ATTENTION_BY_TABLE && (sequence < 0 || sequence >= p->table_rows))
        y.fault = (uint)ATTENTION_FAULT_SEQUENCE;
    else
        y.position = position;
    return y;
}
FN void attention_note(REF(attention_operands) o, uint fault, bool here)
{
    if (fault != 0u && here)
        k_atomic_or(o.fault, fault);
}
FN int attention_query(CONSTANT(attention_launch_params) a, REF(attention_operands) o, int64_t t)
{
    const attention_asked y = attention_ask(a, o, t);
    attention_note(o, y.fault, true);
    return y.position;
}

/* Where a group's rows are. */
struct attention_tile {
    int64_t token, head; /* of its first row */
    int64_t key_head;
    int heads, rows; /* heads of a token; rows in all */
};

FN attention_tile attention_locate(CONSTANT(attention_launch_params) a, int64_t tile, uint y)
{
    CONSTANT(attention_params) p = &a->p;
    const int64_t shared = p->heads / p->kv_heads;
    const int64_t block = y % (uint)a->head_blocks, left = shared - block * a->heads;
    const int64_t tokens = p->tokens - tile * a->queries;
    attention_tile y_tile;
    y_tile.key_head = y / (uint)a->head_blocks;
    y_tile.token = tile * a->queries;
    y_tile.head = y_tile.key_head * shared + block * a->heads;
    y_tile.heads = left < a->heads ? (int)left : a->heads;
    y_tile.rows = y_tile.heads * (tokens < a->queries ? (int)tokens : a->queries);
    return y_tile;
}

FN float attention_larger(float a, float b)
{
    return a > b ? a : b;
}

/* An element of the output; never -0, whose sign would depend on the schedule. */
FN float attention_quotient(float o, float l)
{
    return k_div(o, l) + 0.0f;
}

/* Record i of a (query, head): o, then m, l and whether all keys had a slot. */
FN int64_t attention_record(CONSTANT(attention_launch_params) a, int64_t token, int64_t head,
                            int64_t i)
{
    return ((token * a->p.heads + head) * a->records + i) * a->record;
}

/* ---- values ---- */

/* Two neighbouring elements of a value, as they are stored. */
template <class D> struct attention_pair {
    uint both;
};
template <> struct attention_pair<k_f32> {
    float low, high;
};
FN float attention_low(k_f32, REF(attention_pair<k_f32>) x)
{
    return x.low;
}
FN float attention_high(k_f32, REF(attention_pair<k_f32>) x)
{
    return x.high;
}
template <class D> FN float attention_low(D, REF(attention_pair<D>) x)
{
    return k_low(D(), x.both);
}
template <class D> FN float attention_high(D, REF(attention_pair<D>) x)
{
    return k_high(D(), x.both);
}

/* Elements i and i + 1 of a row of n, i even; 0 past its end. */
FN attention_pair<k_f32> attention_load(k_f32, GLOBAL(const uchar) p, int64_t i, bool second, bool)
{
    attention_pair<k_f32> y;
    y.low = ((GLOBAL(const float))p)[i];
    y.high = second ? (float)((GLOBAL(const float))p)[i + 1] : 0.0f;
    return y;
}
template <class D>
FN attention_pair<D> attention_load(D, GLOBAL(const uchar) p, int64_t i, bool second, bool wide)
{
    attention_pair<D> y;
    if (wide) {
        y.both = ((GLOBAL(const uint))p)[i / 2];
        return y;
    }
    y.both = ((GLOBAL(const ushort))p)[i];
    if (second)
        y.both |= (uint)((GLOBAL(const ushort))p)[i + 1] << 16;
    return y;
}

#endif
