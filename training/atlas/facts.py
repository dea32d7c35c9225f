"""The fact tables of `crates/larql-assets/data/facts`, and how a fact becomes a prompt and its answers."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TABLES = Path(__file__).parents[2] / "crates/larql-assets/data/facts"
# The share of subjects, in each relation, that training meets in half of the taught wordings only.
HALF_TAUGHT_SHARE = 0.25


@dataclass(frozen=True)
class Relation:
    """A relation with its wordings; `taught` and `held_out` hold (wording, is it backward)."""

    name: str
    taught: tuple[tuple[str, bool], ...]
    held_out: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Question:
    """A prompt that ends right before the answer, and the answers that are right."""

    relation: str
    prompt: str
    answers: tuple[str, ...]
    # What is asked about: the fact's subject, or its object if the wording is backward.
    name: str
    wording: str
    # "taught": in training; "half": a taught wording, but not taught with this subject; "held out".
    kind: str
    backward: bool


class Facts:
    """All tables: relations by name, and objects by relation and subject."""

    def __init__(self, folder: Path = TABLES) -> None:
        description = json.loads((folder / "relations.json").read_text(encoding="utf-8"))
        self.definite = set(description["definite"])
        self.relations: dict[str, Relation] = {}
        tables = set()
        for entry in description["relations"]:
            wordings = {
                part: tuple(
                    (wording, direction == "backward")
                    for direction in ("forward", "backward")
                    for wording in entry.get(direction, {}).get(part, ())
                )
                for part in ("taught", "held_out")
            }
            self.relations[entry["name"]] = Relation(entry["name"], **wordings)
            tables.add(entry["table"])
        self.objects: dict[str, dict[str, list[str]]] = {name: defaultdict(list) for name in self.relations}
        self.subjects: dict[str, dict[str, list[str]]] = {name: defaultdict(list) for name in self.relations}
        for table in sorted(tables):
            for line in (folder / table).read_text(encoding="utf-8").splitlines()[1:]:
                subject, relation, object_ = line.split("\t")
                self.objects[relation][subject].append(object_)
                self.subjects[relation][object_].append(subject)

    def __len__(self) -> int:
        return sum(len(objects) for by_subject in self.objects.values() for objects in by_subject.values())

    def spoken(self, name: str) -> str:
        """The name as it stands inside a sentence: "the Netherlands"."""
        return f"the {name}" if name in self.definite else name

    def prompt(self, wording: str, name: str) -> str:
        """The wording about `name`, with a capital where it begins with an article."""
        text = wording.replace("{subject}", name).replace("{object}", name)
        return text[0].upper() + text[1:] if text.startswith("the ") else text

    def questions(self) -> list[Question]:
        """Every fact in every wording, taught or not; several answers where several are right."""
        found = []
        for relation in self.relations.values():
            taught = {
                backward: [w for w, b in relation.taught if b == backward] for backward in (False, True)
            }
            for backward, pairs in ((False, self.objects), (True, self.subjects)):
                for name, answers in pairs[relation.name].items():
                    if backward and len(answers) > 1:
                        continue
                    unused = self.unused_wordings(relation.name, name, taught[backward])
                    asked = [
                        (wording, "half" if wording in unused else "taught") for wording in taught[backward]
                    ]
                    asked += [(wording, "held out") for wording, b in relation.held_out if b == backward]
                    for wording, kind in asked:
                        prompt = self.prompt(wording, self.spoken(name))
                        right = tuple(self.spoken(answer) for answer in answers)
                        found.append(Question(relation.name, prompt, right, name, wording, kind, backward))
        return found

    def unused_wordings(self, relation: str, name: str, wordings: list[str]) -> set[str]:
        """Half of the wordings for a quarter of the names, by a hash and so always the same; else none."""
        digest = hashlib.sha256(f"{relation}\t{name}".encode()).digest()
        if digest[0] >= 256 * HALF_TAUGHT_SHARE or len(wordings) < 2:
            return set()
        ordered = sorted(wordings, key=lambda wording: hashlib.sha256(digest + wording.encode()).digest())
        return set(ordered[: len(wordings) // 2])
