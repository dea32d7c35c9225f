#!/usr/bin/env python3
"""Trains a small model of SentencePiece, as Llama's is, and records the library's ids of the corpus.

    pip install sentencepiece
    python3 make_pieces.py
"""

import json
from pathlib import Path

import sentencepiece
from corpus import TEXTS

HERE = Path(__file__).parent
# A text that spells a control token has its id here, while the library alone takes it apart.
SPELLED = ["<s>", "</s>", "<unk>"]


def main() -> None:
    text = HERE / "pieces.txt"
    prose = (HERE / "make_expected.py").read_text() + "\n".join(line for line in TEXTS if line.isascii())
    text.write_text(prose)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(HERE / "pieces"),
        model_type="bpe",
        vocab_size=520,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=0.995,
        num_threads=1,
    )
    text.unlink()
    (HERE / "pieces.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "pieces.model"))
    cases = []
    for case in TEXTS:
        if any(token in case for token in SPELLED):
            continue
        ids = processor.encode(case)
        decoded = processor.decode(ids)
        cases.append({"text": case, "ids": ids} | ({} if decoded == case else {"decoded": decoded}))
    expected = {"with_special": [processor.bos_id(), *processor.encode("Hello")], "cases": cases}
    (HERE / "pieces.json").write_text(json.dumps(expected, ensure_ascii=True, indent=0) + "\n")


main()
