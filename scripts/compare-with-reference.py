#!/usr/bin/env python3
"""Prints what a reference implementation answers to token ids, as JSON, to compare LARQL's answer with.

    scripts/compare-with-reference.py MODEL --tokens 17,4,9 [--new 8]

A directory is run by transformers, a .gguf file by llama.cpp, both on CPU with exact activations. Run it with the
Python of the environment that reference-environment.sh makes: ~/.cache/larql-reference/bin/python.

The object printed has `logits`, those after the last given token, and `generated`, the greedy continuation.
"""

import argparse
import json
import sys
from pathlib import Path


def with_transformers(folder: Path, tokens: list, new: int) -> list:
    """Logits after the given tokens, then after each of `new` more."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder)
    kind = AutoModelForImageTextToText if hasattr(config, "text_config") else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    def logits(ids):
        with torch.no_grad():
            return model(torch.tensor([ids]), use_cache=False).logits[0, -1].tolist()

    return continued(logits, tokens, new)


def with_llama_cpp(file: Path, tokens: list, new: int) -> list:
    import llama_cpp

    # Keys and values in single precision (type 0), which is not the default.
    context = {"n_ctx": len(tokens) + new + 1, "type_k": 0, "type_v": 0, "flash_attn": False}
    llama = llama_cpp.Llama(str(file), logits_all=True, verbose=False, n_threads=1, **context)

    def logits(ids):
        llama.reset()
        llama.eval(ids)
        return llama.scores[len(ids) - 1].tolist()

    return continued(logits, tokens, new)


def continued(logits, tokens: list, new: int) -> list:
    ids, answers = list(tokens), []
    for _ in range(new + 1):
        answers.append(logits(ids))
        ids.append(max(range(len(answers[-1])), key=answers[-1].__getitem__))
    return answers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", required=True, help="token ids with commas between them")
    parser.add_argument("--new", type=int, default=8, help="tokens to add (default: 8)")
    arguments = parser.parse_args()
    tokens = [int(token) for token in arguments.tokens.split(",")]
    run = with_transformers if arguments.model.is_dir() else with_llama_cpp
    answers = run(arguments.model, tokens, arguments.new)
    best = [max(range(len(logits)), key=logits.__getitem__) for logits in answers]
    print(json.dumps({"logits": answers[0], "generated": best[: arguments.new]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
