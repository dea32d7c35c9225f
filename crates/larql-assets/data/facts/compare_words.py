#!/usr/bin/env python3
"""Compares `words.tsv`, which is written by hand, with libraries of inflections and WordNet's antonyms.

    pip install lemminflect inflect
    apt-get install wordnet-base
    python3 crates/larql-assets/data/facts/compare_words.py [/usr/share/wordnet]

Prints the lines that nothing confirms. An inflection among them is a fault (exit code 1); an opposite need not
be in WordNet, which knows "increase" and "decrease" but not "summer" and "winter".
"""

import argparse
import re
import sys
from pathlib import Path

WORDS = Path(__file__).parent / "words.tsv"
PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}
TAGS = {"plural": "NNS", "past-tense": "VBD", "comparative": "JJR"}


def antonyms(folder: Path) -> set[tuple[str, str]]:
    """The pairs of words that WordNet's data files (wndb(5WN)) link by the pointer `!`."""
    words: dict[tuple[str, str], list[str]] = {}
    links = []
    for part in sorted(set(PARTS_OF_SPEECH.values())):
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if line.startswith(" "):
                continue
            offset, _, _, count, *rest = line.split(" | ")[0].split()
            size = 2 * int(count, 16)
            words[part, offset] = [re.sub(r"\(.*\)", "", word).lower() for word in rest[:size:2]]
            pointers = rest[size + 1 : size + 1 + 4 * int(rest[size])]
            for symbol, target, target_part, ends in zip(
                *(pointers[start::4] for start in range(4)), strict=True
            ):
                if symbol == "!":
                    links.append(((part, offset, ends[:2]), (PARTS_OF_SPEECH[target_part], target, ends[2:])))

    def word(part: str, offset: str, number: str) -> str:
        return words[part, offset][int(number, 16) - 1]

    return {(word(*first), word(*second)) for first, second in links}


def inflections(word: str, relation: str) -> set[str]:
    """What the libraries give for a word."""
    import inflect
    import lemminflect

    found = set(lemminflect.getInflection(word, TAGS[relation]))
    if relation == "comparative":
        found.update(lemminflect.getInflection(word, "RBR"))
    if relation == "plural":
        found.add(inflect.engine().plural_noun(word))
    return found


def main() -> int:
    """Prints what is not confirmed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wordnet", nargs="?", type=Path, default=Path("/usr/share/wordnet"))
    opposed = antonyms(parser.parse_args().wordnet)
    faults = pairs = confirmed = 0
    for line in WORDS.read_text(encoding="utf-8").splitlines()[1:]:
        subject, relation, object_ = line.split("\t")
        if relation == "opposite":
            known = (subject, object_) in opposed or (object_, subject) in opposed
            pairs += 1
            confirmed += known
        else:
            known = object_ in inflections(subject, relation)
            faults += not known
        if not known:
            print(line)
    print(
        f"{confirmed} of {pairs} opposites are antonyms in WordNet; {faults} inflections are not confirmed",
        file=sys.stderr,
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
