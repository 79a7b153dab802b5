/* gemma3_real_test.c - the real Gemma 3 270M: greedy tokens and likelihood against the golden data,
 * and the same bits whatever the threads, SIMD path and split of the prompt.
 *
 * The golden data come from the same weights computed in f32 (`ref`).  An f32 engine must agree at
 * every step whose margin exceeds 0.02; one that rounds activations to int8 at every step whose
 * margin exceeds 0.6, and at 96 % of all steps. */
#include "../test.h"
#include "../json.h"
#include "../ops/attention_chain.h"
#include "model/gemma3.h"
#include "real_model.h"

static mlxn_model *load_model(uint32_t threads, uint32_t mask)
{
    mlxn_device *device = NULL;
    mlxn_gguf *gguf = NULL;
    mlxn_model *model = NULL;
    const char *path = real_model_path();
    if (!path)
        return NULL;
    CHECK_STATUS(mlxn_device_open_with(MLXN_DESC(mlxn_device_desc, .backend = test_backend(),
                                                 .index = test_device_index(), .threads = threads,
                                                 .cpu_mask = mask),
                                       &device),
                 MLXN_OK);
    CHECK_STATUS(mlxn_gguf_open(path, &gguf), MLXN_OK);
    CHECK_STATUS(
        mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = device, .gguf = gguf), &model),
        MLXN_OK);
    mlxn_gguf_release(gguf);
    mlxn_device_release(device);
    return model;
}

static mlxn_session *new_session(mlxn_model *model, int64_t context, int64_t chunk,
                                 mlxn_matmul_mode mode)
{
    mlxn_session *session = NULL;
    CHECK_STATUS(mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = model,
                                               .context = context, .chunk = chunk, .matmul = mode),
                                     &session),
                 MLXN_OK);
    return session;
}

static int32_t argmax(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* ---- greedy ---- */

typedef struct greedy {
    const json_value *prompt;
    const char *name;
    int32_t vocab;
    int forced[64];
    double margins[64], tolerance, worst;
    int steps, agree, wrong;
    double bar;
} greedy;

/* Row i of the scored list gives the token of step i. */
static int check_step(void *context, size_t index, const float *logits, float logprob)
{
    greedy *g = context;
    (void)logprob;
    if (index == 0) {
        const json_value *top = json_get(json_get(g->prompt, "ref"), "top5");
        const json_value *id = json_get(top, "id")->first, *logit = json_get(top, "logit")->first;
        for (; g->tolerance > 0 && id; id = id->next, logit = logit->next) {
            double off = fabs((double)logits[(int)id->number] - logit->number);
            g->worst = off > g->worst ? off : g->worst;
            if (off > g->tolerance)
                test_failed(__FILE__, __LINE__, "%s: logit of %d is %.4f, reference %.4f", g->name,
                            (int)id->number, (double)logits[(int)id->number], logit->number);
        }
    }
    int32_t got = argmax(logits, g->vocab);
    g->steps++;
    g->agree += got == g->forced[index];
    if (got != g->forced[index] && g->margins[index] > g->bar) {
        g->wrong++;
        test_failed(__FILE__, __LINE__, "%s, step %zu: token %d, reference %d (margin %.3f)",
                    g->name, index, got, g->forced[index], g->margins[index]);
    }
    return 0;
}

static void run_greedy(mlxn_matmul_mode mode, double bar, double tolerance, double share)
{
    mlxn_model *model = load_model(0, 0);
    json_document *document = json_load("gemma3_greedy_dev.json");
    mlxn_session *session = model ? new_session(model, 1024, 0, mode) : NULL;
    greedy g = {.bar = bar, .tolerance = tolerance, .vocab = 262144};
    REQUIRE(session && document);
    for (const json_value *p = json_get(json_root(document), "prompts")->first; p; p = p->next) {
        static int ids[1024], next[64];
        const json_value *ref = json_get(p, "ref");
        size_t n = json_ids(json_get(p, "ids"), ids, 1024), k = 0;
        size_t steps = json_ids(json_get(p, "next"), next, 64);
        json_ids(json_get(ref, "next_forced"), g.forced, 64);
        for (const json_value *m = json_get(ref, "margin")->first; m && k < 64; m = m->next)
            g.margins[k++] = m->number;
        REQUIRE(n > 0 && steps == k && n + steps <= 1024);
        g.prompt = p;
        g.name = json_text(p, "name");
        memcpy(ids + n, next, (steps - 1) * sizeof *next);
        CHECK_STATUS(mlxn_session_reset(session), MLXN_OK);
        CHECK_STATUS(mlxn_session_feed(session, ids, n - 1), MLXN_OK);
        CHECK_STATUS(mlxn_session_score(session, ids + n - 1, steps, check_step, &g), MLXN_OK);
    }
    test_note("%d of %d steps agree, %d wrong above margin %.2f, worst top-5 logit off by %.5f",
              g.agree, g.steps, g.wrong, bar, g.worst);
    CHECK(g.steps > 0 && g.steps % 48 == 0);
    CHECK(g.agree >= share * g.steps);
    json_free(document);
    mlxn_session_release(session);
    mlxn_model_release(model);
}

TEST(gemma3_real_greedy_exact)
{
    run_greedy(MLXN_MATMUL_EXACT, 0.02, 0.02, 0.96);
}

TEST(gemma3_real_greedy_fast)
{
    run_greedy(MLXN_MATMUL_FAST, 0.6, 0, 0.96);
}

/* ---- likelihood ---- */

typedef struct likelihood {
    double nll[1024];
    size_t count;
} likelihood;

static int keep_logprob(void *context, size_t index, const float *logits, float logprob)
{
    likelihood *l = context;
    (void)logits;
    if (!isnan(logprob) && index < 1024) {
        l->nll[index] = -(double)logprob;
        l->count = index + 1;
    }
    return 0;
}

static size_t encode_text(mlxn_model *model, const char *text, size_t bytes, int32_t *ids,
                          size_t capacity)
{
    mlxn_gguf *gguf = NULL;
    mlxn_tokenizer *tokenizer = NULL;
    size_t count = 0;
    (void)model;
    CHECK_STATUS(mlxn_gguf_open(real_model_path(), &gguf), MLXN_OK);
    CHECK_STATUS(mlxn_tokenizer_create(gguf, &tokenizer), MLXN_OK);
    CHECK_STATUS(
        mlxn_tokenizer_encode(tokenizer, text, bytes, MLXN_TOKENS_BOS, ids, capacity, &count),
        MLXN_OK);
    mlxn_tokenizer_release(tokenizer);
    mlxn_gguf_release(gguf);
    return count;
}

static double mean(const double *x, size_t from, size_t to)
{
    double sum = 0;
    for (size_t i = from; i < to; i++)
        sum += x[i];
    return sum / (double)(to - from);
}

static void run_likelihood(mlxn_matmul_mode mode, double each, double whole, double halves)
{
    mlxn_model *model = load_model(0, 0);
    json_document *document = json_load("gemma3_nll.json");
    mlxn_session *session = model ? new_session(model, 1024, 0, mode) : NULL;
    static int32_t ids[1024];
    static char text[8192];
    static likelihood l;
    FILE *file = fopen(MLXN_TEST_DATA "/nll_text.txt", "rb");
    REQUIRE(session && document && file);
    size_t bytes = fread(text, 1, sizeof text, file), k = 0;
    double worst = 0;
    fclose(file);
    size_t n = encode_text(model, text, bytes, ids, 1024);
    REQUIRE(n == 777);
    l.count = 0;
    CHECK_STATUS(mlxn_session_score(session, ids, n, keep_logprob, &l), MLXN_OK);
    REQUIRE(l.count == 776);
    for (const json_value *r = json_get(json_root(document), "ref")->first; r; r = r->next, k++) {
        double off = fabs(l.nll[k] - r->number);
        worst = off > worst ? off : worst;
    }
    double all = mean(l.nll, 0, 776), first = mean(l.nll, 0, 511), rest = mean(l.nll, 511, 776);
    test_note("mean %.6f (first 511: %.6f, rest: %.6f), worst token off by %.5f", all, first, rest,
              worst);
    const json_value *root = json_root(document);
    CHECK(k == 776);
    CHECK(worst <= each);
    CHECK(fabs(all - json_number(root, "ref_mean")) <= whole);
    CHECK(fabs(first - json_number(root, "ref_mean_first_511")) <= halves);
    CHECK(fabs(rest - json_number(root, "ref_mean_after_511")) <= halves);
    json_free(document);
    mlxn_session_release(session);
    mlxn_model_release(model);
}

TEST(gemma3_real_likelihood_exact)
{
    run_likelihood(MLXN_MATMUL_EXACT, 0.02, 0.002, 0.003);
}

TEST(gemma3_real_likelihood_fast)
{
    run_likelihood(MLXN_MATMUL_FAST, 1.5, 0.01, 0.03);
}

/* ---- the same bits ---- */

static uint64_t hash(const float *x, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        h = (h ^ u) * 0x100000001b3u;
    }
    return h;
}

/* Logits after `n` tokens fed in pieces of `piece`. */
static uint64_t feed_hash(mlxn_model *model, mlxn_matmul_mode mode, const int32_t *ids, size_t n,
                          size_t piece)
{
    mlxn_session *session = new_session(model, 1024, 64, mode);
    const float *logits = NULL;
    uint64_t h = 0;
    for (size_t at = 0; at < n; at += piece)
        CHECK_STATUS(mlxn_session_feed(session, ids + at, n - at < piece ? n - at : piece),
                     MLXN_OK);
    CHECK_STATUS(mlxn_session_logits(session, &logits), MLXN_OK);
    if (logits)
        h = hash(logits, 262144);
    mlxn_session_release(session);
    return h;
}

static void same_bits(mlxn_matmul_mode mode)
{
    static const struct {
        uint32_t threads, mask;
    } machines[] = {
        {1, 0}, {2, 0}, {3, 0}, {8, 0}, {2, MLXN_CPU_AVX2 | MLXN_CPU_NEON}, {2, MLXN_CPU_PORTABLE}};
    static int32_t ids[700];
    uint64_t state = 7, wanted[2] = {0, 0};
    const size_t many = test_full() ? 700 : 90, few = test_full() ? 24 : 8;
    ids[0] = 2;
    for (size_t i = 1; i < 700; i++)
        ids[i] = (int32_t)(test_random(&state) % 262144);
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        const int portable = machines[i].mask == MLXN_CPU_PORTABLE;
        mlxn_model *model = load_model(machines[i].threads, machines[i].mask);
        REQUIRE(model);
        uint64_t got[] = {feed_hash(model, mode, ids, few, few),
                          portable ? wanted[1] : feed_hash(model, mode, ids, many, many)};
        if (i == 0) {
            memcpy(wanted, got, sizeof wanted);
            CHECK(feed_hash(model, mode, ids, many, 37) == wanted[1]);
            /* a GPU's fast mode is of one kind from 16 tokens a call on, of another below */
            const int two_kinds = mode == MLXN_MATMUL_FAST && strcmp(test_backend(), "cpu") != 0;
            CHECK(feed_hash(model, mode, ids, many, 1) ==
                  (two_kinds ? feed_hash(model, mode, ids, many, 15) : wanted[1]));
        }
        CHECK(got[0] == wanted[0] && got[1] == wanted[1]);
        mlxn_model_release(model);
    }
}

TEST(gemma3_real_same_bits_exact)
{
    same_bits(MLXN_MATMUL_EXACT);
}

TEST(gemma3_real_same_bits_fast)
{
    same_bits(MLXN_MATMUL_FAST);
}

/* The recorded step gives what feeding the same tokens gives, past the sliding window too. */
TEST(gemma3_real_steps_equal_feeding)
{
    mlxn_model *model = load_model(0, 0);
    mlxn_session *stepping = model ? new_session(model, 600, 16, MLXN_MATMUL_FAST) : NULL;
    mlxn_session *feeding = model ? new_session(model, 600, 16, MLXN_MATMUL_FAST) : NULL;
    static int32_t prompt[530];
    int32_t a = 0;
    REQUIRE(stepping && feeding);
    for (int i = 0; i < 530; i++)
        prompt[i] = i ? 1000 + 7 * i : 2;
    CHECK_STATUS(mlxn_session_feed(stepping, prompt, 530), MLXN_OK);
    CHECK_STATUS(mlxn_session_feed(feeding, prompt, 530), MLXN_OK);
    CHECK_STATUS(mlxn_session_sample(stepping, &a), MLXN_OK);
    for (int i = 0; i < 20; i++) {
        const float *x = NULL, *y = NULL;
        CHECK_STATUS(mlxn_session_feed(feeding, &a, 1), MLXN_OK);
        CHECK_STATUS(mlxn_session_step(stepping, &a), MLXN_OK);
        CHECK_STATUS(mlxn_session_logits(stepping, &x), MLXN_OK);
        CHECK_STATUS(mlxn_session_logits(feeding, &y), MLXN_OK);
        REQUIRE(x && y);
        CHECK(!memcmp(x, y, 262144 * sizeof *x));
        CHECK(a == argmax(x, 262144));
    }
    CHECK(mlxn_session_position(stepping) == 550);
    mlxn_session_release(stepping);
    mlxn_session_release(feeding);
    mlxn_model_release(model);
}

/* ---- what the fused operator saves ---- */

enum { FED = 12, STEPS = 8 };

typedef struct stepped {
    int32_t tokens[STEPS + 1];
    uint64_t logits[STEPS]; /* hashes */
    mlxn_session_stats stats;
} stepped;

/* A prompt token by token, then recorded steps: q, k and v prepared by `prepare`. */
static stepped step_with(mlxn_model *model, mlxn_matmul_mode mode,
                         mlxn_status (*prepare)(mlxn_encoder *, const mlxn_qkv_prepare_args *))
{
    stepped y = {.stats.size = sizeof y.stats};
    int32_t prompt[FED];
    const float *logits = NULL;
    model->prepare = prepare;
    mlxn_session *session = new_session(model, FED + STEPS, 1, mode);
    for (int i = 0; i < FED; i++)
        prompt[i] = i ? 1000 + 7 * i : 2;
    CHECK_STATUS(mlxn_session_feed(session, prompt, FED), MLXN_OK);
    CHECK_STATUS(mlxn_session_sample(session, &y.tokens[0]), MLXN_OK);
    for (int i = 0; i < STEPS; i++) {
        CHECK_STATUS(mlxn_session_step(session, &y.tokens[i + 1]), MLXN_OK);
        if (CHECK_STATUS(mlxn_session_logits(session, &logits), MLXN_OK))
            y.logits[i] = hash(logits, 262144);
    }
    CHECK_STATUS(mlxn_session_get_stats(session, &y.stats), MLXN_OK);
    mlxn_session_release(session);
    return y;
}

static mlxn_status prepare_by_chain(mlxn_encoder *encoder, const mlxn_qkv_prepare_args *args)
{
    return attention_chain(encoder, args, NULL);
}

/* A decode step in which a layer's q, k and v are normed, rotated and cached by two norms, two
 * rotations and two cache writes gives the same logits, bit for bit, with five dispatches more. */
TEST(gemma3_real_unfused_step)
{
    mlxn_model *model = load_model(0, 0);
    mlxn_model_info info = {.size = sizeof info};
    REQUIRE(model);
    CHECK_STATUS(mlxn_model_get_info(model, &info), MLXN_OK);
    for (int k = 0; k < 2; k++) {
        const mlxn_matmul_mode mode = k ? MLXN_MATMUL_FAST : MLXN_MATMUL_EXACT;
        const stepped fused = step_with(model, mode, mlxn_qkv_prepare);
        const stepped chain = step_with(model, mode, prepare_by_chain);
        const mlxn_session_stats *f = &fused.stats, *c = &chain.stats;
        CHECK(!memcmp(fused.tokens, chain.tokens, sizeof fused.tokens));
        CHECK(!memcmp(fused.logits, chain.logits, sizeof fused.logits));
        CHECK(f->steps == STEPS && c->steps == STEPS);
        CHECK(c->step_dispatches == f->step_dispatches + 5 * (uint64_t)info.layers);
        test_note("%s: a step is %llu dispatches and %llu barriers fused, %llu and %llu as a chain",
                  k ? "fast" : "exact", (unsigned long long)f->step_dispatches,
                  (unsigned long long)f->step_barriers, (unsigned long long)c->step_dispatches,
                  (unsigned long long)c->step_barriers);
    }
    mlxn_model_release(model);
}
