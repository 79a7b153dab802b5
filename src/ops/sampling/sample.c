/* sample.c - the sample operator.  Temperature 0 is an argmax; else the candidates are a sorted
 * list while there are at most 1024, and the whole row otherwise. */
#include <math.h>
#include "ops/check.h"
#include "ops/kernels.h"
#include "ops/sampling/sampling.h"
#include "ops/shared.h"

#define OP "sample"

/* For each thread a list of candidates. */
size_t mlxn_sample_list_shared(const void *params, uint32_t n_threads)
{
    return n_threads * (size_t)((const sample_params *)params)->k * sizeof(uint64_t);
}

/* For each thread a maximum and 3 + 3 histograms (16 KiB each), and a sum for each block. */
size_t mlxn_sample_all_shared(const void *params, uint32_t n_threads)
{
    size_t blocks = (size_t)sampling_blocks(((const sample_params *)params)->vocab);
    return (n_threads * (1 + (size_t)6 * SAMPLING_BINS) + blocks) * sizeof(uint64_t);
}

static mlxn_status check_filters(const mlxn_sample_args *a)
{
    if (a->top_k < 0)
        return mlxn_fail(MLXN_ERR_ARGUMENT, OP ": top_k is %lld, needs >= 0", (long long)a->top_k);
    MLXN_TRY(mlxn_op_float(OP, "temperature", a->temperature,
                           a->temperature >= 0 && isfinite(a->temperature), ">= 0 and finite"));
    MLXN_TRY(mlxn_op_float(OP, "top_p", a->top_p, a->top_p > 0 && a->top_p <= 1, "> 0 and <= 1"));
    return mlxn_op_float(OP, "min_p", a->min_p, a->min_p >= 0 && a->min_p <= 1, ">= 0 and <= 1");
}

mlxn_status mlxn_sample(mlxn_encoder *encoder, const mlxn_sample_args *args)
{
    MLXN_TRY(mlxn_op_encoder(OP, encoder));
    OP_ARGS(OP, mlxn_sample_args, a, args);
    MLXN_TRY(mlxn_check_flat_logits(OP, encoder, a.logits));
    MLXN_TRY(mlxn_check_cell(OP, "token", encoder, a.token, 0));
    MLXN_TRY(mlxn_check_cell(OP, "counter", encoder, a.counter, 0));
    MLXN_TRY(check_filters(&a));
    MLXN_TRY(mlxn_op_disjoint(OP, "token", a.token, "logits", a.logits, 0));
    MLXN_TRY(mlxn_op_disjoint(OP, "token", a.token, "counter", a.counter, 0));

    int64_t vocab = a.logits->elements;
    const mlxn_operand operands[] = {
        {a.logits, MLXN_READ}, {a.token, MLXN_WRITE}, {a.counter, MLXN_READ}};
    if (a.temperature == 0) {
        const logits_params row = {.rows = 1, .vocab = vocab, .stride = vocab};
        return mlxn_launch(encoder, MLXN_KERNEL_argmax, operands, 2, &row, sizeof row, NULL);
    }
    const sample_params params = {.vocab = vocab,
                                  .k = a.top_k && a.top_k < vocab ? a.top_k : vocab,
                                  .seed = a.seed,
                                  .temperature = a.temperature,
                                  .top_p = a.top_p,
                                  .min_p = a.min_p};
    return mlxn_launch(
        encoder, params.k <= SAMPLING_K_MAX ? MLXN_KERNEL_sample_list : MLXN_KERNEL_sample_all,
        operands, 3, &params, sizeof params, NULL);
}
