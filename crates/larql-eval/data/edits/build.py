#!/usr/bin/env python3
"""Makes the counterfactual edges that `larql eval edits` inserts, from the tables in crates/larql-assets/data/facts.

Of every relation the subjects are dealt out, each to one use: some are edited (in `tune.json` or in `test.json`), some
are shown to the solver as neighbours that must keep their answers, some are only asked afterwards whether they did. A
target is the object of another subject. Also writes true statements to crates/larql-assets/data/calibration/facts.txt: of these relations only
about subjects that are shown, of others about any. The same tables give the same files.
"""

import csv
import json
import random
from pathlib import Path

HERE = Path(__file__).parent
SHIPPED = HERE.parents[2] / "larql-assets/data"
RELATIONS = [
    "capital", "language", "currency", "continent", "country", "symbol", "demonym", "opposite", "plural", "past-tense",
]
ASKED, SHOWN = 20, 40
TUNE, TEST = 200, 1000
STATEMENTS = 240


def read_facts(table: str, relation: str) -> dict[str, list[str]]:
    facts: dict[str, list[str]] = {}
    with open(SHIPPED / "facts" / table, encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if row["relation"] == relation:
                facts.setdefault(row["subject"], []).append(row["object"])
    return facts


def main() -> None:
    description = json.loads((SHIPPED / "facts/relations.json").read_text(encoding="utf-8"))
    chance = random.Random(20)
    relations, edited, statements = [], [], []
    for relation in description["relations"]:
        name, wordings = relation["name"], relation["forward"]
        facts = read_facts(relation["table"], name)
        subjects = sorted(facts)
        chance.shuffle(subjects)
        if name not in RELATIONS:
            statements += [(wordings, subject, facts[subject][0]) for subject in subjects[:8]]
            relations.append({"name": name, "kind": relation["subject"], **wordings, "shown": [], "asked": []})
            continue
        asked, shown, rest = subjects[:ASKED], subjects[ASKED:ASKED + SHOWN], subjects[ASKED + SHOWN:]
        relations.append(
            {"name": name, "kind": relation["subject"], **wordings, "shown": sorted(shown), "asked": sorted(asked)}
        )
        statements += [(wordings, subject, facts[subject][0]) for subject in shown[:16]]
        objects = sorted({o for subject in subjects for o in facts[subject]})
        wrong = [(s, name, chance.choice([o for o in objects if o not in facts[s]])) for s in rest]
        edited.append(wrong)

    # In turn one of each relation, so that any first part of a file has all of them.
    dealt = [facts.pop() for _ in range(max(map(len, edited))) for facts in edited if facts]
    files = {"tune": dealt[:TUNE], "test": dealt[TUNE:TUNE + TEST]}
    for file, facts in files.items():
        content = {
            "definite": description["definite"],
            "relations": relations,
            "edits": [dict(zip(("entity", "relation", "target"), fact)) for fact in facts],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (HERE / f"{file}.json").write_text(text + "\n", encoding="utf-8")

    chance.shuffle(statements)
    lines = []
    for wordings, subject, target in statements[:STATEMENTS]:
        subject = f"the {subject}" if subject in description["definite"] else subject
        line = f"{chance.choice(wordings['taught']).replace('{subject}', subject)} {target}."
        lines.append(line[0].upper() + line[1:])
    (SHIPPED / "calibration/facts.txt").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
