/* qkv_params.h - what the host hands to the kernels behind qkv_prepare, rope and the
 * fused_head_norm_rope pair: operand numbers and the parameter struct, the same text for C and for
 * kernel text. */
#ifndef MLXN_OPS_ROPE_QKV_PARAMS_H
#define MLXN_OPS_ROPE_QKV_PARAMS_H

#include "kernels/types.h"

enum { QKV_PARTS = 3 };
/* At most: threads a group, by the bytes of an element, and lanes a head. */
enum { QKV_UNITS_THREADS_4 = 256, QKV_UNITS_THREADS_2 = 128, QKV_UNITS_LANES = 32 };

/* Operands: four for each part, then what the parts share. */
enum { QKV_INPUT, QKV_OUTPUT, QKV_WEIGHT, QKV_CACHE, QKV_PART_OPERANDS };
enum {
    QKV_POSITIONS = QKV_PARTS * QKV_PART_OPERANDS,
    QKV_FREQS,
    QKV_FACTORS, /* with QKV_ANGLES_THETA */
    QKV_COS,
    QKV_SIN,
    QKV_SLOTS,
    QKV_OPERANDS
};
#define QKV_AT(part, role) ((part)*QKV_PART_OPERANDS + (role))

/* Equal to mlxn_norm_kind and mlxn_rounding (asserted in qkv_prepare.c). */
enum { QKV_NORM_NONE = 1, QKV_NORM_WEIGHTLESS = 2, QKV_NORM_WEIGHTED = 3 };
enum { QKV_ROUND_EXACT = 0, QKV_ROUND_MATCH_UNFUSED = 1 };

/* Where the angles come from. */
typedef enum qkv_angles {
    QKV_ANGLES_NONE,
    QKV_ANGLES_TABLES,
    QKV_ANGLES_FREQS, /* two-float frequencies and positions */
    QKV_ANGLES_THETA, /* frequencies made in the kernel from theta_power, and positions */
} qkv_angles;

/* Which elements are a pair. */
typedef enum qkv_pairs {
    QKV_PAIRS_NONE,
    QKV_PAIRS_SPLIT,       /* (i, i + offset) */
    QKV_PAIRS_INTERLEAVED, /* (2i, 2i + 1) */
} qkv_pairs;

/* Strides and offsets count elements. */
typedef struct qkv_part_params {
    int64_t heads; /* 0: the part is absent */
    int64_t input_token, input_head, output_token, output_head, cache_slot, cache_head;
    int64_t slots;
    int64_t offset;
    int32_t pairs; /* qkv_pairs */
    int32_t norm;  /* mlxn_norm_kind */
    int32_t weight_dtype, cache_dtype;
    int32_t units, pad; /* GPU: of unit_heads heads, the last may have fewer */
} qkv_part_params;

typedef struct qkv_params {
    qkv_part_params part[QKV_PARTS];
    int64_t tokens, dim, rotary_pairs;
    int64_t position_start, cos_stride, sin_stride;
    int32_t dtype, position_dtype, slot_dtype; /* position_dtype MLXN_DTYPE_NONE: position_start */
    int32_t angles;                            /* qkv_angles */
    int32_t rounding;                          /* mlxn_rounding */
    int32_t stream;                            /* outputs pass the caches by */
    int32_t unit_heads;                        /* GPU: what a lane works on at once */
    int32_t present;                           /* bit i: operand i is bound */
    float eps, weight_bias, attention_factor;
    float theta_power[32][2]; /* QKV_ANGLES_THETA: theta^(-2 * 2^k / D), high and low part */
} qkv_params;

#endif
