/* qkv_prepare_test.c - the flagship: every combination against float64, equal bits over paths, team
 * sizes and batch splits, in place, rounding as the chain of single operators, slots, refusals. */
#include "heads.h"

static const mlxn_dtype floats[] = {MLXN_F32, MLXN_F16, MLXN_BF16};

/* On all devices, and the last token alone. */
static void check_case(const heads_case *c, uint64_t *seed, heads_tally *tally)
{
    int n;
    const rig_device *devices = rig_devices(&n);
    heads_data d = heads_make(c, seed);
    heads_result first = heads_result_make(c, &d), r = heads_result_make(c, &d);
    if (heads_run(&devices[0], c, &d, &first, MLXN_OK) && c->rounding == MLXN_ROUND_EXACT)
        heads_check(c, &d, &first, tally);
    for (int k = 1; k < n; k++)
        if (heads_run(&devices[k], c, &d, &r, MLXN_OK) && !heads_result_equal(c, &d, &first, &r))
            test_failed(__FILE__, __LINE__, "%s dim %lld: %s with %u threads differs",
                        mlxn_dtype_name(c->dtype), (long long)c->dim, devices[k].path,
                        devices[k].threads);
    heads_result_free(&first);
    heads_result_free(&r);
    heads_free(&d);
}

TEST(qkv_prepare_matrix)
{
    heads_tally tally = {0};
    uint64_t seed = 17;
    for (int64_t i = 0; heads_next(&i); i++) {
        heads_case c = heads_of_matrix(i, &seed);
        check_case(&c, &seed, &tally);
    }
    heads_note(&tally);
}

/* For the sizes that models have: within 4 ulp of the pair and the bound of the angle. */
TEST(qkv_prepare_four_ulp)
{
    static const int64_t sizes[] = {64, 128, 256, 512};
    uint64_t seed = 23;
    for (int i = 0; i < 8; i++) {
        heads_tally tally = {0};
        heads_case c = heads_random(MLXN_F32, MLXN_ROPE_NEOX, MLXN_F32, sizes[i % 4], &seed);
        c.tokens = 32;
        c.slots = 64;
        c.tables = i >= 4;
        c.attention_factor = 1;
        c.no_output = 0;
        c.norm[PART_Q] = c.norm[PART_K] = MLXN_NORM_WEIGHTED;
        check_case(&c, &seed, &tally);
        test_note("dim %lld %s: %.2f ulp", (long long)c.dim, c.tables ? "tables" : "freqs",
                  tally.worst[0].ulp);
        CHECK(tally.worst[0].ulp <= 4 + (c.tables ? 0 : 1.5));
    }
}

/* A token gives the same bits alone and in a batch of 512. */
TEST(qkv_prepare_batch_invariance)
{
    int n;
    const rig_device *on = rig_devices(&n);
    uint64_t seed = 29;
    for (int i = 0; i < 3; i++) {
        heads_case c = heads_random(floats[i], MLXN_ROPE_NEOX, MLXN_F32, 80, &seed);
        c.tokens = 512;
        c.slots = 512;
        c.cache_dtype = MLXN_F16;
        c.position_dtype = MLXN_I32;
        c.layout = HEADS_DENSE;
        c.in_place = c.no_output = 0;
        heads_data d = heads_make(&c, &seed);
        heads_result all = heads_result_make(&c, &d);
        REQUIRE(heads_run(&on[n - 1], &c, &d, &all, MLXN_OK));
        for (int64_t t = 0; t < 512; t += 37) {
            heads_data one;
            heads_case alone = heads_alone(&c, &d, t, &one);
            heads_result r = heads_result_make(&c, &d);
            REQUIRE(heads_run(&on[0], &alone, &one, &r, MLXN_OK));
            CHECK(heads_token_equal(&c, &d, t, &all, &r));
            heads_result_free(&r);
        }
        heads_result_free(&all);
        heads_free(&d);
    }
}

/* Positions i32, u32 and i64 and position_start give the same bits; so does in place. */
TEST(qkv_prepare_same_bits)
{
    static const mlxn_dtype positions[] = {MLXN_I32, MLXN_U32, MLXN_I64, MLXN_DTYPE_NONE};
    int n;
    const rig_device *on = rig_devices(&n);
    uint64_t seed = 31;
    for (int i = 0; i < 9; i++) {
        heads_case c = heads_random(floats[i % 3], (mlxn_rope_pairing)(2 + i % 6), MLXN_BF16,
                                    i < 5 ? 128 : 7, &seed);
        c.position_dtype = MLXN_DTYPE_NONE;
        c.layout = HEADS_DENSE;
        c.no_output = c.in_place = c.tables = 0;
        heads_data d = heads_make(&c, &seed);
        heads_result want = heads_result_make(&c, &d), r = heads_result_make(&c, &d);
        REQUIRE(heads_run(on, &c, &d, &want, MLXN_OK));
        for (int k = 0; k < 8; k++) {
            c.position_dtype = positions[k % 4];
            c.in_place = k / 4;
            c.slot_dtype = k % 2 ? MLXN_I32 : MLXN_I64;
            REQUIRE(heads_run(on, &c, &d, &r, MLXN_OK));
            CHECK(heads_result_equal(&c, &d, &want, &r));
        }
        heads_result_free(&want);
        heads_result_free(&r);
        heads_free(&d);
    }
}

/* ---- fused == chain ---- */

/* One part of a dense case through rms_norm, rope and a copy that rounds to the cache dtype. */
static void chain(const rig_device *on, const heads_case *c, const heads_data *d, int p,
                  const heads_result *fused)
{
    const int64_t shape[3] = {c->tokens, c->heads[p], c->dim}, freqs_shape[2] = {c->pairs, 2};
    const int64_t n = c->tokens * c->heads[p] * c->dim;
    const size_t size = rig_bytes(c->dtype, 1);
    mlxn_buffer *x =
        rig_buffer(on->device, c->dtype, 3, shape, (char *)d->base + size * (size_t)d->first[p]);
    mlxn_buffer *w = c->norm[p] == MLXN_NORM_WEIGHTED
                         ? rig_vector(on->device, c->weight_dtype, c->dim, d->weight[p])
                         : NULL;
    mlxn_buffer *freqs = rig_buffer(on->device, MLXN_F32, 2, freqs_shape, NULL);
    if (c->norm[p] != MLXN_NORM_NONE)
        CHECK_STATUS(mlxn_rms_norm(on->encoder, MLXN_DESC(mlxn_rms_norm_args, .input = x,
                                                          .weight = w, .output = x, .eps = c->eps,
                                                          .weight_bias = w ? c->bias : 0)),
                     MLXN_OK);
    CHECK_STATUS(
        mlxn_rope_freqs(
            on->device,
            MLXN_DESC(mlxn_rope_freqs_args, .output = freqs,
                      .exponent_dim = c->rope[0] == MLXN_ROPE_PREFIX ? 2 * c->pairs : c->dim,
                      .theta = c->theta, .scale = 1)),
        MLXN_OK);
    if (c->rope[p] != MLXN_ROPE_NONE)
        CHECK_STATUS(
            mlxn_rope(on->encoder,
                      MLXN_DESC(mlxn_rope_args, .input = x, .output = x, .pairing = c->rope[p],
                                .rotary_pairs = c->pairs, .position_start = d->positions[0],
                                .freqs = freqs, .attention_factor = c->attention_factor)),
            MLXN_OK);
    rig_finish(on, MLXN_OK);
    char *y = malloc(size * (size_t)n), cell[4];
    rig_read(x, y);
    CHECK(!memcmp(y, (char *)fused->base + size * (size_t)d->first[p], size * (size_t)n));
    for (int64_t i = 0; p != PART_Q && i < n; i++) {
        int64_t t = i / (c->heads[p] * c->dim), in_row = i % (c->heads[p] * c->dim);
        size_t bytes = rig_bytes(c->cache_dtype, 1);
        if (d->slots[t] < 0)
            continue;
        test_store(c->cache_dtype, cell, 0, test_load(c->dtype, y, (size_t)i));
        size_t at = (size_t)(d->slots[t] * c->heads[p] * c->dim + in_row);
        if (memcmp(cell, (char *)fused->cache[p] + at * bytes, bytes))
            test_failed(__FILE__, __LINE__, "cache of part %d differs from the chain", p);
    }
    free(y);
    mlxn_buffer_release(x);
    mlxn_buffer_release(w);
    mlxn_buffer_release(freqs);
}

TEST(qkv_prepare_matches_chain)
{
    static const mlxn_rope_pairing ropes[] = {MLXN_ROPE_NEOX, MLXN_ROPE_PREFIX,
                                              MLXN_ROPE_PROPORTIONAL, MLXN_ROPE_INTERLEAVED};
    int n;
    const rig_device *on = rig_devices(&n);
    uint64_t seed = 37;
    for (int i = 0; i < 3 * 4 * 4; i++) {
        heads_case c = heads_random(floats[i % 3], ropes[i / 3 % 4], floats[i / 4 % 3],
                                    i / 12 == 0   ? 256
                                    : i / 12 == 1 ? 80
                                    : i / 12 == 2 ? 64
                                                  : 7,
                                    &seed);
        c.cache_dtype = floats[i / 2 % 3];
        c.layout = HEADS_DENSE;
        c.position_dtype = MLXN_DTYPE_NONE;
        c.in_place = c.no_output = c.tables = 0;
        c.rounding = MLXN_ROUND_MATCH_UNFUSED;
        heads_data d = heads_make(&c, &seed);
        heads_result r = heads_result_make(&c, &d);
        if (heads_run(&on[i % n], &c, &d, &r, MLXN_OK))
            for (int p = 0; p < PARTS; p++)
                if (c.heads[p])
                    chain(&on[(i + 1) % n], &c, &d, p, &r);
        heads_result_free(&r);
        heads_free(&d);
    }
}

/* ---- faults ---- */

/* A slot or a position out of range writes nothing of its token and is reported. */
TEST(qkv_prepare_faults)
{
    int n;
    const rig_device *on = rig_devices(&n);
    uint64_t seed = 41;
    for (int k = 0; k < 6 * n; k++) {
        static const int64_t bad[] = {11, INT32_MAX, -1, (int64_t)INT32_MAX + 1, INT64_MIN, 12};
        const int i = k % 6;
        int of_slot = i < 2 || i == 5;
        heads_case c = heads_random(MLXN_F32, MLXN_ROPE_NEOX, MLXN_F32, 32, &seed);
        c.tokens = 3;
        c.tables = c.in_place = c.no_output = 0;
        c.layout = HEADS_DENSE;
        c.cache_dtype = MLXN_F32;
        c.heads[PART_K] = 2;
        c.position_dtype = c.slot_dtype = MLXN_I64;
        heads_data d = heads_make(&c, &seed);
        heads_result good = heads_result_make(&c, &d), r = heads_result_make(&c, &d);
        REQUIRE(heads_run(&on[k / 6], &c, &d, &good, MLXN_OK));
        *(of_slot ? &d.slots[1] : &d.positions[1]) = bad[i];
        CHECK(heads_run(&on[k / 6], &c, &d, &r, MLXN_ERR_FAULT));
        CHECK(strstr(mlxn_last_error(), of_slot ? "slot" : "position") != NULL);
        for (int p = 0; p < PARTS; p++) /* token 1 is missing, its neighbours are not */
            for (int64_t t = 0; t < 3 && c.heads[p]; t++) {
                size_t bytes = (size_t)(c.heads[p] * c.dim) * 4;
                size_t at = (size_t)(d.first[p] + t * d.token[p]) * 4;
                static const char zeros[4 * 3 * 32];
                CHECK(!memcmp((char *)r.base + at, t == 1 ? zeros : (char *)good.base + at, bytes));
            }
        heads_result_free(&good);
        heads_result_free(&r);
        heads_free(&d);
    }
}
