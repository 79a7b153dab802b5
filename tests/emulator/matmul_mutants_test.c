/* matmul_mutants_test.c - broken twins of the kernel texts of the matmul family.  The run of the
 * text itself, by every schedule, is also what shows that schedules give the same bits. */
#include "mutants.h"
#include "test.h"
#include "kernels/text.h"

/* Texts of many entries take seconds to compile: the long tier has all mutants, the quick one the
 * first of each list. */
enum { QUICK = 6 };
#define COUNT(list) (test_full() ? (int)(sizeof(list) / sizeof *(list)) : (int)QUICK)
enum { SCHEDULES = 3, SIMDGROUP = 4 }; /* of planner.h */

static const emu_mutant matvec[] = {
    {"no barrier after the activations are brought",
     "mv_bring(x, shared, base, tiles, at);\n            k_barrier();",
     "mv_bring(x, shared, base, tiles, at);"},
    {"no barrier before the next chunk", "k_barrier(); /* the chunk before has been read */", ";"},
    {"always the first chunk", "mv_bring(x, shared, base, tiles, at);",
     "mv_bring(x, shared, 0, tiles, at);"},
    {"place in the chunk", "t % MV_CHUNK * MV_PIECES", "t * MV_PIECES"},
    {"scales of q6_k an element late", "j == 3", "j == 4"},
    {"second scale of q6_k is the first", "Q::kind == K_KIND_DUAL ? scales[p].t : scales[p].s",
     "scales[p].s"},
    {"sum of the last four activations", "sum += xs.v[n];", "sum = xs.v[n];"},
    {"offset left out", "acc.v[p] = k_fma(sum, scales[p].t, acc.v[p]);", ";"},
    {"slots all start at the first tile", "i % S::LANES * S::SLOTS + slot",
     "i % S::LANES * S::SLOTS"},
    {"neighbouring tiles to a thread", "i % S::LANES * S::SLOTS + slot",
     "slot * S::LANES + i % S::LANES"},
    {"butterfly the other way", "for (uint m = 16u; m >= (uint)S::R; m /= 2u)",
     "for (uint m = (uint)S::R; m <= 16u; m *= 2u)"},
    {"a row of the weight too many", "column < a->columns)", "column <= a->columns)"},
    {"simdgroups past the end read", "first < a->columns ? tiles : 0", "tiles"},
    {"rows without a gap", "(int64_t)at.row * a->output_stride + column",
     "(int64_t)at.row * a->columns + column"},
    {"always the first row", "(int64_t)at.row * a->input_stride * 4", "0"},
    {"zero point left out", "(float)(8388608 + Q::zero)", "8388608.0f"},
    {"minima added", "y.t = -(y.t * (float)high);", "y.t = y.t * (float)high;"},
    {"scales of q6_k unsigned", "y.s *= (float)(low ^ 128u) - 128.0f;", "y.s *= (float)low;"},
    {"superblocks of four", "const uint above = (tile >> 3)", "const uint above = (tile >> 2)"},
    {"high bits of q6_k shifted", "two << (4 - 2 * i)", "two << 4"},
    {"fifth bit of the upper half", "tile.q[Q::bits - 1] >> (j - 4)", "tile.q[Q::bits - 1] >> j"},
    {"next step not loaded", "step = mv_load(S(), from, base, mine, slot);", ""},
};

static const emu_mutant matmul[] = {
    {"no barrier after a tile is brought",
     "mm_bring_input(Q(), x, row < a->rows, t, part, at.lane);\n        k_simd_barrier();",
     "mm_bring_input(Q(), x, row < a->rows, t, part, at.lane);"},
    {"no barrier before the next tile", "k_simd_barrier(); /* the tile before has been read */",
     ""},
    {"no barrier before the sums", "k_simd_barrier(); /* the last tile has been read */", ""},
    {"no barrier between the simdgroups", "k_barrier();\n    for (int i = at.tid;",
     "for (int i = at.tid;"},
    {"rows past the end read", "if (exists)", "if (true)"},
    {"rows past the end written", "if (row < a->rows && column < a->columns)",
     "if (column < a->columns)"},
    {"columns past the end written", "if (row < a->rows && column < a->columns)",
     "if (row < a->rows)"},
    {"lanes of a slot ascending", "(c & 1) * 2 + (c >> 1)", "c"},
    {"simdgroups ascending", "(shared[i] + shared[2 * MM_PART + i])",
     "(shared[i] + shared[MM_PART + i])"},
    {"other half of the slots dropped", "sums.v[n] += other.v[n];", ""},
    {"lower half twice", "tile = k_upper_half(Q(), tile);", ""},
    {"upper half with the lower fifth bits", "tile.q[Q::bits - 1] >>= 4;", ""},
    {"upper half with the lower high bits", "tile.q[Q::bits - 2] = tile.q[Q::bits - 1];", ""},
    {"second scale of q6_k is the first", "shared + (upper ? MM_OFFSETS : MM_SCALES) + 4 * n",
     "shared + MM_SCALES + 4 * n"},
    {"sum left at zero", "part[MM_SUMS + lane] = sum;", "part[MM_SUMS + lane] = 0.0f;"},
    {"columns and rows exchanged", "part.v[i] = k_fma(u.v[i % 4], xs.v[i / 4], part.v[i]);",
     "part.v[i] = k_fma(u.v[i / 4], xs.v[i % 4], part.v[i]);"},
    {"virtual lanes start anew", "t += MM_LANES", "t += MM_LANES * 2"},
};

static const emu_mutant matmul_metal[] = {
    {"no barrier after a tile is brought",
     "ms_bring_input(a, quants, scales, t, shared, at);\n        k_barrier();",
     "ms_bring_input(a, quants, scales, t, shared, at);"},
    {"no barrier before the next tile", "k_barrier(); /* the tile before has been read */", ";"},
    {"products overwritten too early", "k_simd_barrier(); /* the products before have been read */",
     ";"},
    {"products read too early", "MS_SIMD_COLUMNS);\n    k_simd_barrier();", "MS_SIMD_COLUMNS);"},
    {"a load by some of the lanes", "const k_matrix lower = k_matrix_load(",
     "k_matrix lower = k_matrix_zero();\n        if (at.lane < 16)\n            lower = "
     "k_matrix_load("},
    {"second scale of q6_k is the first", "acc = ms_add_scaled(read, t, at, acc);",
     "acc = ms_add_scaled(read, s, at, acc);"},
    {"scales of q6_k over the whole tile", "Q::kind == K_KIND_DUAL ? 16 : K_TILE", "K_TILE"},
    {"offset left out", "acc.v[i] = k_fma(read[MS_ROW_SUMS + at.simd_row + i], t, acc.v[i]);", ";"},
    {"sums without their scale", "k_lane == 0u ? scale : sum * scale",
     "k_lane == 0u ? scale : sum"},
    {"scales applied one by one", "k_fma(p[i * MS_SIMD_COLUMNS], column * rows[i], acc.v[i])",
     "k_fma(p[i * MS_SIMD_COLUMNS] * column, rows[i], acc.v[i])"},
    {"rows and columns of simdgroups exchanged", "simd % 2 * MS_SIMD_COLUMNS",
     "simd / 2 * MS_SIMD_COLUMNS"},
    {"rows past the end read", "at.row + m < a->rows ? at.row + m : a->rows - 1", "at.row + m"},
    {"columns past the end read", "wanted < last ? wanted : last", "wanted"},
    {"rows past the end written", "row + i < a->rows && column < a->columns",
     "column < a->columns"},
    {"columns past the end written", "row + i < a->rows && column < a->columns",
     "row + i < a->rows"},
    {"rounded away from zero", "(y + 0x1.8p23f) - 0x1.8p23f",
     "(float)(int)(y + (y < 0.0f ? -0.5f : 0.5f))"},
    {"scale by 128", "scale = k_div(largest, 127.0f)", "scale = k_div(largest, 128.0f)"},
    {"largest of half a block", "for (uint m = 16u; m > 0u; m /= 2u)",
     "for (uint m = 8u; m > 0u; m /= 2u)"},
    {"blocks past the end rounded", "if (row >= args.rows)", "if (row > args.rows)"},
    {"always the first block", "block % args.tiles * K_TILE", "0"},
};

static const emu_mutant weight_pack[] = {
    {"rows past the end read", "if (row < a->rows)\n        tile", "if (true)\n        tile"},
    {"superblock scales not written", "(t & 7) != 0", "true"},
    {"fifth bits in stored order",
     "spread |= ((high >> 4 * j & 15u) * 0x00204081u & 0x01010101u) << j;", "spread = high;"},
    {"scales of the second four", "if (b < 4) {", "if (b < 5) {"},
    {"minima of the second four", "(uint)s[b + 4] >> 4 | (uint)s[b] >> 6 << 4",
     "(uint)s[b + 4] >> 4 | (uint)s[b - 4] >> 6 << 4"},
    {"q6_k: nibbles of the wrong half", "(quarter & 2) * 2", "(quarter & 1) * 4"},
    {"q6_k: high bits of another quarter", ">> 2 * quarter & 0x03030303u",
     ">> quarter & 0x03030303u"},
    {"q8_0 stays signed", "Q::bits == 8 ? 0x80808080u : 0u", "0u"},
    {"odd lengths read too far", "Q::bits == 32 || k + 1 < cols", "true"},
    {"odd lengths lose the last", "if (k < cols)", "if (k + 1 < cols)"},
    {"activations past the row", "k < args.cols ?", "true ?"},
    {"activations f16 as bf16", "dtype == K_F16 ? k_unpack(k_f16(), v) :", ""},
    {"one group too many", "group >= a->first + a->count", "group > a->first + a->count"},
};

static const emu_mutant embedding[] = {
    {"id of the size", "if (id >= a->rows)", "if (id > a->rows)"},
    {"fault kept", "k_atomic_or(fault, (uint)MM_FAULT_ID);", ""},
    {"row of the group", "(uint)(id % K_GROUP_ROWS)", "0u"},
    {"second scale of q6_k is the first", "Q::kind == K_KIND_DUAL && j >= 4 ? scales.t : scales.s",
     "scales.s"},
    {"offset left out", "Q::kind == K_KIND_OFFSET ? scales.t : 0.0f", "0.0f"},
    {"scale left out", "a->scale * k_fma(", "k_fma("},
    {"past the row", "if (k + n < a->cols)", "if (true)"},
    {"rows of the output", "i * a->output_stride + k", "id * a->output_stride + k"},
};

TEST(mutants_of_matvec)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_matvec,
                                     .list = matvec,
                                     .count = COUNT(matvec),
                                     .tests = "matmul_",
                                     .schedules = SCHEDULES});
}

TEST(mutants_of_matmul)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_matmul,
                                     .list = matmul,
                                     .count = COUNT(matmul),
                                     .tests = "matmul_",
                                     .schedules = SCHEDULES});
}

TEST(mutants_of_simdgroups)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_matmul_metal,
                                     .list = matmul_metal,
                                     .count = COUNT(matmul_metal),
                                     .tests = "matmul_block",
                                     .override = SIMDGROUP});
}

TEST(mutants_of_weight_pack)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_weight_pack,
                                     .list = weight_pack,
                                     .count = COUNT(weight_pack),
                                     .tests = "matmul_"});
}

TEST(mutants_of_embedding)
{
    emu_check_mutants(&(emu_mutants){.text = mlxn_kernel_text_embedding,
                                     .list = embedding,
                                     .count = COUNT(embedding),
                                     .tests = "embedding_"});
}
