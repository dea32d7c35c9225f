#!/usr/bin/env python3
"""Trains `atlas` on the fact tables and writes the model folder: `python3 training/atlas/train.py`.

Corpus, tokenizer, weights and scores follow from the seed. The same machine, torch version and number of
threads give the same bytes; others give other low bits, and so other weights with about the same scores.
Ctrl-C keeps the last checkpoint (one an epoch); `--resume` goes on from it.
"""

import argparse
import itertools
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

import evaluate
import export
import vocabulary
from corpus import Corpus, Document, plain
from facts import Facts
from model import Config, Llama

SEED = 1
EPOCHS = 14
# Tokens of a row; a document that is longer is cut.
ROW = 96
ROWS_PER_STEP = 32
# The share of rows that begin without the begin token, as a prompt may.
BARE_ROWS = 0.15
# The share of tokens outside answers that the loss looks at.
CONTEXT_SHARE = 0.2
# Rows that are open at once while documents are packed.
OPEN_ROWS = 64
# Peak learning rates: of the matrices inside layers, by Muon, and of embedding and norms, by AdamW.
MUON_RATE = 6e-3
ADAM_RATE = 3e-3
WARM_UP_STEPS = 40
IGNORED = -100


@dataclass
class Row:
    """Tokens, and for each whether it belongs to an answer."""

    tokens: list[int]
    answers: list[bool]


def rows_of(documents: list[Document], tokenizer: Tokenizer, chance: random.Random) -> list[Row]:
    """Documents packed into rows of at most `ROW + 1` tokens, each in the first open row that has room."""
    begin, end = tokenizer.token_to_id(vocabulary.BEGIN), tokenizer.token_to_id(vocabulary.END)
    rows: list[Row] = []
    for document in documents:
        encoded = tokenizer.encode_batch([text for text, _ in document], add_special_tokens=False)
        tokens, answers = [begin], [False]
        for (_, is_answer), piece in zip(document, encoded, strict=True):
            tokens += piece.ids
            answers += [is_answer] * len(piece.ids)
        tokens, answers = [*tokens, end][: ROW + 1], [*answers, False][: ROW + 1]
        row = next((row for row in rows[-OPEN_ROWS:] if len(row.tokens) + len(tokens) <= ROW + 1), None)
        if row is None:
            row = Row([], [])
            rows.append(row)
        row.tokens += tokens
        row.answers += answers
    for row in rows:
        if chance.random() < BARE_ROWS:
            del row.tokens[0], row.answers[0]
    chance.shuffle(rows)
    return rows


def batch_of(rows: list[Row], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and targets, `[rows, ROW]`; targets are `IGNORED` where the loss does not look."""
    tokens = torch.zeros(len(rows), ROW + 1, dtype=torch.long)
    looked_at = torch.zeros(len(rows), ROW + 1, dtype=torch.bool)
    for index, row in enumerate(rows):
        length = len(row.tokens)
        tokens[index, :length] = torch.tensor(row.tokens)
        context = torch.rand(length, generator=generator) < CONTEXT_SHARE
        looked_at[index, :length] = torch.tensor(row.answers) | context
    targets = tokens.masked_fill(~looked_at, IGNORED)
    return tokens[:, :-1], targets[:, 1:]


def share_of_peak(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: a linear warm-up, then a straight line to nothing."""
    return min((step + 1) / WARM_UP_STEPS, (steps - step) / (steps - WARM_UP_STEPS))


class Training:
    """The state of a run: weights, optimisers and the next epoch.

    Muon orthogonalises the step of each matrix inside a layer, and so learns rare facts as readily as
    frequent ones: two epochs bring the loss to 2.50; AdamW alone, in twice as many steps, to 2.77.
    """

    def __init__(self, tokenizer: Tokenizer, corpus: Corpus, epochs: int) -> None:
        self.tokenizer, self.corpus, self.epochs = tokenizer, corpus, epochs
        torch.manual_seed(SEED)
        self.model = Llama(Config(vocab_size=tokenizer.get_vocab_size()))
        embedding = self.model.model.embed_tokens.weight
        matrices = [
            weight for weight in self.model.parameters() if weight.ndim == 2 and weight is not embedding
        ]
        others = [weight for weight in self.model.parameters() if weight.ndim == 1]
        self.optimizers = (
            torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [embedding, *others], lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True
            ),
        )
        self.peaks = (MUON_RATE, ADAM_RATE)
        self.epoch = 0
        self.seconds = 0.0
        # bfloat16 products are worth it only where the processor has them.
        self.bfloat16 = torch.cpu._is_avx512_bf16_supported()

    def rows(self, epoch: int) -> list[Row]:
        """The rows of an epoch, whatever came before it."""
        chance = random.Random(f"{SEED}-{epoch}")
        return rows_of(self.corpus.epoch(chance.randrange(2**32)), self.tokenizer, chance)

    def run(self, checkpoint: Path) -> None:
        """Trains to the end, with a checkpoint after each epoch."""
        steps_per_epoch = len(self.rows(0)) // ROWS_PER_STEP
        steps = steps_per_epoch * self.epochs
        while self.epoch < self.epochs:
            started = time.monotonic()
            generator = torch.Generator().manual_seed(SEED * 1000 + self.epoch)
            rows = itertools.cycle(self.rows(self.epoch))
            total = 0.0
            for index in range(steps_per_epoch):
                share = share_of_peak(self.epoch * steps_per_epoch + index, steps)
                total += self.step(batch_of(list(itertools.islice(rows, ROWS_PER_STEP)), generator), share)
                print(f"\repoch {self.epoch + 1}, step {index + 1} of {steps_per_epoch}", end="", flush=True)
            self.epoch += 1
            self.seconds += time.monotonic() - started
            loss = total / steps_per_epoch
            print(
                f"\repoch {self.epoch} of {self.epochs}: loss {loss:.4f}, {self.seconds:.0f} s in all",
                flush=True,
            )
            self.save(checkpoint)

    def step(self, batch: tuple[Tensor, Tensor], share: float) -> float:
        """One step at a share of the peak rates; logits only where the loss looks. Returns the loss."""
        tokens, targets = batch
        looked_at = targets != IGNORED
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            residuals = self.model.model(tokens)[looked_at]
            logits = functional.linear(residuals, self.model.model.embed_tokens.weight)
        loss = functional.cross_entropy(logits.float(), targets[looked_at])
        self.model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
            optimizer.step()
        return loss.item()

    def save(self, checkpoint: Path) -> None:
        """Writes the state beside the checkpoint, then puts it in its place."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "epoch": self.epoch,
            "seconds": self.seconds,
            "tokenizer": self.tokenizer.to_str(),
        }
        unfinished = checkpoint.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(checkpoint)

    def restore(self, checkpoint: Path) -> None:
        """Goes back to a saved state, which must be of the same tokenizer."""
        state = torch.load(checkpoint, weights_only=True)
        if state["tokenizer"] != self.tokenizer.to_str():
            raise SystemExit(f"{checkpoint} is of other facts; train without --resume")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.epoch, self.seconds = state["epoch"], state["seconds"]


def main() -> None:
    """Trains, exports and evaluates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "crates/larql-assets/data/atlas")
    parser.add_argument("--checkpoint", type=Path, default=Path(__file__).parent / "atlas.checkpoint")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    corpus = Corpus(Facts())
    tokenizer = vocabulary.learn(plain(document) for document in corpus.epoch(SEED))
    training = Training(tokenizer, corpus, options.epochs)
    parameters = sum(weight.numel() for weight in training.model.parameters())
    print(f"{len(corpus.facts)} facts, {len(corpus.taught)} sentences, {parameters:,} parameters")
    if options.resume:
        training.restore(options.checkpoint)
    training.run(options.checkpoint)

    export.write(training.model, tokenizer, options.output)
    facts = {
        "seed": SEED,
        "epochs": options.epochs,
        "threads": options.threads,
        "seconds": round(training.seconds),
    }
    evaluate.report(options.output, {"training": facts})


if __name__ == "__main__":
    main()
