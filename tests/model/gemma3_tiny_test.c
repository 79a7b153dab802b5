/* gemma3_tiny_test.c - a small random Gemma 3 against its forward pass in float64 (tiny_gemma.h),
 * on every device of the rig with the same bits, and what must be refused.
 *
 * Weights are f32, so that the exact mode differs from the reference by f32 rounding alone: about 7
 * layers of 4 products of up to 96 terms, far below the 2e-4 (of the largest logit) allowed here.
 */
#include "../ops/rig.h"
#include "tiny_gemma.h"

typedef struct fixture {
    tiny_gemma *weights;
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
    f->weights = tiny_gemma_make();
    f->file = f->weights ? tiny_gemma_file(f->weights, NULL, &bytes) : NULL;
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
            tiny_gemma_forward(f.weights, f.ids, f.logits);
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

/* Callers that know fewer fields or more; structs to fill have one size. */
TEST(gemma3_tiny_sizes)
{
    static fixture f;
    mlxn_model_info info = {.size = sizeof info - 8};
    mlxn_session_stats stats = {.size = 0};
    mlxn_session *s = NULL;
    int n;
    if (fixture_begin(&f, rig_devices(&n))) {
        struct {
            mlxn_session_desc desc;
            uint64_t future;
        } of = {.desc = {.size = offsetof(mlxn_session_desc, screen_top),
                         .model = f.model,
                         .context = 8,
                         .matmul = MLXN_MATMUL_FAST,
                         .screen_top = -1}};
        CHECK_STATUS(mlxn_session_create(&of.desc, &s), MLXN_OK); /* screen_top is not read */
        CHECK_FAILS(mlxn_model_get_info(f.model, &info), MLXN_ERR_ARGUMENT, "needs");
        CHECK_FAILS(mlxn_session_get_stats(s, &stats), MLXN_ERR_ARGUMENT, "size is 0");
        mlxn_session_release(s);
        of.desc.size = sizeof of;
        of.desc.screen_top = 0;
        CHECK_STATUS(mlxn_session_create(&of.desc, &s), MLXN_OK);
        mlxn_session_release(s);
        of.future = 1;
        CHECK_FAILS(mlxn_session_create(&of.desc, &s), MLXN_ERR_ARGUMENT, "knows");
        CHECK(s == NULL);
    }
    fixture_end(&f);
}

TEST(gemma3_tiny_missing_tensors)
{
    static const char *const names[] = {"attn_q", "attn_v", "ffn_down", "attn_k_norm", "ffn_norm"};
    tiny_gemma *t = tiny_gemma_make();
    int n;
    mlxn_device *device = rig_devices(&n)->device;
    REQUIRE(t);
    for (int i = 0; i < 5; i++) {
        size_t bytes;
        unsigned char *file = tiny_gemma_file(t, names[i], &bytes);
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

TEST(gemma3_tiny_has_no_screen)
{
    static fixture f;
    mlxn_model *model = NULL;
    int n;
    if (fixture_begin(&f, rig_devices(&n)))
        CHECK_FAILS(
            mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = f.device, .gguf = f.gguf,
                                        .screen_path = "/nowhere/screen", .screen_key = "tiny"),
                              &model),
            MLXN_ERR_DTYPE, "tiny: tensor token_embd.weight: ");
    CHECK(model == NULL);
    fixture_end(&f);
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
