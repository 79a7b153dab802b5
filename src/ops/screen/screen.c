/* screen.c - making a screen, and the product that uses it: checks and launches. */
#include <stdlib.h>
#include <string.h>
#include "ops/kernels.h"
#include "ops/matmul/plan.h"
#include "ops/matmul/weight.h"
#include "ops/screen/screen.h"
#include "ops/shared.h"

/* ---- making ---- */

/* A group's limits for each thread, then two rows of floats for each. */
size_t mlxn_screen_pack_shared(const void *args, uint32_t n_threads)
{
    const screen_pack_params *p = args;
    return n_threads * (16 + 2 * (size_t)p->weight.cols) * sizeof(float);
}

mlxn_status mlxn_screen_check_weight(const char *op, const mlxn_buffer *weight, matmul_weight *w)
{
    if (!weight)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: weight is NULL", op);
    MLXN_TRY(mlxn_op_dtype(op, "weight", weight, MLXN_Q8_0));
    if (weight->layout == MLXN_LAYOUT_PACKED)
        return mlxn_fail(MLXN_ERR_DTYPE, "%s: weight is prepared, needs to be plain", op);
    MLXN_TRY(mlxn_matmul_weight_of(op, "weight", weight, w));
    MLXN_TRY(mlxn_op_dense(op, "weight", weight, w->rows * w->cols));
    if (w->rows > INT32_MAX || w->cols > INT32_MAX)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: weight is [%lld, %lld], needs at most %d", op,
                         (long long)w->rows, (long long)w->cols, INT32_MAX);
    return MLXN_OK;
}

static mlxn_status run(mlxn_encoder *encoder, int kernel, const mlxn_operand *operands, int n,
                       const void *args, size_t bytes)
{
    MLXN_TRY(mlxn_encoder_reset(encoder));
    MLXN_TRY(mlxn_launch(encoder, kernel, operands, n, args, bytes, NULL));
    MLXN_TRY(mlxn_encoder_commit(encoder));
    return mlxn_encoder_wait(encoder);
}

static int by_number(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The columns of the largest energy, the first of equals. */
static void choose_wide(float *energy, int64_t cols, int32_t wide[SCREEN_WIDE])
{
    for (int i = 0; i < SCREEN_WIDE; i++) {
        int64_t best = -1;
        for (int64_t k = 0; k < cols; k++)
            if (energy[k] >= 0 && (best < 0 || energy[k] > energy[best]))
                best = k;
        for (int64_t k = 0; best < 0; k++) /* only NaN is left: any that is not taken */
            if (!(energy[k] >= 0) && !(energy[k] < 0))
                best = k;
        wide[i] = (int32_t)best;
        energy[best] = -1;
    }
    qsort(wide, SCREEN_WIDE, sizeof *wide, by_number);
}

static mlxn_status find_wide(mlxn_encoder *encoder, mlxn_buffer *weight, const matmul_weight *w,
                             int32_t wide[SCREEN_WIDE])
{
    const screen_energy_params p = {
        .weight = *w, .step = w->rows > SCREEN_SAMPLE * PACKED_ROWS ? SCREEN_SAMPLE : 1};
    mlxn_buffer *energy = NULL;
    float *values = malloc((size_t)w->cols * sizeof *values);
    mlxn_status status = values ? MLXN_OK : mlxn_fail(MLXN_ERR_MEMORY, "screen: out of memory");
    if (status == MLXN_OK)
        status = mlxn_buffer_create(weight->storage->device, MLXN_F32, 1, &w->cols, &energy);
    const mlxn_operand operands[] = {{weight, MLXN_READ}, {energy, MLXN_WRITE}};
    if (status == MLXN_OK)
        status = run(encoder, MLXN_KERNEL_screen_energy, operands, 2, &p, sizeof p);
    if (status == MLXN_OK)
        status = mlxn_buffer_read(energy, 0, values, (size_t)w->cols * sizeof *values);
    if (status == MLXN_OK)
        choose_wide(values, w->cols, wide);
    mlxn_buffer_release(energy);
    free(values);
    return status;
}

static mlxn_status pack(mlxn_encoder *encoder, mlxn_buffer *weight, const matmul_weight *w,
                        mlxn_screen *s)
{
    screen_pack_params p = {.weight = *w};
    const int64_t two = 2;
    mlxn_buffer *limits = NULL;
    float values[2];
    memcpy(p.wide, s->wide, sizeof p.wide);
    MLXN_TRY(mlxn_buffer_create(weight->storage->device, MLXN_F32, 1, &two, &limits));
    const mlxn_operand operands[] = {
        {weight, MLXN_READ}, {s->groups, MLXN_WRITE}, {limits, MLXN_WRITE}};
    mlxn_status status = run(encoder, MLXN_KERNEL_screen_pack, operands, 3, &p, sizeof p);
    if (status == MLXN_OK)
        status = mlxn_buffer_read(limits, 0, values, sizeof values);
    if (status == MLXN_OK) {
        s->row_norm = values[0];
        s->wide_error = values[1];
    }
    mlxn_buffer_release(limits);
    return status;
}

mlxn_status mlxn_screen_alloc(mlxn_buffer *weight, const matmul_weight *w, mlxn_screen **out)
{
    size_t bytes;
    if (mlxn_mul_overflows(screen_group_bytes(packed_tiles(w->cols)),
                           (size_t)packed_groups(w->rows), &bytes) ||
        bytes > INT64_MAX)
        return mlxn_fail(MLXN_ERR_OVERFLOW, "screen: the size passes 64 bits");
    mlxn_screen *s = calloc(1, sizeof *s);
    if (!s)
        return mlxn_fail(MLXN_ERR_MEMORY, "screen: out of memory");
    s->rows = w->rows;
    s->cols = w->cols;
    const int64_t n = (int64_t)bytes;
    mlxn_status status = mlxn_buffer_create(weight->storage->device, MLXN_U8, 1, &n, &s->groups);
    if (status != MLXN_OK) {
        free(s);
        return status;
    }
    *out = s;
    return MLXN_OK;
}

mlxn_status mlxn_screen_create(mlxn_buffer *weight, mlxn_screen **out)
{
    matmul_weight w;
    mlxn_encoder *encoder = NULL;
    mlxn_screen *s = NULL;
    if (!out)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "screen_create: out is NULL");
    *out = NULL;
    MLXN_TRY(mlxn_screen_check_weight("screen_create", weight, &w));
    MLXN_TRY(mlxn_encoder_create(weight->storage->device, &encoder));
    mlxn_status status = mlxn_screen_alloc(weight, &w, &s);
    if (status == MLXN_OK)
        status = find_wide(encoder, weight, &w, s->wide);
    if (status == MLXN_OK)
        status = pack(encoder, weight, &w, s);
    mlxn_encoder_release(encoder);
    if (status != MLXN_OK) {
        mlxn_screen_release(s);
        return status;
    }
    *out = s;
    return MLXN_OK;
}

void mlxn_screen_release(mlxn_screen *s)
{
    if (!s)
        return;
    mlxn_buffer_release(s->groups);
    free(s);
}

size_t mlxn_screen_bytes(const mlxn_screen *s)
{
    return s ? mlxn_buffer_bytes(s->groups) : 0;
}

/* ---- the product ---- */

size_t mlxn_screened_matmul_shared(const void *args, uint32_t n_threads)
{
    return n_threads * screened_plan_of(args).thread_bytes;
}

static mlxn_status check_shapes(const mlxn_screened_matmul_args *a, matmul_params *p)
{
    const char *op = "screened_matmul";
    op_rows in, out;
    MLXN_TRY(mlxn_op_as_rows(op, "input", a->input, &in));
    MLXN_TRY(mlxn_op_as_rows(op, "output", a->output, &out));
    if (in.rows != 1 || out.rows != 1)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has %lld rows, needs 1", op,
                         in.rows != 1 ? "input" : "output",
                         (long long)(in.rows != 1 ? in.rows : out.rows));
    if (in.dim != p->weight.cols)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: input has %lld elements, weight has rows of %lld", op,
                         (long long)in.dim, (long long)p->weight.cols);
    if (out.dim != p->weight.rows)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: output has %lld elements, weight has %lld rows", op,
                         (long long)out.dim, (long long)p->weight.rows);
    if (a->screen->rows != p->weight.rows || a->screen->cols != p->weight.cols)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: screen is of [%lld, %lld], weight is [%lld, %lld]",
                         op, (long long)a->screen->rows, (long long)a->screen->cols,
                         (long long)p->weight.rows, (long long)p->weight.cols);
    const int64_t most = out.dim < MLXN_SCREEN_TOP_MAX ? out.dim : MLXN_SCREEN_TOP_MAX;
    if (a->k < 1 || a->k > most)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: k is %lld, needs 1 to %lld", op, (long long)a->k,
                         (long long)most);
    p->rows = 1;
    p->input_stride = in.dim;
    p->output_stride = out.dim;
    return MLXN_OK;
}

static mlxn_status check_operands(mlxn_encoder *encoder, const mlxn_screened_matmul_args *a)
{
    const char *op = "screened_matmul";
    MLXN_TRY(mlxn_op_operand(op, "input", encoder, a->input, DT_FLOATS, 0));
    MLXN_TRY(mlxn_op_operand(op, "weight", encoder, a->weight, DT(Q8_0), 0));
    MLXN_TRY(mlxn_op_operand(op, "output", encoder, a->output, DT(F32), 0));
    MLXN_TRY(mlxn_op_operand(op, "rows_read", encoder, a->rows_read, DT(I32), OP_OPTIONAL));
    if (!a->screen)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: screen is NULL", op);
    MLXN_TRY(mlxn_op_operand(op, "screen", encoder, a->screen->groups, DT(U8), 0));
    if (a->mode != MLXN_MATMUL_EXACT && a->mode != MLXN_MATMUL_FAST)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: mode is %d, needs exact (1) or fast (2)", op,
                         (int)a->mode);
    MLXN_TRY(mlxn_op_disjoint(op, "output", a->output, "input", a->input, 0));
    MLXN_TRY(mlxn_op_disjoint(op, "output", a->output, "weight", a->weight, 0));
    if (!a->rows_read)
        return MLXN_OK;
    MLXN_TRY(mlxn_op_dense(op, "rows_read", a->rows_read, 1));
    MLXN_TRY(mlxn_op_disjoint(op, "rows_read", a->rows_read, "output", a->output, 0));
    return mlxn_op_disjoint(op, "rows_read", a->rows_read, "input", a->input, 0);
}

mlxn_status mlxn_screened_matmul(mlxn_encoder *encoder, const mlxn_screened_matmul_args *args)
{
    MLXN_TRY(mlxn_op_encoder("screened_matmul", encoder));
    OP_ARGS("screened_matmul", mlxn_screened_matmul_args, a, args);
    MLXN_TRY(check_operands(encoder, &a));
    screened_matmul_params p = {.matmul = {.input_dtype = (int32_t)a.input->dtype,
                                           .output_dtype = (int32_t)MLXN_F32,
                                           .fast = a.mode == MLXN_MATMUL_FAST},
                                .row_norm = a.screen->row_norm,
                                .wide_error = a.screen->wide_error,
                                .k = a.k};
    memcpy(p.wide, a.screen->wide, sizeof p.wide);
    MLXN_TRY(mlxn_screen_check_weight("screened_matmul", a.weight, &p.matmul.weight));
    MLXN_TRY(check_shapes(&a, &p.matmul));
    const mlxn_operand operands[] = {{a.input, MLXN_READ},
                                     {a.weight, MLXN_READ},
                                     {a.screen->groups, MLXN_READ},
                                     {a.output, MLXN_WRITE},
                                     {a.rows_read, MLXN_WRITE}};
    return mlxn_launch(encoder, MLXN_KERNEL_screened_matmul, operands, 5, &p, sizeof p, NULL);
}
