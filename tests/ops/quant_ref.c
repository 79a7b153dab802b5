/* quant_ref.c - see quant_ref.h.  Block layouts as GGUF defines them. */
#include "quant_ref.h"

const mlxn_dtype quant_dtypes[11] = {MLXN_F32,  MLXN_F16,  MLXN_BF16, MLXN_Q4_0,
                                     MLXN_Q4_1, MLXN_Q5_0, MLXN_Q5_1, MLXN_Q8_0,
                                     MLXN_Q4_K, MLXN_Q5_K, MLXN_Q6_K};

int quant_is_float(mlxn_dtype dtype)
{
    return dtype == MLXN_F32 || dtype == MLXN_F16 || dtype == MLXN_BF16;
}

size_t quant_row_bytes(mlxn_dtype dtype, int64_t k)
{
    return (size_t)k / mlxn_dtype_block_elements(dtype) * mlxn_dtype_block_bytes(dtype);
}

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return (float)test_load(MLXN_F16, &h, 0);
}

static int bit(const uint8_t *p, int i)
{
    return p[i / 8] >> (i % 8) & 1;
}

/* Element i of a block of 32: q4_0, q4_1, q5_0, q5_1, q8_0. */
static void small_block(mlxn_dtype dtype, const uint8_t *b, int i, float *u, float *s, float *t)
{
    const int has_m = dtype == MLXN_Q4_1 || dtype == MLXN_Q5_1;
    const int five = dtype == MLXN_Q5_0 || dtype == MLXN_Q5_1;
    const uint8_t *qh = b + (has_m ? 4 : 2), *qs = qh + (five ? 4 : 0);
    *s = half_at(b);
    *t = has_m ? half_at(b + 2) : 0.0f;
    if (dtype == MLXN_Q8_0) {
        *u = (float)(int8_t)b[2 + i];
        return;
    }
    int q = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
    if (five)
        q += 16 * bit(qh, i);
    *u = (float)(q - (has_m ? 0 : five ? 16 : 8));
}

static void k45_block(mlxn_dtype dtype, const uint8_t *b, int i, float *u, float *s, float *t)
{
    const int five = dtype == MLXN_Q5_K, sub = i / 32, l = i % 32;
    const uint8_t *sc = b + 4, *qh = b + 16, *qs = b + (five ? 48 : 16);
    int scale, min;
    if (sub < 4) {
        scale = sc[sub] & 63;
        min = sc[sub + 4] & 63;
    } else {
        scale = (sc[sub + 4] & 15) | (sc[sub - 4] >> 6) << 4;
        min = (sc[sub + 4] >> 4) | (sc[sub] >> 6) << 4;
    }
    int q = sub % 2 ? qs[32 * (sub / 2) + l] >> 4 : qs[32 * (sub / 2) + l] & 15;
    if (five)
        q += 16 * (qh[l] >> sub & 1);
    *u = (float)q;
    *s = half_at(b) * (float)scale;
    *t = -(half_at(b + 2) * (float)min);
}

static void q6k_block(const uint8_t *b, int i, float *u, float *s)
{
    const int half = i / 128, within = i % 128, quarter = within / 32, l = within % 32;
    const uint8_t *ql = b + 64 * half, *qh = b + 128 + 32 * half;
    const int8_t *sc = (const int8_t *)b + 192 + 8 * half;
    int low = quarter % 2 ? ql[l + 32] : ql[l];
    low = quarter < 2 ? low & 15 : low >> 4;
    *u = (float)((low | (qh[l] >> 2 * quarter & 3) << 4) - 32);
    *s = half_at(b + 208) * (float)sc[l / 16 + 2 * quarter];
}

void quant_decode(mlxn_dtype dtype, const void *bytes, int64_t k, quant_row *row)
{
    const int64_t n = (int64_t)mlxn_dtype_block_elements(dtype);
    const size_t block_bytes = mlxn_dtype_block_bytes(dtype);
    *row = (quant_row){.k = k, .is_float = quant_is_float(dtype), .halves = dtype == MLXN_Q6_K};
    row->has_offset =
        dtype == MLXN_Q4_1 || dtype == MLXN_Q5_1 || dtype == MLXN_Q4_K || dtype == MLXN_Q5_K;
    row->u = calloc((size_t)k, sizeof(float));
    row->s = calloc((size_t)k, sizeof(float));
    row->t = calloc((size_t)k, sizeof(float));
    for (int64_t i = 0; i < k; i++) {
        const uint8_t *b = (const uint8_t *)bytes + (size_t)(i / n) * block_bytes;
        if (row->is_float) {
            row->u[i] = (float)test_load(dtype, bytes, (size_t)i);
            row->s[i] = 1;
        } else if (dtype == MLXN_Q6_K) {
            q6k_block(b, (int)(i % n), &row->u[i], &row->s[i]);
        } else if (n == 256) {
            k45_block(dtype, b, (int)(i % n), &row->u[i], &row->s[i], &row->t[i]);
        } else {
            small_block(dtype, b, (int)(i % n), &row->u[i], &row->s[i], &row->t[i]);
        }
    }
}

void quant_row_free(quant_row *row)
{
    free(row->u);
    free(row->s);
    free(row->t);
}

static void fill_half(uint8_t *p, float size, int extreme, uint64_t *seed)
{
    static const uint16_t edge[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x3c00};
    uint16_t h;
    test_store(MLXN_F16, &h, 0, (double)(size * test_uniform(seed, -1, 1)));
    if (extreme && test_random(seed) % 3 == 0)
        h = edge[test_random(seed) % 8];
    memcpy(p, &h, sizeof h);
}

void quant_fill(mlxn_dtype dtype, void *bytes, int64_t rows, int64_t k, float size, int extreme,
                uint64_t *seed)
{
    const size_t block = mlxn_dtype_block_bytes(dtype);
    const size_t blocks = (size_t)rows * quant_row_bytes(dtype, k) / block;
    for (size_t i = 0; i < blocks; i++) {
        uint8_t *b = (uint8_t *)bytes + i * block;
        if (quant_is_float(dtype)) {
            test_store(dtype, b, 0, (double)(size * test_normal(seed)));
            continue;
        }
        for (size_t j = 0; j < block; j++)
            b[j] = (uint8_t)test_random(seed);
        fill_half(dtype == MLXN_Q6_K ? b + 208 : b, size, extreme, seed);
        if (dtype == MLXN_Q4_1 || dtype == MLXN_Q5_1 || dtype == MLXN_Q4_K || dtype == MLXN_Q5_K)
            fill_half(b + 2, size, extreme, seed);
    }
}

float quant_dot_exact(const quant_row *w, const float *x, int lanes)
{
    const int64_t step = w->halves ? 16 : 32;
    float acc[16] = {0};
    for (int64_t b = 0; b < w->k; b += step) {
        float p = 0, q = 0, *lane = &acc[b / 32 % lanes];
        for (int64_t i = b; i < b + step && i < w->k; i++) {
            p = fmaf(w->u[i], x[i], p);
            q += x[i];
        }
        *lane = fmaf(p, w->s[b], *lane);
        if (w->has_offset)
            *lane = fmaf(q, w->t[b], *lane);
    }
    for (int distance = lanes / 2; distance > 0; distance /= 2)
        for (int i = 0; i < distance; i++)
            acc[i] += acc[i + distance];
    return acc[0];
}

/* Rounds a block of 32 to integers; the result is the scale. */
static float round_block(const float *x, int *q)
{
    float max = 0;
    for (int i = 0; i < 32; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    for (int i = 0; i < 32; i++)
        q[i] = max > 0 ? (int)nearbyintf(x[i] * (127.0f / max)) : 0;
    return max / 127.0f;
}

float quant_dot_fast(const quant_row *w, const float *x)
{
    float acc = 0;
    if (w->is_float)
        return quant_dot_exact(w, x, 1);
    for (int64_t b = 0; b < w->k; b += 32) {
        int q[32], dot[2] = {0, 0}, sum = 0;
        const float a = round_block(x + b, q);
        for (int i = 0; i < 32; i++) {
            dot[i / 16] += (int)w->u[b + i] * q[i];
            sum += q[i];
        }
        if (w->halves) {
            acc = fmaf((float)dot[0], w->s[b] * a, acc);
            acc = fmaf((float)dot[1], w->s[b + 16] * a, acc);
            continue;
        }
        acc = fmaf((float)(dot[0] + dot[1]), w->s[b] * a, acc);
        if (w->has_offset)
            acc = fmaf((float)sum * a, w->t[b], acc);
    }
    return acc;
}

/* Roundings: each term passes at most 32 of its block and two or three of each later block, and the
 * products of scales two more; every one is at most 2^-24 of the sum of magnitudes so far.  fast
 * adds half a step, max / 254, of each x; tensor cores what docs/numerics.md derives. */
double quant_dot(const quant_row *w, const float *x, quant_input input, double *bound)
{
    double sum = 0, size = 0, rounding = 0;
    const int rounded = input == QUANT_INPUT_INT8 && !w->is_float;
    for (int64_t b = 0; b < w->k; b += 32) {
        double max = 0;
        for (int64_t i = b; rounded && i < b + 32; i++)
            max = fmax(max, fabs((double)x[i]));
        for (int64_t i = b; i < b + 32 && i < w->k; i++) {
            const double su = (double)w->s[i] * (double)w->u[i], t = (double)w->t[i];
            sum += (su + t) * (double)x[i];
            size += (fabs(su) + fabs(t)) * (fabs((double)x[i]) + max / 254);
            rounding += fabs(su + t) * max / 254;
        }
    }
    const double roundings = 32.0 + 3.0 * ceil((double)w->k / 32.0) + 4.0;
    *bound = roundings * 0x1p-24 * size * 1.01 + rounding * (1 + 0x1p-20) + 1e-44;
    if (input == QUANT_INPUT_TENSOR)
        *bound += 0x1p-15 * size;
    return sum;
}
