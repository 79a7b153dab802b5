/* head_output.c - a shape's times as a row of a table, or as an object of JSON. */
#include <inttypes.h>
#include "head_bench.h"

static void print_json(const head_bench *b, const head_times *t)
{
    const head_shape *s = &b->shape;
    const int n = (int)b->v->repetitions;
    const measure_summary fused = measure_summarise(t->fused.samples, NULL, n);
    const measure_summary chain = measure_summarise(t->chain.samples, t->fused.samples, n);
    const measure_summary call = measure_summarise(t->calls, NULL, n);
    printf("%s  {\"tokens\": %" PRId64 ", \"heads\": %" PRId64 ", \"kv_heads\": %" PRId64
           ", \"head_dim\": %" PRId64 ", \"dtype\": \"%s\", \"bytes\": %zu, \"seconds\": %.10f"
           ", \"seconds_low\": %.10f, \"seconds_high\": %.10f, \"bytes_per_second\": %.0f"
           ", \"chain_ratio\": %.4f, \"call_seconds\": %.10f",
           b->rows_printed ? ",\n" : "[\n", s->tokens, s->heads, s->kv_heads, s->dim,
           mlxn_dtype_name(s->dtype), s->bytes, fused.median, fused.low, fused.high,
           (double)s->bytes / fused.median, chain.median, call.median);
    if (t->copy.count) {
        const measure_summary copy = measure_summarise(t->fused.samples, t->copy.samples, n);
        printf(", \"copy_ratio\": %.4f, \"copy_ratio_low\": %.4f, \"copy_ratio_high\": %.4f"
               ", \"copy_seconds\": %.10f",
               copy.median, copy.low, copy.high,
               measure_summarise(t->copy.samples, NULL, n).median);
    }
    for (int k = 0; k < HEAD_BASELINES && t->baseline[k].count; k++)
        printf(", \"%s\": %.10f", head_baseline_names[k],
               measure_summarise(t->baseline[k].samples, NULL, n).median);
    printf("}");
}

static void print_md(const head_bench *b, const head_times *t)
{
    const head_shape *s = &b->shape;
    const int n = (int)b->v->repetitions;
    const measure_summary fused = measure_summarise(t->fused.samples, NULL, n);
    char shape[48], spread[32], copy[48] = "";
    if (!b->rows_printed)
        puts(
            "| shape              | dtype |         us | spread              |       MB |   GB/s | "
            "/ copy (spread)        | chain / us | call us    |\n"
            "| ------------------ | ----- | ---------: | ------------------- | -------: | -----: | "
            "---------------------- | ---------: | ---------: |");
    if (s->kv_heads)
        snprintf(shape, sizeof shape,
                 "%" PRId64 " x %" PRId64 "/%" PRId64 "/%" PRId64 " x %" PRId64, s->tokens,
                 s->heads, s->kv_heads, s->kv_heads, s->dim);
    else
        snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64 " x %" PRId64, s->tokens, s->heads,
                 s->dim);
    if (t->copy.count) {
        const measure_summary ratio = measure_summarise(t->fused.samples, t->copy.samples, n);
        snprintf(copy, sizeof copy, "%.2f (%.2f to %.2f)", ratio.median, ratio.low, ratio.high);
    }
    snprintf(spread, sizeof spread, "%.3f to %.3f", fused.low * 1e6, fused.high * 1e6);
    printf("| %-18s | %-5s | %10.3f | %-19s | %8.3f | %6.1f | %-22s | %10.2f | %10.3f |\n", shape,
           mlxn_dtype_name(s->dtype), fused.median * 1e6, spread, (double)s->bytes / 1e6,
           (double)s->bytes / fused.median / 1e9, copy,
           measure_summarise(t->chain.samples, t->fused.samples, n).median,
           measure_summarise(t->calls, NULL, n).median * 1e6);
    for (int k = 0; k < HEAD_BASELINES && t->baseline[k].count; k++)
        printf("| %s, no v: %.3f us, %.2f of ours |\n", head_baseline_names[k],
               measure_summarise(t->baseline[k].samples, NULL, n).median * 1e6,
               measure_summarise(t->baseline[k].samples, t->fused.samples, n).median);
}

void head_print(const head_bench *b, const head_times *t)
{
    if (b->v->output)
        print_json(b, t);
    else
        print_md(b, t);
}
