#!/usr/bin/env python3
"""Whether edits that LARQL makes show in other programs too, after COMPILE.

    scripts/edits-in-the-references.py MODEL [--update | --delete] [--n 10] [--together 1] [--larql target/release/larql]
                                       [--json FILE]

Run it with the Python of the environment that reference-environment.sh makes: ~/.cache/larql-reference/bin/python.

MODEL is a vindex of level inference or all, or a name such as atlas. `larql eval edits --keep` inserts the first N edges
of crates/larql-eval/data/edits/test.json, `--together` at a time, and asks for each in its usual wording (efficacy) and in wordings and
after sentences that were never tried (paraphrase). Then each group is compiled, to safetensors for transformers and to
GGUF for llama.cpp, and both continue the same prompts greedily, cut into tokens by their own tokenizers. An edge comes
out if the continuation begins with all tokens of its target. Both run in 32 bits on CPU.

With `--update` edges that the model knows get another target, with `--delete` they are deleted. A deleted edge still comes
out if its target is anywhere in the first eight tokens of the continuation; shares are then of edges that do not.
"""

import argparse
import gc
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


class Transformers:
    name = "transformers"
    target = "safetensors"

    def __init__(self, path: Path, threads: int):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def encode(self, prompt: str) -> list:
        return self.tokenizer.encode(prompt)

    def text(self, tokens: list) -> str:
        return self.tokenizer.decode(tokens)

    def continued(self, tokens: list, new: int) -> list:
        import torch

        with torch.no_grad():
            cache, step, answer = None, tokens, []
            for _ in range(new):
                out = self.model(torch.tensor([step]), past_key_values=cache, use_cache=True)
                cache, step = out.past_key_values, [int(out.logits[0, -1].argmax())]
                answer += step
        return answer


class LlamaCpp:
    name = "llama.cpp"
    target = "gguf"

    def __init__(self, path: Path, threads: int):
        import llama_cpp

        # Keys and values in single precision (type 0), which is not the default.
        context = {"n_ctx": 256, "type_k": 0, "type_v": 0, "flash_attn": False}
        self.llama = llama_cpp.Llama(str(path), verbose=False, n_threads=threads, **context)
        self.begins = self.llama._model.add_bos_token()

    def encode(self, prompt: str) -> list:
        return self.llama.tokenize(prompt.encode(), add_bos=self.begins)

    def text(self, tokens: list) -> str:
        return self.llama.detokenize(tokens).decode(errors="replace")

    def continued(self, tokens: list, new: int) -> list:
        import numpy

        self.llama.reset()
        step, answer = tokens, []
        for _ in range(new):
            self.llama.eval(step)
            logits = self.llama._ctx.get_logits_ith(-1)
            logits = numpy.ctypeslib.as_array(logits, shape=(self.llama.n_vocab(),))
            step = [int(logits.argmax())]
            answer += step
        return answer


# Tokens of a continuation in which the target of a deleted edge is looked for.
DELETED_TOKENS = 8


class Tally:
    """Questions that one program was asked, and what came out."""

    def __init__(self, deleted: bool):
        self.deleted = deleted
        self.asked = {"efficacy": 0, "paraphrase": 0}
        self.answered = {"efficacy": 0, "paraphrase": 0}
        self.as_larql = 0
        self.other_tokens = 0

    def add(self, question: dict, answered: bool, tokens: list) -> None:
        kind = "paraphrase" if question["paraphrase"] else "efficacy"
        self.asked[kind] += 1
        self.answered[kind] += answered != self.deleted
        self.as_larql += answered == question["answered"]
        self.other_tokens += tokens != question["tokens"]

    def shares(self) -> dict:
        shares = {kind: self.answered[kind] / max(1, asked) for kind, asked in self.asked.items()}
        return {**shares, "questions": sum(self.asked.values()), "as_larql": self.as_larql, "other_tokens": self.other_tokens}


def larql(arguments, *words) -> None:
    subprocess.run([str(word) for word in (arguments.larql, *words)], stdout=subprocess.DEVNULL, check=True)


def ask(program, arguments, patch: Path, questions: list, tally: Tally, scratch: Path) -> None:
    path = scratch / f"model-{program.target}{'.gguf' if program.target == 'gguf' else ''}"
    larql(arguments, "compile", arguments.model, "--patch", patch, "-o", path, "--to", program.target)
    model = program(path, arguments.threads)
    for question in questions:
        tokens = model.encode(question["prompt"])
        if arguments.delete:
            answer = model.text(model.continued(tokens, max(DELETED_TOKENS, len(question["target"]))))
            comes_out = question["edge"]["target"].strip() in answer
        else:
            comes_out = model.continued(tokens, len(question["target"])) == question["target"]
        tally.add(question, comes_out, tokens)
    del model
    gc.collect()
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--together", type=int, default=1)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--update", action="store_true", help="give known edges another target")
    kind.add_argument("--delete", action="store_true", help="delete known edges")
    parser.add_argument("--larql", type=Path, default=Path("target/release/larql"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()

    tallies = {name: Tally(arguments.delete) for name in ("LARQL", Transformers.name, LlamaCpp.name)}
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) / "kept"
        kind = [word for word, given in (("--update", arguments.update), ("--delete", arguments.delete)) if given]
        inserting = [*kind, "--n", arguments.n, "--together", arguments.together, "--threads", arguments.threads]
        larql(arguments, "eval", "edits", arguments.model, *inserting, "--keep", kept)
        for patch in sorted(kept.glob("*.vlp")):
            questions = json.loads(patch.with_suffix(".json").read_text())
            for question in questions:
                tallies["LARQL"].add(question, question["answered"], question["tokens"])
            for program in (Transformers, LlamaCpp):
                ask(program, arguments, patch, questions, tallies[program.name], Path(scratch))
            print(f"{patch.stem}: {len(questions)} questions", file=sys.stderr)

    print(f"{arguments.model}: {arguments.n} edges, {arguments.together} at a time")
    print(f"  {'':<14} {'efficacy':>9} {'paraphrase':>11} {'as LARQL':>11}  prompts cut otherwise")
    figures = {name: tally.shares() for name, tally in tallies.items()}
    for name, of in figures.items():
        same = f"{of['as_larql']}/{of['questions']}"
        print(f"  {name:<14} {of['efficacy']:>9.1%} {of['paraphrase']:>11.1%} {same:>11}  {of['other_tokens']}")
    if arguments.json:
        report = {"model": arguments.model, "n": arguments.n, "together": arguments.together, "programs": figures}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
