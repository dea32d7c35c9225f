"""Sessions: statements of LQL on a model of this machine or on a server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import _larql, errors
from .results import (
    AttributionGraph,
    Changed,
    Compiled,
    Described,
    ExplainedInference,
    ExplainedWalk,
    Extracted,
    Inferred,
    Models,
    PatchChanged,
    Patches,
    Relations,
    Result,
    Selected,
    Stats,
    TraceDifference,
    Traced,
    Walked,
    result_of,
)

if TYPE_CHECKING:
    from types import TracebackType

    from .vindex import Vindex
    from .walk_model import WalkModel

R = TypeVar("R", bound=Result)

Layers = int | tuple[int, int] | range
"""A layer, the first and the last of several, or a range without gaps."""

Conditions = Mapping[str, Any]
"""Conditions by field: a value that it equals, or ``(operator, value)`` such as ``(">", 0.5)`` or ``("LIKE", "Fr%")``."""


class Session:
    """Session on one model: carries out statements of LQL, and keeps the patches that edits go into.

    Sessions are made by :func:`larql.session` and :func:`larql.remote`. Threads may share one: statements that only read
    run side by side. Ctrl-C ends a statement. A session can be used in ``with``, and is closed at its end.
    """

    def __init__(self, engine: _larql.Engine) -> None:
        self._engine = engine

    # Statements as text.

    def query(self, lql: str) -> Result:
        """Carries out statements, and returns the result of the last one.

        A result has typed fields, rows, and the Arrow stream interface; see :mod:`larql.results`.
        """
        return self.query_all(lql)[-1]

    def query_all(self, lql: str) -> list[Result]:
        """Carries out statements, and returns all of their results in order."""
        if not isinstance(lql, str):
            raise errors.ArgumentTypeError(f"a statement is a str, not {type(lql).__name__}")
        answers = self._engine.execute(lql)
        if not answers:
            raise errors.ParseError("the text has no statement; give one such as: DESCRIBE \"France\";")
        return [result_of(answer) for answer in answers]

    def query_text(self, lql: str, width: int | None = None) -> str:
        """Carries out statements, and returns what the prompt would show, cut to ``width`` columns if one is given."""
        return "\n".join(result.to_text(width).rstrip("\n") for result in self.query_all(lql))

    # Reading.

    def describe(
        self,
        entity: str,
        *,
        band: str | None = None,
        layer: int | None = None,
        relations_only: bool = False,
        verbose: bool = False,
        limit: int | None = None,
    ) -> Described:
        """Returns the edges of an entity, surest first.

        ``band`` is ``"syntax"``, ``"knowledge"``, ``"output"`` or ``"all"``.
        """
        clauses = [
            _word(band, {"syntax": "SYNTAX", "knowledge": "KNOWLEDGE", "output": "OUTPUT", "all": "ALL LAYERS"}),
            _clause("AT LAYER", layer),
            "RELATIONS ONLY" if relations_only else "",
            "VERBOSE" if verbose else "",
            _clause("LIMIT", limit),
        ]
        return self._one(Described, "DESCRIBE", quoted(entity, "entity"), *clauses)

    def walk(
        self,
        prompt: str,
        *,
        top: int | None = None,
        layers: Layers | None = None,
        mode: str | None = None,
        compare: bool = False,
    ) -> Walked:
        """Returns the features that a prompt's last token fires. ``mode`` is ``"hybrid"``, ``"pure"`` or ``"dense"``."""
        mode_clause = _word(mode, {name: f"MODE {name.upper()}" for name in ("hybrid", "pure", "dense")})
        clauses = [_clause("TOP", top), _layers(layers), mode_clause, "COMPARE" if compare else ""]
        return self._one(Walked, "WALK", quoted(prompt, "prompt"), *clauses)

    def explain_walk(
        self, prompt: str, *, top: int | None = None, layers: Layers | None = None, verbose: bool = False
    ) -> ExplainedWalk:
        """Returns for each layer the features that a prompt's last token fires, with the query's norm."""
        clauses = [_layers(layers), "VERBOSE" if verbose else "", _clause("TOP", top)]
        return self._one(ExplainedWalk, "EXPLAIN WALK", quoted(prompt, "prompt"), *clauses)

    def infer(
        self,
        prompt: str,
        *,
        top: int | None = None,
        compare: bool = False,
        intervention: str | os.PathLike[str] | None = None,
    ) -> Inferred:
        """Runs the model and returns the likeliest next tokens. ``intervention`` is the file of a declaration."""
        clauses = [
            _clause("TOP", top),
            "COMPARE" if compare else "",
            "" if intervention is None else f"WITH INTERVENTION {_path(intervention)}",
        ]
        return self._one(Inferred, "INFER", quoted(prompt, "prompt"), *clauses)

    def explain(
        self,
        prompt: str,
        *,
        answer: str | None = None,
        layers: Layers | None = None,
        top: int | None = None,
        verbose: bool = False,
        with_attention: bool = False,
    ) -> ExplainedInference:
        """Runs the model and returns which features and positions contribute to the answer."""
        clauses = [
            "" if answer is None else f"FOR {quoted(answer, 'answer')}",
            _layers(layers),
            "VERBOSE" if verbose else "",
            _clause("TOP", top),
            "WITH ATTENTION" if with_attention else "",
        ]
        return self._one(ExplainedInference, "EXPLAIN INFER", quoted(prompt, "prompt"), *clauses)

    def attribution_graph(
        self, prompt: str, *, answer: str | None = None, save: str | os.PathLike[str] | None = None
    ) -> AttributionGraph:
        """Runs the model and returns the heads and features that bring the answer about, and what goes from one to another.
        ``save`` writes the graph to a file in the format that its ending names."""
        clauses = [
            "" if answer is None else f"FOR {quoted(answer, 'answer')}",
            "GRAPH",
            "" if save is None else f"SAVE {_path(save)}",
        ]
        return self._one(AttributionGraph, "EXPLAIN INFER", quoted(prompt, "prompt"), *clauses)

    graph = attribution_graph

    def trace(
        self,
        prompt: str,
        *,
        answer: str | None = None,
        decompose: bool = False,
        layers: Layers | None = None,
        every_position: bool = False,
        save: str | os.PathLike[str] | None = None,
    ) -> Traced:
        """Returns the residual stream of a prompt layer by layer, and the way of an answer through it."""
        clauses = [
            "" if answer is None else f"FOR {quoted(answer, 'answer')}",
            "DECOMPOSE" if decompose else "",
            _layers(layers),
            "POSITIONS ALL" if every_position else "",
            "" if save is None else f"SAVE {_path(save)}",
        ]
        return self._one(Traced, "TRACE", quoted(prompt, "prompt"), *clauses)

    def trace_difference(self, prompt: str, other: str) -> TraceDifference:
        """Returns how the residual streams of two prompts differ at their last tokens."""
        return self._one(TraceDifference, "TRACE", quoted(prompt, "prompt"), "DIFF", quoted(other, "other"))

    def select(
        self,
        *columns: str,
        table: str = "edges",
        where: Conditions | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> Selected:
        """Returns rows of ``"edges"``, ``"features"``, ``"evidence"`` or ``"entities"``: all columns, or those given."""
        tables = {name: name.upper() for name in ("edges", "features", "evidence", "entities")}
        clauses = [
            ", ".join(map(_field, columns)) or "*",
            f"FROM {_word(table, tables)}",
            f"WHERE {_conditions(where)}" if where else "",
            "" if order_by is None else f"ORDER BY {_field(order_by)} {'DESC' if descending else 'ASC'}",
            _clause("LIMIT", limit),
        ]
        return self._one(Selected, "SELECT", *clauses)

    def relations(self, *, with_examples: bool = False) -> Relations:
        """Returns the relations that features are labelled with."""
        return self._one(Relations, "SHOW RELATIONS", "WITH EXAMPLES" if with_examples else "")

    def stats(self) -> Stats:
        """Returns the figures of what is open."""
        return self._one(Stats, "STATS")

    # Editing.

    def insert(
        self,
        entity: str,
        relation: str,
        target: str,
        *,
        layer: int | None = None,
        confidence: float | None = None,
        alpha: float | None = None,
        mode: str | None = None,
    ) -> Changed:
        """Teaches the model an edge, in the open patch. ``mode`` is ``"compose"`` or ``"knn"``."""
        return self.insert_all(
            [(entity, relation, target)], layer=layer, confidence=confidence, alpha=alpha, mode=mode
        )

    def insert_all(
        self,
        edges: Iterable[tuple[str, str, str]],
        *,
        layer: int | None = None,
        confidence: float | None = None,
        alpha: float | None = None,
        mode: str | None = None,
    ) -> Changed:
        """Teaches the model edges together: entity, relation and target of each."""
        values = [
            f"({quoted(entity, 'entity')}, {quoted(relation, 'relation')}, {quoted(target, 'target')})"
            for entity, relation, target in edges
        ]
        clauses = [
            _clause("AT LAYER", layer),
            _clause("CONFIDENCE", confidence),
            _clause("ALPHA", alpha),
            _word(mode, {"compose": "MODE COMPOSE", "knn": "MODE KNN"}),
        ]
        into = "INSERT INTO EDGES (entity, relation, target) VALUES"
        return self._one(Changed, into, ", ".join(values), *clauses)

    def update(self, set: Mapping[str, Any], where: Conditions, *, table: str = "edges") -> Changed:
        """Changes edges or features: ``update({"target": "Lyon"}, {"entity": "France", "relation": "capital"})``."""
        assigned = ", ".join(f"{_field(name)} = {_value(value)}" for name, value in set.items())
        tables = {"edges": "EDGES", "features": "FEATURES"}
        return self._one(Changed, "UPDATE", _word(table, tables), "SET", assigned, "WHERE", _conditions(where))

    def delete(self, where: Conditions, *, table: str = "edges") -> Changed:
        """Takes inserted edges away, or has the model forget what it knows."""
        tables = {"edges": "EDGES", "features": "FEATURES"}
        return self._one(Changed, "DELETE FROM", _word(table, tables), "WHERE", _conditions(where))

    def undo(self) -> PatchChanged:
        """Takes back the last edit of the open patch."""
        return self._one(PatchChanged, "UNDO")

    def begin_patch(self, path: str | os.PathLike[str]) -> PatchChanged:
        """Begins a patch that takes the edits from now on. Its file is written by :meth:`save_patch`."""
        return self._one(PatchChanged, "BEGIN PATCH", _path(path))

    def save_patch(self, path: str | os.PathLike[str] | None = None) -> PatchChanged:
        """Writes the open patch to its file, or to another."""
        return self._one(PatchChanged, "SAVE PATCH", "" if path is None else _path(path))

    def apply_patch(self, path: str | os.PathLike[str]) -> PatchChanged:
        """Lays the patch of a file over the vindex."""
        return self._one(PatchChanged, "APPLY PATCH", _path(path))

    def remove_patch(self, path: str | os.PathLike[str]) -> PatchChanged:
        """Takes a patch off."""
        return self._one(PatchChanged, "REMOVE PATCH", _path(path))

    def patches(self) -> Patches:
        """Returns the patches that lie over the vindex, the one applied last at the end."""
        return self._one(Patches, "SHOW PATCHES")

    def compile(
        self,
        path: str | os.PathLike[str],
        *,
        format: str = "vindex",
        on_conflict: str | None = None,
        snapshot: bool = False,
    ) -> Compiled:
        """Writes the vindex with its edits as ``"vindex"``, ``"safetensors"`` or ``"gguf"``."""
        if format == "vindex":
            conflicts = {name: f"ON CONFLICT {name.upper()}" for name in ("last_wins", "highest_confidence", "fail")}
            clauses = [_word(on_conflict, conflicts), "SNAPSHOT" if snapshot else ""]
            return self._one(Compiled, "COMPILE CURRENT INTO VINDEX", _path(path), *clauses)
        formats = {name: f"FORMAT {name.upper()}" for name in ("safetensors", "gguf")}
        return self._one(Compiled, "COMPILE CURRENT INTO MODEL", _path(path), _word(format, formats))

    # The model itself.

    @property
    def vindex(self) -> Vindex:
        """The model of this session as arrays, with the same patches."""
        from .vindex import Vindex

        return Vindex(self)

    def walk_model(self, top_k: int | None = None) -> WalkModel:
        """Returns the model of this session as it runs, with the same patches. ``top_k`` is the number of features of each
        layer that passes walk; all of them if none is given."""
        from .walk_model import WalkModel

        return WalkModel._of_session(self, top_k)

    @property
    def path(self) -> str:
        """Path of the model, or address of the server."""
        return self._engine.path

    @property
    def closed(self) -> bool:
        """True once the session was closed."""
        return self._engine.closed

    def close(self) -> None:
        """Ends the session. The model's files are let go once no array shows them."""
        self._engine.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Session({self.path!r}{', closed' if self.closed else ''})"

    def __reduce__(self) -> tuple[Any, tuple[str, list[str]]]:
        """Sessions are pickled by the path of their model and the files of their patches."""
        if self._engine.kind == "remote":
            return remote, (self.path,)  # type: ignore[return-value]
        unsaved = self._engine.unsaved()
        if unsaved:
            names = ", ".join(name for name, _ in unsaved)
            raise errors.PatchError(f"patch {names} has edits that no file has, and a session is pickled by its files; save_patch() first")
        patches = [] if self._engine.kind == "model" else [os.path.abspath(row.patch) for row in self.patches().rows]
        return _reopened, (os.path.abspath(self.path), patches)

    def _one(self, of: type[R], *words: str) -> R:
        """Carries out the statement that the words make, which has a result of the class ``of``."""
        result = self.query(" ".join(word for word in words if word) + ";")
        assert isinstance(result, of), f"{words[0]} had another result than its own: {result.kind}"
        return result


def session(model: str | os.PathLike[str]) -> Session:
    """Opens a vindex, a GGUF file or a checkpoint directory, by path or by name, such as the bundled ``"atlas"``.

    ``"hf://OWNER/NAME"`` is a model of the hub, which is downloaded unless it is in the cache of the hub's client.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise errors.ArgumentTypeError(f"a model is named by a str or a path, not {type(model).__name__}")
    return Session(_larql.Engine.open(os.fspath(model)))


def remote(address: str) -> Session:
    """Begins a session on a server that ``larql serve`` started.

    ``address`` is ``http://HOST:PORT``, with ``/MODEL`` after it on a server of several models, and ``KEY@`` before the
    host if the server asks for a key. Statements go there; patch files stay on this machine.
    """
    return Session(_larql.Engine.connect(address))


def models() -> Models:
    """Returns the models that a name opens."""
    result = result_of(_larql.execute_alone("SHOW MODELS"))
    assert isinstance(result, Models)
    return result


def extract(
    model: str | os.PathLike[str], path: str | os.PathLike[str], *, level: str = "all", quant: str | None = None
) -> Extracted:
    """Makes a vindex of a checkpoint or GGUF file, and returns its figures.

    ``level`` is ``"browse"``, ``"attention"``, ``"inference"`` or ``"all"``; ``quant`` is ``"q4k"`` or ``"none"``.
    """
    words = [
        f"EXTRACT MODEL {_path(model)} INTO {_path(path)}",
        _word(level, {name: f"WITH {name.upper()}" for name in ("browse", "attention", "inference", "all")}),
        _word(quant, {"q4k": "QUANT Q4K", "none": "QUANT NONE"}),
    ]
    result = result_of(_larql.execute_alone(" ".join(word for word in words if word)))
    assert isinstance(result, Extracted)
    return result


def _reopened(path: str, patches: list[str]) -> Session:
    """Opens a pickled session again."""
    opened = session(path)
    for patch in patches:
        opened.apply_patch(patch)
    return opened


# Parts of statements.


def quoted(text: str, name: str) -> str:
    """Returns a text as LQL writes it; ``name`` is the name of the argument."""
    if not isinstance(text, str):
        raise errors.ArgumentTypeError(f"{name} is a str, not {type(text).__name__}")
    return _larql.quoted(text)


def _path(path: str | os.PathLike[str]) -> str:
    return quoted(os.fspath(path), "path")


def _clause(keywords: str, value: float | None) -> str:
    return "" if value is None else f"{keywords} {value}"


def _word(value: str | None, words: Mapping[str, str]) -> str:
    if value is None:
        return ""
    if value not in words:
        raise errors.ArgumentError(f"expected one of {', '.join(words)}; found {value!r}")
    return words[value]


def _layers(layers: Layers | None) -> str:
    if layers is None:
        return ""
    if isinstance(layers, int):
        return f"LAYERS {layers}-{layers}"
    if isinstance(layers, range):
        if layers.step != 1 or not layers:
            raise errors.ArgumentError(f"expected a range without gaps and with a layer, found {layers}")
        return f"LAYERS {layers[0]}-{layers[-1]}"
    first, last = layers
    return f"LAYERS {first}-{last}"


def _field(name: str) -> str:
    if not name.replace("_", "").isalnum():
        raise errors.ArgumentError(f"{name!r} is no field; fields are named in the reference of SELECT")
    return name


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _larql.quoted(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    raise errors.ArgumentTypeError(f"a value is a str or a number, not {type(value).__name__}")


_OPERATORS = ("=", "!=", "<", ">", "<=", ">=", "LIKE")


def _conditions(where: Conditions) -> str:
    tests = []
    for name, value in where.items():
        operator = "="
        if isinstance(value, tuple):
            operator, value = value
        if operator.upper() not in _OPERATORS:
            raise errors.ArgumentError(f"expected one of {' '.join(_OPERATORS)}; found {operator!r}")
        tests.append(f"{_field(name)} {operator.upper()} {_value(value)}")
    return " AND ".join(tests)
