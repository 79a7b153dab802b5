/* plans.h - the planners of GPU launches and the texts of faults, named in kernels.def. */
#ifndef MLXN_OPS_PLANS_H
#define MLXN_OPS_PLANS_H

#include "core/gpu.h"

#define MLXN_PLANNER(name)                                                            \
    mlxn_status mlxn_##name##_plan(const mlxn_gpu_traits *gpu, const mlxn_node *node, \
                                   mlxn_gpu_plan *plan)

MLXN_PLANNER(rms_norm);
MLXN_PLANNER(norm_row);
MLXN_PLANNER(elementwise);
MLXN_PLANNER(softmax);
MLXN_PLANNER(attention);
MLXN_PLANNER(qkv_prepare);
MLXN_PLANNER(matmul);
MLXN_PLANNER(matmul_group);
MLXN_PLANNER(weight_pack);
MLXN_PLANNER(embedding);
MLXN_PLANNER(argmax);
MLXN_PLANNER(top_k);
MLXN_PLANNER(logprob);
MLXN_PLANNER(repeat_penalty);
MLXN_PLANNER(sample_list);
MLXN_PLANNER(sample_all);
MLXN_PLANNER(step_advance);
extern const char *const mlxn_attention_faults[];
extern const char *const mlxn_qkv_prepare_faults[];
extern const char *const mlxn_embedding_faults[];
extern const char *const mlxn_logprob_faults[];
extern const char *const mlxn_repeat_penalty_faults[];
extern const char *const mlxn_sample_faults[];
extern const char *const mlxn_step_advance_faults[];

#endif
