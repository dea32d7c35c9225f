#!/usr/bin/env python3
"""Quantises a GGUF file by larql and by llama.cpp in the same mixes, and prints the size and the bits per byte of each file.

    python3 scripts/compare-quantisers.py LARQL FLOATS.gguf RECORDING.json [MIX ...] [--llama-bin FOLDER] [--text FILE]

LARQL is the program, FLOATS.gguf a model in 16 or 32 bits, and RECORDING.json a recording of tests/data/real, whose text is
scored. llama.cpp is that of the Python package llama-cpp-python, or the programs llama-imatrix and llama-quantize in the
folder --llama-bin: with them, its importance matrix is made of --text.
"""

import argparse
import ctypes
import os
import re
import subprocess
import tempfile
from pathlib import Path

# llama.cpp's numbers of the mixes (llama_ftype in llama.h).
NUMBERS = {
    "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "iq4_xs": 30, "iq4_nl": 25, "q4_0": 2, "q4_1": 3, "q4_k_s": 14,
    "q4_k_m": 15, "q5_0": 8, "q5_1": 9, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "q8_0": 7,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("larql")
    parser.add_argument("floats")
    parser.add_argument("recording")
    parser.add_argument("mixes", nargs="*", default=list(NUMBERS))
    parser.add_argument("--llama-bin", type=Path)
    parser.add_argument("--text")
    arguments = parser.parse_args()

    def run(*command: str | Path) -> str:
        environment = os.environ | ({"LD_LIBRARY_PATH": str(arguments.llama_bin)} if arguments.llama_bin else {})
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return done.stdout + done.stderr

    def bits(model: str) -> float:
        printed = run(arguments.larql, "conformance", "--real", arguments.recording, "--model", model)
        found = re.search(r"bits per byte +([0-9.]+)", printed)
        if found is None:
            raise SystemExit(f"{model}: {printed}")
        return float(found[1])

    def by_llama_cpp(mix: str, target: str, matrix: str | None) -> None:
        if arguments.llama_bin:
            options = ["--imatrix", matrix] if matrix else []
            run(arguments.llama_bin / "llama-quantize", *options, arguments.floats, target, mix.upper(), "2")
            return
        import llama_cpp

        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = NUMBERS[mix]
        llama_cpp.llama_model_quantize(arguments.floats.encode(), target.encode(), ctypes.byref(parameters))

    print(f"floats: {bits(arguments.floats):.5f} bits per byte")
    print("| Mix | Bytes | LARQL | llama.cpp | LARQL, importance | llama.cpp, importance |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        matrix = None
        if arguments.llama_bin and arguments.text:
            matrix = f"{folder}/importance.gguf"
            run(arguments.llama_bin / "llama-imatrix", "-m", arguments.floats, "-f", arguments.text, "-o", matrix, "-c", "128")
        for mix in arguments.mixes:
            quantise = [arguments.larql, "convert", "quantize", mix, arguments.floats]
            importance = "--imatrix" + (f"={arguments.text}" if arguments.text else "")
            files = {}
            for name in ["plain", "llama", "weighted", "llama-weighted"]:
                files[name] = f"{folder}/{name}.gguf"
                match name:
                    case "plain":
                        run(*quantise, files[name])
                    case "weighted":
                        run(*quantise, files[name], importance)
                    case "llama":
                        by_llama_cpp(mix, files[name], None)
                    case _ if matrix:
                        by_llama_cpp(mix, files[name], matrix)
            sizes = {name: Path(file).stat().st_size for name, file in files.items() if Path(file).exists()}
            cells = [f"{bits(files[name]):.4f}" if name in sizes else "" for name in files]
            print(f"| {mix} | {' / '.join(f'{size:,}' for size in sorted(set(sizes.values())))} | {' | '.join(cells)} |", flush=True)
            for name in sizes:
                Path(files[name]).unlink()


if __name__ == "__main__":
    main()
