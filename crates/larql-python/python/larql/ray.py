"""Bulk work on a cluster, by Ray Data: a question for each row of a data set, with results as columns.

``pip install larql-vindex[ray]``. Ray schedules, retries and scales; each of its workers opens the model once, and workers of
one node share its mapped files. Write the results by Ray's own means, for instance ``.write_parquet(path)``::

    prompts = ray.data.read_parquet("prompts.parquet")
    larql.ray.infer(prompts, "atlas").write_parquet("answers")

Every function takes the data set, the path or name of the model, which each node must have, and the ``column`` of the
prompts or entities. Columns of the data set stay. ``workers`` is the number of workers, or a range to scale in; ``cpus`` is
the number of processors that each has, and computes with.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ._larql import set_threads
from .session import Session, session

if TYPE_CHECKING:
    from ray.data import Dataset

    Batch = dict[str, Any]
    Ask = Callable[..., dict[str, list[Any]]]
    """Function of a session and of the texts of each column that it asks about."""


class _Worker:
    """Worker of Ray: a session that is opened once, and asked batch by batch."""

    def __init__(self, model: str, patches: list[str], ask: Ask, columns: list[str], threads: int) -> None:
        set_threads(threads)
        self.session = session(model)
        for patch in patches:
            self.session.apply_patch(patch)
        self.ask, self.columns = ask, columns

    def __call__(self, batch: Batch) -> Batch:
        answers = self.ask(self.session, *([str(subject) for subject in batch[column]] for column in self.columns))
        return {**batch, **{name: _column(values) for name, values in answers.items()}}


def _column(values: list[Any]) -> Any:
    """Returns values as an array, in which lists are single values."""
    if values and isinstance(values[0], (list, dict)):
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column
    return np.asarray(values)


def _mapped(
    dataset: Dataset,
    model: str | os.PathLike[str],
    ask: Ask,
    columns: list[str],
    patches: list[str] | None,
    workers: int | tuple[int, int],
    cpus: float,
    batch_size: int,
) -> Dataset:
    return dataset.map_batches(
        _Worker,
        fn_constructor_args=(os.fspath(model), list(patches or ()), ask, columns, max(1, int(cpus))),
        batch_size=batch_size,
        batch_format="numpy",
        concurrency=workers,
        num_cpus=cpus,
    )


def infer(
    dataset: Dataset,
    model: str | os.PathLike[str],
    column: str = "prompt",
    *,
    top: int = 5,
    patches: list[str] | None = None,
    workers: int | tuple[int, int] = 1,
    cpus: float = 1,
    batch_size: int = 32,
) -> Dataset:
    """Adds the likeliest next tokens: ``token`` and ``probability`` of the first, and ``tokens`` and ``probabilities`` of
    the first ``top``. The prompts of a batch run in one pass."""

    def ask(session: Session, prompts: list[str]) -> dict[str, list[Any]]:
        predicted = session.walk_model().predict_all(prompts, top)
        return {
            "token": [tops[0][0] for tops in predicted],
            "probability": [tops[0][1] for tops in predicted],
            "tokens": [[token for token, _ in tops] for tops in predicted],
            "probabilities": [[share for _, share in tops] for tops in predicted],
        }

    return _mapped(dataset, model, ask, [column], patches, workers, cpus, batch_size)


def describe(
    dataset: Dataset,
    model: str | os.PathLike[str],
    column: str = "entity",
    *,
    band: str | None = None,
    patches: list[str] | None = None,
    workers: int | tuple[int, int] = 1,
    cpus: float = 1,
    batch_size: int = 32,
) -> Dataset:
    """Adds the edges with a relation that DESCRIBE finds: ``relations``, ``targets`` and ``confidences``, surest first."""

    def ask(session: Session, entities: list[str]) -> dict[str, list[Any]]:
        described = [session.describe(entity, band=band, relations_only=True) for entity in entities]
        edges = [[edge for of_band in answer.bands for edge in of_band.edges] for answer in described]
        return {
            "relations": [[edge.relation for edge in of] for of in edges],
            "targets": [[edge.target for edge in of] for of in edges],
            "confidences": [[edge.confidence for edge in of] for of in edges],
        }

    return _mapped(dataset, model, ask, [column], patches, workers, cpus, batch_size)


def probe(
    dataset: Dataset,
    model: str | os.PathLike[str],
    entity: str = "entity",
    relation: str = "relation",
    *,
    patches: list[str] | None = None,
    workers: int | tuple[int, int] = 1,
    cpus: float = 1,
    batch_size: int = 32,
) -> Dataset:
    """Adds what the model knows about a relation of an entity, as SELECT from EDGES reads it: ``target``, empty if it knows
    nothing, and ``confidence``, 0 to 1, which is not a number where it is not known."""

    def ask(session: Session, entities: list[str], relations: list[str]) -> dict[str, list[Any]]:
        answers: dict[str, list[Any]] = {"target": [], "confidence": []}
        for subject, of in zip(entities, relations):
            rows = session.select("target", "confidence", where={"entity": subject, "relation": of}, limit=1).to_dicts()
            found = rows[0] if rows else {"target": "", "confidence": None}
            answers["target"].append(found["target"])
            answers["confidence"].append(float("nan") if found["confidence"] is None else found["confidence"])
        return answers

    return _mapped(dataset, model, ask, [entity, relation], patches, workers, cpus, batch_size)


def trace(
    dataset: Dataset,
    model: str | os.PathLike[str],
    column: str = "prompt",
    *,
    layers: list[int] | None = None,
    patches: list[str] | None = None,
    workers: int | tuple[int, int] = 1,
    cpus: float = 1,
    batch_size: int = 32,
) -> Dataset:
    """Adds the last token's residual after each of the ``layers``, all if ``None``: ``residuals``, ``[layers, hidden]``."""

    def ask(session: Session, prompts: list[str]) -> dict[str, list[Any]]:
        model = session.walk_model()
        chosen = list(range(model.num_layers)) if layers is None else layers
        captured = [model.capture_residuals(prompt, chosen) for prompt in prompts]
        return {"residuals": [[residuals[layer].tolist() for layer in chosen] for residuals in captured]}

    return _mapped(dataset, model, ask, [column], patches, workers, cpus, batch_size)


def evaluate(
    dataset: Dataset,
    model: str | os.PathLike[str],
    prompt: str = "prompt",
    answer: str = "answer",
    *,
    patches: list[str] | None = None,
    workers: int | tuple[int, int] = 1,
    cpus: float = 1,
    batch_size: int = 32,
) -> Dataset:
    """Adds what the model says after each prompt and whether it begins the expected answer: ``said``, ``right``."""
    asked = infer(dataset, model, prompt, top=1, patches=patches, workers=workers, cpus=cpus, batch_size=batch_size)

    def judge(batch: Batch) -> Batch:
        said = [token.strip() for token in batch.pop("token")]
        for column in ("probability", "tokens", "probabilities"):
            batch.pop(column)
        expected = [str(text) for text in batch[answer]]
        right = [bool(word) and text.startswith(word) for word, text in zip(said, expected)]
        return {**batch, "said": np.asarray(said), "right": np.asarray(right)}

    return asked.map_batches(cast(Any, judge), batch_format="numpy", batch_size=batch_size)
