/* ops.h - all operators.
 *
 * Rules that hold for every operator:
 *  - It records one dispatch into the encoder unless its text says otherwise, or fails and records
 *    nothing.  All that the host can know is checked before: dtype, shape, the length of every
 *    operand, overlap, 64-bit overflow.  The error names the operator, the operand and the numbers.
 *  - Values that live in device buffers (ids, positions, slots) are checked by the kernel: one out
 *    of range writes nothing and makes wait return MLXN_ERR_FAULT.
 *  - An operand marked "may be NULL" is optional; all others are required.  Zero never stands for
 *    another number, except where the text says so.
 *  - Output and input may not overlap, except where the text says "in place".
 *  - "Rows": all dimensions but the last, in order; they must be evenly spaced (a dense buffer, or
 *    a slice of the last dimension of one).  The last dimension is contiguous.
 *  - All arithmetic is f32 (or exact integers) with one rounding at each store, unless stated.  On
 *    the CPU every result is the same bits for any thread count, SIMD path and split of the rows
 *    into calls. */
#ifndef MLXN_OPS_H
#define MLXN_OPS_H

#include <mlxn/ops/norm.h>
#include <mlxn/ops/rope.h>
#include <mlxn/ops/matmul.h>
#include <mlxn/ops/attention.h>
#include <mlxn/ops/elementwise.h>
#include <mlxn/ops/sampling.h>

#endif
