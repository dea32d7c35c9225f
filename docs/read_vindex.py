"""Reads a vindex with numpy alone: the smallest reader that `vindex-format.md` allows.

    python3 read_vindex.py MODEL.vindex TOKEN [LAYER]

Prints the model's name and sizes, and the features of a layer whose gate rows have the largest products with a
token's embedding, with the tokens that each of them writes: the same as `WALK "TOKEN" LAYERS N-N MODE PURE`.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np


class Vindex:
    """A vindex whose tensors are plain floats (`quant` is `none`)."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        if self.manifest["version"] not in (1, 2):
            raise ValueError(f"container version {self.manifest['version']} is not known")
        if self.manifest.get("quant", "none") != "none":
            raise ValueError(f"quant {self.manifest['quant']}: this reader decodes no blocks")
        entries = json.loads((self.folder / "weight_manifest.json").read_text(encoding="utf-8"))
        self.entries = {entry["key"]: entry for entry in entries}

    def floats(self, file, offset, length, shape):
        """Values of `shape`, `length` bytes from `offset`; the element width says whether they are f16 or f32."""
        width = length // int(np.prod(shape))
        kind = {2: np.uint16, 4: np.dtype("<f4")}[width]
        raw = np.memmap(self.folder / file, kind, "r", offset, tuple(shape))
        if width == 4:
            return raw
        if self.manifest.get("dtype") == "bf16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.view("<f2").astype(np.float32)

    def tensor(self, key):
        """A tensor of `weight_manifest.json` by its name."""
        entry = self.entries[key]
        return self.floats(entry["file"], entry["offset"], entry["length"], entry["shape"])

    def gate_rows(self, layer):
        """`[features, hidden]`"""
        slot = next(slot for slot in self.manifest["layers"] if slot["layer"] == layer)
        shape = (slot["num_features"], self.manifest["hidden_size"])
        return self.floats(slot.get("file", "gate_vectors.bin"), slot["offset"], slot["length"], shape)

    def embedding(self, token):
        """`[hidden]`, as a layer's first residual is before any norm."""
        shape = (self.manifest["vocab_size"], self.manifest["hidden_size"])
        size = (self.folder / "embeddings.bin").stat().st_size
        return self.floats("embeddings.bin", 0, size, shape)[token] * self.manifest["embed_scale"]

    def written_tokens(self):
        """For each layer, for each feature, `[(token, score), …]`: what its down vector writes."""
        data = (self.folder / "down_meta.bin").read_bytes()
        magic, version, layers, top_k = struct.unpack_from("<4I", data)
        if (magic, version) != (0x444D4554, 1):
            raise ValueError("down_meta.bin: not version 1")
        pair = np.dtype([("token", "<u4"), ("score", "<f4")])
        tokens, at = [], 16
        for _ in range(layers):
            (features,) = struct.unpack_from("<I", data, at)
            rows = np.frombuffer(data, pair, features * (1 + top_k), at + 4).reshape(features, 1 + top_k)
            tokens.append(rows[:, 1:])
            at += 4 + rows.nbytes
        return tokens


def main():
    vindex = Vindex(sys.argv[1])
    manifest, spec = vindex.manifest, vindex.manifest["spec"]
    print(f"{manifest['model']}: {manifest['num_layers']} layers, {manifest['vocab_size']} tokens")

    vocabulary = json.loads((vindex.folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    token, layer = vocabulary[sys.argv[2]], int(sys.argv[3]) if len(sys.argv) > 3 else 0
    words = {number: word for word, number in vocabulary.items()}

    # The query of a search is the embedding after the layer's feed-forward norm, which is RMS here.
    residual = vindex.embedding(token)
    epsilon = spec["layers"][layer]["feed_forward_norm"]["epsilon"]
    normed = residual / np.sqrt(np.mean(residual**2) + epsilon)
    query = normed * vindex.tensor(f"layers.{layer}.post_attention_layernorm.weight")

    scores = vindex.gate_rows(layer) @ query
    written = vindex.written_tokens()[layer]
    for feature in np.argsort(-scores)[:5]:
        tokens = ", ".join(words[int(pair["token"])] for pair in written[feature][:3])
        print(f"L{layer} feature {feature:4}  gate {scores[feature]:6.2f}  {tokens}")


if __name__ == "__main__":
    main()
