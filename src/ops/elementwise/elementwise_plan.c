/* elementwise_plan.c - launches of gelu_mul, add, mul, softcap and softmax on a GPU. */
#include "kernels/text.h"
#include "ops/elementwise/elementwise_params.h"
#include "ops/plans.h"

enum { MANY = 1 << 16, SOFTMAX_THREADS = 256 };

mlxn_status mlxn_elementwise_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                                  mlxn_gpu_plan *plan)
{
    static const char *const entries[2][3] = {
        {"elementwise_f32", "elementwise_f16", "elementwise_bf16"},
        {"elementwise_wide_f32", "elementwise_wide_f16", "elementwise_wide_bf16"}};
    const elementwise_params *p = node->args;
    const int64_t wide = p->dtype == K_F32 ? 4 : 8;
    int64_t grain = p->dim; /* all of it must be a multiple of `wide` */
    uint64_t address = 0;
    for (int i = 0; i < ELEMENTWISE_OPERANDS; i++) {
        address |= node->operands[i].range.address;
        grain |= p->stride[i];
    }
    const int fits = grain % wide == 0 && address % 16 == 0;
    const int dtype = p->dtype == K_F32 ? 0 : p->dtype == K_F16 ? 1 : 2;
    mlxn_gpu_launch *launch;
    MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_elementwise, entries[fits][dtype], p, sizeof *p,
                          &launch));
    mlxn_gpu_bind_operands(launch, ELEMENTWISE_OPERANDS);
    /* few elements are spread over many groups */
    const int64_t along = fits ? p->dim / wide : p->dim;
    launch->threads = gpu->threads_wanted ? gpu->threads_wanted : along > MANY ? 256 : 64;
    launch->groups[0] = mlxn_gpu_groups((along + launch->threads - 1) / launch->threads);
    launch->groups[1] = mlxn_gpu_groups(p->rows);
    return MLXN_OK;
}

mlxn_status mlxn_softmax_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node,
                              mlxn_gpu_plan *plan)
{
    const softmax_params *p = node->args;
    mlxn_gpu_launch *launch;
    MLXN_TRY(mlxn_gpu_add(plan, mlxn_kernel_text_softmax, "softmax", p, sizeof *p, &launch));
    mlxn_gpu_bind_operands(launch, SOFTMAX_OPERANDS);
    launch->threads = gpu->threads_wanted ? gpu->threads_wanted : SOFTMAX_THREADS;
    launch->groups[0] = mlxn_gpu_groups(p->rows);
    return MLXN_OK;
}
