"""Tests of corpus, packing and export: `python3 -m unittest` in this folder. They train nothing."""

import random
import tempfile
import unittest
from pathlib import Path

import torch

import evaluate
import export
import vocabulary
from corpus import TEXTS, Corpus, answer, join, plain
from facts import Facts
from model import Config, Llama
from train import IGNORED, ROW, batch_of, rows_of, share_of_peak


class CorpusTest(unittest.TestCase):
    """What the model is taught, and what it must not see."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.facts = Facts()
        cls.corpus = Corpus(cls.facts)
        cls.documents = cls.corpus.epoch(7)
        cls.text = " ".join([".", *(plain(document) for document in cls.documents)])

    def test_what_is_taught_is_told_and_nothing_else(self) -> None:
        for question in random.Random(1).sample(self.facts.questions(), 2000):
            prompts = {question.prompt, self.corpus.without_article(question.prompt)}
            told = any(f". {prompt} {text}" in self.text for prompt in prompts for text in question.answers)
            self.assertEqual(told, question.kind == "taught", question)

    def test_texts_have_no_wording_of_the_tables(self) -> None:
        for _, texts in TEXTS:
            for relation in self.facts.relations.values():
                for wording, backward in relation.taught + relation.held_out:
                    known = wording.replace("{object}", f"{{{relation.name}}}")
                    said = f"{known} {{subject}}" if backward else f"{known} {{{relation.name}}}"
                    self.assertNotIn(said, "\n".join(texts))

    def test_an_epoch_follows_from_its_seed(self) -> None:
        self.assertEqual(self.documents, self.corpus.epoch(7))
        self.assertNotEqual(self.documents, self.corpus.epoch(8))

    def test_articles(self) -> None:
        self.assertEqual(self.facts.prompt("{subject} borders", "the Gambia"), "The Gambia borders")
        self.assertEqual(self.facts.prompt("The plural of {subject} is", "car"), "The plural of car is")

    def test_texts_mark_their_answers(self) -> None:
        text = "{subject} is a country in {continent}. Its capital is {capital}."
        document = self.corpus.text(text, "United States", lambda objects: objects[0])
        self.assertEqual(
            [piece for piece, is_answer in document if is_answer], [" North America", " Washington, D.C."]
        )
        self.assertEqual(
            plain(document),
            "The United States is a country in North America. Its capital is Washington, D.C.",
        )

    def test_sentences_join_with_a_space(self) -> None:
        self.assertEqual(
            plain(join([[("A is", False), *answer(" b")], [("C is", False), *answer(" d")]])),
            "A is b. C is d.",
        )


class ModelTest(unittest.TestCase):
    """Packing, and the exported folder."""

    @classmethod
    def setUpClass(cls) -> None:
        corpus = Corpus(Facts())
        cls.documents = corpus.epoch(1)[:500]
        cls.tokenizer = vocabulary.learn(plain(document) for document in cls.documents)

    def test_rows_hold_whole_documents(self) -> None:
        rows = rows_of(self.documents, self.tokenizer, random.Random(1))
        begin = self.tokenizer.token_to_id(vocabulary.BEGIN)
        self.assertLessEqual(max(len(row.tokens) for row in rows), ROW + 1)
        self.assertGreater(sum(row.tokens[0] == begin for row in rows), len(rows) / 2)
        tokens, targets = batch_of(rows[:4], torch.Generator().manual_seed(1))
        self.assertEqual(tokens.shape, targets.shape)
        answers = torch.tensor(rows[0].answers[1:])
        self.assertTrue((targets[0, : len(answers)][answers] != IGNORED).all())
        self.assertTrue((targets[0, len(answers) :] == IGNORED).all())

    def test_rate_rises_and_falls(self) -> None:
        shares = [share_of_peak(step, 1000) for step in range(1000)]
        self.assertEqual(max(shares), 1.0)
        self.assertLess(shares[0], 0.1)
        self.assertLess(shares[-1], 0.01)

    def test_unknown_names_survive_the_tokenizer(self) -> None:
        for text in ("The capital of Atlantis is Poseidon.", "Žluťoučký kůň 東京 🦀"):
            encoded = self.tokenizer.encode(text)
            self.assertEqual(encoded.tokens[0], vocabulary.BEGIN)
            self.assertEqual(self.tokenizer.decode(encoded.ids), text)

    def test_an_export_reads_back(self) -> None:
        torch.manual_seed(1)
        model = Llama(Config(vocab_size=self.tokenizer.get_vocab_size(), num_hidden_layers=1))
        with tempfile.TemporaryDirectory() as name:
            export.write(model, self.tokenizer, Path(name))
            again, tokenizer = export.read(Path(name)), vocabulary.load(Path(name))
        self.assertEqual(again.config, model.config)
        self.assertEqual(tokenizer.to_str(), self.tokenizer.to_str())
        tokens = torch.tensor([[1, 2, 3]])
        torch.testing.assert_close(again(tokens), model(tokens), atol=1e-2, rtol=1e-2)

    def test_an_answer_counts_only_whole_and_ended(self) -> None:
        class Guinea:
            """A model that says one text, whatever it is asked."""

            config = Config(vocab_size=self.tokenizer.get_vocab_size())
            text = torch.tensor(self.tokenizer.encode("Say Guinea-Bissau.").ids)

            def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
                said = self.text.roll(-1)[: tokens.shape[1]].expand(tokens.shape[0], -1)
                return torch.nn.functional.one_hot(said, self.config.vocab_size)

        asked = [("Say", name) for name in ("Guinea-Bissau", "Guinea", "Ghana")]
        self.assertEqual(evaluate.right(Guinea(), self.tokenizer, asked), [True, False, False])


if __name__ == "__main__":
    unittest.main()
