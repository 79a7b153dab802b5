/* rope_freqs.c - angular frequencies in float64 on the host, stored as two-float values.
 *
 * f_i = theta^(-2i / d) * scale / freq_factors[i].  YaRN (Peng et al. 2023): pair i makes
 * original_context * theta^(-2i/d) / 2pi rotations over the original context; the i of `beta`
 * rotations is d ln(original_context / (2 pi beta)) / (2 ln theta).  From the i of beta_fast
 * (rounded down) to that of beta_slow (rounded up) f_i goes linearly from f_i to f_i / yarn_factor.
 */
#include <math.h>
#include <stdlib.h>
#include <mlxn/ops/rope.h>
#include "ops/check.h"

static mlxn_status check_number(const char *name, double value, int ok, const char *domain)
{
    if (!ok || !isfinite(value))
        return mlxn_fail(MLXN_ERR_ARGUMENT, "rope_freqs: %s is %g, needs %s", name, value, domain);
    return MLXN_OK;
}

/* f32, dense, on the device, `rank` dimensions [pairs, 2] or [pairs]. */
static mlxn_status check_buffer(const char *name, const mlxn_device *device, const mlxn_buffer *b,
                                int rank, int64_t pairs)
{
    const char *op = "rope_freqs";
    if (!b)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is NULL", op, name);
    if (b->storage->device != device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "%s: %s is on another device", op, name);
    MLXN_TRY(mlxn_op_dtype(op, name, b, MLXN_F32));
    MLXN_TRY(mlxn_op_shape(op, name, b, rank, pairs, 2, 0));
    return mlxn_op_dense(op, name, b, b->elements);
}

static mlxn_status check_args(const mlxn_device *device, const mlxn_rope_freqs_args *a)
{
    if (!device)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "rope_freqs: device is NULL");
    MLXN_TRY(check_buffer("output", device, a->output, 2, -1));
    int64_t pairs = a->output->shape[0];
    if (a->freq_factors)
        MLXN_TRY(check_buffer("freq_factors", device, a->freq_factors, 1, pairs));
    if (a->exponent_dim < 2 * pairs)
        return mlxn_fail(MLXN_ERR_ARGUMENT,
                         "rope_freqs: exponent_dim is %lld, %lld pairs need %lld",
                         (long long)a->exponent_dim, (long long)pairs, (long long)(2 * pairs));
    MLXN_TRY(
        mlxn_op_disjoint("rope_freqs", "output", a->output, "freq_factors", a->freq_factors, 0));
    MLXN_TRY(check_number("theta", a->theta, a->theta > 0, "> 0"));
    MLXN_TRY(check_number("scale", a->scale, a->scale > 0, "> 0"));
    if (a->yarn_original_context < 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT, "rope_freqs: yarn_original_context is %lld, needs >= 0",
                         (long long)a->yarn_original_context);
    if (!a->yarn_original_context)
        return MLXN_OK;
    MLXN_TRY(check_number("theta", a->theta, a->theta > 1, "> 1 with YaRN"));
    MLXN_TRY(check_number("yarn_factor", a->yarn_factor, a->yarn_factor >= 1, ">= 1"));
    MLXN_TRY(check_number("yarn_beta_slow", a->yarn_beta_slow, a->yarn_beta_slow > 0, "> 0"));
    return check_number("yarn_beta_fast", a->yarn_beta_fast, a->yarn_beta_fast > a->yarn_beta_slow,
                        "more than yarn_beta_slow");
}

/* The (fractional) pair that makes `beta` rotations over the original context. */
static double pair_of(const mlxn_rope_freqs_args *a, double beta)
{
    const double two_pi = 6.283185307179586;
    return (double)a->exponent_dim * log((double)a->yarn_original_context / (two_pi * beta)) /
           (2.0 * log(a->theta));
}

static double frequency(const mlxn_rope_freqs_args *a, int64_t i)
{
    double f = pow(a->theta, -2.0 * (double)i / (double)a->exponent_dim) * a->scale;
    if (!a->yarn_original_context)
        return f;
    double first = fmax(floor(pair_of(a, a->yarn_beta_fast)), 0.0);
    double last = fmin(ceil(pair_of(a, a->yarn_beta_slow)), (double)(a->exponent_dim - 1));
    double ramp = ((double)i - first) / fmax(last - first, 0.001);
    ramp = fmin(fmax(ramp, 0.0), 1.0);
    return f * (1.0 - ramp) + f / a->yarn_factor * ramp;
}

mlxn_status mlxn_rope_freqs(mlxn_device *device, const mlxn_rope_freqs_args *args)
{
    OP_ARGS("rope_freqs", mlxn_rope_freqs_args, a, args);
    MLXN_TRY(check_args(device, &a));
    size_t pairs = (size_t)a.output->shape[0];
    mlxn_status status = MLXN_OK;
    float *table = malloc(pairs * 3 * sizeof *table), *factors = table + 2 * pairs;
    if (!table)
        return mlxn_fail(MLXN_ERR_MEMORY, "rope_freqs: no memory for %zu pairs", pairs);
    if (a.freq_factors)
        status = mlxn_buffer_read(a.freq_factors, 0, factors, pairs * sizeof *factors);
    for (size_t i = 0; i < pairs && status == MLXN_OK; i++) {
        double f = frequency(&a, (int64_t)i);
        if (a.freq_factors) {
            if (!(factors[i] > 0) || !isfinite(factors[i]))
                status =
                    mlxn_fail(MLXN_ERR_ARGUMENT, "rope_freqs: freq_factors[%zu] is %g, needs > 0",
                              i, (double)factors[i]);
            f /= (double)factors[i];
        }
        table[2 * i] = (float)f;
        table[2 * i + 1] = (float)(f - (double)table[2 * i]);
    }
    if (status == MLXN_OK)
        status = mlxn_buffer_write(a.output, 0, table, pairs * 2 * sizeof *table);
    free(table);
    return status;
}
