/* qkv_prepare_test.c - the kernel text of the flagship through its operators: every combination
 * against float64, equal bits over thread orders, threads a group and schedules (and with the CPU
 * backend), rounding as the chain, faults, refusals. */
#include "device.h"
#include "mutants.h"
#include "ops/heads.h"
#include "kernels/text.h"
#include "ops/rope/qkv_plan.h"
#include <sys/mman.h>

static const mlxn_dtype floats[] = {MLXN_F32, MLXN_F16, MLXN_BF16};
static const int64_t dims[] = {1, 2, 7, 32, 64, 80, 96, 128, 192, 256, 320, 512, 1024};
enum { DIMS = 13 };

/* A device on the text, fast or checked; opened once. */
static const rig_device *on_text(int checked)
{
    static rig_device devices[2] = {{.path = "fast"}, {.path = "checked"}};
    rig_device *d = &devices[checked];
    if (d->device || !emu_text(mlxn_kernel_text_qkv_prepare, checked))
        return d->device ? d : NULL;
    emu_device *e = emu_device_open(checked);
    e->watch = "_rows_";
    d->device = &e->base;
    CHECK_STATUS(mlxn_encoder_create(d->device, &d->encoder), MLXN_OK);
    return d;
}

static emu_device *emulated(const rig_device *on)
{
    return (emu_device *)on->device;
}

/* How one run differs from another. */
typedef struct variant {
    int checked;
    qkv_schedule schedule;
    uint32_t threads;
    uint64_t seed;
    int workers;
    uint32_t groups; /* along x and y at most; 0: as planned */
} variant;

static int run(variant v, const heads_case *c, const heads_data *d, heads_result *r,
               mlxn_status want)
{
    const rig_device *on = on_text(v.checked);
    emu_device *e = emulated(on);
    e->traits.schedule = (int)v.schedule;
    e->traits.threads_wanted = v.threads;
    e->seed = v.seed;
    e->workers = v.workers;
    e->groups[0] = e->groups[1] = v.groups;
    e->general = v.seed % 2 == 0;
    e->traits.processors = v.groups ? 0 : 4; /* 0: units of two heads */
    return heads_run(on, c, d, r, want);
}

static heads_case some_case(int64_t i, uint64_t *seed)
{
    heads_case c = heads_of_matrix(i, seed);
    if (c.pairs > 8 && test_random(seed) % 2) /* so that partial rotations fit the rows schedule */
        c.pairs = c.rope[PART_Q] == MLXN_ROPE_NEOX || c.rope[PART_Q] == MLXN_ROPE_INTERLEAVED ||
                          c.rope[PART_K] == MLXN_ROPE_NEOX ||
                          c.rope[PART_K] == MLXN_ROPE_INTERLEAVED
                      ? c.pairs
                      : c.pairs / 8 * 8;
    return c;
}

/* The first run, checked, against float64; all others against the first. */
static void check_case(const heads_case *c, uint64_t *seed, heads_tally *tally)
{
    static const variant variants[] = {
        {1, QKV_SCHEDULE_LANES, 64, 1, 1, 0},   {1, QKV_SCHEDULE_ROWS, 64, 2, 2, 2},
        {0, QKV_SCHEDULE_LANES, 32, 0, 1, 2},   {0, QKV_SCHEDULE_LANES, 1024, 3, 1, 0},
        {0, QKV_SCHEDULE_ROWS, 32, 4, 1, 0},    {0, QKV_SCHEDULE_ROWS, 256, 5, 1, 0},
        {0, QKV_SCHEDULE_AUTO, 0, 6, 1, 0},     {1, QKV_SCHEDULE_GROUP, 64, 10, 1, 2},
        {0, QKV_SCHEDULE_GROUP, 512, 11, 1, 0}, {1, QKV_SCHEDULE_UNITS, 64, 12, 1, 2},
        {0, QKV_SCHEDULE_UNITS, 256, 13, 1, 0}, {0, QKV_SCHEDULE_UNITS, 32, 14, 2, 2},
    };
    int n_cpu;
    const rig_device *cpu = rig_cpu_devices(&n_cpu);
    heads_data d = heads_make(c, seed);
    heads_result first = heads_result_make(c, &d), r = heads_result_make(c, &d);
    if (run(variants[0], c, &d, &first, MLXN_OK) && c->rounding == MLXN_ROUND_EXACT)
        heads_check(c, &d, &first, tally);
    for (size_t k = 1; k < sizeof variants / sizeof *variants; k++)
        if (run(variants[k], c, &d, &r, MLXN_OK) && !heads_result_equal(c, &d, &first, &r))
            test_failed(__FILE__, __LINE__, "%s dim %lld pairing %d: variant %d differs",
                        mlxn_dtype_name(c->dtype), (long long)c->dim, (int)c->rope[0], (int)k);
    if (heads_run(cpu, c, &d, &r, MLXN_OK) && !heads_result_equal(c, &d, &first, &r))
        test_failed(__FILE__, __LINE__, "%s dim %lld: the CPU backend differs",
                    mlxn_dtype_name(c->dtype), (long long)c->dim);
    heads_result_free(&first);
    heads_result_free(&r);
    heads_free(&d);
}

TEST(kernel_text_matrix)
{
    heads_tally tally = {0};
    uint64_t seed = 71;
    REQUIRE(on_text(0) && on_text(1));
    for (int64_t i = 0; heads_next(&i); i++) {
        heads_case c = some_case(i, &seed);
        check_case(&c, &seed, &tally);
        if (i % 5)
            continue;
        c.rounding = MLXN_ROUND_MATCH_UNFUSED;
        check_case(&c, &seed, &tally);
    }
    const emu_device *e = emulated(on_text(0));
    heads_note(&tally);
    test_note("%ld fast runs, %ld by rows", e->launches, e->watched);
    CHECK(e->watched > e->launches / 8);
    CHECK(emulated(on_text(1))->findings == 0);
}

/* Bits of f32 outputs: one hash over all sizes of a head, each in a case as it comes and in one
 * that every schedule takes, the same for every schedule, order of threads and number of them. */
static uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return h;
}

TEST(kernel_text_f32_hash)
{
    enum { SIZES = 6, SCHEDULES = QKV_SCHEDULE_UNITS, VARIANTS = SIZES * SCHEDULES };
    uint64_t hashes[VARIANTS];
    REQUIRE(on_text(0));
    emu_device *e = emulated(on_text(0));
    const char *watched = e->watch;
    const long before = e->watched;
    e->watch = "_units_";
    for (int v = 0; v < VARIANTS; v++) {
        uint64_t seed = 91, h = 0xcbf29ce484222325u;
        for (int i = 0; i < 2 * DIMS; i++) {
            heads_case c =
                heads_random(MLXN_F32, MLXN_ROPE_PROPORTIONAL, MLXN_F32, dims[i % DIMS], &seed);
            if (i >= DIMS) {
                c.pairs = c.dim / 2;
                c.layout = HEADS_DENSE;
                c.tables = 0;
            }
            heads_data d = heads_make(&c, &seed);
            heads_result r = heads_result_make(&c, &d);
            run((variant){0, (qkv_schedule)(1 + v / SIZES), 32u << v % SIZES, (uint64_t)v,
                          1 + v % 2, 0},
                &c, &d, &r, MLXN_OK);
            h = hash_bytes(h, r.base, rig_bytes(c.dtype, (size_t)d.elements));
            heads_result_free(&r);
            heads_free(&d);
        }
        hashes[v] = h;
        CHECK(hashes[v] == hashes[0]);
    }
    CHECK(e->watched > before);
    e->watch = watched;
    e->watched = before;
    test_note("%d runs, hash of f32 outputs %016llx", VARIANTS, (unsigned long long)hashes[0]);
}

/* A token alone gives the bits that it has in a batch. */
TEST(kernel_text_batch_invariance)
{
    uint64_t seed = 73;
    REQUIRE(on_text(0));
    for (int i = 0; i < 3; i++) {
        heads_case c = heads_random(floats[i], MLXN_ROPE_NEOX, MLXN_BF16, 128, &seed);
        c.tokens = 512;
        c.slots = 512;
        c.position_dtype = MLXN_I32;
        c.layout = HEADS_DENSE;
        c.in_place = c.no_output = 0;
        heads_data d = heads_make(&c, &seed);
        heads_result all = heads_result_make(&c, &d);
        REQUIRE(run((variant){0, QKV_SCHEDULE_AUTO, 0, 1, 2, 0}, &c, &d, &all, MLXN_OK));
        for (int64_t t = 0; t < 512; t += 73) {
            heads_data one;
            heads_case alone = heads_alone(&c, &d, t, &one);
            heads_result r = heads_result_make(&c, &d);
            CHECK(run((variant){0, QKV_SCHEDULE_AUTO, 0, 1, 1, 0}, &alone, &one, &r, MLXN_OK));
            CHECK(heads_token_equal(&c, &d, t, &all, &r));
            heads_result_free(&r);
        }
        heads_result_free(&all);
        heads_free(&d);
    }
}

/* qkv_prepare in match_unfused is rms_norm, then rope, bit for bit; both from this text. */
TEST(kernel_text_matches_chain)
{
    uint64_t seed = 79;
    REQUIRE(on_text(1));
    const rig_device *on = on_text(1);
    for (int i = 0; i < 18; i++) {
        mlxn_dtype dtype = floats[i % 3];
        const int64_t dim = i / 3 % 2 ? 96 : 256, shape[3] = {5, 3, dim}, n = 15 * dim;
        const int64_t freqs_shape[2] = {dim / 2, 2};
        void *data = rig_normal(dtype, (size_t)n, 2, &seed),
             *w = rig_normal(dtype, (size_t)dim, 1, &seed);
        mlxn_rope_pairing rope = i / 6 == 1 ? MLXN_ROPE_INTERLEAVED : MLXN_ROPE_NEOX;
        mlxn_buffer *x = rig_buffer(on->device, dtype, 3, shape, data);
        mlxn_buffer *fused = rig_buffer(on->device, dtype, 3, shape, NULL);
        mlxn_buffer *chain = rig_buffer(on->device, dtype, 3, shape, NULL);
        mlxn_buffer *weight = rig_vector(on->device, dtype, dim, w);
        mlxn_buffer *freqs = rig_buffer(on->device, MLXN_F32, 2, freqs_shape, NULL);
        emulated(on)->traits.schedule = i % 2 ? QKV_SCHEDULE_ROWS : QKV_SCHEDULE_LANES;
        emulated(on)->traits.threads_wanted = 64;
        CHECK_STATUS(
            mlxn_rope_freqs(on->device, MLXN_DESC(mlxn_rope_freqs_args, .output = freqs,
                                                  .exponent_dim = dim, .theta = 1e4, .scale = 1)),
            MLXN_OK);
        CHECK_STATUS(
            mlxn_qkv_prepare(on->encoder,
                             MLXN_DESC(mlxn_qkv_prepare_args,
                                       .q = {.input = x,
                                             .output = fused,
                                             .weight = weight,
                                             .norm = MLXN_NORM_WEIGHTED,
                                             .rope = rope},
                                       .rotary_pairs = dim / 2, .position_start = 1000,
                                       .freqs = freqs, .attention_factor = 1, .eps = 1e-6f,
                                       .weight_bias = 1, .rounding = MLXN_ROUND_MATCH_UNFUSED)),
            MLXN_OK);
        CHECK_STATUS(
            mlxn_rms_norm(on->encoder, MLXN_DESC(mlxn_rms_norm_args, .input = x, .weight = weight,
                                                 .output = chain, .eps = 1e-6f, .weight_bias = 1)),
            MLXN_OK);
        CHECK_STATUS(
            mlxn_rope(on->encoder,
                      MLXN_DESC(mlxn_rope_args, .input = chain, .output = chain, .pairing = rope,
                                .rotary_pairs = dim / 2, .position_start = 1000, .freqs = freqs,
                                .attention_factor = 1)),
            MLXN_OK);
        rig_finish(on, MLXN_OK);
        void *a = malloc(rig_bytes(dtype, (size_t)n)), *b = malloc(rig_bytes(dtype, (size_t)n));
        rig_read(fused, a);
        rig_read(chain, b);
        CHECK(!memcmp(a, b, rig_bytes(dtype, (size_t)n)));
        mlxn_buffer *all[] = {x, fused, chain, weight, freqs};
        for (int k = 0; k < 5; k++)
            mlxn_buffer_release(all[k]);
        free(a);
        free(b);
        free(data);
        free(w);
    }
}

/* fused_head_norm_rope_f32 with a bare theta and freq_factors: frequencies made in the kernel. */
TEST(kernel_text_fused_f32_theta)
{
    enum { TOKENS = 3, HEADS = 2, DIM = 34, PAIRS = 13 };
    static const uint32_t positions[TOKENS] = {0, 131071, 1048575};
    const rig_device *on = on_text(1);
    uint64_t seed = 83;
    float factors[PAIRS], y[TOKENS * HEADS * DIM];
    double worst = 0;
    REQUIRE(on);
    float *x = rig_normal(MLXN_F32, TOKENS * HEADS * DIM, 1, &seed);
    for (int i = 0; i < PAIRS; i++)
        factors[i] = test_uniform(&seed, 1, 8);
    mlxn_buffer *in = rig_vector(on->device, MLXN_F32, TOKENS * HEADS * DIM, x);
    mlxn_buffer *pos = rig_vector(on->device, MLXN_U32, TOKENS, positions);
    mlxn_buffer *factor = rig_vector(on->device, MLXN_F32, PAIRS, factors);
    CHECK_STATUS(
        mlxn_fused_head_norm_rope_f32(
            on->encoder, MLXN_DESC(mlxn_fused_head_norm_rope_f32_args, .input = in, .output = in,
                                   .positions_buf = pos, .freq_factors = factor, .n_tokens = TOKENS,
                                   .n_heads = HEADS, .head_dim = DIM, .half_rope_dim = PAIRS,
                                   .eps = 1e-6f, .theta = 1e6f)),
        MLXN_OK);
    rig_finish(on, MLXN_OK);
    rig_read(in, y);
    for (int h = 0; h < TOKENS * HEADS; h++) {
        double sum = 0;
        for (int i = 0; i < DIM; i++)
            sum += (double)x[h * DIM + i] * (double)x[h * DIM + i];
        double r = 1 / sqrt(sum / DIM + (double)1e-6f);
        for (int i = 0; i < DIM / 2; i++) {
            double lo = (double)x[h * DIM + i] * r, hi = (double)x[h * DIM + i + DIM / 2] * r;
            long double a = positions[h / HEADS] * powl(1e6L, -2.0L * i / DIM) /
                            (long double)(i < PAIRS ? factors[i] : 1);
            double c = i < PAIRS ? (double)cosl(a) : 1, s = i < PAIRS ? (double)sinl(a) : 0;
            double scale = fmax(fabs(lo), fabs(hi));
            worst = fmax(worst, test_ulp((double)y[h * DIM + i], lo * c - hi * s, scale, MLXN_F32));
            worst = fmax(worst, test_ulp((double)y[h * DIM + i + DIM / 2], hi * c + lo * s, scale,
                                         MLXN_F32));
        }
    }
    test_note("worst %.2f ulp of the pair", worst);
    CHECK(worst <= 1.5 * (DIM / 64.0 + 8.5 + 3));
    mlxn_buffer_release(in);
    mlxn_buffer_release(pos);
    mlxn_buffer_release(factor);
    free(x);
}

/* A slot or position out of range: that token writes nothing, the others do, wait says so. */
TEST(kernel_text_faults)
{
    uint64_t seed = 89;
    REQUIRE(on_text(1));
    for (int i = 0; i < 6; i++) {
        heads_case c = heads_random(floats[i % 3], MLXN_ROPE_NEOX, MLXN_F32, 64, &seed);
        c.layout = HEADS_DENSE;
        c.tokens = 5;
        c.heads[PART_K] = 2;
        c.cache_dtype = MLXN_F16;
        c.slot_dtype = MLXN_I64;
        c.position_dtype = MLXN_I64;
        c.tables = c.no_output = 0;
        c.in_place = 1;
        c.rope[PART_K] = MLXN_ROPE_NEOX;
        c.pairs = 32;
        heads_data d = heads_make(&c, &seed);
        heads_result r = heads_result_make(&c, &d), good = heads_result_make(&c, &d);
        static const qkv_schedule schedules[] = {QKV_SCHEDULE_LANES, QKV_SCHEDULE_ROWS,
                                                 QKV_SCHEDULE_UNITS};
        variant v = {1, schedules[(i + i / 3) % 3], 64, 1, 1, 0};
        CHECK(run(v, &c, &d, &good, MLXN_OK));
        if (i < 3)
            d.slots[2] = c.slots;
        else
            d.positions[2] = i == 3 ? -1 : (int64_t)1 << 31;
        CHECK(run(v, &c, &d, &r, MLXN_ERR_FAULT));
        for (int p = 0; p < PARTS; p++) {
            size_t row = rig_bytes(c.dtype, (size_t)(c.heads[p] * c.dim));
            size_t first = rig_bytes(c.dtype, (size_t)d.first[p]);
            for (size_t t = 0; c.heads[p] && t < 5; t++)
                CHECK(!memcmp((char *)r.base + first + t * row,
                              (char *)(t == 2 ? d.base : good.base) + first + t * row, row));
        }
        heads_result_free(&r);
        heads_result_free(&good);
        heads_free(&d);
    }
}

/* Two tokens whose rows lie 2^32 + 64 elements apart in a sparse mapping; normed into y. */
static void run_far(const emu_library *library, qkv_schedule schedule, float *y)
{
    enum { DIM = 64 };
    const int64_t apart = ((int64_t)1 << 32) + DIM;
    const size_t bytes = (size_t)(apart + DIM) * sizeof(float);
    float *x = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(x != MAP_FAILED);
    for (int i = 0; i < DIM; i++) {
        x[i] = (float)(i + 1);
        x[DIM + i] = -1; /* where a truncated offset leads */
        x[apart + i] = (float)(i % 7 - 3);
    }
    qkv_params p = {.tokens = 2, .dim = DIM, .dtype = K_F32, .eps = 1e-6f, .attention_factor = 1};
    p.part[0] = (qkv_part_params){
        .heads = 1, .input_token = apart, .output_token = DIM, .norm = QKV_NORM_WEIGHTLESS};
    p.present = 1 << QKV_INPUT | 1 << QKV_OUTPUT;
    emu_buffer buffers[QKV_OPERANDS + 2] = {{x, bytes}, {y, 2 * DIM * sizeof *y}};
    uint32_t fault = 0;
    uint64_t addresses[QKV_OPERANDS] = {(uintptr_t)x, (uintptr_t)y};
    buffers[QKV_OPERANDS] = (emu_buffer){&fault, sizeof fault};
    buffers[QKV_OPERANDS + 1] = (emu_buffer){&p, sizeof p};
    const mlxn_gpu_traits gpu = {.schedule = (int)schedule, .threads_wanted = 32};
    mlxn_gpu_plan plan = {0};
    mlxn_gpu_launch *planned = NULL;
    qkv_schedule chosen = QKV_SCHEDULE_AUTO;
    CHECK_STATUS(mlxn_qkv_plan(&gpu, &p, addresses, &plan, &planned, &chosen), MLXN_OK);
    emu_report report;
    const emu_launch launch = {.kernel = planned->entry,
                               .buffers = buffers,
                               .n_buffers = QKV_OPERANDS + 2,
                               .groups = {planned->groups[0], planned->groups[1], 1},
                               .threads = 32};
    CHECK(chosen == schedule);
    CHECK(emu_dispatch(library, &launch, &report) == 0);
    munmap(x, bytes);
}

/* Offsets past 2^32 elements; a twin of the text that truncates them gives other values. */
TEST(kernel_text_far_offsets)
{
    static const emu_mutant narrow = {"32-bit offset", "(at * part->input_token + p.j",
                                      "((int64_t)(int)(at * part->input_token) + p.j"};
    static _Alignas(16) float y[128], twin[128];
    char log[2048];
    REQUIRE(on_text(0));
    char *text = emu_mutate(mlxn_kernel_text_qkv_prepare, &narrow);
    emu_library *truncating = text ? emu_compile(text, EMU_FAST, log, sizeof log) : NULL;
    free(text);
    REQUIRE(truncating);
    for (int k = 0; k < 2; k++) {
        qkv_schedule schedule = k ? QKV_SCHEDULE_ROWS : QKV_SCHEDULE_LANES;
        run_far(emu_text(mlxn_kernel_text_qkv_prepare, 0), schedule, y);
        run_far(truncating, schedule, twin);
        for (int t = 0; t < 2; t++) {
            double sum = 0;
            for (int i = 0; i < 64; i++)
                sum += t ? (i % 7 - 3) * (i % 7 - 3) : (i + 1) * (i + 1);
            for (int i = 0; i < 64; i++) {
                double want = (t ? i % 7 - 3 : i + 1) / sqrt(sum / 64 + 1e-6);
                CHECK(test_ulp((double)y[t * 64 + i], want, fabs(want), MLXN_F32) <= 8);
            }
        }
        CHECK(memcmp(y, twin, sizeof y));
    }
    emu_release(truncating);
}
