"""A vindex as arrays: features, their vectors, the embedding, and the edges of entities."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _larql, errors
from ._larql import HookPoint
from .results import Changed, Compiled, PatchChanged, Patches, Result, Selected, result_of
from .session import Conditions, Session, session

if TYPE_CHECKING:
    from types import TracebackType

    from .walk_model import WalkModel

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DescribeEdge:
    """Association of an entity."""

    relation: str | None
    source: str | None
    """Origin of the relation."""
    target: str
    gate_score: float
    """Strength of the strongest feature."""
    layer: int
    feature: int
    confidence: float | None
    """Probability that it is true, 0 to 1, where that is known."""
    also: list[str]


@dataclass(frozen=True)
class Relation:
    """Relation that features are labelled with."""

    name: str
    count: int
    layer: int
    """First layer that has such features."""
    layer_max: int
    source: str
    top_tokens: list[str]
    """Facts that its features carry, or words that they write."""


@dataclass(frozen=True)
class FeatureMeta:
    """Tokens that a feature writes."""

    top_token: str
    top_token_id: int
    c_score: float
    """Logit with which it writes its first token."""
    top_k: list[dict[str, Any]]
    """``token``, ``token_id`` and ``logit`` of each, strongest first."""


@dataclass(frozen=True)
class WalkHit:
    """Feature that fires for a query."""

    layer: int
    feature: int
    gate_score: float
    activation: float | None
    """``act(gate) * up``; ``None`` where up rows are not held."""
    up_score: float | None
    """Product of the query with its up row; ``None`` where there is none."""
    down_row_norm: float | None
    """Norm of its down vector; ``None`` where down vectors are not held."""
    rank: int
    """Its place in its layer, from 1."""
    meta: FeatureMeta | None

    @property
    def top_token(self) -> str | None:
        """Token that it writes most."""
        return None if self.meta is None else self.meta.top_token

    @property
    def target(self) -> str | None:
        """Token that it writes most, without blanks around it."""
        return None if self.meta is None else self.meta.top_token.strip()


class Vindex:
    """An open model as arrays, edges and edits.

    Arrays are views of the mapped files where these hold floats of numpy's types; nobody can write to them, and they stay
    valid after :meth:`close`. Block formats are decoded in float32. Edits show in all of it.

    ``vindex[layer]`` is not defined: say which vectors, for instance ``vindex.gate_vectors(layer)``.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        """Session that the vindex belongs to. They have the same patches."""

    # Sizes and names.

    @property
    def path(self) -> str:
        """Path of the model."""
        return self.session.path

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._features.model

    @property
    def family(self) -> str:
        """Name of the model's family."""
        return self._features.family

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return self._features.num_layers

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self._features.hidden_size

    @property
    def intermediate_size(self) -> int:
        """Number of features of the first layer."""
        return self._features.intermediate_size

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self._features.vocab_size

    @property
    def embed_scale_value(self) -> float:
        """Factor of embeddings."""
        return self._features.embedding_scale

    @property
    def is_mmap(self) -> bool:
        """True: files are mapped, never read as a whole."""
        return True

    @property
    def loaded_layers(self) -> list[int]:
        """Layers whose gate rows are held."""
        features = self._features
        return [layer for layer in range(features.num_layers) if features.num_features(layer)]

    @property
    def total_gate_vectors(self) -> int:
        """Number of features of all layers."""
        features = self._features
        return sum(features.num_features(layer) for layer in range(features.num_layers))

    def num_features(self, layer: int) -> int:
        """Returns the number of features of a layer; 0 if its gate rows are not held."""
        return self._features.num_features(layer)

    def layer_bands(self) -> dict[str, tuple[int, int]]:
        """Returns the first and the last layer of each band."""
        return dict(self._features.layer_bands())

    def stats(self) -> dict[str, Any]:
        """Returns the figures of the vindex as a dict."""
        features = self._features
        return {
            "model": features.model,
            "family": features.family,
            "num_layers": features.num_layers,
            "hidden_size": features.hidden_size,
            "intermediate_size": features.intermediate_size,
            "vocab_size": features.vocab_size,
            "embed_scale": features.embedding_scale,
            "total_gate_vectors": self.total_gate_vectors,
            "layer_bands": self.layer_bands(),
            "is_mmap": True,
            **features.manifest(),
        }

    # Tokens.

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """Returns the numbers of a text's tokens."""
        return self._tokenizer.encode(text, add_special)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Returns the text of tokens."""
        return self._tokenizer.decode(list(ids), skip_special)

    # Vectors.

    def embedding(self, token_id: int) -> Floats:
        """Returns a row of the embedding, ``[hidden]``, without the model's scale."""
        return self._features.embedding(token_id)

    def embedding_matrix(self) -> Floats:
        """Returns the embedding, ``[vocab, hidden]``, without the model's scale."""
        return self._features.embedding_matrix()

    def embed(self, text: str) -> Floats:
        """Returns the mean of the embeddings of a text's tokens, ``[hidden]``, with the model's scale."""
        return self._features.embed(text)

    def gate_vectors(self, layer: int) -> Floats:
        """Returns the gate rows of a layer, ``[features, hidden]``."""
        return self._features.gate_vectors(layer)

    def up_vectors(self, layer: int) -> Floats:
        """Returns the up rows of a layer, ``[features, hidden]``."""
        return self._features.up_vectors(layer)

    def down_vectors(self, layer: int) -> Floats:
        """Returns the down vectors of a layer, ``[features, hidden]``; a transposed view of the stored matrix."""
        return self._features.down_vectors(layer)

    def gate_vector(self, layer: int, feature: int) -> Floats:
        """Returns the gate row of a feature, ``[hidden]``."""
        return self._features.gate_vector(layer, feature)

    def up_vector(self, layer: int, feature: int) -> Floats | None:
        """Returns the up row of a feature, ``[hidden]``; ``None`` where the layer is not gated or its up rows are not held."""
        return self._features.up_vector(layer, feature)

    def down_vector(self, layer: int, feature: int) -> Floats:
        """Returns the down vector of a feature, ``[hidden]``: what it adds to the residual, times its activation."""
        return self._features.down_vector(layer, feature)

    # Features.

    def gate_knn(self, layer: int, query_vector: ArrayLike, top_k: int = 10) -> list[tuple[int, float]]:
        """Returns the features whose gate rows have the largest products with a query, ``[hidden]``, by magnitude."""
        return self._features.gate_knn(layer, query_vector, top_k)

    def entity_knn(self, entity: str, layer: int, top_k: int = 10) -> list[tuple[int, float]]:
        """Returns the features of a layer that the embedding of an entity fires."""
        features = self._features
        return features.gate_knn(layer, features.layer_query(layer, features.embed(entity)), top_k)

    def walk(
        self, residual: ArrayLike, layers: Sequence[int] | None = None, top_k: int = 5
    ) -> list[WalkHit]:
        """Returns the features that fire for a feed-forward input, ``[hidden]``: ``top_k`` of each layer, strongest first."""
        return self._walk(layers, top_k, lambda _: residual)

    def entity_walk(
        self, entity: str, layers: Sequence[int] | None = None, top_k: int = 5
    ) -> list[WalkHit]:
        """Returns the features that the embedding of an entity fires, after each layer's norm."""
        features = self._features
        query = features.embed(entity)
        return self._walk(layers, top_k, lambda layer: features.layer_query(layer, query))

    def _walk(
        self, layers: Sequence[int] | None, top_k: int, input_of: Callable[[int], ArrayLike]
    ) -> list[WalkHit]:
        features = self._features
        hits = []
        for layer in range(features.num_layers) if layers is None else layers:
            fired = features.walk(layer, input_of(layer), top_k)
            for rank, (feature, gate, activation, up, down) in enumerate(fired, 1):
                meta = _meta(features, layer, feature)
                hits.append(WalkHit(layer, feature, gate, activation, up, down, rank, meta))
        return hits

    def feature_meta(self, layer: int, feature: int) -> FeatureMeta | None:
        """Returns the tokens that a feature writes; ``None`` if they are not held."""
        return _meta(self._features, layer, feature)

    def feature_label(self, layer: int, feature: int) -> str | None:
        """Returns the relation that a feature is labelled with."""
        label = self._features.label(layer, feature)
        return None if label is None else label[0]

    def feature(self, layer: int, feature: int) -> dict[str, Any]:
        """Returns what is known of a feature as a dict."""
        features = self._features
        label = features.label(layer, feature)
        return {
            "layer": layer,
            "feature": feature,
            "label": None if label is None else label[0],
            "source": None if label is None else label[1],
            "meta": _meta(features, layer, feature),
            "gate_norm": float(np.linalg.norm(features.gate_vector(layer, feature))),
        }

    def find_features_by_target(
        self, target: str, layers: Sequence[int] | None = None, top_k: int = 20
    ) -> list[tuple[int, int, float, str]]:
        """Returns the features that write a word: layer, feature, score and first token, highest scores first."""
        where: dict[str, Any] = {"target": target}
        rows = self.session.select(table="features", where=where).to_dicts()
        found = [
            (row["layer"], row["feature"], row["score"] or 0.0, (row["tokens"] or [""])[0])
            for row in rows
            if layers is None or row["layer"] in layers
        ]
        return sorted(found, key=lambda hit: -hit[2])[:top_k]

    # Tables of the whole vindex, for pandas, polars, pyarrow and DuckDB.

    def features_table(self, layers: Sequence[int] | None = None, vectors: bool = False) -> ArrowStream:
        """Returns every feature as a stream with a batch for each layer: ``layer``, ``feature``, ``tokens``, ``scores``,
        ``label``, ``source``, and with ``vectors`` also ``gate``, ``[hidden]``."""
        chosen = list(range(self.num_layers)) if layers is None else list(layers)
        return ArrowStream(lambda: self._features.stream_features(chosen, vectors))

    def embeddings_table(self) -> ArrowStream:
        """Returns every token as a stream: ``token``, ``text``, ``embedding``, ``[hidden]``, without the model's scale."""
        return ArrowStream(lambda: self._features.stream_embeddings())

    def edges_table(self) -> Selected:
        """Returns the facts that a probe saw features carry, as a table."""
        return self.session.select(table="evidence")

    # Knowledge.

    def describe(self, entity: str, band: str = "knowledge", verbose: bool = False) -> list[DescribeEdge]:
        """Returns the edges of an entity, surest first. ``band`` is ``syntax``, ``knowledge``, ``output`` or ``all``."""
        described = self.session.describe(entity, band=band, verbose=verbose)
        return [
            DescribeEdge(
                edge.relation,
                edge.source,
                edge.target,
                edge.gate,
                edge.layer,
                edge.feature,
                edge.confidence,
                edge.also,
            )
            for of_band in described.bands
            for edge in of_band.edges
        ]

    def relations(self) -> list[Relation]:
        """Returns the relations that features are labelled with, most features first."""
        return [
            Relation(row.relation, row.count, row.layer, row.layer_max, row.source, row.examples)
            for row in self.session.relations(with_examples=True).rows
        ]

    def has_edge(self, entity: str, relation: str | None = None) -> bool:
        """Returns true if DESCRIBE finds an edge of an entity, of a relation if one is given."""
        edges = self.describe(entity, band="all")
        return any(edge.relation is not None and relation in (None, edge.relation) for edge in edges)

    def get_target(self, entity: str, relation: str) -> str | None:
        """Returns the surest target of a relation of an entity."""
        edges = self.describe(entity, band="all")
        return next((edge.target for edge in edges if edge.relation == relation), None)

    def infer(self, prompt: str, top_k_predictions: int = 5) -> list[tuple[str, float]]:
        """Returns the likeliest next tokens with their probabilities, as INFER does. An inserted edge that answers instead
        of the model comes first, with the probability 1."""
        inferred = self.session.infer(prompt, top=top_k_predictions)
        own = [(next.token, next.probability) for next in inferred.runs[0].predictions]
        return own if inferred.override is None else [(inferred.override.target, 1.0), *own]

    def infer_trace(
        self, prompt: str, top_k_predictions: int = 5
    ) -> tuple[list[tuple[str, float]], list[tuple[int, Floats]]]:
        """Returns the likeliest next tokens, and for each layer the feed-forward input of the last token, ``[hidden]``: after
        attention and norm, what gate rows are multiplied by."""
        model = self.walk_model()
        inputs: list[tuple[int, Floats]] = []

        def keep(values: Floats, point: HookPoint) -> None:
            inputs.append((len(inputs), values[-1].copy()))

        with model.hooks(("feed_forward_input", keep)):
            return model.predict(prompt, top_k_predictions), inputs

    def typical_layer(self, relation: str) -> int | None:
        """Returns the layer with the most features that are labelled with a relation."""
        where = f"label = {_larql.quoted(relation)}"
        rows = self.query(f"SELECT layer, COUNT(*) FROM FEATURES WHERE {where} GROUP BY layer;").to_dicts()
        return max(rows, key=lambda row: row["count"])["layer"] if rows else None

    def cluster_centre(self, relation: str) -> Floats | None:
        """Returns the mean direction of the gate rows of the features that are labelled with a relation, ``[hidden]``, of
        length 1; ``None`` if no feature is."""
        if not isinstance(relation, str):
            raise errors.ArgumentTypeError(f"relation is a str, not {type(relation).__name__}")
        return self._features.relation_centre(relation)

    def knn_layers(self) -> list[int]:
        """Returns the layers that the edge memory has entries at."""
        return self._features.memory_layers()

    def knn_query(self, residual: ArrayLike, layer: int, k: int = 2) -> list[tuple[str, str, str, float]]:
        """Returns the entries of the edge memory whose keys are nearest to a feed-forward input of a layer, ``[hidden]``, as
        :meth:`infer_trace` returns it: entity, relation, target and cosine, greatest first. Cosines are of centred and
        whitened vectors, as those that decide whether an entry answers."""
        return self.session._engine.model().nearest_entries(layer, residual, k)

    def knn_len(self) -> int:
        """Returns the number of entries of the edge memory."""
        entries: int = self.query("SHOW COMPACT STATUS;").to_dicts()[0]["entries"]
        return entries

    # Edits, by the editor of LQL.

    def insert(
        self,
        entity: str,
        relation: str,
        target: str,
        layer: int | None = None,
        confidence: float | None = None,
        *,
        alpha: float | None = None,
        mode: str | None = None,
    ) -> Changed:
        """Teaches the model an edge, in the open patch."""
        return self.session.insert(
            entity, relation, target, layer=layer, confidence=confidence, alpha=alpha, mode=mode
        )

    def update(self, set: dict[str, Any], where: Conditions) -> Changed:
        """Changes edges: ``update({"target": "Lyon"}, {"entity": "France", "relation": "capital"})``."""
        return self.session.update(set, where)

    def delete(self, entity: str, relation: str | None = None, layer: int | None = None) -> Changed:
        """Takes an inserted edge away, or has the model forget what it knows."""
        fields = {"entity": entity, "relation": relation, "layer": layer}
        return self.session.delete({name: value for name, value in fields.items() if value is not None})

    def select(
        self,
        *columns: str,
        entity: str | None = None,
        relation: str | None = None,
        min_confidence: float | None = None,
        target_like: str | None = None,
        limit: int | None = None,
    ) -> Selected:
        """Returns edges that pass conditions."""
        fields: dict[str, Any] = {
            "entity": entity,
            "relation": relation,
            "confidence": None if min_confidence is None else (">=", min_confidence),
            "target": None if target_like is None else ("LIKE", target_like),
        }
        where = {name: value for name, value in fields.items() if value is not None}
        return self.session.select(*columns, where=where, limit=limit)

    def set_gate_vector(self, layer: int, feature: int, vector: ArrayLike) -> Changed:
        """Replaces the gate row of a feature by ``vector``, ``[hidden]``, in the open patch."""
        return self._edited(layer, feature, gate=vector)

    def set_up_vector(self, layer: int, feature: int, vector: ArrayLike) -> Changed:
        """Replaces the up row of a feature by ``vector``, ``[hidden]``, in the open patch; the layer must be gated."""
        return self._edited(layer, feature, up=vector)

    def set_down_vector(self, layer: int, feature: int, vector: ArrayLike) -> Changed:
        """Replaces the down vector of a feature by ``vector``, ``[hidden]``, in the open patch."""
        return self._edited(layer, feature, down=vector)

    def set_feature_meta(self, layer: int, feature: int, top_token: str, c_score: float = 0.9) -> Changed:
        """Lists a feature, in the open patch, as one that writes the first token of a word with a score. No vector changes."""
        if not isinstance(top_token, str):
            raise errors.ArgumentTypeError(f"top_token is a str, not {type(top_token).__name__}")
        return self._edited(layer, feature, word=(top_token, c_score))

    def find_free_feature(self, layer: int) -> int:
        """Returns the feature of a layer that an insertion would write over next: the least important one on background text
        that is not edited yet. The text is run at the first call for a layer."""
        return self.session._engine.free_feature(layer)

    def optimise_target_delta(
        self, prompt: str, target: str, install_layer: int, steps: int = 60
    ) -> tuple[Floats, float, float]:
        """Returns a vector, ``[hidden]``, and the mean negative log-likelihood of the target's tokens in nats, without it and
        with it: a pass that adds the vector to the output of ``install_layer``'s feed-forward step, at the prompt's last token
        and those of the target, answers the prompt with the target. Where that output is normed, it is added before the norm.

        The vector is found by gradients through the layers above, in at most so many ``steps``; it ends when each token of
        the target has the probability 0.99.
        """
        if not isinstance(target, str):
            raise errors.ArgumentTypeError(f"target is a str, not {type(target).__name__}")
        if not isinstance(prompt, str):
            raise errors.ArgumentTypeError(f"prompt is a str, not {type(prompt).__name__}")
        model = self.session._engine.model()
        tokens, answer = model.encode(prompt), model.word_tokens(target)
        return model.target_delta(tokens, answer, install_layer, steps)

    def _edited(self, layer: int, feature: int, **parts: Any) -> Changed:
        """Replaces parts of a feature."""
        changed = result_of(self.session._engine.edit_feature(layer, feature, **parts))
        assert isinstance(changed, Changed)
        return changed

    def undo(self) -> PatchChanged:
        """Takes back the last edit of the open patch."""
        return self.session.undo()

    def begin_patch(self, path: str | os.PathLike[str]) -> PatchChanged:
        """Begins a patch that takes the edits from now on."""
        return self.session.begin_patch(path)

    def save_patch(self, path: str | os.PathLike[str] | None = None) -> PatchChanged:
        """Writes the open patch to its file, or to another."""
        return self.session.save_patch(path)

    def apply_patch(self, path: str | os.PathLike[str]) -> PatchChanged:
        """Lays the patch of a file over the vindex."""
        return self.session.apply_patch(path)

    def remove_patch(self, path: str | os.PathLike[str]) -> PatchChanged:
        """Takes a patch off."""
        return self.session.remove_patch(path)

    def patches(self) -> Patches:
        """Returns the patches that lie over the vindex."""
        return self.session.patches()

    def compile(self, path: str | os.PathLike[str], format: str = "vindex") -> Compiled:
        """Writes the vindex with its edits as ``"vindex"``, ``"safetensors"`` or ``"gguf"``."""
        return self.session.compile(path, format=format)

    def compile_vindex(self, path: str | os.PathLike[str]) -> Compiled:
        """Writes the vindex with its edits as a vindex."""
        return self.session.compile(path)

    def to_transformers(self, path: str | os.PathLike[str]) -> tuple[Any, Any]:
        """Writes the model with its edits to a checkpoint directory, and loads it by transformers, which has to be
        installed. Returns its model and its tokenizer."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.session.compile(path, format="safetensors")
        model = AutoModelForCausalLM.from_pretrained(os.fspath(path), dtype="auto")
        return model, AutoTokenizer.from_pretrained(os.fspath(path))

    # The session and the running model.

    def query(self, lql: str) -> Result:
        """Carries out statements of LQL, and returns the result of the last one."""
        return self.session.query(lql)

    def walk_model(self, top_k: int | None = None) -> WalkModel:
        """Returns the model as it runs, with the same patches."""
        return self.session.walk_model(top_k)

    def close(self) -> None:
        """Ends the session. Arrays stay valid."""
        self.session.close()

    def __enter__(self) -> Vindex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.session.closed:
            return f"Vindex({self.path!r}, closed)"
        return f"Vindex({self.path!r})"

    def __reduce__(self) -> tuple[type[Vindex], tuple[Session]]:
        return Vindex, (self.session,)

    @property
    def _features(self) -> _larql.Features:
        return self.session._engine.features()

    @property
    def _tokenizer(self) -> _larql.Features | _larql.Model:
        engine = self.session._engine
        return engine.model() if engine.kind == "model" else engine.features()


class ArrowStream:
    """Table that is made batch by batch while it is read. Each reader begins at the first row.

    Give it to ``pyarrow.table``, ``polars.DataFrame``, ``pandas.DataFrame.from_arrow`` or a query of DuckDB.
    """

    def __init__(self, stream: Callable[[], object]) -> None:
        self._stream = stream

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._stream()


def load(model: str | os.PathLike[str]) -> Vindex:
    """Opens a vindex, a GGUF file or a checkpoint directory, by path or by name, such as the bundled ``"atlas"``, or a model of
    the hub: ``"OWNER/NAME"``, ``"hf://OWNER/NAME@REVISION"`` or ``"https://HOST/FILE.gguf@sha256:DIGITS"``."""
    return Vindex(session(model))


def _meta(features: _larql.Features, layer: int, feature: int) -> FeatureMeta | None:
    tokens = features.top_tokens(layer, feature)
    if not tokens:
        return None
    top = [{"token": text, "token_id": token, "logit": score} for text, token, score in tokens]
    text, token, score = tokens[0]
    return FeatureMeta(text, token, score, top)
