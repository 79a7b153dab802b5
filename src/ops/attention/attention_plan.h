/* attention_plan.h - the schedules of attention on a GPU, which give the same bits. */
#ifndef MLXN_OPS_ATTENTION_ATTENTION_PLAN_H
#define MLXN_OPS_ATTENTION_ATTENTION_PLAN_H

typedef enum attention_schedule {
    ATTENTION_SCHEDULE_AUTO,
    ATTENTION_SCHEDULE_TILES,
    ATTENTION_SCHEDULE_SPLIT, /* attention_decode.kernel, where it serves */
} attention_schedule;

#endif
