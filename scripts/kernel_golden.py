#!/usr/bin/env python3
"""Writes the golden file of dequantization: random blocks of every type, with extreme scales among
them, and the floats that the Python package `gguf` makes of them.

    scripts/kernel_golden.py tests/golden/kernel/dequantize.bin [--elements 1024] [--seed 1]

The file holds one record per type, all little-endian:

    u32 type, u32 elements, u32 bytes; the blocks; `elements` f32

Values that are NaN stand in it as they come; a reader compares them as NaN. A larger file than the
committed one is written in the same way, to compare by hand (test_kernel_dequantize takes a path)."""

import argparse
import struct

import gguf
import numpy as np

TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()

# Where a block keeps its binary16 scales.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
    "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}

# Zeros, the smallest and largest subnormal and normal numbers of both signs, infinity, NaN.
EXTREMES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]


def random_blocks(rng, name, blocks, block_bytes):
    """Random bytes, whose scales are moderate in three blocks of four, extreme in the others."""
    data = rng.integers(0, 256, (blocks, block_bytes), dtype=np.uint8)
    for at in SCALES.get(name, []):
        scale = (rng.standard_normal(blocks) * 0.05).astype(np.float16).view(np.uint16)
        odd = rng.random(blocks) < 0.25
        scale[odd] = rng.choice(np.array(EXTREMES, dtype=np.uint16), np.count_nonzero(odd))
        data[:, at] = scale & 0xFF
        data[:, at + 1] = scale >> 8
    if name == "MXFP4":
        data[: min(blocks, 6), 0] = np.array([0, 1, 2, 127, 254, 255], dtype=np.uint8)[:blocks]
    return data


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("path")
    parser.add_argument("--elements", type=int, default=1024, help="per type, a multiple of 256")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    with open(args.path, "wb") as out:
        for name in TYPES:
            kind = gguf.GGMLQuantizationType[name]
            block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            data = random_blocks(rng, name, args.elements // block_elements, block_bytes).reshape(-1)
            with np.errstate(all="ignore"):
                if name in ("F32", "F16"):
                    values = data.view(np.float32 if name == "F32" else np.float16)
                else:
                    values = gguf.quants.dequantize(data, kind)
                values = values.astype("<f4").reshape(-1)
            assert values.size == args.elements
            out.write(struct.pack("<III", kind, args.elements, data.size))
            out.write(data.tobytes())
            out.write(values.tobytes())


if __name__ == "__main__":
    main()
