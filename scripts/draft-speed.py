#!/usr/bin/env python3
"""Speed of generation with drafts, beside generation without, on texts that repeat themselves and one that does not.

    draft-speed.py LARQL MODEL [--rounds N] [--tokens N] [-- OPTIONS OF RUN]

The model goes on with code that it sees a second time and with a summary of a page, by the likeliest tokens, and with a
story, by random ones with a seed, so that it does not repeat itself. Each round runs both in turn. Printed are tokens a second, the medians of ratios, and the drafted tokens that were
accepted. Options after `--` go to `larql run`, such as `--draft SMALLER`.
"""

import argparse
import pathlib
import re
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = (ROOT / "crates/larql-compute/src/top_k.rs").read_text().split("#[cfg(test)]")[0]
PAGE = (ROOT / "docs/src/concepts.md").read_text()[:4000]
GREEDY = ["--temperature", "0"]
TEXTS = {
    "code edit": (f"{CODE}\n// The same code again, with the functions in another module:\n\n{CODE[:300]}", ["--raw", *GREEDY]),
    "summary": (f"Summarise this page in the words of its own sentences.\n\n{PAGE}", GREEDY),
    "story": ("It was the last evening of the harvest, and", ["--raw", "--temperature", "0.9", "--seed", "7"]),
}
LINE = re.compile(r"^text +\d+ tokens +\S+ \S+ +(\S+) tokens/s(?:, (\d+) of (\d+) drafted)?", re.MULTILINE)


def generate(larql, model, text, tokens, options):
    """Text, tokens a second, and numbers of accepted and of drafted tokens."""
    command = [larql, "run", model, "-n", str(tokens), "--stats", *options]
    ended = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    rate, accepted, drafted = LINE.search(ended.stderr).groups(default="0")
    return ended.stdout, float(rate), int(accepted), int(drafted)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("larql")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("options", nargs="*")
    options = parser.parse_args()
    print(f"{'':12}{'with':>8}{'without':>9}{'ratio':>7}   accepted")
    for name, (text, chosen) in TEXTS.items():
        both = []
        for _ in range(options.rounds):
            with_drafts = generate(options.larql, options.model, text, options.tokens, [*chosen, *options.options])
            without = generate(options.larql, options.model, text, options.tokens, [*chosen, "--no-draft"])
            if with_drafts[0] != without[0]:
                raise SystemExit(f"{name}: drafts change the text")
            both.append((with_drafts, without))
        with_rate, without_rate = (statistics.median(pair[side][1] for pair in both) for side in (0, 1))
        ratio = statistics.median(pair[0][1] / pair[1][1] for pair in both)
        _, _, accepted, drafted = both[0][0]
        print(f"{name:12}{with_rate:8.1f}{without_rate:9.1f}{ratio:7.2f}   {accepted} of {drafted}")


if __name__ == "__main__":
    main()
