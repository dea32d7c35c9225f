"""Writes `rotary.json`: cosines and sines of rotary embeddings, computed in double precision from the papers.

Run with `python make_rotary.py`; needs numpy. Each case has a specification as `RotarySpec` is serialised, the
length of the sequence, and for each position the cosines and sines, `[dims / 2]` each.
"""

import json
from pathlib import Path

import numpy as np

POSITIONS = [0, 1, 2, 17, 500, 4095]


def frequencies(base: float, dims: int) -> np.ndarray:
    return base ** (-np.arange(0, dims, 2) / dims)


def llama3(f: np.ndarray, factor: float, low: float, high: float, context: int) -> np.ndarray:
    wavelength = 2 * np.pi / f
    smooth = (context / wavelength - low) / (high - low)
    between = (1 - smooth) * f / factor + smooth * f
    return np.where(wavelength < context / high, f, np.where(wavelength > context / low, f / factor, between))


def yarn(f, base, dims, factor, context, fast, slow, truncate) -> np.ndarray:
    border = [dims * np.log(context / (turns * 2 * np.pi)) / (2 * np.log(base)) for turns in (fast, slow)]
    if truncate:
        border = [np.floor(border[0]), np.ceil(border[1])]
    first, last = max(border[0], 0), min(border[1], dims - 1)
    interpolated = np.clip((np.arange(dims // 2) - first) / (last - first), 0, 1)
    return f * (1 - interpolated) + f / factor * interpolated


def case(base, dims, scaling, turned, pairing="halves", attention_factor=1.0, length=4096):
    angles = np.outer(POSITIONS, turned)
    return {
        "spec": {"base": base, "dims": dims, "pairing": pairing, "scaling": scaling},
        "length": length,
        "positions": POSITIONS,
        "cos": np.round(np.cos(angles) * attention_factor, 9).tolist(),
        "sin": np.round(np.sin(angles) * attention_factor, 9).tolist(),
    }


def cases():
    base, dims = 10_000.0, 16
    f = frequencies(base, dims)
    yield case(base, dims, {"kind": "none"}, f)
    yield case(base, dims, {"kind": "none"}, f, pairing="interleaved")
    yield case(base, dims, {"kind": "linear", "factor": 8.0}, f / 8)
    dynamic = {"kind": "dynamic", "factor": 4.0, "original_context": 2048}
    yield case(base, dims, dynamic, f, length=2048)
    stretched = base * (4 * 4096 / 2048 - 3) ** (dims / (dims - 2))
    yield case(base, dims, dynamic, frequencies(stretched, dims))

    base, dims = 500_000.0, 32
    f = frequencies(base, dims)
    scaling = {"kind": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_context"] = 8192
    yield case(base, dims, scaling, llama3(f, 32, 1, 4, 8192))

    base, dims = 150_000.0, 64
    f = frequencies(base, dims)
    for truncate in (True, False):
        scaling = {"kind": "yarn", "factor": 32.0, "original_context": 4096, "beta_fast": 32.0}
        scaling |= {"beta_slow": 1.0, "attention_factor": 1.3466, "truncate": truncate}
        turned = yarn(f, base, dims, 32, 4096, 32, 1, truncate)
        yield case(base, dims, scaling, turned, attention_factor=1.3466)

    base, dims = 10_000.0, 12
    f = frequencies(base, dims)
    short, long = np.linspace(1, 1.5, 6), np.geomspace(1, 60, 6)
    scaling = {"kind": "longrope", "short_factor": short.tolist(), "long_factor": long.tolist()}
    scaling |= {"original_context": 4096, "attention_factor": 1.19}
    yield case(base, dims, scaling, f / short, attention_factor=1.19, length=4096)
    yield case(base, dims, scaling, f / long, attention_factor=1.19, length=4097)

    base, dims = 1_000_000.0, 16
    f = frequencies(base, dims)
    f[2:] = 0
    yield case(base, dims, {"kind": "proportional", "rotated_pairs": 2, "factor": 8.0}, f / 8)


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(case) for case in cases())
    Path(__file__).with_name("rotary.json").write_text(f"[\n{lines}\n]\n")
