/* gpu.c - plans of launches; see gpu.h. */
#include <string.h>
#include "core/gpu.h"
#include "kernels/types.h"

mlxn_status mlxn_gpu_add(mlxn_gpu_plan *plan, const char *text, const char *entry, const void *args,
                         size_t args_bytes, mlxn_gpu_launch **out)
{
    size_t at = (plan->args_used + 15) & ~(size_t)15;
    if (plan->n_launches == MLXN_GPU_LAUNCHES || args_bytes > MLXN_GPU_ARGS_BYTES - at)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: more than %d launches or %d argument bytes",
                         entry, (int)MLXN_GPU_LAUNCHES, (int)MLXN_GPU_ARGS_BYTES);
    mlxn_gpu_launch *launch = &plan->launches[plan->n_launches++];
    *launch = (mlxn_gpu_launch){.text = text,
                                .entry = entry,
                                .groups = {1, 1, 1},
                                .threads = 32,
                                .args = plan->args + at,
                                .args_bytes = args_bytes};
    if (args_bytes)
        memcpy(plan->args + at, args, args_bytes);
    plan->args_used = at + args_bytes;
    *out = launch;
    return MLXN_OK;
}

void mlxn_gpu_bind(mlxn_gpu_launch *launch, int operand, size_t offset)
{
    launch->operand[launch->n_parameters] = (int16_t)operand;
    launch->offset[launch->n_parameters++] = offset;
}

void mlxn_gpu_bind_operands(mlxn_gpu_launch *launch, int n)
{
    for (int i = 0; i < n; i++)
        mlxn_gpu_bind(launch, i, 0);
}

void mlxn_gpu_constant(mlxn_gpu_launch *launch, int32_t value)
{
    launch->constants.at[launch->constants.n++] = value;
}

int mlxn_gpu_same_constants(const mlxn_constants *a, const mlxn_constants *b)
{
    return a->n == b->n && !memcmp(a->at, b->at, (size_t)a->n * sizeof *a->at);
}

int mlxn_gpu_open_constants(mlxn_gpu_launch *launch, int variants)
{
    int opened = 0;
    for (int i = 0; i < launch->constants.n && !launch->whole && variants >= MLXN_GPU_VARIANTS;
         i++) {
        opened |= launch->constants.at[i] != K_OPEN;
        launch->constants.at[i] = K_OPEN;
    }
    return opened;
}

uint32_t mlxn_gpu_groups(int64_t n)
{
    return n < 1 ? 1 : n > 65535 ? 65535 : (uint32_t)n;
}

size_t mlxn_gpu_scratch(mlxn_gpu_plan *plan, size_t bytes)
{
    const size_t at = plan->scratch_bytes, mask = MLXN_GPU_SCRATCH_ALIGN - 1;
    plan->scratch_bytes = at + ((bytes + mask) & ~mask);
    return at;
}

static int writes(const mlxn_work *work, const mlxn_range *range)
{
    for (const mlxn_node *n = work->first; n; n = n->next) {
        if (n->graph && writes(&n->graph->work, range))
            return 1;
        for (int i = 0; i < n->n_operands; i++)
            if (n->operands[i].storage && n->operands[i].access & MLXN_WRITE &&
                mlxn_ranges_overlap(&n->operands[i].range, range))
                return 1;
    }
    return 0;
}

int mlxn_gpu_settled(const mlxn_gpu_plan *plan, const mlxn_node *node, int operand)
{
    const mlxn_bound *read = operand >= 0 ? &node->operands[operand] : NULL;
    return !read || !read->storage ||
           !atomic_load_explicit(&read->storage->written, memory_order_relaxed) ||
           !writes(plan->work, &read->range);
}

/* A kernel of the user: one launch, as its dispatch says. */
static mlxn_status plan_user(const mlxn_gpu_traits *gpu, const mlxn_node *node, mlxn_gpu_plan *plan)
{
    const mlxn_kernel_source *source = &node->kernel->source;
    const char *text = gpu->dialect == MLXN_GPU_METAL ? source->metal_text : source->cuda_text;
    mlxn_gpu_launch *launch;
    if (!text)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "dispatch: %s has no code for this device",
                         source->name);
    if (!node->grid.threads || !node->grid.groups[0] || !node->grid.groups[1] ||
        !node->grid.groups[2])
        return mlxn_fail(MLXN_ERR_ARGUMENT, "dispatch: %s has an empty grid: %u x %u x %u of %u",
                         source->name, node->grid.groups[0], node->grid.groups[1],
                         node->grid.groups[2], node->grid.threads);
    MLXN_TRY(mlxn_gpu_add(plan, text, source->entry, node->args, node->args_bytes, &launch));
    launch->whole = 1;
    launch->constants = source->constants;
    memcpy(launch->groups, node->grid.groups, sizeof launch->groups);
    launch->threads = node->grid.threads;
    launch->shared_bytes = (uint32_t)node->grid.shared_bytes;
    mlxn_gpu_bind_operands(launch, node->n_operands);
    return MLXN_OK;
}

/* Copies a plan without its unused launches and bytes. */
static mlxn_gpu_plan *keep(mlxn_work *work, const mlxn_gpu_plan *plan)
{
    const size_t head =
        offsetof(mlxn_gpu_plan, launches) + (size_t)plan->n_launches * sizeof(mlxn_gpu_launch);
    const size_t args_at = (head + 15) & ~(size_t)15;
    unsigned char *p = mlxn_work_alloc(work, args_at + plan->args_used);
    if (!p)
        return NULL;
    mlxn_gpu_plan *kept = (void *)p;
    memcpy(kept, plan, head);
    kept->work = NULL;
    memcpy(p + args_at, plan->args, plan->args_used);
    for (int i = 0; i < plan->n_launches; i++) {
        const unsigned char *args = plan->launches[i].args;
        kept->launches[i].args = p + args_at + (args - plan->args);
    }
    return kept;
}

mlxn_status mlxn_gpu_plan_node(mlxn_device *device, mlxn_work *work, mlxn_node *node)
{
    mlxn_gpu_plan plan, *kept;
    if (!device->gpu || !node->kernel)
        return MLXN_OK;
    const mlxn_kernel_source *source = &node->kernel->source;
    const int user = node->kernel->owned != NULL;
    if (!user && !source->gpu_plan)
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s: not on %s devices", source->name,
                         device->backend);
    plan.work = work;
    plan.n_launches = 0;
    plan.scratch_bytes = plan.args_used = 0;
    MLXN_TRY((user ? plan_user : source->gpu_plan)(device->gpu, node, &plan));
    kept = keep(work, &plan);
    if (!kept)
        return mlxn_fail(MLXN_ERR_MEMORY, "%s: no memory to record it", source->name);
    if (device->ops->prepare)
        MLXN_TRY(device->ops->prepare(device, kept));
    node->plan = kept;
    node->shared_bytes = plan.scratch_bytes;
    return MLXN_OK;
}
