"""Writes tests/data/quant_golden.bin: GGUF weight rows and what the `gguf` package of PyPI
dequantises them to.  Usage: python make_quant_golden.py OUTPUT

File: "MLXNQG01", uint32 count; then for each: uint32 gguf type, rows, columns, bytes of the rows;
the rows as in GGUF; rows * columns float32.  Little-endian."""

import struct
import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

ROWS, COLUMNS = 3, 512
# where the f16 scales of a block are
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def rows_of(kind, rng):
    if kind == T.F32:
        return rng.standard_normal((ROWS, COLUMNS), np.float32).view(np.uint8)
    if kind == T.F16:
        return rng.standard_normal((ROWS, COLUMNS), np.float32).astype(np.float16).view(np.uint8)
    if kind == T.BF16:
        bits = rng.standard_normal((ROWS, COLUMNS), np.float32).view(np.uint32) >> 16
        return bits.astype(np.uint16).view(np.uint8)
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // elements, size), np.uint8)
    for at in SCALES[kind]:
        scale = rng.uniform(-0.1, 0.1, len(blocks)).astype(np.float16)
        scale[:3] = [6.0e-8, -65504.0, 0.0]  # the smallest subnormal, the largest, zero
        blocks[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(ROWS, -1)


def main():
    rng = np.random.default_rng(20240607)
    kinds = [T.F32, T.F16, T.BF16, *SCALES]
    with open(sys.argv[1], "wb") as out:
        out.write(b"MLXNQG01" + struct.pack("<I", len(kinds)))
        for kind in kinds:
            rows = np.ascontiguousarray(rows_of(kind, rng))
            values = dequantize(rows, kind).astype(np.float32)
            assert values.shape == (ROWS, COLUMNS)
            out.write(struct.pack("<IIII", int(kind), ROWS, COLUMNS, rows.nbytes))
            out.write(rows.tobytes() + values.tobytes())


main()
