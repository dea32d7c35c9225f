#!/usr/bin/env python3
"""Checks the fact tables: `python3 crates/larql-assets/data/facts/check.py [--self-test] [FOLDER]`.

Prints a line for every fault (file, line, what is wrong) and exits with 1 if there is any. Needs only Python.
"""

import argparse
import json
import sys
import tempfile
import unittest
from collections import defaultdict
from pathlib import Path

HEADER = "subject\trelation\tobject"
LEAST_TAUGHT, LEAST_HELD_OUT = 4, 2


def wording_faults(relation: dict) -> list[str]:
    """What is wrong with the wordings of one relation."""
    faults = []
    seen = set()
    for direction, given in (("forward", "{subject}"), ("backward", "{object}")):
        wordings = relation.get(direction)
        if wordings is None:
            continue
        taught, held_out = wordings["taught"], wordings["held_out"]
        asked = taught + wordings.get("also_asked", [])
        if direction == "forward" and (len(taught) < LEAST_TAUGHT or len(held_out) < LEAST_HELD_OUT):
            faults.append(f"needs {LEAST_TAUGHT} taught wordings and {LEAST_HELD_OUT} held out")
        for wording in asked + held_out:
            if wording.count("{") != 1 or given not in wording:
                faults.append(f"{direction} wording {wording!r} must have {given} once")
            if wording != wording.strip():
                faults.append(f"{direction} wording {wording!r} has spaces at its ends")
            if wording in seen:
                faults.append(f"wording {wording!r} stands twice")
            seen.add(wording)
        for wording in held_out:
            if any(wording.lower() in other.lower() for other in asked):
                faults.append(f"held-out wording {wording!r} is part of one that is asked")
    return faults


def read_table(path: Path) -> tuple[list[tuple[int, str, str, str]], list[str]]:
    """The facts of a table with their line numbers, and what is wrong with its lines."""
    lines = path.read_text(encoding="utf-8").split("\n")
    facts, faults = [], []
    if lines[0] != HEADER:
        faults.append(f"{path.name}:1: the header is {lines[0]!r}, expected {HEADER!r}")
    if lines[-1] != "":
        faults.append(f"{path.name}:{len(lines)}: no line end at the end of the file")
    for number, line in enumerate(lines[1:-1] if lines[-1] == "" else lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != 3:
            faults.append(f"{path.name}:{number}: {len(fields)} fields, expected 3")
        elif not all(fields):
            faults.append(f"{path.name}:{number}: an empty field")
        elif any(field != " ".join(field.split()) for field in fields):
            faults.append(f"{path.name}:{number}: spaces at the ends of a field, or several in a row")
        else:
            facts.append((number, *fields))
    return facts, faults


def faults_in(folder: Path) -> list[str]:
    """Everything wrong with the tables and relations in `folder`."""
    description = json.loads((folder / "relations.json").read_text(encoding="utf-8"))
    relations = {relation["name"]: relation for relation in description["relations"]}
    faults = []
    if len(relations) < len(description["relations"]):
        faults.append("relations.json: two relations have one name")
    for name, relation in relations.items():
        faults += [f"relations.json: {name}: {fault}" for fault in wording_faults(relation)]

    objects = defaultdict(dict)  # (relation, subject) -> object -> place
    subjects = defaultdict(set)  # (relation, object) -> subjects
    names = set()
    for table in sorted({relation["table"] for relation in relations.values()}):
        facts, table_faults = read_table(folder / table)
        faults += table_faults
        for line, subject, name, object_ in facts:
            place = f"{table}:{line}"
            relation = relations.get(name)
            if relation is None or relation["table"] != table:
                faults.append(f"{place}: relations.json has no relation {name!r} for this table")
                continue
            others = objects[name, subject]
            if object_ in others:
                faults.append(f"{place}: the same fact stands at {others[object_]}")
            elif others and relation["functional"]:
                other = next(iter(others))
                faults.append(
                    f"{place}: {name} of {subject} is {object_!r} here, {other!r} at {others[other]}"
                )
            others.setdefault(object_, place)
            subjects[name, object_].add(subject)
            names.update((subject, object_))

    for name, relation in relations.items():
        found = {object_: group for (of, object_), group in subjects.items() if of == name}
        if not found:
            faults.append(f"relations.json: {name}: no facts")
        # A backward wording is asked only for objects with one subject; few of them must have several.
        shared = sorted(object_ for object_, group in found.items() if len(group) > 1)
        if "backward" in relation and len(shared) > len(found) // 20:
            faults.append(
                f"relations.json: {name}: backward wordings, but several subjects share {', '.join(shared[:4])}"
            )
    for name in sorted(set(description["definite"]) - names):
        faults.append(f"relations.json: definite: {name!r} is in no table")
    return faults


class SelfTest(unittest.TestCase):
    """Each fault, put into a small sound table, is found."""

    ROWS = "France\tcapital\tParis\nItaly\tcapital\tRome\n"

    def faults(self, rows: str = ROWS, header: str = HEADER, **changes: object) -> str:
        """The faults of a folder with one relation, changed by `changes`, and these rows."""
        wordings = {
            "taught": [f"{way} capital of {{subject}} is" for way in ("The", "Our", "A", "One")],
            "held_out": ["So the capital of {subject} is", "The main city of {subject} is"],
        }
        relation = {"name": "capital", "table": "t.tsv", "functional": True, "forward": wordings, **changes}
        with tempfile.TemporaryDirectory() as folder:
            description = {"definite": [], "relations": [relation]}
            Path(folder, "relations.json").write_text(json.dumps(description), encoding="utf-8")
            Path(folder, "t.tsv").write_text(f"{header}\n{rows}", encoding="utf-8")
            return "\n".join(faults_in(Path(folder)))

    def test_sound(self) -> None:
        self.assertEqual(self.faults(), "")

    def test_rows(self) -> None:
        for row, fault in {
            "Italy\tcapital\tRome": "t.tsv:4: the same fact stands at t.tsv:3",
            "Italy\tcapital\tMilan": "t.tsv:4: capital of Italy is 'Milan' here, 'Rome' at t.tsv:3",
            "Spain\tcapital\t": "t.tsv:4: an empty field",
            "Spain\tcapital": "t.tsv:4: 2 fields, expected 3",
            "Spain\tcapital\tMadrid ": "t.tsv:4: spaces at the ends",
            "Spain\tking\tFelipe": "t.tsv:4: relations.json has no relation 'king'",
        }.items():
            self.assertIn(fault, self.faults(self.ROWS + row + "\n"))

    def test_files(self) -> None:
        self.assertIn("t.tsv:1: the header is", self.faults(header="a\tb\tc"))
        self.assertIn("no line end", self.faults(self.ROWS.rstrip("\n")))
        self.assertIn("no facts", self.faults(""))

    def test_wordings(self) -> None:
        backward = {"taught": ["{object} is the capital of"], "held_out": []}
        self.assertEqual(self.faults(backward=backward), "")
        self.assertIn(
            "several subjects share Rome",
            self.faults(self.ROWS + "Vatican\tcapital\tRome\n", backward=backward),
        )
        few = {
            "taught": ["The capital of {subject} is "],
            "held_out": ["The capital of {object} is", "capital of {subject} is"],
        }
        found = self.faults(forward=few)
        for fault in (
            "needs 4 taught",
            "has spaces at its ends",
            "must have {subject} once",
            "is part of one that is asked",
        ):
            self.assertIn(fault, found)


def main() -> int:
    """Prints the faults; 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--self-test", action="store_true", help="check this checker instead")
    options = parser.parse_args()
    if options.self_test:
        return 0 if unittest.main(argv=[sys.argv[0]], exit=False).result.wasSuccessful() else 1
    faults = faults_in(options.folder)
    print("\n".join(faults or ["no faults"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
