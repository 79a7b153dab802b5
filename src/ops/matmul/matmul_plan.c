/* matmul_plan.c - a matmul on a GPU: a plain weight is packed into the scratch, activations that
 * are not f32 in aligned rows of whole tiles are brought into that form there, then the product.
 *
 * Few rows go to matvec.kernel, one grid row each; its wide shape needs some simdgroups for every
 * processor, the short one has eight times as many. */
#include "ops/matmul/planner.h"
#include "ops/matmul/weight_pack_plan.h"
#include "ops/plans.h"

enum {
    MM_INPUT_OPERAND,
    MM_WEIGHT_OPERAND,
    MM_OUTPUT_OPERAND,
    MM_INPUT_THREADS = 256,
    MM_MATRIX_THREADS = 128, /* as matmul.kernel is written: a simdgroup a slot */
    MM_MATRIX_ROWS = 32,
    MM_VECTOR_ROWS = 8,   /* at most; more are a matrix */
    MM_WIDE_SIMDS = 16,   /* a processor, at least */
    MM_SHORT_ROWS = 2,    /* of the weight, a simdgroup */
    MM_SHORT_TILES = 32,  /* more tiles of activations are brought in by more threads */
    MM_TENSOR_ROWS = 16,  /* at least, for tensor cores */
    MM_TENSOR_BLOCK = 64, /* rows and columns of a group of threads (matmul_cuda.kernel) */
    MM_TENSOR_THREADS = 128,
    MM_SIMDGROUP_ROWS = 16,       /* at least, for simdgroup matrices */
    MM_SIMDGROUP_BLOCK_ROWS = 32, /* of a group of threads (matmul_metal.kernel) */
    MM_SIMDGROUP_BLOCK_COLUMNS = 64,
    MM_SIMDGROUP_THREADS = 128,
    MM_SIMDGROUP_FAMILY = 7, /* Apple's, and later ones */
    MM_GRID_Y = 65535,
};

/* Where an operand of the product is: an operand of the node, or scratch. */
typedef struct mm_source {
    int operand;
    size_t offset;
} mm_source;

/* The forms of a node's input that its products read. */
enum { MM_AS_FLOATS = 1, MM_AS_BYTES = 2 };
typedef struct mm_input {
    mm_source floats;        /* f32 in aligned rows of whole tiles, */
    int64_t stride;          /* so far apart */
    mm_source bytes, scales; /* rounded to int8 (matmul_metal.kernel) */
} mm_input;

/* Rows of the weight that a simdgroup of the wide shape has (matvec.kernel). */
static int wide_rows(const matmul_weight *w)
{
    return w->dtype == MLXN_F32 ? 4 : packed_format_of((mlxn_dtype)w->dtype).element_bytes ? 8 : 16;
}

/* Tensor cores: rows enough to fill a block of them, quants or bf16 exact in bf16. */
static int on_tensor_cores(const mlxn_gpu_traits *gpu, const matmul_params *p)
{
    return gpu->dialect == MLXN_GPU_CUDA && gpu->overrides && gpu->architecture >= 80 && p->fast &&
           gpu->schedule == MM_SCHEDULE_AUTO && p->rows >= MM_TENSOR_ROWS &&
           p->weight.dtype != MLXN_F32 && p->weight.dtype != MLXN_F16;
}

/* Simdgroup matrices: quants, exact with activations of int8. */
static int on_simdgroups(const mlxn_gpu_traits *gpu, const matmul_params *p)
{
    const int has = gpu->dialect == MLXN_GPU_METAL && gpu->overrides &&
                    gpu->architecture >= MM_SIMDGROUP_FAMILY && gpu->schedule == MM_SCHEDULE_AUTO;
    return (has || gpu->schedule == MM_SCHEDULE_SIMDGROUP) && p->fast &&
           p->rows >= MM_SIMDGROUP_ROWS &&
           !packed_format_of((mlxn_dtype)p->weight.dtype).element_bytes;
}

static mm_schedule choose(const mlxn_gpu_traits *gpu, const matmul_params *p)
{
    if (on_tensor_cores(gpu, p))
        return MM_SCHEDULE_TENSOR;
    if (on_simdgroups(gpu, p))
        return MM_SCHEDULE_SIMDGROUP;
    if (gpu->schedule == MM_SCHEDULE_MATRIX || p->rows > MM_GRID_Y)
        return MM_SCHEDULE_MATRIX;
    if (gpu->schedule != MM_SCHEDULE_AUTO && gpu->schedule != MM_SCHEDULE_SIMDGROUP)
        return (mm_schedule)gpu->schedule;
    if (p->rows > MM_VECTOR_ROWS)
        return MM_SCHEDULE_MATRIX;
    const int64_t simds = p->rows * (p->weight.rows / wide_rows(&p->weight));
    return simds < MM_WIDE_SIMDS * (int64_t)gpu->processors ? MM_SCHEDULE_SHORT : MM_SCHEDULE_WIDE;
}

static mlxn_status plan_weight(mlxn_gpu_plan *plan, const matmul_weight *w, int operand,
                               mm_source *out)
{
    const mm_layout layout = mm_layout_of(w);
    const int64_t groups = packed_groups(w->rows);
    *out = (mm_source){operand, 0};
    if (layout.group_bytes > INT32_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "matmul: 16 weight rows of %lld pass 2 GiB",
                         (long long)w->cols);
    if (w->packed)
        return MLXN_OK;
    *out = (mm_source){MLXN_GPU_SCRATCH,
                       mlxn_gpu_scratch(plan, (size_t)(groups * layout.group_bytes))};
    return mlxn_matmul_plan_pack(plan, w, operand, out->operand, out->offset, 0, groups);
}

static int form_of(const mlxn_gpu_traits *gpu, const matmul_params *m)
{
    return choose(gpu, m) == MM_SCHEDULE_SIMDGROUP ? MM_AS_BYTES : MM_AS_FLOATS;
}

static mlxn_status plan_floats(mlxn_gpu_plan *plan, const mlxn_node *node, mm_input_params in,
                               mm_input *out)
{
    const uint64_t address = node->operands[MM_INPUT_OPERAND].range.address;
    const int64_t width = in.tiles * PACKED_K;
    mlxn_gpu_launch *launch;
    out->floats = (mm_source){MM_INPUT_OPERAND, 0};
    out->stride = in.input_stride;
    if (in.dtype == MLXN_F32 && address % 16 == 0 && in.input_stride % 4 == 0 && in.cols == width)
        return MLXN_OK;
    out->stride = width;
    out->floats = (mm_source){MLXN_GPU_SCRATCH,
                              mlxn_gpu_scratch(plan, (size_t)(in.rows * width) * sizeof(float))};
    MLXN_TRY(
        mlxn_gpu_add(plan, mlxn_kernel_text_weight_pack, "matmul_input", &in, sizeof in, &launch));
    launch->groups[0] = (uint32_t)((in.rows * width + MM_INPUT_THREADS - 1) / MM_INPUT_THREADS);
    launch->threads = MM_INPUT_THREADS;
    launch->early = 1;
    mlxn_gpu_bind(launch, MM_INPUT_OPERAND, 0);
    mlxn_gpu_bind(launch, out->floats.operand, out->floats.offset);
    return MLXN_OK;
}

static mlxn_status plan_bytes(mlxn_gpu_plan *plan, mm_input_params in, mm_input *out)
{
    const int64_t blocks = in.rows * in.tiles, of_group = MM_SIMDGROUP_THREADS / PACKED_K;
    mlxn_gpu_launch *launch;
    out->bytes = (mm_source){MLXN_GPU_SCRATCH, mlxn_gpu_scratch(plan, (size_t)blocks * PACKED_K)};
    out->scales =
        (mm_source){MLXN_GPU_SCRATCH, mlxn_gpu_scratch(plan, (size_t)blocks * 2 * sizeof(float))};
    MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_matmul_metal, "matmul_metal_input", &in, sizeof in,
                          &launch));
    launch->groups[0] = (uint32_t)((blocks + of_group - 1) / of_group);
    launch->threads = MM_SIMDGROUP_THREADS;
    mlxn_gpu_bind(launch, MM_INPUT_OPERAND, 0);
    mlxn_gpu_bind(launch, out->bytes.operand, out->bytes.offset);
    mlxn_gpu_bind(launch, out->scales.operand, out->scales.offset);
    return MLXN_OK;
}

/* The input in the forms that products read. */
static mlxn_status plan_input(mlxn_gpu_plan *plan, const mlxn_node *node, mm_input_params in,
                              int forms, mm_input *out)
{
    if (forms & MM_AS_FLOATS)
        MLXN_TRY(plan_floats(plan, node, in, out));
    if (forms & MM_AS_BYTES)
        MLXN_TRY(plan_bytes(plan, in, out));
    return MLXN_OK;
}

static const char *entry_of(mm_schedule schedule, int dtype)
{
    static const char *const shorts[] = MM_ENTRIES("matvec_short_");
    static const char *const wides[] = MM_ENTRIES("matvec_wide_");
    static const char *const matrices[] = MM_ENTRIES("matmul_");
    static const char *const tensors[] = MM_ENTRIES("matmul_cuda_");
    static const char *const simdgroups[] = MM_ENTRIES("matmul_metal_");
    return (schedule == MM_SCHEDULE_SHORT       ? shorts
            : schedule == MM_SCHEDULE_WIDE      ? wides
            : schedule == MM_SCHEDULE_TENSOR    ? tensors
            : schedule == MM_SCHEDULE_SIMDGROUP ? simdgroups
                                                : matrices)[dtype];
}

static const char *text_of(mm_schedule schedule)
{
    return schedule == MM_SCHEDULE_TENSOR      ? mlxn_kernel_text_matmul_cuda
           : schedule == MM_SCHEDULE_SIMDGROUP ? mlxn_kernel_text_matmul_metal
           : schedule == MM_SCHEDULE_MATRIX    ? mlxn_kernel_text_matmul
                                               : mlxn_kernel_text_matvec;
}

/* Grid and threads. */
static void shape_launch(const mlxn_gpu_traits *gpu, const matmul_weight *w, const mm_params *p,
                         mm_schedule schedule, mlxn_gpu_launch *launch)
{
    int64_t columns = PACKED_ROWS, rows = 1; /* that a group of threads makes */
    if (schedule == MM_SCHEDULE_MATRIX) {
        launch->threads = MM_MATRIX_THREADS;
        rows = MM_MATRIX_ROWS;
    } else if (schedule == MM_SCHEDULE_TENSOR) {
        launch->threads = MM_TENSOR_THREADS;
        rows = columns = MM_TENSOR_BLOCK;
    } else if (schedule == MM_SCHEDULE_SIMDGROUP) {
        launch->threads = MM_SIMDGROUP_THREADS;
        rows = MM_SIMDGROUP_BLOCK_ROWS;
        columns = MM_SIMDGROUP_BLOCK_COLUMNS;
    } else {
        const int wide = schedule == MM_SCHEDULE_WIDE;
        launch->threads = wide || p->weight.tiles > MM_SHORT_TILES ? 128 : 64;
        if (gpu->threads_wanted)
            launch->threads = gpu->threads_wanted;
        columns = (int64_t)launch->threads / 32 * (wide ? wide_rows(w) : MM_SHORT_ROWS);
    }
    launch->groups[0] = (uint32_t)((p->columns + columns - 1) / columns);
    launch->groups[1] = (uint32_t)((p->rows + rows - 1) / rows);
}

static mm_params params_of(const matmul_params *m, int64_t input_stride)
{
    return (mm_params){.weight = mm_layout_of(&m->weight),
                       .rows = m->rows,
                       .columns = m->weight.rows,
                       .input_stride = input_stride,
                       .output_stride = m->output_stride,
                       .output_dtype = m->output_dtype};
}

/* The constants of matvec.kernel. */
static void made_for(mlxn_gpu_launch *launch, int64_t tiles, int32_t formats)
{
    mlxn_gpu_constant(launch, (int32_t)tiles);
    mlxn_gpu_constant(launch, formats);
}

/* The launch of a product, and before it that which packs a plain weight; behind the first `after`
 * launches of the plan, which bring the input. */
static mlxn_status plan_product(const mlxn_gpu_traits *gpu, mlxn_gpu_plan *plan,
                                const matmul_params *m, int weight_operand, const mm_input *input,
                                mm_source output, int after)
{
    const mm_schedule schedule = choose(gpu, m);
    const mm_params p = params_of(m, input->stride);
    const mm_source *first = schedule == MM_SCHEDULE_SIMDGROUP ? &input->bytes : &input->floats;
    mm_source weight;
    mlxn_gpu_launch *launch;
    if (m->rows > (int64_t)MM_MATRIX_ROWS * MM_GRID_Y || m->weight.rows > INT32_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "matmul: %lld x %lld outputs pass the grid of a GPU",
                         (long long)m->rows, (long long)m->weight.rows);
    MLXN_TRY(plan_weight(plan, &m->weight, weight_operand, &weight));
    MLXN_TRY(mlxn_gpu_add(plan, text_of(schedule), entry_of(schedule, m->weight.dtype), &p,
                          sizeof p, &launch));
    shape_launch(gpu, &m->weight, &p, schedule, launch);
    if (schedule == MM_SCHEDULE_SHORT || schedule == MM_SCHEDULE_WIDE)
        made_for(launch, p.weight.tiles, K_OPEN);
    launch->after = m->weight.packed ? after : plan->n_launches - 1;
    /* only weights that no dispatch writes are read early, and Metal's own text never waits */
    launch->early = m->weight.packed && schedule != MM_SCHEDULE_SIMDGROUP;
    mlxn_gpu_bind(launch, first->operand, first->offset);
    if (schedule == MM_SCHEDULE_SIMDGROUP)
        mlxn_gpu_bind(launch, input->scales.operand, input->scales.offset);
    mlxn_gpu_bind(launch, weight.operand, weight.offset);
    mlxn_gpu_bind(launch, output.operand, output.offset);
    return MLXN_OK;
}

mlxn_status mlxn_matmul_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node, mlxn_gpu_plan *plan)
{
    const matmul_params *m = node->args;
    mm_input input = {.stride = 0};
    MLXN_TRY(plan_input(plan, node,
                        (mm_input_params){.rows = m->rows,
                                          .cols = m->weight.cols,
                                          .tiles = packed_tiles(m->weight.cols),
                                          .input_stride = m->input_stride,
                                          .dtype = m->input_dtype},
                        form_of(gpu, m), &input));
    return plan_product(gpu, plan, m, MM_WEIGHT_OPERAND, &input, (mm_source){MM_OUTPUT_OPERAND, 0},
                        plan->n_launches);
}

/* ---- several products ---- */

static int format_of(int dtype)
{
    static const int8_t formats[] = {
        [MLXN_Q4_0] = 1 + MM_FORMAT_q4_0, [MLXN_Q4_1] = 1 + MM_FORMAT_q4_1,
        [MLXN_Q5_0] = 1 + MM_FORMAT_q5_0, [MLXN_Q5_1] = 1 + MM_FORMAT_q5_1,
        [MLXN_Q8_0] = 1 + MM_FORMAT_q8_0, [MLXN_Q4_K] = 1 + MM_FORMAT_q4_k,
        [MLXN_Q5_K] = 1 + MM_FORMAT_q5_k, [MLXN_Q6_K] = 1 + MM_FORMAT_q6_k};
    return formats[dtype] - 1;
}

/* Whether one launch can make them all: few rows, short products with prepared quants. */
static int in_one(const mlxn_gpu_traits *gpu, const matmul_group_params *g)
{
    int one = gpu->schedule == MM_SCHEDULE_AUTO || gpu->schedule == MM_SCHEDULE_SHORT;
    for (int i = 0; i < g->count; i++) {
        const matmul_params m = matmul_product_of(g, i);
        one = one && choose(gpu, &m) == MM_SCHEDULE_SHORT && m.weight.packed &&
              format_of(m.weight.dtype) >= 0 && m.weight.dtype <= MLXN_Q6_K;
    }
    return one && (!g->gate || g->product[0].weight.dtype == g->product[1].weight.dtype);
}

static mlxn_status plan_one(const mlxn_gpu_traits *gpu, const matmul_group_params *g,
                            const mm_input *input, mlxn_gpu_plan *plan)
{
    static const char *const gates[] = MM_ENTRIES("matvec_gate_");
    mm_group_params p = {.count = g->count};
    mlxn_gpu_launch shape = {0}, *launch;
    uint32_t groups = 0;
    int32_t formats = 0;
    for (int i = 0; i < g->count; i++) {
        const matmul_params m = matmul_product_of(g, i);
        formats |= 1 << format_of(m.weight.dtype);
        p.product[i] = params_of(&m, input->stride);
        p.format[i] = format_of(m.weight.dtype);
        p.first[i] = groups;
        shape_launch(gpu, &m.weight, &p.product[i], MM_SCHEDULE_SHORT, &shape);
        groups += g->gate && i ? 0 : shape.groups[0];
    }
    const int after = plan->n_launches;
    if (g->gate)
        MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_matvec, gates[g->product[0].weight.dtype],
                              &p.product[0], sizeof p.product[0], &launch));
    else
        MLXN_TRY(
            mlxn_gpu_add(plan, mlxn_kernel_text_matvec, "matvec_group", &p, sizeof p, &launch));
    launch->groups[0] = groups;
    launch->groups[1] = shape.groups[1];
    launch->threads = shape.threads;
    made_for(launch, p.product[0].weight.tiles, g->gate ? K_OPEN : formats);
    launch->early = 1;
    launch->after = after;
    mlxn_gpu_bind(launch, input->floats.operand, input->floats.offset);
    mlxn_gpu_bind(launch, 1, 0);
    if (g->gate) {
        mlxn_gpu_bind(launch, 3, 0);
        mlxn_gpu_bind(launch, 2, 0);
        return MLXN_OK;
    }
    for (int i = 2; i < MATMUL_GROUP_OPERANDS; i++)
        mlxn_gpu_bind(launch, i <= 2 * g->count ? i : MLXN_GPU_NONE, 0);
    return MLXN_OK;
}

/* gelu(first) * second, both f32 in the scratch. */
static mlxn_status plan_gate(const matmul_group_params *g, const mm_source from[2],
                             mlxn_gpu_plan *plan)
{
    const struct matmul_group_product *out = &g->product[0];
    const mm_gate_params p = {.rows = g->rows,
                              .columns = out->weight.rows,
                              .output_stride = out->output_stride,
                              .output_dtype = out->output_dtype};
    mlxn_gpu_launch *launch;
    MLXN_TRY(
        mlxn_gpu_add(plan, mlxn_kernel_text_weight_pack, "matmul_gate", &p, sizeof p, &launch));
    launch->groups[0] = (uint32_t)((p.rows * p.columns + MM_INPUT_THREADS - 1) / MM_INPUT_THREADS);
    launch->threads = MM_INPUT_THREADS;
    launch->early = 1;
    launch->after = plan->n_launches - 1;
    mlxn_gpu_bind(launch, from[0].operand, from[0].offset);
    mlxn_gpu_bind(launch, from[1].operand, from[1].offset);
    mlxn_gpu_bind(launch, MM_OUTPUT_OPERAND, 0);
    return MLXN_OK;
}

mlxn_status mlxn_matmul_group_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                                   mlxn_gpu_plan *plan)
{
    const matmul_group_params *g = node->args;
    const int64_t cols = g->product[0].weight.cols;
    mm_source output[MATMUL_GROUP_MAX];
    mm_input input = {.stride = 0};
    int forms = 0;
    for (int i = 0; i < g->count; i++) {
        const matmul_params m = matmul_product_of(g, i);
        forms |= form_of(gpu, &m);
    }
    MLXN_TRY(plan_input(plan, node,
                        (mm_input_params){.rows = g->rows,
                                          .cols = cols,
                                          .tiles = packed_tiles(cols),
                                          .input_stride = g->input_stride,
                                          .dtype = g->input_dtype},
                        forms, &input));
    if (in_one(gpu, g))
        return plan_one(gpu, g, &input, plan);
    const int after = plan->n_launches;
    for (int i = 0; i < g->count; i++) {
        matmul_params m = matmul_product_of(g, i);
        output[i] = (mm_source){2 + 2 * i, 0};
        if (g->gate) {
            const size_t bytes = (size_t)(m.rows * m.weight.rows) * sizeof(float);
            output[i] = (mm_source){MLXN_GPU_SCRATCH, mlxn_gpu_scratch(plan, bytes)};
            m.output_stride = m.weight.rows;
            m.output_dtype = MLXN_F32;
        }
        MLXN_TRY(plan_product(gpu, plan, &m, 1 + 2 * i, &input, output[i], after));
    }
    return g->gate ? plan_gate(g, output, plan) : MLXN_OK;
}
