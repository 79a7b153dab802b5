/* misuse_test.c - the simulator ends a program that misuses it and says why: each misuse runs in a
 * process of its own. */
#include "rig_metal.h"
#include "backends/metal/constants.h"
#include "backends/metal/objc.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

extern const char mlxn_kernel_text_user[];

typedef struct scene {
    id device, queue, commands, encoder, pipeline, buffer;
} scene;

/* A message that the table does not have. */
static void send(id object, const char *selector)
{
    ((void (*)(id, SEL))mlxn_objc.send)(object, mlxn_objc.register_name(selector));
}

static id new_pipeline(id device)
{
    id error = NULL, descriptor = mlxn_objc_new("MTLComputePipelineDescriptor");
    id library = objc_new_library(device, mlxn_objc_string(mlxn_kernel_text_user), NULL, &error);
    objc_set_function(descriptor, objc_new_function(library, mlxn_objc_string("user_add")));
    return objc_new_pipeline(device, descriptor, MTLPipelineOptionNone, NULL, &error);
}

/* An encoder on which a dispatch of user_add could follow. */
static void ready(scene *s)
{
    static const float value = 1;
    objc_set_buffer(s->encoder, s->buffer, 0, 0);
    objc_set_buffer(s->encoder, s->buffer, 0, 1);
    objc_set_bytes(s->encoder, &value, sizeof value, 2);
    objc_set_pipeline(s->encoder, s->pipeline);
}

static void dispatch(id encoder, unsigned long groups, unsigned long threads)
{
    objc_dispatch(encoder, (metal_size){groups, 1, 1}, (metal_size){threads, 1, 1});
}

/* what the simulator says, and what is done */
#define MISUSES(X)                                                                               \
    X("unrecognized selector", send(s->commands, "comit"))                                       \
    X("unrecognized selector", objc_commit(s->device))                                           \
    X("the object is freed", objc_release(s->buffer), objc_contents(s->buffer))                  \
    X("[MTLBuffer release]: the object is freed", objc_release(s->buffer),                       \
      objc_release(s->buffer))                                                                   \
    X("no pool in place", objc_end_encoding(s->encoder), mlxn_objc.pool_pop(pool),               \
      objc_command_buffer(s->queue))                                                             \
    X("a pool is popped", objc_end_encoding(s->encoder), mlxn_objc.pool_pop(pool),               \
      mlxn_objc.pool_pop(pool))                                                                  \
    X("an encoder is open", objc_commit(s->commands))                                            \
    X("an encoder is open", objc_compute_encoder(s->commands, MTLDispatchTypeConcurrent))        \
    X("freed before endEncoding", mlxn_objc.pool_pop(pool))                                      \
    X("after endEncoding", objc_end_encoding(s->encoder), objc_end_encoding(s->encoder))         \
    X("after endEncoding", ready(s), objc_end_encoding(s->encoder), dispatch(s->encoder, 1, 32)) \
    X("a second time", objc_end_encoding(s->encoder), objc_commit(s->commands),                  \
      objc_commit(s->commands))                                                                  \
    X("before commit", send(s->commands, "waitUntilCompleted"))                                  \
    X("no pipeline", dispatch(s->encoder, 1, 32))                                                \
    X("nothing at index 1", ready(s), objc_set_buffer(s->encoder, NULL, 0, 1),                   \
      dispatch(s->encoder, 1, 32))                                                               \
    X("threads a group", ready(s), dispatch(s->encoder, 1, 2048))                                \
    X("an empty grid", ready(s), dispatch(s->encoder, 0, 32))                                    \
    X("index 31", objc_set_buffer(s->encoder, s->buffer, 0, 31))                                 \
    X("offset 5000", objc_set_buffer(s->encoder, s->buffer, 5000, 0))                            \
    X("needs MTLBuffer", objc_set_buffer(s->encoder, s->queue, 0, 0))                            \
    X("no buffer at index", objc_set_buffer_offset(s->encoder, 0, 3))                            \
    X("5000 bytes", objc_set_bytes(s->encoder, s, 5000, 0))                                      \
    X("multiple of 16", objc_set_group_memory(s->encoder, 40, 0))                                \
    X("multiple of 16", objc_set_group_memory(s->encoder, 65536, 0))                             \
    X("bytes of group memory", ready(s), objc_set_group_memory(s->encoder, 32768, 0),            \
      objc_set_group_memory(s->encoder, 16, 1), dispatch(s->encoder, 1, 32))                     \
    X("scope 2", objc_memory_barrier(s->encoder, 2))                                             \
    X("length is 0", objc_new_buffer(s->device, 0, MTLResourceStorageModeShared))                \
    X("options 32", objc_new_buffer(s->device, 16, 32))                                          \
    X("no whole pages", objc_wrap_buffer(s->device, (char *)4096, 100, 0, NULL))                 \
    X("no whole pages", objc_wrap_buffer(s->device, (char *)4112, 4096, 0, NULL))                \
    X("was freed while a command buffer uses it", ready(s), dispatch(s->encoder, 1, 32),         \
      objc_end_encoding(s->encoder), objc_release(s->buffer), objc_commit(s->commands), sleep(5))

#define MISUSE_TEXT(text, ...) text,
static const char *const texts[] = {MISUSES(MISUSE_TEXT)};
enum { MISUSE_COUNT = sizeof texts / sizeof *texts };

static void misuse(int number, scene *s, void *pool)
{
    int at = 0;
#define MISUSE_RUN(text, ...) \
    if (number == at++) {     \
        (void)(__VA_ARGS__);  \
        return;               \
    }
    MISUSES(MISUSE_RUN)
}

static void child(int number, int out)
{
    scene s;
    dup2(out, 2);
    signal(SIGABRT, SIG_DFL);
    if (mlxn_objc_load() != MLXN_OK)
        _exit(1);
    void *pool = mlxn_objc.pool_push();
    s.device = mlxn_objc.default_device();
    s.queue = objc_new_queue(s.device);
    s.commands = objc_command_buffer(s.queue);
    s.encoder = objc_compute_encoder(s.commands, MTLDispatchTypeConcurrent);
    s.buffer = objc_new_buffer(s.device, 4096, MTLResourceStorageModeShared);
    s.pipeline = new_pipeline(s.device);
    misuse(number, &s, pool);
    _exit(0);
}

TEST(metal_simulator_finds_misuse)
{
    fflush(stdout);
    for (int i = 0; i < MISUSE_COUNT; i++) {
        char seen[600] = "";
        size_t n = 0;
        int ends[2], status = 0;
        REQUIRE(pipe(ends) == 0);
        const pid_t pid = fork();
        if (pid == 0)
            child(i, ends[1]);
        close(ends[1]);
        for (ssize_t got;
             n < sizeof seen - 1 && (got = read(ends[0], seen + n, sizeof seen - 1 - n)) > 0;
             n += (size_t)got)
            ;
        close(ends[0]);
        CHECK(waitpid(pid, &status, 0) == pid);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(seen, texts[i]))
            test_failed(__FILE__, __LINE__, "misuse %d: wanted \"%s\", saw \"%s\"", i, texts[i],
                        seen);
    }
}
