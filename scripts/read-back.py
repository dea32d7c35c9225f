#!/usr/bin/env python3
"""Has larql write every folder of a conformance set, and reads the files with the official readers.

    pip install gguf safetensors numpy
    scripts/read-back.py target/release/larql tests/data/conformance

As safetensors each tensor has to come back bit for bit, through a vindex that keeps the source's formats. As GGUF,
where the format can express the model, the reader has to find every tensor in its shape.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from gguf import GGUFReader
from safetensors import deserialize


def tensors(folder: Path) -> dict:
    """Type, shape and bytes of every tensor of a directory."""
    files = [path for path in folder.glob("*.safetensors") if path.name != "expected.safetensors"]
    found = [entry for path in files for entry in deserialize(path.read_bytes())]
    return {name: (entry["dtype"], entry["shape"], bytes(entry["data"])) for name, entry in found}


def check(larql: Path, source: Path, work: Path) -> str:
    """What came of one folder, in a word; exits where something differs."""

    def convert(how: str, *arguments: Path) -> subprocess.CompletedProcess:
        return subprocess.run([larql, "convert", how, *arguments], capture_output=True, text=True, check=False)

    vindex, back, gguf = work / "x.vindex", work / "back", work / "x.gguf"
    extract = [larql, "extract", source, "-o", vindex, "--level", "all", "--keep-formats"]
    subprocess.run(extract, check=True, capture_output=True)
    convert("vindex-to-safetensors", vindex, back).check_returncode()
    expected, found = tensors(source), tensors(back)
    if not found or any(found[name] != expected[name] for name in found):
        sys.exit(f"{source.name}: what was written differs")
    written = convert("vindex-to-gguf", vindex, gguf)
    if written.returncode != 0:
        if "cannot hold" not in written.stderr:
            sys.exit(f"{source.name}: {written.stderr}")
        return "GGUF cannot express it"
    reader = GGUFReader(gguf)
    config = json.loads((source / "config.json").read_text())
    vocabulary = config.get("text_config", config)["vocab_size"]
    embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    if int(embedding.shape[1]) != vocabulary:
        sys.exit(f"{source.name}: the embedding has {embedding.shape[1]} rows, expected {vocabulary}")
    return f"{len(reader.tensors)} tensors in GGUF"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("larql", type=Path)
    parser.add_argument("set", type=Path)
    arguments = parser.parse_args()
    for source in sorted(path.parent for path in arguments.set.glob("*/config.json")):
        with tempfile.TemporaryDirectory() as work:
            print(f"{source.name:22} equal in safetensors, {check(arguments.larql, source, Path(work))}")


main()
