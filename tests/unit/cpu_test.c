/* cpu_test.c - inside the CPU backend: memory of weights, division of long reads, reading ahead. */
#include <sys/mman.h>
#include <unistd.h>
#include "backends/cpu/ahead.h"
#include "backends/cpu/cpu.h"
#include "backends/cpu/share.h"
#include "ops/matmul/dispatch.h"
#include "ops/matmul/packed.h"
#include "ops/shared.h"
#include "unit.h"

/* ---- weights in slabs ---- */

enum { WEIGHTS = 60 }; /* 67 MB: three slabs */

static size_t weight_bytes(int i)
{
    return 70001u + (size_t)(i * 7919 % 60) * 35000u;
}

static unsigned char *weight_at(const mlxn_buffer *weight)
{
    return weight->storage->host;
}

static void mark(const mlxn_buffer *weight, int i)
{
    weight_at(weight)[0] = weight_at(weight)[weight_bytes(i) - 1] = (unsigned char)(i + 1);
}

static int is_marked(const mlxn_buffer *weight, int i)
{
    const unsigned char *at = weight_at(weight);
    return at[0] == i + 1 && at[weight_bytes(i) - 1] == i + 1;
}

/* Whether the page of an address is mapped. */
static int is_mapped(const unsigned char *at)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), offset = (uintptr_t)at % page;
    return msync((void *)(uintptr_t)(at - offset), page, MS_ASYNC) == 0;
}

/* Weights of less than a huge page lie next to each other, keep their contents while others come
 * and go, and leave no mapping behind. */
TEST(core_cpu_weights_share_mappings)
{
    const int64_t shape[] = {1, 256};
    mlxn_device *device = unit_cpu(1);
    mlxn_buffer *like = NULL, *weights[WEIGHTS] = {NULL};
    const unsigned char *places[WEIGHTS];
    int next_to = 0;
    REQUIRE(device);
    const mlxn_cpu_device *cpu = (const mlxn_cpu_device *)device;
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_Q8_0, 2, shape, &like), MLXN_OK);
    for (int i = 0; i < WEIGHTS; i++) {
        CHECK_STATUS(mlxn_buffer_create_packed(like, weight_bytes(i), &weights[i]), MLXN_OK);
        REQUIRE(weights[i]);
        mark(weights[i], i);
        places[i] = weight_at(weights[i]);
        CHECK((uintptr_t)places[i] % 64 == 0);
        next_to += i && places[i] == places[i - 1] + ((weight_bytes(i - 1) + 63) & ~(size_t)63);
    }
    CHECK(next_to >= WEIGHTS - 4 && next_to < WEIGHTS - 1); /* more than one slab, but few */
    for (int i = 0; i < WEIGHTS; i += 2) {
        CHECK(is_marked(weights[i], i));
        mlxn_buffer_release(weights[i]);
    }
    for (int i = 1; i < WEIGHTS; i += 2) {
        CHECK(is_marked(weights[i], i));
        mlxn_buffer_release(weights[i]);
    }
    CHECK(cpu->slab == NULL);
    for (int i = 0; i < WEIGHTS; i++)
        CHECK(!is_mapped(places[i]));
    mlxn_buffer_release(like);
    mlxn_device_release(device);
}

/* ---- dividing a long read ---- */

/* Every item is one thread's own or in one run of the rest. */
TEST(core_cpu_share_covers_all_once)
{
    static const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 20, 64, 100, 511, 1000};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (uint32_t threads = 1; threads <= 9; threads++) {
            const cpu_share s = cpu_share_of(sizes[k], threads);
            uint8_t taken[1000] = {0};
            int64_t begin, end, longest = 0;
            for (int64_t part = 0; part < threads + s.rest; part++) {
                if (part < threads)
                    cpu_share_fixed(&s, (uint32_t)part, &begin, &end);
                else
                    cpu_share_rest(&s, part - threads, &begin, &end);
                REQUIRE(begin >= 0 && begin <= end && end <= sizes[k]);
                for (int64_t i = begin; i < end; i++)
                    taken[i]++;
                longest = end - begin;
            }
            CHECK(longest <= 1); /* of the last run: nobody waits for more */
            for (int64_t i = 0; i < sizes[k]; i++)
                CHECK(taken[i] == 1);
        }
}

/* ---- reading ahead ---- */

enum { PIECE = MLXN_CPU_AHEAD_STEP + 488 };

static int three_pieces(const void *args, uint32_t thread, uint32_t n_threads, mlxn_early_read *out)
{
    (void)args;
    for (int i = 0; i < 3; i++)
        out[i] = (mlxn_early_read){i, 100u * thread + n_threads, i == 1 ? 0 : PIECE};
    return 3;
}

static int one_large_piece(const void *args, uint32_t thread, uint32_t n_threads,
                           mlxn_early_read *out)
{
    (void)args, (void)thread, (void)n_threads;
    *out = (mlxn_early_read){0, 0, 16 * (size_t)MLXN_CPU_AHEAD_BYTES};
    return 1;
}

static void step_often(mlxn_cpu_ahead *ahead)
{
    for (int i = 0; i < 4 * MLXN_CPU_AHEAD_BYTES / MLXN_CPU_AHEAD_STEP; i++)
        mlxn_cpu_ahead_step(ahead);
}

/* A list of none, three and one early reads, the last in a graph: what is aimed at, where it ends,
 * and that it starts again only when the dispatch has run. */
TEST(core_cpu_ahead_steps)
{
    static char bytes[MLXN_CPU_AHEAD_BYTES];
    void *ptr[] = {bytes, bytes, bytes};
    mlxn_kernel none = {.built = 1}, three = none, large = none;
    three.source.cpu_early = three_pieces;
    large.source.cpu_early = one_large_piece;
    mlxn_node inner = {.kernel = &large, .ptr = ptr};
    mlxn_graph graph = {.work = {.first = &inner}};
    mlxn_node replay = {.graph = &graph};
    mlxn_node second = {.next = &replay, .kernel = &three, .ptr = ptr};
    mlxn_node first = {.next = &second, .kernel = &none, .ptr = ptr};
    mlxn_cpu_ahead a = {.thread = 2, .n_threads = 4};
    mlxn_cpu_ahead_step(&a);
    CHECK(a.target == NULL && a.bytes == 0);
    a.from = &first;
    mlxn_cpu_ahead_step(&a);
    CHECK(a.target == &second && a.bytes == MLXN_CPU_AHEAD_STEP);
    CHECK(a.piece[2].operand == 2 && a.piece[2].offset == 204);
    a.from = &second; /* the next barrier: it goes on */
    mlxn_cpu_ahead_step(&a);
    CHECK(a.bytes == PIECE);
    step_often(&a);
    CHECK(a.bytes == 2 * PIECE);
    mlxn_cpu_ahead_reached(&a, &first);
    CHECK(a.target == &second);
    mlxn_cpu_ahead_reached(&a, &second);
    mlxn_cpu_ahead_step(&a);
    CHECK(a.target == NULL && a.bytes == 2 * PIECE);
    a.from = &replay;
    step_often(&a);
    CHECK(a.target == &inner && a.bytes == MLXN_CPU_AHEAD_BYTES);
    a.from = &inner;
    step_often(&a);
    CHECK(a.bytes == MLXN_CPU_AHEAD_BYTES);
    mlxn_cpu_ahead_reached(&a, &inner);
    a.from = &inner; /* replayed once more */
    mlxn_cpu_ahead_step(&a);
    CHECK(a.bytes == MLXN_CPU_AHEAD_STEP);
}

static atomic_int asked; /* how often thread 1 asked for its early reads */

static int count_asked(const void *args, uint32_t thread, uint32_t n_threads, mlxn_early_read *out)
{
    (void)args, (void)n_threads;
    if (thread == 1)
        atomic_fetch_add(&asked, 1);
    *out = (mlxn_early_read){0, 0, 4};
    return 1;
}

/* Thread 0 keeps the others waiting until thread 1 has asked once more; *ptr[0] = how often. */
static void wait_for_asking(const mlxn_cpu_call *call)
{
    int32_t *turn = call->ptr[0];
    if (call->thread)
        return;
    ++*turn;
    for (long i = 0; atomic_load(&asked) < *turn && i < 2000000000; i++)
        ;
}

static void do_nothing(const mlxn_cpu_call *call)
{
    (void)call;
}

/* A waiting thread asks for the early reads of the dispatch behind the barrier, at every replay. */
TEST(core_cpu_ahead_while_waiting)
{
    const int64_t one = 1;
    mlxn_device *device = unit_cpu(2);
    mlxn_encoder *encoder = NULL;
    mlxn_buffer *turn = NULL;
    mlxn_graph *graph = NULL;
    mlxn_kernel *waits, *early;
    if (mlxn_cpu_available() < 2) { /* threads that share a CPU do not spin */
        mlxn_device_release(device);
        return;
    }
    const mlxn_kernel_desc descs[] = {
        {.size = sizeof descs[0], .name = "test_waits", .cpu = wait_for_asking},
        {.size = sizeof descs[0], .name = "test_early", .cpu = do_nothing}};
    for (int i = 0; i < 2; i++)
        CHECK_STATUS(mlxn_kernel_register(device, &descs[i]), MLXN_OK);
    CHECK_STATUS(mlxn_kernel_find(device, "test_waits", &waits), MLXN_OK);
    CHECK_STATUS(mlxn_kernel_find(device, "test_early", &early), MLXN_OK);
    early->source.cpu_early = count_asked;
    CHECK_STATUS(mlxn_buffer_create(device, MLXN_I32, 1, &one, &turn), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_create(device, &encoder), MLXN_OK);
    const mlxn_operand operand = {turn, MLXN_READ_WRITE};
    CHECK_STATUS(mlxn_launch_kernel(encoder, waits, &operand, 1, NULL, 0, NULL), MLXN_OK);
    CHECK_STATUS(mlxn_launch_kernel(encoder, early, &operand, 1, NULL, 0, NULL), MLXN_OK);
    CHECK_STATUS(mlxn_graph_capture(encoder, &graph), MLXN_OK);
    atomic_store(&asked, 0);
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(mlxn_graph_replay(encoder, graph), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_commit(encoder), MLXN_OK);
    CHECK_STATUS(mlxn_encoder_wait(encoder), MLXN_OK);
    CHECK(atomic_load(&asked) >= 3);
    mlxn_graph_release(graph);
    mlxn_encoder_release(encoder);
    mlxn_buffer_release(turn);
    mlxn_device_release(device);
}

/* ---- what products read early ---- */

static matmul_group_params products_of(int64_t rows)
{
    return (matmul_group_params){
        .rows = rows,
        .count = 3,
        .product = {{.weight = {1024, 640, 0, MLXN_Q5_0, 1}},
                    {.weight = {100, 640, 440, MLXN_Q5_0, 0}}, /* plain: not read early */
                    {.weight = {261, 640, 0, MLXN_Q8_0, 1}}}};
}

/* Over all threads each byte of a prepared weight is named once as a thread's own, or by every
 * thread as one that anybody may read. */
TEST(core_cpu_early_reads_of_products)
{
    const matmul_group_params g = products_of(1), many = products_of(2);
    mlxn_early_read reads[MLXN_EARLY_READS];
    CHECK(mlxn_matmul_group_early(&many, 0, 2, reads) == 0);
    for (uint32_t threads = 1; threads <= 9; threads++)
        for (int i = 0; i < 3; i += 2) {
            const matmul_weight *w = &g.product[i].weight;
            const size_t group =
                packed_group_bytes(packed_format_of((mlxn_dtype)w->dtype), packed_tiles(w->cols));
            const size_t all = group * (size_t)packed_groups(w->rows);
            size_t next = 0;
            for (uint32_t thread = 0; thread < threads; thread++) {
                REQUIRE(mlxn_matmul_group_early(&g, thread, threads, reads) == 4);
                const mlxn_early_read *own = &reads[i / 2], *rest = &reads[2 + i / 2];
                CHECK(own->operand == 1 + 2 * i && rest->operand == 1 + 2 * i);
                CHECK(own->offset == next);
                next += own->bytes;
                CHECK(rest->offset + rest->bytes == all && rest->offset >= next);
                CHECK(thread + 1 < threads || rest->offset == next);
            }
        }
}
