"""Writes the golden vectors in `codecs/` with ggml's own Python package (`pip install gguf numpy`).

FORMAT.blocks and FORMAT.values: blocks of random bytes, the first half with ordinary scales, and what they decode
to as little-endian f32. FORMAT.encoded: the encoding of the f32 values in `to_encode.values`.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

FOLDER = Path(__file__).parent / "codecs"

# Where the half-precision scales lie in a block.
SCALES = {
    "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
    "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
    "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [],
    "TQ1_0": [52], "TQ2_0": [64],
}  # fmt: skip

# The formats whose encoding is fixed to the byte.
ENCODED = ["BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def decoding(random: np.random.Generator) -> None:
    for name, scales in SCALES.items():
        kind = GGMLQuantizationType[name]
        length, size = GGML_QUANT_SIZES[kind]
        count = 4 if length == 256 else 16 if length == 32 else 256
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for at in scales:
            ordinary = random.normal(0, 0.05, count // 2).astype(np.float16)
            blocks[: count // 2, at : at + 2] = ordinary.view(np.uint8).reshape(-1, 2)
        values = quants.dequantize(blocks, kind)
        (FOLDER / f"{name}.blocks").write_bytes(blocks.tobytes())
        (FOLDER / f"{name}.values").write_bytes(values.astype("<f4").tobytes())


def grids() -> None:
    """The codebooks of the IQ formats, as `src/codec/iq_grids.rs`."""
    lines = [
        "//! The codebooks of the `IQ` formats (ggml's `iq2xxs_grid` and its siblings): groups of 8 or 4 codes that occur",
        "//! together.",
        "//!",
        "//! An entry holds the codes of a group from its lowest bits on: in 2 bits each for groups of 8, in 3 bits each for",
        "//! groups of 4. Written by `tests/data/make_codecs.py`.",
    ]
    for name in ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]:
        kind = getattr(quants, name)
        kind.init_grid()
        codes = {value: code for code, value in enumerate(kind.grid_map)}
        bits = 2 if kind.grid_shape[1] == 8 else 3
        groups = np.array(kind.grid).reshape(kind.grid_shape)
        entries = [sum(codes[int(value)] << (bits * j) for j, value in enumerate(group)) for group in groups]
        lines += ["", "#[rustfmt::skip]", f"pub(super) const {name}_GRID: [u16; {len(entries)}] = ["]
        lines += ["    " + " ".join(f"{e:#06x}," for e in entries[i : i + 16]) for i in range(0, len(entries), 16)]
        lines += ["];"]
    (FOLDER.parents[2] / "src/codec/iq_grids.rs").write_text("\n".join(lines) + "\n")


def encoding(random: np.random.Generator) -> None:
    values = random.normal(0, 1, (16, 32)).astype(np.float32)
    values[1] *= 1e-3
    values[2] *= 1e3
    values[3] = 0
    values[4] = 0.25
    values[5] = np.abs(values[5])
    values[6] = -np.abs(values[6])
    values[7] = np.round(values[7] * 4)  # ties and equal extremes
    values[8] *= 1e-7  # scales that are subnormal as halves
    values[9, 1:] = 0
    values[10] += 100
    values[11] *= np.exp(random.normal(0, 3, 32)).astype(np.float32)
    (FOLDER / "to_encode.values").write_bytes(values.astype("<f4").tobytes())
    for name in ENCODED:
        encoded = quants.quantize(values, GGMLQuantizationType[name])
        (FOLDER / f"{name}.encoded").write_bytes(encoded.tobytes())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    np.seterr(all="ignore")
    decoding(np.random.default_rng(1))
    encoding(np.random.default_rng(2))
    grids()
