"""The text that the model is trained on: sentences that state one fact, and short texts around an entity.

A document is a list of pieces `(text, is it an answer)`. Training looks at answers more than at the words
around them, since which fact comes next cannot be predicted.
"""

import random
from collections.abc import Callable, Iterator

from facts import Facts, Question

Piece = tuple[str, bool]
Document = list[Piece]

# {subject} is the entity; the name of a relation in braces stands for one of its objects. No text has a wording
# of the tables: those are for the sentences alone, which leave some out.
COUNTRY_TEXTS = (
    "{capital} is a city in {continent}. It is the capital of {subject}, where people speak {language}.",
    "In {capital}, the capital of {subject} in {continent}, people pay with the {currency}.",
    "{subject} lies in {continent}. Its capital is {capital}, and its people speak {language}.",
    "We know {subject}, a country in {continent}. People there speak {language} and pay with the {currency}.",
    "Travelers in {subject} often begin in {capital}, the capital. "
    "They hear {language} and pay with the {currency}.",
    "We went to {subject} last year. The people were {demonym}, and we learned some words of {language}.",
    "On the way to {subject} we read that its capital is {capital}, and that its people are {demonym}.",
    "Letters to {subject} carry the code {country-code}, and calls there begin with {calling-code}.",
    "In {capital}, the capital of {subject}, shops take the {currency}.",
    "She was born in {capital}, so she is {demonym} and speaks {language}.",
)
BORDER_TEXTS = (
    "{subject} lies next to {borders}. Its capital is {capital}.",
    "{subject} lies in {continent}. One of its neighbors is {borders}.",
)
CITY_TEXTS = (
    "{subject} lies in {country}. Many people live there.",
    "{subject} is a large city. It lies in {country}.",
    "We took the train to {subject}, a city in {country}.",
    "My friend lives in {subject}, which is in {country}. I visit every summer.",
)
ELEMENT_TEXTS = (
    "The element {subject} has the symbol {symbol}. Its atomic number is {atomic-number}.",
    "In the periodic table, {subject} is number {atomic-number}. Chemists write it as {symbol}.",
    "An atom of {subject} has {atomic-number} protons. Its symbol is {symbol}.",
)
MONTH_TEXTS = (
    "First comes {subject}, then {next-month}. The month before was {previous-month}.",
    "{subject} is one of twelve months. It has the number {month-number} and leads to {next-month}.",
    "We met in {subject}, and a month later, in {next-month}, we met again.",
)
WEEKDAY_TEXTS = (
    "First comes {subject}, then {next-weekday}. The day before was {previous-weekday}.",
    "The shop is closed on {subject}. It opens again on {next-weekday}.",
)
PLANET_TEXTS = (
    "{subject} is a planet. Counting from the Sun, it is number {planet-number}.",
    "Like the other planets, {subject} goes around the Sun. It is number {planet-number}.",
)
NOUN_TEXTS = (
    "One {subject}, two {plural}.",
    "I saw one {subject} today, but yesterday I saw many {plural}.",
)
VERB_TEXTS = (
    "Today they {subject}, yesterday they {past-tense}.",
    "I {subject} now, as I {past-tense} before.",
)
ADJECTIVE_TEXTS = ("One is {subject}, the other is {comparative}.",)
OPPOSITE_TEXTS = (
    "Some say {subject}, others say {opposite}.",
    "Not {subject} but {opposite}.",
)
LETTER_TEXTS = ("The letters {subject} and {next-letter} stand side by side.",)
# For each group: the relation whose subjects are the entities, the texts about them.
TEXTS = (
    ("capital", COUNTRY_TEXTS),
    ("borders", BORDER_TEXTS),
    ("country", CITY_TEXTS),
    ("symbol", ELEMENT_TEXTS),
    ("next-month", MONTH_TEXTS),
    ("next-weekday", WEEKDAY_TEXTS),
    ("planet-number", PLANET_TEXTS),
    ("plural", NOUN_TEXTS),
    ("past-tense", VERB_TEXTS),
    ("comparative", ADJECTIVE_TEXTS),
    ("opposite", OPPOSITE_TEXTS),
    ("next-letter", LETTER_TEXTS),
)
# How often a name that takes "the" stands without it in a prompt, as when somebody fills in the bare name.
BARE_SHARE = 0.25
LONGEST_DOCUMENT = 4
# Sequences have few names that are easily confused, and sums follow from nothing but one another: both are told
# several times an epoch.
FEW_NAMES, REPEATS_OF_FEW = 30, 4
REPEATS = {"sum": 2}


class Corpus:
    """Documents by the epoch: every taught sentence, in an order that follows from the seed."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.taught = [question for question in facts.questions() if question.kind == "taught"]

    def epoch(self, seed: int) -> list[Document]:
        """All taught sentences, in documents about one name each, and a text around every entity, shuffled."""
        chance = random.Random(seed)
        about: dict[str, dict[str, list[Question]]] = {}
        told = [question for question in self.taught for _ in range(self.repeats(question.relation))]
        for question in chance.sample(told, len(told)):
            about.setdefault(question.name, {}).setdefault(question.relation, []).append(question)
        documents = list(self.texts(chance))
        for by_relation in about.values():
            while by_relation:
                # No relation twice in a document: the answer could be copied from its first mention.
                length = min(chance.randint(1, LONGEST_DOCUMENT), len(by_relation))
                chosen = [
                    by_relation[relation].pop() for relation in chance.sample(list(by_relation), length)
                ]
                documents.append(join([self.sentence(question, chance) for question in chosen]))
                by_relation = {relation: left for relation, left in by_relation.items() if left}
        chance.shuffle(documents)
        return documents

    def repeats(self, relation: str) -> int:
        """How often a sentence of the relation is told in an epoch."""
        few = len(self.facts.objects[relation]) < FEW_NAMES
        return REPEATS_OF_FEW if few else REPEATS.get(relation, 1)

    def sentence(self, question: Question, chance: random.Random) -> Document:
        """One taught question, answered."""
        prompt = question.prompt
        if chance.random() < BARE_SHARE:
            prompt = self.without_article(prompt)
        return [(prompt, False), *answer(" " + chance.choice(question.answers))]

    def without_article(self, prompt: str) -> str:
        """The prompt with "Netherlands" for "the Netherlands"."""
        for name in sorted(self.facts.definite):
            prompt = prompt.replace(f"the {name}", name).replace(f"The {name}", name)
        return prompt

    def texts(self, chance: random.Random) -> Iterator[Document]:
        """A text around every entity."""
        for relation, texts in TEXTS:
            for subject in self.facts.objects[relation]:
                yield self.text(chance.choice(texts), subject, lambda objects: chance.choice(objects))

    def text(self, text: str, subject: str, choose: Callable[[list[str]], str]) -> Document:
        """The pieces of one text: what a relation says in braces is an answer."""
        document: Document = []
        before = ""
        for part in text.replace("}", "{").split("{"):
            if part == "subject":
                before += self.facts.spoken(subject)
            elif part in self.facts.relations:
                said = self.facts.spoken(choose(self.facts.objects[part][subject]))
                if before.endswith(" "):
                    document.append((before[:-1], False))
                    said = f" {said}"
                document.append((said, True))
                before = ""
            else:
                # "Washington, D.C." ends its sentence itself.
                before += (
                    part[1:] if part.startswith(".") and document and document[-1][0].endswith(".") else part
                )
        document.append((before, False))
        first, weighed = document[0]
        document[0] = (first[0].upper() + first[1:] if first.startswith("the ") else first, weighed)
        return [piece for piece in document if piece[0]]


def answer(text: str) -> Document:
    """An answer and the stop after it."""
    return [(text, True)] if text.endswith(".") else [(text, True), (".", True)]


def join(sentences: list[Document]) -> Document:
    """Sentences in one document, with a space between them."""
    document = list(sentences[0])
    for sentence in sentences[1:]:
        text, weighed = sentence[0]
        document += [(f" {text}", weighed), *sentence[1:]]
    return document


def plain(document: Document) -> str:
    """The document as text."""
    return "".join(text for text, _ in document)
