#!/usr/bin/env python3
"""How long INFER takes beside transformers on CPU, for one prompt, warm: times and their ratio.

    scripts/compare-infer-speed.py MODEL [--larql target/release/larql] [--threads 2] [--rounds 5]

Run it with the Python of the environment that reference-environment.sh makes: ~/.cache/larql-reference/bin/python.

Each round runs the prompt several times with each side and keeps the middle time; the order of the sides changes from
round to round. LARQL's time is the `latency_ms` of `INFER … TOP 5` in one session, exact precision. transformers runs
one forward pass over the same tokens, with the same weights, which LARQL decodes to f32 for it, in f32 and in bf16.
Neither time has the tokenizer in it. A ratio below 1 says that LARQL takes less time; it is taken within each round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "The capital of France is"
REPEATS = 7


def larql(arguments, *words) -> str:
    command = [str(word) for word in (arguments.larql, *words)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def infer_seconds(arguments) -> float:
    """Of the middle run of one session, after one that warms up."""
    statements = f'INFER "{PROMPT}" TOP 5;' * (REPEATS + 1)
    session = ["--use", arguments.model, "--threads", arguments.threads, "--format", "json", statements]
    answers = map(json.loads, larql(arguments, "lql", *session).splitlines())
    latencies = [answer["runs"][0]["latency_ms"] for answer in answers]
    return statistics.median(latencies[1:]) / 1e3


def transformers_models(arguments, folder: Path) -> dict:
    """By type: a function that gives the seconds of the middle pass."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(arguments.threads)
    larql(arguments, "convert", "vindex-to-safetensors", arguments.model, folder, "--float", "f32", "--format", "json")
    tokens = torch.tensor([AutoTokenizer.from_pretrained(folder).encode(PROMPT)])

    def passes(dtype):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

        def seconds() -> float:
            times = []
            with torch.no_grad():
                for _ in range(REPEATS + 1):
                    started = time.perf_counter()
                    model(tokens, use_cache=True, logits_to_keep=1)
                    times.append(time.perf_counter() - started)
            return statistics.median(times[1:])

        return seconds

    return {name: passes(getattr(torch, name)) for name in ("float32", "bfloat16")}


def spread(values: list, unit: str = "") -> str:
    return f"{statistics.median(values):.4g}{unit} ({min(values):.4g}..{max(values):.4g})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--larql", type=Path, default=Path("target/release/larql"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        models = transformers_models(arguments, Path(scratch) / "model")
    sides = {"LARQL": lambda: infer_seconds(arguments)} | models
    times = {name: [] for name in sides}
    for number in range(arguments.rounds):
        names = list(sides)
        for name in names if number % 2 == 0 else reversed(names):
            times[name].append(sides[name]())
    print(f"{arguments.model.name}, {PROMPT!r}, {arguments.threads} threads, {arguments.rounds} rounds")
    for name, values in times.items():
        line = f"{name:<10} {spread([1e3 * value for value in values], ' ms'):<32}"
        if name != "LARQL":
            ratios = [ours / theirs for ours, theirs in zip(times["LARQL"], values)]
            line += f" LARQL / transformers {spread(ratios)}"
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
