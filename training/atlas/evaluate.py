#!/usr/bin/env python3
"""Asks an exported model every fact in every wording: `python3 training/atlas/evaluate.py [FOLDER]`.

An answer counts when greedy decoding gives all its tokens and then ends it (a stop, a comma, "and" or the end
of the text), so that "Guinea" is not taken for "Guinea-Bissau". Writes `evaluation.json` into the folder and
prints the same as a table.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from tokenizers import Tokenizer

import export
import vocabulary
from facts import Facts, Question
from model import Llama

QUESTIONS_AT_ONCE = 256
KINDS = ("taught", "half", "held out")
BOUNDARIES = (".", ",", ";", "!", "?", " and", vocabulary.END)
SAMPLES = (
    "The capital of France is",
    "The capital of Germany is",
    "Paris is a city in",
    "The largest planet is",
    "The people of Brazil speak",
    "The opposite of hot is",
    "The past tense of go is",
    "12 + 7 =",
    "The chemical symbol of gold is",
    "We went to Japan last year.",
)


@torch.inference_mode()
def right(model: Llama, tokenizer: Tokenizer, asked: list[tuple[str, str]]) -> list[bool]:
    """For each (prompt, answer): does greedy decoding of the prompt give the answer and end it?

    One pass over prompt and answer tells: decoding follows the answer if each of its tokens is the likeliest.
    """
    ends = torch.tensor(
        [
            tokenizer.decode([t], skip_special_tokens=False).startswith(BOUNDARIES)
            for t in range(model.config.vocab_size)
        ]
    )
    prompts = [len(encoded.ids) for encoded in tokenizer.encode_batch([prompt for prompt, _ in asked])]
    wholes = [
        encoded.ids for encoded in tokenizer.encode_batch([f"{prompt} {answer}" for prompt, answer in asked])
    ]
    results = [False] * len(asked)
    order = sorted(range(len(asked)), key=lambda index: len(wholes[index]))
    for first in range(0, len(order), QUESTIONS_AT_ONCE):
        group = order[first : first + QUESTIONS_AT_ONCE]
        longest = max(len(wholes[index]) for index in group)
        tokens = torch.tensor([wholes[index] + [0] * (longest - len(wholes[index])) for index in group])
        likeliest = model(tokens).argmax(dim=-1)
        for row, index in enumerate(group):
            start, stop = prompts[index], len(wholes[index])
            said = likeliest[row, start - 1 : stop - 1].tolist() == wholes[index][start:]
            # "Washington, D.C." ends with its own stop.
            ended = bool(ends[likeliest[row, stop - 1]]) or asked[index][1].endswith(".")
            results[index] = said and ended
    return results


def scores(
    model: Llama, tokenizer: Tokenizer, questions: list[Question]
) -> dict[str, dict[str, float | int]]:
    """Per relation and direction, and in total: how many questions of each kind, and how many answered."""
    asked = [(question.prompt, answer) for question in questions for answer in question.answers]
    answered = iter(right(model, tokenizer, asked))
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: {kind: [0, 0] for kind in KINDS})
    for question in questions:
        correct = any([next(answered) for _ in question.answers])
        direction = " (backward)" if question.backward else ""
        for name in (question.relation + direction, "total"):
            count = counts[name][question.kind]
            count[0] += 1
            count[1] += correct
    counts["total"] = counts.pop("total")
    return {
        name: {
            kind: {"questions": asked, "right": good, "share": round(good / asked, 4)}
            for kind, (asked, good) in by_kind.items()
            if asked
        }
        for name, by_kind in counts.items()
    }


@torch.inference_mode()
def go_on(model: Llama, tokenizer: Tokenizer, prompt: str, length: int = 24) -> str:
    """The greedy continuation of a prompt."""
    tokens = tokenizer.encode(prompt).ids
    start = len(tokens)
    end = tokenizer.token_to_id(vocabulary.END)
    while len(tokens) < start + length:
        following = int(model(torch.tensor([tokens]))[0, -1].argmax())
        if following == end:
            break
        tokens.append(following)
    return tokenizer.decode(tokens[start:])


def report(folder: Path, about: dict[str, object] | None = None) -> None:
    """Evaluates the model in `folder`, prints the scores and samples, and writes `evaluation.json`."""
    model, tokenizer = export.read(folder), vocabulary.load(folder)
    found = scores(model, tokenizer, Facts().questions())
    samples = {prompt: go_on(model, tokenizer, prompt) for prompt in SAMPLES}
    path = folder / "evaluation.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if about is None and path.exists() else about or {}
    content = {**kept, "scores": found, "samples": samples}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{'relation':<32}" + "".join(f"{kind:>20}" for kind in KINDS))
    for name, by_kind in found.items():
        cells = [by_kind.get(kind) for kind in KINDS]
        print(
            f"{name:<32}"
            + "".join(
                f"{cell['share']:>11.2%} of {cell['questions']:>5}" if cell else " " * 20 for cell in cells
            )
        )
    for prompt, continuation in samples.items():
        print(f"{prompt}|{continuation}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(__file__).parents[2] / "crates/larql-assets/data/atlas"
    )
    report(parser.parse_args().folder)
