/* check.c - see check.h. */
#include <stdio.h>
#include <string.h>
#include "ops/check.h"
#include "core/encoder.h"

mlxn_status mlxn_op_encoder(const char *op, const mlxn_encoder *enc)
{
    if (!enc)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: encoder is NULL", op);
    return mlxn_encoder_check_recording(enc, op);
}

/* "f32, f16, bf16" */
static void list_dtypes(uint32_t dtypes, char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < 32; i++)
        if (dtypes >> i & 1 && at < size)
            at += (size_t)snprintf(text + at, size - at, "%s%s", at ? ", " : "",
                                   mlxn_dtype_name((mlxn_dtype)i));
}

mlxn_status mlxn_op_operand(const char *op, const char *name, const mlxn_encoder *enc,
                            const mlxn_buffer *b, uint32_t dtypes, uint32_t flags)
{
    if (!b) {
        if (flags & OP_OPTIONAL)
            return MLXN_OK;
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is NULL", op, name);
    }
    if (b->storage->device != mlxn_encoder_device(enc))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is on another device than the encoder", op,
                         name);
    if (!(dtypes >> b->dtype & 1)) {
        char wanted[160];
        list_dtypes(dtypes, wanted, sizeof wanted);
        return mlxn_fail(MLXN_ERR_DTYPE, "%s: %s is %s, needs %s", op, name,
                         mlxn_dtype_name(b->dtype), wanted);
    }
    if (b->layout == MLXN_LAYOUT_PACKED && !(flags & OP_PACKED))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is a prepared weight, needs a plain buffer", op,
                         name);
    return MLXN_OK;
}

mlxn_status mlxn_op_dtype(const char *op, const char *name, const mlxn_buffer *b, mlxn_dtype dtype)
{
    if (b && b->dtype != dtype)
        return mlxn_fail(MLXN_ERR_DTYPE, "%s: %s is %s, needs %s", op, name,
                         mlxn_dtype_name(b->dtype), mlxn_dtype_name(dtype));
    return MLXN_OK;
}

mlxn_status mlxn_op_shape(const char *op, const char *name, const mlxn_buffer *b, int rank,
                          int64_t d0, int64_t d1, int64_t d2)
{
    const int64_t want[3] = {d0, d1, d2};
    if (!b)
        return MLXN_OK;
    if (b->rank != rank)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has %d dimensions, needs %d", op, name, b->rank,
                         rank);
    for (int i = 0; i < rank && i < 3; i++)
        if (want[i] >= 0 && b->shape[i] != want[i])
            return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has %lld in dimension %d, needs %lld", op,
                             name, (long long)b->shape[i], i, (long long)want[i]);
    return MLXN_OK;
}

static int is_dense(const mlxn_buffer *b)
{
    int64_t expected = 1;
    for (int i = b->rank - 1; i >= 0; i--) {
        if (b->shape[i] != 1 && b->strides[i] != expected)
            return 0;
        expected *= b->shape[i];
    }
    return 1;
}

mlxn_status mlxn_op_dense(const char *op, const char *name, const mlxn_buffer *b, int64_t n)
{
    if (!b)
        return MLXN_OK;
    if (b->elements != n)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has %lld elements, needs %lld", op, name,
                         (long long)b->elements, (long long)n);
    if (!is_dense(b))
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s is strided, needs a dense buffer", op, name);
    return MLXN_OK;
}

mlxn_status mlxn_op_same_shape(const char *op, const char *name, const mlxn_buffer *b,
                               const char *as_name, const mlxn_buffer *as)
{
    if (!b || !as)
        return MLXN_OK;
    if (b->rank != as->rank)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has %d dimensions, %s has %d", op, name, b->rank,
                         as_name, as->rank);
    for (int i = 0; i < b->rank; i++)
        if (b->shape[i] != as->shape[i])
            return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has %lld in dimension %d, %s has %lld", op,
                             name, (long long)b->shape[i], i, as_name, (long long)as->shape[i]);
    return MLXN_OK;
}

mlxn_status mlxn_op_contiguous_last(const char *op, const char *name, const mlxn_buffer *b)
{
    if (b && b->rank && b->shape[b->rank - 1] > 1 && b->strides[b->rank - 1] != 1)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has stride %lld in its last dimension, needs 1",
                         op, name, (long long)b->strides[b->rank - 1]);
    return MLXN_OK;
}

/* Every dimension steps over all that lies within the dimensions of smaller stride. */
mlxn_status mlxn_op_distinct(const char *op, const char *name, const mlxn_buffer *b)
{
    int64_t extent = 1;
    uint32_t done = 0;
    if (!b)
        return MLXN_OK;
    for (int k = 0; k < b->rank; k++) {
        int next = -1;
        for (int i = 0; i < b->rank; i++)
            if (!(done >> i & 1) && (next < 0 || b->strides[i] < b->strides[next]))
                next = i;
        done |= 1u << next;
        if (b->shape[next] == 1)
            continue;
        if (b->strides[next] < extent)
            return mlxn_fail(MLXN_ERR_OVERLAP,
                             "%s: %s overlaps itself: stride %lld in dimension %d, needs %lld", op,
                             name, (long long)b->strides[next], next, (long long)extent);
        extent += (b->shape[next] - 1) * b->strides[next];
    }
    return MLXN_OK;
}

mlxn_status mlxn_op_as_rows(const char *op, const char *name, const mlxn_buffer *b, op_rows *out)
{
    if (b->rank == 0)
        return mlxn_fail(MLXN_ERR_SHAPE, "%s: %s has no dimension", op, name);
    MLXN_TRY(mlxn_op_contiguous_last(op, name, b));
    out->dim = b->shape[b->rank - 1];
    out->rows = 1;
    out->stride = out->dim;
    for (int i = b->rank - 2; i >= 0; i--) {
        if (b->shape[i] == 1)
            continue;
        if (out->rows == 1)
            out->stride = b->strides[i];
        else if (b->strides[i] != out->stride * out->rows)
            return mlxn_fail(MLXN_ERR_SHAPE, "%s: the rows of %s are not evenly spaced", op, name);
        out->rows *= b->shape[i];
    }
    return MLXN_OK;
}

static int same_view(const mlxn_buffer *a, const mlxn_buffer *b)
{
    return a->storage == b->storage && a->offset == b->offset && a->dtype == b->dtype &&
           a->rank == b->rank && !memcmp(a->shape, b->shape, sizeof a->shape) &&
           !memcmp(a->strides, b->strides, sizeof a->strides);
}

mlxn_status mlxn_op_disjoint(const char *op, const char *out_name, const mlxn_buffer *out,
                             const char *in_name, const mlxn_buffer *in, int same_ok)
{
    if (!out || !in || (same_ok && same_view(out, in)))
        return MLXN_OK;
    mlxn_range a = mlxn_buffer_range(out), b = mlxn_buffer_range(in);
    if (mlxn_ranges_overlap(&a, &b))
        return mlxn_fail(MLXN_ERR_OVERLAP, "%s: %s and %s overlap%s", op, out_name, in_name,
                         same_ok ? " and are not the same view" : "");
    return MLXN_OK;
}

mlxn_status mlxn_op_float(const char *op, const char *name, float value, int ok, const char *domain)
{
    if (!ok)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is %g, needs %s", op, name, (double)value,
                         domain);
    return MLXN_OK;
}
