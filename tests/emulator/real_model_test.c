/* real_model_test.c - the real Gemma 3 270M through kernel text: the first tokens after two prompts
 * of 4 are those of the CPU backend.  Long tier, since it needs the model's file; it takes about
 * half a minute. */
#include <time.h>
#include "device.h"
#include "model/real_model.h"

enum { PROMPT = 4, TOKENS = 4 };

/* "<bos>The capital of", "<bos>Once upon a" */
static const int32_t prompts[][PROMPT] = {{2, 818, 5279, 529}, {2, 14946, 3324, 496}};

/* The tokens that a device picks after a prompt, one from the prompt's logits, the rest by steps.
 */
static void generate(mlxn_device *device, mlxn_gguf *gguf, mlxn_matmul_mode mode,
                     const int32_t *prompt, int32_t *tokens)
{
    mlxn_model *model = NULL;
    mlxn_session *session = NULL;
    REQUIRE_OK(
        mlxn_model_create(MLXN_DESC(mlxn_model_desc, .device = device, .gguf = gguf), &model));
    CHECK_STATUS(
        mlxn_session_create(
            MLXN_DESC(mlxn_session_desc, .model = model, .context = 32, .matmul = mode), &session),
        MLXN_OK);
    mlxn_model_release(model);
    CHECK_STATUS(mlxn_session_feed(session, prompt, PROMPT), MLXN_OK);
    CHECK_STATUS(mlxn_session_sample(session, &tokens[0]), MLXN_OK);
    for (int i = 1; i < TOKENS; i++)
        CHECK_STATUS(mlxn_session_step(session, &tokens[i]), MLXN_OK);
    mlxn_session_release(session);
}

TEST(emulated_gemma3_real)
{
    mlxn_gguf *gguf = test_full() ? real_model() : NULL;
    int n;
    if (!test_full())
        return;
    REQUIRE(gguf);
    emu_device *emulator = emu_device_open(0);
    emulator->workers = 2;
    for (int i = 0; i < 4; i++) {
        const int32_t *prompt = prompts[i / 2];
        const mlxn_matmul_mode mode = i % 2 ? MLXN_MATMUL_EXACT : MLXN_MATMUL_FAST;
        int32_t want[TOKENS] = {0}, got[TOKENS] = {0};
        generate(rig_cpu_devices(&n)->device, gguf, mode, prompt, want);
        const time_t start = time(NULL);
        generate(&emulator->base, gguf, mode, prompt, got);
        test_note("prompt %d, %s: tokens %d %d %d %d in %.0f s, %ld launches so far", i / 2,
                  i % 2 ? "exact" : "fast", got[0], got[1], got[2], got[3],
                  difftime(time(NULL), start), emulator->launches);
        CHECK(!memcmp(want, got, sizeof want));
    }
    mlxn_device_release(&emulator->base);
}
