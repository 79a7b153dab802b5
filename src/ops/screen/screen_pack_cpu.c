/* screen_pack_cpu.c - makes a screen: the energy of the columns, and the groups (screen.h).
 *
 * A tile's multiplier is the best of nine, from 0.6 to 1 of what reaches its largest element: the
 * smallest sum of squared errors, the largest multiplier on ties. */
#include <float.h>
#include <math.h>
#include "backends/cpu/kernel.h"
#include "ops/screen/screen.h"

/* The 32 elements of a q8_0 block. */
static void block_values(const uint8_t *block, vf x[2])
{
    uint16_t half;
    float scale[16];
    memcpy(&half, block, sizeof half);
    vf_store(scale, vf_load_f16_n(&half, 1));
    const vf d = vf_set(scale[0]);
    x[0] = vf_mul(d, vi_to_float(vi_load_i8((const int8_t *)block + 2)));
    x[1] = vf_mul(d, vi_to_float(vi_load_i8((const int8_t *)block + 18)));
}

/* energy[k] = sum of squares of column k over every step-th row; a tile is one thread's. */
CPU_KERNEL(screen_energy)
{
    const screen_energy_params *p = call->args;
    const uint8_t *weight = call->ptr[0];
    float *energy = call->ptr[1];
    int64_t begin, end;
    cpu_split(call, packed_tiles(p->weight.cols), &begin, &end);
    for (int64_t tile = begin; tile < end; tile++) {
        vf sum[2] = {vf_set(0), vf_set(0)}, x[2];
        for (int64_t row = 0; row < p->weight.rows; row += p->step) {
            block_values(weight + row * p->weight.row_bytes + 34 * tile, x);
            sum[0] = vf_fma(x[0], x[0], sum[0]);
            sum[1] = vf_fma(x[1], x[1], sum[1]);
        }
        vf_store(energy + PACKED_K * tile, sum[0]);
        vf_store(energy + PACKED_K * tile + 16, sum[1]);
    }
}

/* A float of 11 significant bits, not below x >= 0. */
static float round_up_11(float x)
{
    return cpu_bits_float((cpu_float_bits(x) + 0x1fffu) & ~0x1fffu);
}

/* Not below the root of a sum of up to n + 32 roundings; not a number: infinity. */
static float norm_up(float sum, int64_t n)
{
    const float root = sqrtf(sum) * (1.0f + (float)(n + 32) * FLT_EPSILON);
    return root <= FLT_MAX ? root : HUGE_VALF;
}

/* One row on its way into a group. */
typedef struct packing {
    const screen_pack_params *p;
    int64_t tiles;
    float *values, *keep; /* [K]: the row; 1 for narrow columns, 0 for wide ones */
    uint8_t *group;
    int row;
} packing;

static void put_float(const packing *k, int which, float value)
{
    float *floats = (float *)(void *)(k->group + screen_floats_at(k->tiles));
    floats[which * PACKED_ROWS + k->row] = value;
}

/* Codes of 16 elements in steps of s, as whole numbers -8 to 7 (7 for NaN); adds to *error. */
static vf codes_of(vf x, vf keep, vf s, vf *error)
{
    vf y = vf_sub(vf_div(x, s), vf_set(0.5f));
    y = vf_min(vf_max(y, vf_set(-8)), vf_set(7));
    const vf code = vi_to_float(vf_to_int(y));
    const vf miss = vf_mul(keep, vf_sub(x, vf_mul(s, vf_add(code, vf_set(0.5f)))));
    *error = vf_fma(miss, miss, *error);
    return code;
}

static float tile_codes(const packing *k, int64_t tile, float s, float codes[PACKED_K])
{
    vf error[2] = {vf_set(0), vf_set(0)};
    for (int half = 0; half < 2; half++) {
        const int64_t at = PACKED_K * tile + 16 * half;
        vf_store(codes + 16 * half,
                 codes_of(vf_load(k->values + at), vf_load(k->keep + at), vf_set(s), &error[half]));
    }
    return vf_sum32(error[0], error[1]);
}

/* Chooses and stores a tile's multiplier and codes; gives the squared error. */
static float pack_tile(const packing *k, int64_t tile, float base, float largest)
{
    uint8_t *codes = k->group + tile * SCREEN_TILE + 4 * k->row;
    uint8_t *multiplier = k->group + screen_multipliers_at(k->tiles) + PACKED_ROWS * tile + k->row;
    float c[PACKED_K], best[PACKED_K], least = HUGE_VALF;
    *multiplier = 0;
    for (int i = 0; i < PACKED_K; i++)
        best[i] = 0;
    for (int step = 20; base > 0 && step >= 12; step--) {
        float m = largest * (float)step / (160.0f * base) + 0.5f;
        m = m > 255 ? 255 : m < 1 ? 1 : (float)(int)m;
        const float error = tile_codes(k, tile, base * m, c);
        if (error < least) {
            least = error;
            *multiplier = (uint8_t)m;
            memcpy(best, c, sizeof best);
        }
    }
    for (int i = 0; i < 16; i++)
        codes[64 * (i / 4) + i % 4] = (uint8_t)((int)(best[i] + 8) | (int)(best[i + 16] + 8) << 4);
    return base > 0 ? least : 0; /* all zeros, or not finite: the row's norm tells */
}

/* The wide columns: their codes; takes them out of the row's values; gives the norm missed. */
static float pack_wide(const packing *k)
{
    int8_t *codes = (int8_t *)k->group + screen_wide_at(k->tiles) + k->row;
    float largest = 0, error = 0;
    for (int i = 0; i < SCREEN_WIDE; i++) {
        const float x = fabsf(k->values[k->p->wide[i]]);
        largest = x > largest ? x : largest;
    }
    const float scale = largest <= FLT_MAX / 2 ? round_up_11(largest / 127) : 0;
    put_float(k, 1, scale);
    for (int i = 0; i < SCREEN_WIDE; i++) {
        float *x = &k->values[k->p->wide[i]];
        float code = scale > 0 ? *x / scale : 0;
        if (code >= 0)
            code = (float)(int)(code + 0.5f);
        else /* NaN: the row is not finite, any code will do */
            code = code < 0 ? -(float)(int)(0.5f - code) : 0;
        const float miss = *x - scale * code;
        codes[PACKED_ROWS * i] = (int8_t)code;
        error += miss * miss;
        *x = 0;
    }
    return norm_up(error, SCREEN_WIDE);
}

/* Packs k->values; gives bounds of the row's norm and of what the wide columns miss.  A row that is
 * not finite has an infinite rest. */
static void pack_row(const packing *k, float *norm, float *wide_error)
{
    vf sum[2] = {vf_set(0), vf_set(0)}, max = vf_set(0);
    float *v = k->values, error = 0;
    for (int64_t i = 0; i < k->tiles * PACKED_K; i += 32) {
        sum[0] = vf_fma(vf_load(v + i), vf_load(v + i), sum[0]);
        sum[1] = vf_fma(vf_load(v + i + 16), vf_load(v + i + 16), sum[1]);
    }
    *norm = norm_up(vf_sum32(sum[0], sum[1]), k->tiles);
    *wide_error = pack_wide(k);
    for (int64_t i = 0; i < k->tiles * PACKED_K; i += 16)
        max = vf_max(max, vf_abs(vf_load(v + i)));
    const float largest = vf_max_all(max);
    const float base = *norm <= FLT_MAX ? round_up_11(largest / 2040) : 0;
    put_float(k, 0, base);
    for (int64_t tile = 0; tile < k->tiles; tile++) {
        const vf a = vf_abs(vf_load(v + PACKED_K * tile));
        const vf b = vf_abs(vf_load(v + PACKED_K * tile + 16));
        error += pack_tile(k, tile, base, vf_max_all(vf_max(a, b)));
    }
    put_float(k, 2, *norm <= FLT_MAX ? norm_up(error, k->tiles) : HUGE_VALF);
}

/* The largest norms of a thread's groups: [thread][2]. */
static void pack_groups(const mlxn_cpu_call *call, packing *k, float largest[2])
{
    const matmul_weight *w = &k->p->weight;
    const size_t group_bytes = screen_group_bytes(k->tiles);
    int64_t begin, end;
    cpu_split(call, packed_groups(w->rows), &begin, &end);
    for (int64_t g = begin; g < end; g++) {
        k->group = (uint8_t *)call->ptr[1] + (size_t)g * group_bytes;
        memset(k->group, 0, group_bytes);
        for (k->row = 0; k->row < PACKED_ROWS && g * PACKED_ROWS + k->row < w->rows; k->row++) {
            const uint8_t *src =
                (const uint8_t *)call->ptr[0] + (g * PACKED_ROWS + k->row) * w->row_bytes;
            float norms[2];
            for (int64_t tile = 0; tile < k->tiles; tile++) {
                vf x[2];
                block_values(src + 34 * tile, x);
                vf_store(k->values + PACKED_K * tile, x[0]);
                vf_store(k->values + PACKED_K * tile + 16, x[1]);
            }
            pack_row(k, &norms[0], &norms[1]);
            for (int i = 0; i < 2 && norms[0] <= FLT_MAX; i++)
                largest[i] = norms[i] > largest[i] ? norms[i] : largest[i];
        }
    }
}

CPU_KERNEL(screen_pack)
{
    const screen_pack_params *p = call->args;
    const int64_t cols = p->weight.cols;
    float *all = call->shared; /* [n_threads][16], two of each used; then each thread's rows */
    float *own = all + 16 * call->n_threads + 2 * cols * call->thread;
    packing k = {.p = p, .tiles = packed_tiles(cols), .values = own, .keep = own + cols};
    for (int64_t i = 0; i < cols; i++)
        k.keep[i] = 1;
    for (int i = 0; i < SCREEN_WIDE; i++)
        k.keep[p->wide[i]] = 0;
    float *largest = all + 16 * call->thread;
    largest[0] = largest[1] = 0;
    pack_groups(call, &k, largest);
    mlxn_cpu_barrier(call);
    float *limits = call->ptr[2];
    for (int i = 0; i < 2 && call->thread == 0; i++) {
        limits[i] = 0;
        for (uint32_t t = 0; t < call->n_threads; t++)
            limits[i] =
                all[16 * t + (uint32_t)i] > limits[i] ? all[16 * t + (uint32_t)i] : limits[i];
    }
}
