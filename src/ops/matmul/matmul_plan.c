/* matmul_plan.c - a matmul on a GPU: a plain weight is packed into the scratch, activations that
 * are not f32 in aligned rows of whole tiles are brought into that form there, then the product.
 *
 * Few rows go to matvec.kernel, one grid row each; its wide shape needs some simdgroups for every
 * processor, the short one has eight times as many. */
#include "ops/matmul/matmul_plan.h"
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
    MM_GRID_Y = 65535,
};

/* Where an operand of the product is: an operand of the node, or scratch. */
typedef struct mm_source {
    int operand;
    size_t offset;
} mm_source;

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

static mm_schedule choose(const mlxn_gpu_traits *gpu, const matmul_params *p)
{
    if (on_tensor_cores(gpu, p))
        return MM_SCHEDULE_TENSOR;
    if (gpu->schedule == MM_SCHEDULE_MATRIX || p->rows > MM_GRID_Y)
        return MM_SCHEDULE_MATRIX;
    if (gpu->schedule != MM_SCHEDULE_AUTO)
        return (mm_schedule)gpu->schedule;
    if (p->rows > MM_VECTOR_ROWS)
        return MM_SCHEDULE_MATRIX;
    const int64_t simds = p->rows * (p->weight.rows / wide_rows(&p->weight));
    return simds < MM_WIDE_SIMDS * (int64_t)gpu->processors ? MM_SCHEDULE_SHORT : MM_SCHEDULE_WIDE;
}

static mlxn_status plan_weight(mlxn_gpu_plan *plan, const matmul_weight *w, mm_source *out)
{
    const mm_layout layout = mm_layout_of(w);
    const int64_t groups = packed_groups(w->rows);
    *out = (mm_source){MM_WEIGHT_OPERAND, 0};
    if (layout.group_bytes > INT32_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "matmul: 16 weight rows of %lld pass 2 GiB",
                         (long long)w->cols);
    if (w->packed)
        return MLXN_OK;
    *out = (mm_source){MLXN_GPU_SCRATCH,
                       mlxn_gpu_scratch(plan, (size_t)(groups * layout.group_bytes))};
    return mlxn_matmul_plan_pack(plan, w, MM_WEIGHT_OPERAND, out->operand, out->offset, 0, groups);
}

/* Fills p->input_stride. */
static mlxn_status plan_input(mlxn_gpu_plan *plan, const matmul_params *m, uint64_t address,
                              mm_params *p, mm_source *out)
{
    mlxn_gpu_launch *launch;
    const int64_t cols = m->weight.cols, width = p->weight.tiles * PACKED_K;
    *out = (mm_source){MM_INPUT_OPERAND, 0};
    p->input_stride = m->input_stride;
    if (m->input_dtype == MLXN_F32 && address % 16 == 0 && m->input_stride % 4 == 0 &&
        cols == width)
        return MLXN_OK;
    const mm_input_params in = {.rows = m->rows,
                                .cols = cols,
                                .tiles = p->weight.tiles,
                                .input_stride = m->input_stride,
                                .dtype = m->input_dtype};
    p->input_stride = width;
    *out = (mm_source){MLXN_GPU_SCRATCH,
                       mlxn_gpu_scratch(plan, (size_t)(m->rows * width) * sizeof(float))};
    MLXN_TRY(
        mlxn_gpu_add(plan, mlxn_kernel_text_weight_pack, "matmul_input", &in, sizeof in, &launch));
    launch->groups[0] = (uint32_t)((m->rows * width + MM_INPUT_THREADS - 1) / MM_INPUT_THREADS);
    launch->threads = MM_INPUT_THREADS;
    launch->early = 1;
    mlxn_gpu_bind(launch, MM_INPUT_OPERAND, 0);
    mlxn_gpu_bind(launch, out->operand, out->offset);
    return MLXN_OK;
}

static const char *entry_of(mm_schedule schedule, int dtype)
{
    static const char *const shorts[] = MM_ENTRIES("matvec_short_");
    static const char *const wides[] = MM_ENTRIES("matvec_wide_");
    static const char *const matrices[] = MM_ENTRIES("matmul_");
    static const char *const tensors[] = MM_ENTRIES("matmul_cuda_");
    return (schedule == MM_SCHEDULE_SHORT    ? shorts
            : schedule == MM_SCHEDULE_WIDE   ? wides
            : schedule == MM_SCHEDULE_TENSOR ? tensors
                                             : matrices)[dtype];
}

static const char *text_of(mm_schedule schedule)
{
    return schedule == MM_SCHEDULE_TENSOR   ? mlxn_kernel_text_matmul_cuda
           : schedule == MM_SCHEDULE_MATRIX ? mlxn_kernel_text_matmul
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

mlxn_status mlxn_matmul_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node, mlxn_gpu_plan *plan)
{
    const matmul_params *m = node->args;
    const mm_schedule schedule = choose(gpu, m);
    mm_params p = {.weight = mm_layout_of(&m->weight),
                   .rows = m->rows,
                   .columns = m->weight.rows,
                   .output_stride = m->output_stride,
                   .output_dtype = m->output_dtype};
    mm_source weight, input;
    mlxn_gpu_launch *launch;
    if (m->rows > (int64_t)MM_MATRIX_ROWS * MM_GRID_Y || m->weight.rows > INT32_MAX)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "matmul: %lld x %lld outputs pass the grid of a GPU",
                         (long long)m->rows, (long long)m->weight.rows);
    MLXN_TRY(plan_weight(plan, &m->weight, &weight));
    MLXN_TRY(plan_input(plan, m, node->operands[MM_INPUT_OPERAND].range.address, &p, &input));
    const int after = plan->n_launches > 0;
    MLXN_TRY(mlxn_gpu_add(plan, text_of(schedule), entry_of(schedule, m->weight.dtype), &p,
                          sizeof p, &launch));
    shape_launch(gpu, &m->weight, &p, schedule, launch);
    launch->after = after;
    launch->early = m->weight.packed; /* only weights that no dispatch writes are read early */
    mlxn_gpu_bind(launch, input.operand, input.offset);
    mlxn_gpu_bind(launch, weight.operand, weight.offset);
    mlxn_gpu_bind(launch, MM_OUTPUT_OPERAND, 0);
    return MLXN_OK;
}
