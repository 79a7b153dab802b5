/* types.h - what a parameter struct may be made of: integers of fixed width and the values of
 * mlxn_dtype, under names that every compiler of kernel text knows.
 *
 * A struct that the host fills and a kernel reads stands in a header of its own that includes this
 * one and nothing else: the same text is C for the host and part of the kernel text.  So are
 * functions of integers that both must compute alike, with FN in front. */
#ifndef MLXN_KERNELS_TYPES_H
#define MLXN_KERNELS_TYPES_H

#if !defined(MLXN_DIALECT_H)
#include <stdint.h>
#define FN static inline
#endif

/* A constant of a pipeline (K_CONSTANT) that is not known: the kernel reads the parameter. */
enum { K_OPEN = -1 };

/* Equal to mlxn_dtype, whose values never change (asserted where a launch is recorded). */
enum { K_NONE = 0, K_F32 = 1, K_F16 = 2, K_BF16 = 3, K_I32 = 5, K_I64 = 6, K_U32 = 9 };

#endif
