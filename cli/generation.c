/* generation.c - the summaries of a generation. */
#include <string.h>
#include "generate.h"
#include "json.h"
#include "support.h"

static const char *const reason_words[] = {"end", "length", "context", "interrupted"};
static const char *const reason_texts[] = {"the model's end token", "-n", "the end of the context",
                                           "Ctrl-C"};

static double rate(size_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

void generation_text(const generation *g, const loaded *l, FILE *out)
{
    const mlxn_device_info *d = &l->device_info;
    fprintf(out, "mlxn: prompt %zu tokens, %.3f s, %.1f tok/s\n", g->prompt_tokens,
            g->prompt_seconds, rate(g->prompt_tokens, g->prompt_seconds));
    fprintf(out, "mlxn: generated %zu tokens, %.3f s, %.1f tok/s; ended by %s\n", g->generated,
            g->seconds, rate(g->generated, g->seconds), reason_texts[g->reason]);
    fprintf(out, "mlxn: seed %llu", (unsigned long long)g->seed);
    if (g->dispatches)
        fprintf(out, "; %llu dispatches and %llu barriers a token",
                (unsigned long long)g->dispatches, (unsigned long long)g->barriers);
    if (g->generated)
        fprintf(out, "; first token %.3f s after the start", g->first_token_seconds);
    fputc('\n', out);
    fprintf(out, "mlxn: peak memory %.1f MiB; device %s (%s), SIMD path %s, %u threads\n",
            (double)cli_peak_bytes() / (1 << 20), d->backend, d->name, d->path, d->threads);
}

static void json_text_field(FILE *out, const char *key, const char *text)
{
    fprintf(out, ",\"%s\":", key);
    json_string(out, text, strlen(text));
}

static void json_seconds(FILE *out, const char *key, double value)
{
    fprintf(out, ",\"%s\":%.6f", key, value);
}

void generation_json(const generation *g, const loaded *l, const run_values *v, FILE *out)
{
    const mlxn_device_info *d = &l->device_info;
    fprintf(out, "{\"prompt_tokens\":%zu,\"generated_tokens\":%zu", g->prompt_tokens, g->generated);
    json_seconds(out, "prompt_seconds", g->prompt_seconds);
    json_seconds(out, "generated_seconds", g->seconds);
    json_seconds(out, "load_seconds", g->load_seconds);
    if (g->generated)
        json_seconds(out, "first_token_seconds", g->first_token_seconds);
    json_seconds(out, "prompt_tokens_per_second", rate(g->prompt_tokens, g->prompt_seconds));
    json_seconds(out, "generated_tokens_per_second", rate(g->generated, g->seconds));
    json_text_field(out, "reason", reason_words[g->reason]);
    if (g->reason == END_TOKEN)
        fprintf(out, ",\"end_token\":%d", (int)g->end_token);
    if (*g->tail)
        json_text_field(out, "tail", g->tail);
    fprintf(out, ",\"seed\":%llu,\"dispatches_per_token\":%llu,\"barriers_per_token\":%llu",
            (unsigned long long)g->seed, (unsigned long long)g->dispatches,
            (unsigned long long)g->barriers);
    fprintf(out, ",\"peak_memory_bytes\":%llu", (unsigned long long)cli_peak_bytes());
    json_text_field(out, "device", d->backend);
    json_text_field(out, "device_name", d->name);
    json_text_field(out, "simd_path", d->path);
    fprintf(out, ",\"threads\":%u,\"matmul\":\"%s\"", d->threads,
            v->common.matmul == MATMUL_EXACT_WORD ? "exact" : "fast");
    json_text_field(out, "model", l->path);
    fputs("}\n", out);
}
