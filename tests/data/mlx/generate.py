#!/usr/bin/env python3
"""Quantises the conformance set's `llama` folder as MLX does, and records what MLX makes of it.

    pip install "mlx[cpu]" safetensors numpy
    python3 generate.py ../conformance/llama

For each kind, `NAME/` is a checkpoint as mlx-lm writes it and `NAME/expected.safetensors` holds the values of its
quantised matrices in float32.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx

KINDS = {
    "4-bit": dict(bits=4, group_size=32, dtype=mx.float16),
    "8-bit": dict(bits=8, group_size=64, dtype=mx.bfloat16),
}


def main(source: Path) -> None:
    here = Path(__file__).parent
    for name, kind in KINDS.items():
        target = here / name
        target.mkdir(exist_ok=True)
        weights, expected = {}, {}
        for key, value in mx.load(str(source / "model.safetensors")).items():
            value = value.astype(kind["dtype"])
            if value.ndim != 2 or value.shape[1] % kind["group_size"]:
                weights[key] = value
                continue
            how = dict(group_size=kind["group_size"], bits=kind["bits"])
            codes, scales, biases = mx.quantize(value, **how)
            stem = key.removesuffix(".weight")
            weights |= {key: codes, f"{stem}.scales": scales, f"{stem}.biases": biases}
            exact = [part.astype(mx.float32) for part in (scales, biases)]
            expected[key] = mx.dequantize(codes, *exact, **how)
        mx.save_safetensors(str(target / "model.safetensors"), weights, metadata={"format": "mlx"})
        mx.save_safetensors(str(target / "expected.safetensors"), expected)
        config = json.loads((source / "config.hub.json").read_text())
        config["quantization"] = {"group_size": kind["group_size"], "bits": kind["bits"]}
        config["quantization_config"] = config["quantization"]
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


main(Path(sys.argv[1]))
