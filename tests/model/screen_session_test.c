/* screen_session_test.c - sessions with a screen: the same tokens and the same bits of the largest
 * logits as sessions without, on the real model, every step of every golden prompt; changes of the
 * sampling between steps; what is refused; the file that keeps the screen. */
#include <sys/stat.h>
#include <unistd.h>
#include "../json.h"
#include "../test.h"
#include "real_model.h"

enum { STEPS = 24, TOP = 40 };

static mlxn_model *open_model(const char *screen, const char *key)
{
    mlxn_device *device = NULL;
    mlxn_gguf *gguf = NULL;
    mlxn_model *model = NULL;
    CHECK_STATUS(mlxn_device_open("cpu", 0, &device), MLXN_OK);
    CHECK_STATUS(mlxn_gguf_open(real_model_path(), &gguf), MLXN_OK);
    CHECK_STATUS(mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = device, .gguf = gguf,
                                             .screen_path = screen, .screen_key = key),
                                   &model),
                 MLXN_OK);
    mlxn_gguf_release(gguf);
    mlxn_device_release(device);
    return model;
}

static mlxn_session *open_session(mlxn_model *model, int64_t top, mlxn_matmul_mode mode)
{
    mlxn_session *session = NULL;
    CHECK_STATUS(mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = model, .context = 1024,
                                               .matmul = mode, .screen_top = top),
                                     &session),
                 MLXN_OK);
    return session;
}

static void set_sampling(mlxn_session *session, float temperature, int64_t top_k, float penalty)
{
    const mlxn_sampling sampling = {.size = sizeof sampling,
                                    .temperature = temperature,
                                    .top_k = top_k,
                                    .top_p = 0.95f,
                                    .min_p = 0.05f,
                                    .repeat_penalty = penalty,
                                    .repeat_last = 64,
                                    .seed = 7};
    CHECK_STATUS(mlxn_session_set_sampling(session, &sampling), MLXN_OK);
}

/* Every screened logit is the other's bit for bit, and every one that is left out is no larger than
 * the `top` that are there. */
static void compare_logits(mlxn_session *all, mlxn_session *screened, int top, int step)
{
    const float *a, *b;
    float least = HUGE_VALF;
    int shown = 0, wrong = 0;
    REQUIRE_OK(mlxn_session_logits(all, &a));
    REQUIRE_OK(mlxn_session_logits(screened, &b));
    for (int i = 0; i < 262144; i++)
        if (b[i] > -HUGE_VALF) {
            shown++;
            wrong += memcmp(&a[i], &b[i], sizeof a[i]) != 0;
            least = b[i] < least ? b[i] : least;
        }
    for (int i = 0; i < 262144; i++)
        wrong += !(b[i] > -HUGE_VALF) && a[i] >= least;
    if (wrong || shown < top)
        test_failed(__FILE__, __LINE__, "step %d: %d logits shown, %d wrong", step, shown, wrong);
}

/* STEPS tokens after a prompt, both ways. */
static void compare_prompt(mlxn_session *all, mlxn_session *screened, const json_value *ids,
                           int top)
{
    int32_t tokens[1024], one = -1, other = -2;
    const size_t n = json_ids(ids, tokens, 1024 - STEPS);
    REQUIRE_OK(mlxn_session_reset(all));
    REQUIRE_OK(mlxn_session_reset(screened));
    REQUIRE_OK(mlxn_session_feed(all, tokens, n));
    REQUIRE_OK(mlxn_session_feed(screened, tokens, n));
    for (int step = 0; step < STEPS; step++) {
        REQUIRE_OK((step ? mlxn_session_step : mlxn_session_sample)(all, &one));
        REQUIRE_OK((step ? mlxn_session_step : mlxn_session_sample)(screened, &other));
        CHECK(one == other);
        compare_logits(all, screened, top, step);
    }
}

static const char *screen_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/mlxn-model-screen-%ld", (long)getpid());
    return path;
}

TEST(screen_real_model_every_step)
{
    REQUIRE(real_model_path());
    mlxn_model *plain = open_model(NULL, NULL), *model = open_model(screen_path(), "one");
    json_document *golden = json_load("gemma3_greedy_dev.json");
    REQUIRE(plain && model && golden);
    for (int mode = MLXN_MATMUL_EXACT; mode <= MLXN_MATMUL_FAST; mode++)
        for (int sampled = 0; sampled < 2; sampled++) {
            const int top = sampled ? TOP : 1;
            mlxn_session *all = open_session(plain, 0, (mlxn_matmul_mode)mode);
            mlxn_session *screened = open_session(model, top, (mlxn_matmul_mode)mode);
            mlxn_session_stats stats = {.size = sizeof stats};
            set_sampling(all, sampled ? 0.8f : 0, TOP, 1);
            set_sampling(screened, sampled ? 0.8f : 0, TOP, 1);
            for (const json_value *p = json_get(json_root(golden), "prompts")->first; p;
                 p = p->next)
                compare_prompt(all, screened, json_get(p, "ids"), top);
            REQUIRE_OK(mlxn_session_get_stats(screened, &stats));
            CHECK(stats.screened_steps == stats.steps && stats.steps > 0);
            test_note("%s, top %d: %.1f rows a step", mode == MLXN_MATMUL_FAST ? "fast" : "exact",
                      top, (double)stats.screen_rows / (double)stats.steps);
            mlxn_session_release(all);
            mlxn_session_release(screened);
        }
    json_free(golden);
    mlxn_model_release(plain);
    mlxn_model_release(model);
    unlink(screen_path());
}

/* A sampling that needs all logits gets them, also right after one that did not. */
TEST(screen_real_model_changes_of_sampling)
{
    static const struct {
        float temperature;
        int64_t top_k;
        float penalty;
        int screened;
    } turns[] = {{0, 0, 1, 1}, {0.8f, 0, 1, 0},   {0, 0, 1, 1},      {0, 0, 1.3f, 0},
                 {0, 0, 1, 1}, {0.8f, TOP, 1, 1}, {0.8f, 200, 1, 0}, {0.8f, TOP, 1, 1}};
    static const int32_t prompt[] = {2, 818, 5279, 529, 7001, 563};
    REQUIRE(real_model_path());
    mlxn_model *plain = open_model(NULL, NULL), *model = open_model(screen_path(), "one");
    REQUIRE(plain && model);
    mlxn_session *all = open_session(plain, 0, MLXN_MATMUL_FAST);
    mlxn_session *screened = open_session(model, TOP, MLXN_MATMUL_FAST);
    uint64_t wanted = 0;
    REQUIRE_OK(mlxn_session_feed(all, prompt, 6));
    REQUIRE_OK(mlxn_session_feed(screened, prompt, 6));
    for (int turn = 0; turn < 8; turn++)
        for (int step = 0; step < 3; step++) {
            int32_t one = -1, other = -2;
            if (step == 0) {
                set_sampling(all, turns[turn].temperature, turns[turn].top_k, turns[turn].penalty);
                set_sampling(screened, turns[turn].temperature, turns[turn].top_k,
                             turns[turn].penalty);
            }
            REQUIRE_OK((step ? mlxn_session_step : mlxn_session_sample)(all, &one));
            REQUIRE_OK((step ? mlxn_session_step : mlxn_session_sample)(screened, &other));
            CHECK(one == other);
            wanted += step && turns[turn].screened;
        }
    mlxn_session_stats stats = {.size = sizeof stats};
    REQUIRE_OK(mlxn_session_get_stats(screened, &stats));
    CHECK(stats.screened_steps == wanted);
    mlxn_session_release(all);
    mlxn_session_release(screened);
    mlxn_model_release(plain);
    mlxn_model_release(model);
    unlink(screen_path());
}

/* The file is kept, used again, and made anew where it is of another key or damaged. */
TEST(screen_real_model_file)
{
    struct stat before, after;
    mlxn_session *session = NULL;
    REQUIRE(real_model_path());
    mlxn_model *model = open_model(screen_path(), "one");
    CHECK_FAILS(mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = model, .context = 8,
                                              .matmul = MLXN_MATMUL_FAST, .screen_top = 1025),
                                    &session),
                MLXN_ERR_ARGUMENT, "screen_top is 1025, needs 0 to 1024");
    mlxn_model_release(model);
    REQUIRE(!stat(screen_path(), &before));
    mlxn_model_release(open_model(screen_path(), "one"));
    REQUIRE(!stat(screen_path(), &after));
    CHECK(before.st_ino == after.st_ino);
    mlxn_model_release(open_model(screen_path(), "two"));
    REQUIRE(!stat(screen_path(), &after));
    CHECK(before.st_ino != after.st_ino);
    REQUIRE(!truncate(screen_path(), 10000));
    mlxn_model_release(open_model(screen_path(), "two"));
    REQUIRE(!stat(screen_path(), &after));
    CHECK(after.st_size == before.st_size);
    unlink(screen_path());
    model = open_model(NULL, NULL);
    CHECK_FAILS(mlxn_session_create(MLXN_DESC(mlxn_session_desc, .model = model, .context = 8,
                                              .matmul = MLXN_MATMUL_FAST, .screen_top = 1),
                                    &session),
                MLXN_ERR_STATE, "without a screen");
    mlxn_model_release(model);
}
