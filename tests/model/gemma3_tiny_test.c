/* gemma3_tiny_test.c - a small random Gemma 3 against a forward pass in float64 written here from
 * the formulas of the model's report, on every device of the rig with the same bits, and what must
 * be refused.
 *
 * The model has 7 layers (the sixth global), 4 heads over 2 key heads, a window of 8 keys: every
 * path of the real one, at a size where all of it can be computed again plainly.  Weights are f32,
 * so that the exact mode differs from the reference by f32 rounding alone: about 7 layers of 4
 * products of up to 96 terms, far below the 2e-4 (of the largest logit) allowed here. */
#include "../ops/rig.h"
#include "gguf_writer.h"
#include "tiny_vocab.h"

enum {
    LAYERS = 7,
    EMBEDDING = 64,
    HEADS = 4,
    KV_HEADS = 2,
    DIM = 32,
    FORWARD = 96,
    VOCAB = 308,
    WINDOW = 8,
    CONTEXT = 64,
    TOKENS = 40,
    MATRICES = 7,
    NORMS = 6,
};

typedef struct tiny {
    float embedding[VOCAB][EMBEDDING], output_norm[EMBEDDING];
    struct tiny_layer {
        float q[HEADS * DIM][EMBEDDING], k[KV_HEADS * DIM][EMBEDDING], v[KV_HEADS * DIM][EMBEDDING];
        float o[EMBEDDING][HEADS * DIM], gate[FORWARD][EMBEDDING], up[FORWARD][EMBEDDING];
        float down[EMBEDDING][FORWARD];
        float attn_norm[EMBEDDING], q_norm[DIM], k_norm[DIM], post_attention[EMBEDDING];
        float ffn_norm[EMBEDDING], post_ffw[EMBEDDING];
    } layers[LAYERS];
} tiny;

static void fill(float *x, size_t n, float center, float spread, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        x[i] = center + spread * test_normal(state);
}

static tiny *make_tiny(void)
{
    tiny *t = malloc(sizeof *t);
    uint64_t state = 99;
    if (!t)
        return NULL;
    fill(&t->embedding[0][0], VOCAB * EMBEDDING, 0, 0.3f, &state);
    fill(t->output_norm, EMBEDDING, 1, 0.2f, &state);
    for (int i = 0; i < LAYERS; i++) {
        struct tiny_layer *l = &t->layers[i];
        fill(&l->q[0][0], (sizeof l->q + sizeof l->k + sizeof l->v) / sizeof(float), 0, 0.15f,
             &state);
        fill(&l->o[0][0],
             (sizeof l->o + sizeof l->gate + sizeof l->up + sizeof l->down) / sizeof(float), 0,
             0.15f, &state);
        fill(l->attn_norm,
             (sizeof l->attn_norm * 4 + sizeof l->q_norm + sizeof l->k_norm) / sizeof(float), 1,
             0.2f, &state);
    }
    return t;
}

static void put(gguf_writer *w, int layer, const char *name, const float *x, int64_t rows,
                int64_t columns)
{
    char full[80];
    const int64_t shape[] = {rows ? rows : columns, columns};
    if (layer < 0)
        snprintf(full, sizeof full, "%s.weight", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s.weight", layer, name);
    gguf_tensor(w, full, 0, rows ? 2 : 1, shape, x,
                (size_t)(rows ? rows : 1) * (size_t)columns * sizeof *x);
}

static void put_keys(gguf_writer *w)
{
    gguf_key_text(w, "general.architecture", "gemma3");
    gguf_key_u32(w, "gemma3.context_length", CONTEXT);
    gguf_key_u32(w, "gemma3.block_count", LAYERS);
    gguf_key_u32(w, "gemma3.embedding_length", EMBEDDING);
    gguf_key_u32(w, "gemma3.feed_forward_length", FORWARD);
    gguf_key_u32(w, "gemma3.attention.head_count", HEADS);
    gguf_key_u32(w, "gemma3.attention.head_count_kv", KV_HEADS);
    gguf_key_u32(w, "gemma3.attention.key_length", DIM);
    gguf_key_u32(w, "gemma3.attention.value_length", DIM);
    gguf_key_f32(w, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_key_f32(w, "gemma3.rope.freq_base", 1e6f);
    gguf_key_u32(w, "gemma3.attention.sliding_window", WINDOW);
    tiny_vocab_keys(w);
}

static void put_layer(gguf_writer *w, const tiny *t, int i, const char *without)
{
    const struct tiny_layer *l = &t->layers[i];
    const struct {
        const char *name;
        const float *x;
        int64_t rows, columns;
    } all[MATRICES + NORMS] = {
        {"attn_q", &l->q[0][0], HEADS * DIM, EMBEDDING},
        {"attn_k", &l->k[0][0], KV_HEADS * DIM, EMBEDDING},
        {"attn_v", &l->v[0][0], KV_HEADS * DIM, EMBEDDING},
        {"attn_output", &l->o[0][0], EMBEDDING, HEADS * DIM},
        {"ffn_gate", &l->gate[0][0], FORWARD, EMBEDDING},
        {"ffn_up", &l->up[0][0], FORWARD, EMBEDDING},
        {"ffn_down", &l->down[0][0], EMBEDDING, FORWARD},
        {"attn_norm", l->attn_norm, 0, EMBEDDING},
        {"attn_q_norm", l->q_norm, 0, DIM},
        {"attn_k_norm", l->k_norm, 0, DIM},
        {"post_attention_norm", l->post_attention, 0, EMBEDDING},
        {"ffn_norm", l->ffn_norm, 0, EMBEDDING},
        {"post_ffw_norm", l->post_ffw, 0, EMBEDDING},
    };
    for (int k = 0; k < MATRICES + NORMS; k++)
        if (!without || strcmp(without, all[k].name) != 0)
            put(w, i, all[k].name, all[k].x, all[k].rows, all[k].columns);
}

/* The file in memory; `without`: a tensor of layer 3 that is left out. */
static unsigned char *make_file(const tiny *t, const char *without, size_t *bytes)
{
    gguf_writer w;
    gguf_begin(&w);
    put_keys(&w);
    put(&w, -1, "token_embd", &t->embedding[0][0], VOCAB, EMBEDDING);
    put(&w, -1, "output_norm", t->output_norm, 0, EMBEDDING);
    for (int i = 0; i < LAYERS; i++)
        put_layer(&w, t, i, i == 3 ? without : NULL);
    return gguf_finish(&w, bytes);
}

/* ---- the reference ---- */

static void norm64(const double *x, const float *weight, int n, double *out)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < n; i++)
        out[i] = x[i] / sqrt(sum / n + 1e-6) * (double)weight[i];
}

static void matvec64(const float *w, const double *x, int rows, int columns, double *out)
{
    for (int r = 0; r < rows; r++) {
        out[r] = 0;
        for (int c = 0; c < columns; c++)
            out[r] += (double)w[r * columns + c] * x[c];
    }
}

static void rope64(double *x, int position, double theta)
{
    for (int i = 0; i < DIM / 2; i++) {
        double a = position * pow(theta, -2.0 * i / DIM), lo = x[i], hi = x[i + DIM / 2];
        x[i] = lo * cos(a) - hi * sin(a);
        x[i + DIM / 2] = hi * cos(a) + lo * sin(a);
    }
}

typedef struct cache64 {
    double k[LAYERS][TOKENS][KV_HEADS * DIM], v[LAYERS][TOKENS][KV_HEADS * DIM];
} cache64;

static void attend64(const cache64 *cache, int layer, int position, int first, const double *q,
                     double *out)
{
    for (int h = 0; h < HEADS; h++) {
        const int g = h / (HEADS / KV_HEADS) * DIM;
        double e[TOKENS], top = -HUGE_VAL, total = 0;
        for (int j = first; j <= position; j++) {
            e[j] = 0;
            for (int d = 0; d < DIM; d++)
                e[j] += q[h * DIM + d] * cache->k[layer][j][g + d];
            e[j] /= sqrt(DIM);
            top = e[j] > top ? e[j] : top;
        }
        for (int j = first; j <= position; j++)
            total += e[j] = exp(e[j] - top);
        for (int d = 0; d < DIM; d++) {
            out[h * DIM + d] = 0;
            for (int j = first; j <= position; j++)
                out[h * DIM + d] += e[j] / total * cache->v[layer][j][g + d];
        }
    }
}

static void layer64(const tiny *t, cache64 *cache, int i, int position, double *h)
{
    const struct tiny_layer *l = &t->layers[i];
    const int global = i % 6 == 5;
    const double theta = global ? 1e6 : 1e4;
    double n[EMBEDDING], q[HEADS * DIM], a[HEADS * DIM], m[EMBEDDING], g[FORWARD], u[FORWARD];
    double *k = cache->k[i][position];
    norm64(h, l->attn_norm, EMBEDDING, n);
    matvec64(&l->q[0][0], n, HEADS * DIM, EMBEDDING, q);
    matvec64(&l->k[0][0], n, KV_HEADS * DIM, EMBEDDING, k);
    matvec64(&l->v[0][0], n, KV_HEADS * DIM, EMBEDDING, cache->v[i][position]);
    for (int j = 0; j < HEADS; j++) {
        norm64(q + j * DIM, l->q_norm, DIM, q + j * DIM);
        rope64(q + j * DIM, position, theta);
    }
    for (int j = 0; j < KV_HEADS; j++) {
        norm64(k + j * DIM, l->k_norm, DIM, k + j * DIM);
        rope64(k + j * DIM, position, theta);
    }
    attend64(cache, i, position, global || position < WINDOW ? 0 : position - WINDOW + 1, q, a);
    matvec64(&l->o[0][0], a, EMBEDDING, HEADS * DIM, m);
    norm64(m, l->post_attention, EMBEDDING, m);
    for (int d = 0; d < EMBEDDING; d++)
        h[d] += m[d];
    norm64(h, l->ffn_norm, EMBEDDING, n);
    matvec64(&l->gate[0][0], n, FORWARD, EMBEDDING, g);
    matvec64(&l->up[0][0], n, FORWARD, EMBEDDING, u);
    for (int d = 0; d < FORWARD; d++)
        g[d] = 0.5 * g[d] *
               (1 + tanh(sqrt(2 / acos(-1)) * (g[d] + 0.044715 * g[d] * g[d] * g[d]))) * u[d];
    matvec64(&l->down[0][0], g, EMBEDDING, FORWARD, m);
    norm64(m, l->post_ffw, EMBEDDING, m);
    for (int d = 0; d < EMBEDDING; d++)
        h[d] += m[d];
}

/* Logits after each of the tokens. */
static void forward64(const tiny *t, const int32_t *ids, double (*logits)[VOCAB])
{
    cache64 *cache = calloc(1, sizeof *cache);
    double h[EMBEDDING], n[EMBEDDING];
    for (int p = 0; cache && p < TOKENS; p++) {
        for (int d = 0; d < EMBEDDING; d++)
            h[d] = sqrt(EMBEDDING) * (double)t->embedding[ids[p]][d];
        for (int i = 0; i < LAYERS; i++)
            layer64(t, cache, i, p, h);
        norm64(h, t->output_norm, EMBEDDING, n);
        matvec64(&t->embedding[0][0], n, VOCAB, EMBEDDING, logits[p]);
    }
    free(cache);
}

/* ---- comparing ---- */

typedef struct fixture {
    tiny *weights;
    unsigned char *file;
    mlxn_device *device;
    mlxn_gguf *gguf;
    mlxn_model *model;
    int32_t ids[TOKENS];
    double logits[TOKENS][VOCAB];
    float got[TOKENS][VOCAB];
    size_t scored; /* tokens */
    double worst;
} fixture;

static int fixture_begin(fixture *f, const rig_device *on)
{
    size_t bytes;
    uint64_t state = 5;
    memset(f, 0, sizeof *f);
    f->weights = make_tiny();
    f->file = f->weights ? make_file(f->weights, NULL, &bytes) : NULL;
    f->device = mlxn_device_retain(on->device);
    for (int i = 0; i < TOKENS; i++)
        f->ids[i] = (int32_t)(test_random(&state) % VOCAB);
    return f->file &&
           test_status(mlxn_gguf_open_memory(f->file, bytes, "tiny", &f->gguf), MLXN_OK, __FILE__,
                       __LINE__, "gguf") &&
           test_status(
               mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = f->device, .gguf = f->gguf),
                                 &f->model),
               MLXN_OK, __FILE__, __LINE__, "model");
}

static void fixture_end(fixture *f)
{
    mlxn_model_release(f->model);
    mlxn_gguf_release(f->gguf);
    mlxn_device_release(f->device);
    free(f->file);
    free(f->weights);
}

static int compare_row(void *context, size_t index, const float *logits, float logprob)
{
    fixture *f = context;
    double top = 0, sum = 0, max = -HUGE_VAL;
    memcpy(f->got[index], logits, sizeof f->got[index]);
    for (int i = 0; i < VOCAB; i++) {
        top = fmax(top, fabs(f->logits[index][i]));
        max = fmax(max, f->logits[index][i]);
    }
    for (int i = 0; i < VOCAB; i++) {
        f->worst = fmax(f->worst, fabs((double)logits[i] - f->logits[index][i]) / top);
        sum += exp(f->logits[index][i] - max);
    }
    if (index + 1 < f->scored) {
        double want = f->logits[index][f->ids[index + 1]] - max - log(sum);
        if (fabs((double)logprob - want) > 1e-3)
            test_failed(__FILE__, __LINE__, "logprob of row %zu is %g, reference %g", index,
                        (double)logprob, want);
    } else if (!isnan(logprob)) {
        test_failed(__FILE__, __LINE__, "the last row's logprob is %g", (double)logprob);
    }
    return 0;
}

static mlxn_session *tiny_session(const fixture *f, int64_t context, int64_t chunk,
                                  mlxn_matmul_mode mode)
{
    mlxn_session *session = NULL;
    CHECK_STATUS(mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = f->model,
                                               .context = context, .chunk = chunk, .matmul = mode),
                                     &session),
                 MLXN_OK);
    return session;
}

TEST(gemma3_tiny_against_float64)
{
    static fixture f;
    static float first[TOKENS][VOCAB];
    static const int64_t chunks[] = {5, 1, 16, CONTEXT};
    size_t known = 0;
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        if (fixture_begin(&f, &devices[d])) {
            forward64(f.weights, f.ids, f.logits);
            f.scored = devices[d].slow ? 9 : TOKENS;
            for (int i = 0; i < (devices[d].slow ? 1 : 4); i++) {
                mlxn_session *s = tiny_session(&f, CONTEXT, chunks[i], MLXN_MATMUL_EXACT);
                CHECK_STATUS(mlxn_session_score(s, f.ids, f.scored, compare_row, &f), MLXN_OK);
                if (!known)
                    memcpy(first, f.got, sizeof first);
                known = known && known < f.scored ? known : f.scored;
                CHECK(!memcmp(first, f.got, known * sizeof *first));
                mlxn_session_release(s);
            }
            test_note("%s: worst logit off by %.2e of the largest", devices[d].path, f.worst);
            CHECK(f.worst > 0 && f.worst < 2e-4);
        }
        fixture_end(&f);
    }
}

/* Steps and feeding one by one give the same logits, until the context is full. */
static void check_steps(const fixture *f, mlxn_matmul_mode mode, int64_t context)
{
    mlxn_session *a = tiny_session(f, context, 16, mode), *b = tiny_session(f, context, 7, mode);
    const float *x = NULL, *y = NULL;
    int32_t token = 0;
    char full[16];
    snprintf(full, sizeof full, "%d", (int)context);
    CHECK_STATUS(mlxn_session_feed(a, f->ids, 20), MLXN_OK);
    CHECK_STATUS(mlxn_session_feed(b, f->ids, 20), MLXN_OK);
    CHECK_STATUS(mlxn_session_sample(a, &token), MLXN_OK);
    for (int64_t i = 20; i < context; i++) {
        CHECK_STATUS(mlxn_session_feed(b, &token, 1), MLXN_OK);
        CHECK_STATUS(mlxn_session_step(a, &token), MLXN_OK);
        CHECK_STATUS(mlxn_session_logits(a, &x), MLXN_OK);
        CHECK_STATUS(mlxn_session_logits(b, &y), MLXN_OK);
        if (!x || !y)
            break;
        CHECK(!memcmp(x, y, VOCAB * sizeof *x));
    }
    CHECK_FAILS(mlxn_session_step(a, &token), MLXN_ERR_BOUNDS, full);
    CHECK_FAILS(mlxn_session_feed(b, f->ids, 1), MLXN_ERR_BOUNDS, full);
    mlxn_session_release(a);
    mlxn_session_release(b);
}

TEST(gemma3_tiny_steps_equal_feeding)
{
    static fixture f;
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        if (fixture_begin(&f, &devices[d])) {
            /* rings have 23 and 14 slots */
            const int64_t context = devices[d].slow ? 22 : d ? 26 : CONTEXT;
            check_steps(&f, MLXN_MATMUL_EXACT, context);
            check_steps(&f, MLXN_MATMUL_FAST, context);
        }
        fixture_end(&f);
    }
}

/* The tokens of four runs, of which the second repeats the first, the third has another seed and
 * the fourth a penalty; those of `first`, the first device's, if they are known. */
enum { RUNS = 4, PICKED = 30 };
static void check_sampling(const fixture *f, int count, int32_t first[RUNS][PICKED], int known)
{
    mlxn_session *s = tiny_session(f, CONTEXT, 16, MLXN_MATMUL_EXACT);
    for (int run = 0; run < RUNS; run++) {
        const mlxn_sampling p = {.size = sizeof p,
                                 .temperature = 0.9f,
                                 .top_k = 20,
                                 .top_p = 0.95f,
                                 .min_p = 0.02f,
                                 .repeat_penalty = run == 3 ? 1.5f : 1,
                                 .repeat_last = 64,
                                 .seed = run == 2 ? 8 : 7};
        int32_t tokens[PICKED];
        CHECK_STATUS(mlxn_session_reset(s), MLXN_OK);
        CHECK_STATUS(mlxn_session_set_sampling(s, &p), MLXN_OK);
        CHECK_STATUS(mlxn_session_feed(s, f->ids, 20), MLXN_OK);
        CHECK_STATUS(mlxn_session_sample(s, &tokens[0]), MLXN_OK);
        for (int i = 1; i < count; i++)
            CHECK_STATUS(mlxn_session_step(s, &tokens[i]), MLXN_OK);
        if (known)
            CHECK(!memcmp(first[run], tokens, (size_t)count * sizeof *tokens));
        else
            memcpy(first[run], tokens, (size_t)count * sizeof *tokens);
        const int same = !memcmp(first[0], tokens, (size_t)count * sizeof *tokens);
        CHECK(same == (run < 2) || (same && count < PICKED)); /* few may be the same by chance */
    }
    mlxn_session_release(s);
}

TEST(gemma3_tiny_sampling)
{
    static fixture f;
    int32_t first[RUNS][PICKED];
    int n;
    const rig_device *devices = rig_devices(&n);
    for (int d = 0; d < n; d++) {
        if (fixture_begin(&f, &devices[d]))
            check_sampling(&f, devices[d].slow ? 2 : d ? 4 : PICKED, first, d > 0);
        fixture_end(&f);
    }
}

TEST(gemma3_tiny_bad_sampling)
{
    static fixture f;
    int n;
    if (fixture_begin(&f, rig_devices(&n))) {
        mlxn_session *s = tiny_session(&f, CONTEXT, 16, MLXN_MATMUL_FAST);
        const mlxn_sampling plain = {
            .size = sizeof plain, .temperature = 0.9f, .top_p = 1, .repeat_penalty = 1};
        mlxn_sampling bad = plain;
        bad.top_p = 0;
        CHECK_FAILS(mlxn_session_set_sampling(s, &bad), MLXN_ERR_ARGUMENT, "top_p");
        bad = plain;
        bad.temperature = NAN;
        CHECK_FAILS(mlxn_session_set_sampling(s, &bad), MLXN_ERR_ARGUMENT, "temperature");
        CHECK_STATUS(mlxn_session_set_sampling(s, NULL), MLXN_ERR_ARGUMENT);
        mlxn_session_release(s);
    }
    fixture_end(&f);
}

TEST(gemma3_tiny_bad_calls)
{
    static fixture f;
    const float *logits;
    int32_t token = VOCAB, negative = -1;
    mlxn_session *s = NULL;
    int n;
    if (fixture_begin(&f, rig_devices(&n))) {
        CHECK_FAILS(
            mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = f.model,
                                          .context = CONTEXT + 1, .matmul = MLXN_MATMUL_FAST),
                                &s),
            MLXN_ERR_ARGUMENT, "65");
        CHECK_FAILS(
            mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = f.model, .context = 8), &s),
            MLXN_ERR_ARGUMENT, "mode 0");
        CHECK_STATUS(mlxn_session_create(NULL, &s), MLXN_ERR_ARGUMENT);
        s = tiny_session(&f, 8, 0, MLXN_MATMUL_FAST);
        CHECK_STATUS(mlxn_session_logits(s, &logits), MLXN_ERR_STATE);
        CHECK_STATUS(mlxn_session_sample(s, &token), MLXN_ERR_STATE);
        CHECK_STATUS(mlxn_session_step(s, &token), MLXN_ERR_STATE);
        CHECK_FAILS(mlxn_session_feed(s, &token, 1), MLXN_ERR_BOUNDS, "308");
        CHECK_FAILS(mlxn_session_feed(s, &negative, 1), MLXN_ERR_BOUNDS, "-1");
        CHECK_FAILS(mlxn_session_feed(s, f.ids, 9), MLXN_ERR_BOUNDS, "9 tokens");
        CHECK_STATUS(mlxn_session_feed(s, NULL, 1), MLXN_ERR_ARGUMENT);
        CHECK_STATUS(mlxn_session_feed(NULL, f.ids, 1), MLXN_ERR_ARGUMENT);
        CHECK(mlxn_session_position(s) == 0);
        mlxn_session_release(s);
    }
    fixture_end(&f);
}

TEST(gemma3_tiny_missing_tensors)
{
    static const char *const names[] = {"attn_q", "attn_v", "ffn_down", "attn_k_norm", "ffn_norm"};
    tiny *t = make_tiny();
    int n;
    mlxn_device *device = rig_devices(&n)->device;
    REQUIRE(t);
    for (int i = 0; i < 5; i++) {
        size_t bytes;
        unsigned char *file = make_file(t, names[i], &bytes);
        mlxn_gguf *gguf = NULL;
        mlxn_model *model = NULL;
        CHECK_STATUS(mlxn_gguf_open_memory(file, bytes, "tiny", &gguf), MLXN_OK);
        CHECK_FAILS(
            mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = device, .gguf = gguf), &model),
            MLXN_ERR_FORMAT, names[i]);
        CHECK(model == NULL);
        mlxn_gguf_release(gguf);
        free(file);
    }
    free(t);
}

static int stop_at_half(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return done > total / 2;
}

TEST(gemma3_tiny_cancelled_load)
{
    static fixture f;
    mlxn_model *model = NULL;
    int n;
    if (fixture_begin(&f, rig_devices(&n)))
        CHECK_STATUS(mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = f.device,
                                                 .gguf = f.gguf, .progress = stop_at_half),
                                       &model),
                     MLXN_ERR_CANCELLED);
    CHECK(model == NULL);
    fixture_end(&f);
}
