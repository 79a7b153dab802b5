/* attention_inputs_test.c - what the fused operator saves: the dispatches of a token's attention
 * inputs (norm, rotation and cache of q, k and v in all layers) by the encoder's counter, fused and
 * as the chain of single operators, both run, with equal bits.  Shapes of Gemma 3 270M and of Gemma
 * 4 26B-A4B (30 layers, every sixth global: 2 heads of 512 for k and v, which share a projection);
 * weights and inputs are random. */
#include "attention_chain.h"
#include "rig.h"

typedef struct layer_shape {
    int64_t heads, kv_heads, dim, pairs;
    mlxn_rope_pairing pairing;
    double theta;
    mlxn_norm_kind v_norm;
    int shared_kv; /* v reads k's input */
} layer_shape;

typedef struct model_shape {
    const char *name;
    int layers;
    layer_shape local, global; /* every sixth */
} model_shape;

enum { Q, K, V, PARTS, SLOTS = 4 };
static const float eps = 1e-6f;

/* A layer's operands, the results twice: of the fused operator and of the chain. */
typedef struct layer {
    const layer_shape *shape;
    mlxn_buffer *input[PARTS], *weight[2], *freqs, *position, *slot;
    mlxn_buffer *fused[PARTS], *chain[PARTS]; /* q, then the caches */
    mlxn_buffer *normed[PARTS];
} layer;

static void layer_make(mlxn_device *device, const layer_shape *s, layer *l, uint64_t *seed)
{
    const int32_t position = 1234, slot = 2;
    l->shape = s;
    for (int p = 0; p < PARTS; p++) {
        const int64_t heads = p == Q ? s->heads : s->kv_heads;
        const int64_t one[] = {1, heads, s->dim}, all[] = {p == Q ? 1 : SLOTS, heads, s->dim};
        void *x = rig_normal(MLXN_F32, (size_t)(heads * s->dim), 1, seed);
        l->input[p] = rig_buffer(device, MLXN_F32, 3, one, x);
        l->normed[p] = rig_buffer(device, MLXN_F32, 3, one, NULL);
        l->fused[p] = rig_buffer(device, MLXN_F32, 3, all, NULL);
        l->chain[p] = rig_buffer(device, MLXN_F32, 3, all, NULL);
        if (p < V)
            l->weight[p] = rig_vector(device, MLXN_F32, s->dim, x);
        free(x);
    }
    l->freqs = rig_buffer(device, MLXN_F32, 2, (int64_t[]){s->pairs, 2}, NULL);
    l->position = rig_vector(device, MLXN_I32, 1, &position);
    l->slot = rig_vector(device, MLXN_I32, 1, &slot);
    REQUIRE_OK(
        mlxn_rope_freqs(device, MLXN_DESC(mlxn_rope_freqs_args, .output = l->freqs,
                                          .exponent_dim = s->dim, .theta = s->theta, .scale = 1)));
}

static void layer_free(layer *l)
{
    for (int p = 0; p < PARTS; p++) {
        mlxn_buffer_release(l->input[p]);
        mlxn_buffer_release(l->normed[p]);
        mlxn_buffer_release(l->fused[p]);
        mlxn_buffer_release(l->chain[p]);
    }
    mlxn_buffer_release(l->weight[Q]);
    mlxn_buffer_release(l->weight[K]);
    mlxn_buffer_release(l->freqs);
    mlxn_buffer_release(l->position);
    mlxn_buffer_release(l->slot);
}

/* The layer's call; results go to `to`: q, then the caches. */
static mlxn_qkv_prepare_args call_of(const layer *l, mlxn_buffer *const to[PARTS])
{
    const layer_shape *s = l->shape;
    mlxn_buffer *v = l->input[s->shared_kv ? K : V];
    return (mlxn_qkv_prepare_args){
        .size = sizeof(mlxn_qkv_prepare_args),
        .q = {l->input[Q], to[Q], l->weight[Q], NULL, MLXN_NORM_WEIGHTED, s->pairing},
        .k = {l->input[K], NULL, l->weight[K], to[K], MLXN_NORM_WEIGHTED, s->pairing},
        .v = {v, NULL, NULL, to[V], s->v_norm, MLXN_ROPE_NONE},
        .rotary_pairs = s->pairs,
        .positions = l->position,
        .freqs = l->freqs,
        .attention_factor = 1,
        .slots = l->slot,
        .eps = eps};
}

static mlxn_status record_fused(mlxn_encoder *encoder, const layer *l)
{
    const mlxn_qkv_prepare_args a = call_of(l, l->fused);
    return mlxn_qkv_prepare(encoder, &a);
}

static mlxn_status record_chain(mlxn_encoder *encoder, const layer *l)
{
    const mlxn_qkv_prepare_args a = call_of(l, l->chain);
    return attention_chain(encoder, &a, l->normed);
}

/* Dispatches of one token's layers, from the encoder's counter. */
static uint64_t run(const rig_device *on, const layer *layers, int n,
                    mlxn_status (*record)(mlxn_encoder *, const layer *))
{
    mlxn_counters before = {.size = sizeof before}, after = {.size = sizeof after};
    CHECK(mlxn_encoder_get_counters(on->encoder, &before) == MLXN_OK);
    for (int i = 0; i < n; i++)
        CHECK_STATUS(record(on->encoder, &layers[i]), MLXN_OK);
    CHECK(rig_finish(on, MLXN_OK));
    CHECK(mlxn_encoder_get_counters(on->encoder, &after) == MLXN_OK);
    return after.dispatches - before.dispatches;
}

static void check_equal(const layer *l)
{
    for (int p = 0; p < PARTS; p++) {
        const size_t bytes = (size_t)mlxn_buffer_elements(l->fused[p]) * sizeof(float);
        char *a = malloc(bytes), *b = malloc(bytes);
        rig_read(l->fused[p], a);
        rig_read(l->chain[p], b);
        CHECK(memcmp(a, b, bytes) == 0);
        free(a);
        free(b);
    }
}

static const model_shape models[] = {
    {"Gemma 3 270M",
     18,
     {4, 1, 256, 128, MLXN_ROPE_NEOX, 1e4, MLXN_NORM_NONE, 0},
     {4, 1, 256, 128, MLXN_ROPE_NEOX, 1e6, MLXN_NORM_NONE, 0}},
    {"Gemma 4 26B-A4B",
     30,
     {16, 8, 256, 128, MLXN_ROPE_NEOX, 1e4, MLXN_NORM_WEIGHTLESS, 0},
     {16, 2, 512, 64, MLXN_ROPE_PROPORTIONAL, 1e6, MLXN_NORM_WEIGHTLESS, 1}}};

TEST(attention_inputs_dispatches)
{
    int n;
    const rig_device *on = rig_devices(&n);
    uint64_t seed = 41;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        const model_shape *shape = &models[m];
        layer layers[30];
        for (int i = 0; i < shape->layers; i++)
            layer_make(on->device, i % 6 == 5 ? &shape->global : &shape->local, &layers[i], &seed);
        const uint64_t fused = run(on, layers, shape->layers, record_fused);
        const uint64_t chain = run(on, layers, shape->layers, record_chain);
        CHECK(fused == (uint64_t)shape->layers);
        CHECK(chain > fused);
        test_note("%s: attention inputs of a token in %d layers: %llu dispatches fused, %llu as a "
                  "chain",
                  shape->name, shape->layers, (unsigned long long)fused, (unsigned long long)chain);
        for (int i = 0; i < shape->layers; i++) {
            check_equal(&layers[i]);
            layer_free(&layers[i]);
        }
    }
}
