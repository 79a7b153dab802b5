/* config.c - the numbers of a Gemma 3 model, from the metadata of its file.
 *
 * What GGUF files of Gemma 3 leave out has the family's fixed value: local layers rotate with theta
 * 10000 unscaled, every sixth layer is global (Gemma 3 technical report, 2025; llama.cpp reads the
 * same keys). */
#include <math.h>
#include <string.h>
#include "model/gemma3.h"

/* A required integer in [1, max]. */
static mlxn_status get_count(const mlxn_gguf *gguf, const char *key, int64_t max, int64_t *out)
{
    int64_t value;
    mlxn_status status = mlxn_gguf_get_i64(gguf, key, &value);
    if (status != MLXN_OK)
        return mlxn_fail(status == MLXN_ERR_MEMORY ? status : MLXN_ERR_FORMAT, "%s",
                         mlxn_last_error());
    if (value < 1 || value > max)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: %s is %lld, needs 1 to %lld", mlxn_gguf_path(gguf),
                         key, (long long)value, (long long)max);
    *out = value;
    return MLXN_OK;
}

static int has_key(const mlxn_gguf *gguf, const char *key)
{
    return mlxn_gguf_find_key(gguf, key) >= 0;
}

static mlxn_status get_count_or(const mlxn_gguf *gguf, const char *key, int64_t max,
                                int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    return has_key(gguf, key) ? get_count(gguf, key, max, out) : MLXN_OK;
}

/* A finite number > 0, `otherwise` if the key is absent. */
static mlxn_status get_positive_or(const mlxn_gguf *gguf, const char *key, double otherwise,
                                   double *out)
{
    *out = otherwise;
    if (!has_key(gguf, key))
        return MLXN_OK;
    if (mlxn_gguf_get_f64(gguf, key, out) != MLXN_OK)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s", mlxn_last_error());
    if (!(*out > 0) || !isfinite(*out))
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: %s is %g, needs > 0", mlxn_gguf_path(gguf), key,
                         *out);
    return MLXN_OK;
}

static mlxn_status check_architecture(const mlxn_gguf *gguf)
{
    mlxn_gguf_string name;
    if (mlxn_gguf_get_string(gguf, "general.architecture", &name) != MLXN_OK)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s", mlxn_last_error());
    if (name.bytes != 6 || memcmp(name.data, "gemma3", 6) != 0)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED,
                         "%s: architecture \"%.*s\" is not supported (supported: gemma3)",
                         mlxn_gguf_path(gguf), name.bytes < 64 ? (int)name.bytes : 64, name.data);
    return MLXN_OK;
}

static mlxn_status read_shape(const mlxn_gguf *gguf, gemma3_config *c)
{
    int64_t value_dim;
    const int64_t max = 1 << 20;
    MLXN_TRY(get_count(gguf, "gemma3.context_length", 1 << 30, &c->context));
    MLXN_TRY(get_count(gguf, "gemma3.block_count", GEMMA3_MAX_LAYERS, &c->layers));
    MLXN_TRY(get_count(gguf, "gemma3.embedding_length", max, &c->embedding));
    MLXN_TRY(get_count(gguf, "gemma3.feed_forward_length", max, &c->feed_forward));
    MLXN_TRY(get_count(gguf, "gemma3.attention.head_count", 4096, &c->heads));
    MLXN_TRY(get_count_or(gguf, "gemma3.attention.head_count_kv", 4096, c->heads, &c->kv_heads));
    MLXN_TRY(get_count(gguf, "gemma3.attention.key_length", 1024, &c->head_dim));
    MLXN_TRY(get_count_or(gguf, "gemma3.attention.value_length", 1024, c->head_dim, &value_dim));
    MLXN_TRY(get_count(gguf, "gemma3.attention.sliding_window", 1 << 30, &c->window));
    MLXN_TRY(get_count_or(gguf, "gemma3.attention.sliding_window_pattern", GEMMA3_MAX_LAYERS, 6,
                          &c->window_pattern));
    if (c->heads % c->kv_heads)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: %lld heads do not share %lld key heads evenly",
                         mlxn_gguf_path(gguf), (long long)c->heads, (long long)c->kv_heads);
    if (c->head_dim % 2 || value_dim != c->head_dim)
        return mlxn_fail(MLXN_ERR_FORMAT, "%s: key length %lld must be even and equal to %lld",
                         mlxn_gguf_path(gguf), (long long)c->head_dim, (long long)value_dim);
    return MLXN_OK;
}

mlxn_status mlxn_gemma3_read_config(const mlxn_gguf *gguf, gemma3_config *c)
{
    double eps, factor, softcap = 0;
    MLXN_TRY(check_architecture(gguf));
    MLXN_TRY(read_shape(gguf, c));
    MLXN_TRY(get_positive_or(gguf, "gemma3.attention.layer_norm_rms_epsilon", 1e-6, &eps));
    MLXN_TRY(get_positive_or(gguf, "gemma3.rope.freq_base", 1e6, &c->theta_global));
    MLXN_TRY(get_positive_or(gguf, "gemma3.rope.freq_base_swa", 1e4, &c->theta_local));
    MLXN_TRY(get_positive_or(gguf, "gemma3.rope.scaling.factor", 1, &factor));
    if (has_key(gguf, "gemma3.final_logit_softcapping"))
        MLXN_TRY(get_positive_or(gguf, "gemma3.final_logit_softcapping", 1, &softcap));
    c->eps = (float)eps;
    c->scale_global = 1 / factor;
    c->final_softcap = (float)softcap;
    c->embedding_scale = sqrtf((float)c->embedding);
    /* The 27B model (62 layers) divides by the root of embedding / heads instead. */
    double denominator =
        c->layers == 62 ? (double)c->embedding / (double)c->heads : (double)c->head_dim;
    c->attention_scale = (float)(1 / sqrt(denominator));
    return MLXN_OK;
}

int mlxn_gemma3_is_global(const gemma3_config *config, int64_t layer)
{
    return layer % config->window_pattern == config->window_pattern - 1;
}
