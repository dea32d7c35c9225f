"""Extension module: what the Rust crates compute, as the package's classes call it."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Callable, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__version__: str

Floats = NDArray[np.float32]
AnyFloats = NDArray[np.floating[Any]]
ScoredToken = tuple[str, int, float]
GivenHook = tuple[list[tuple[str, int | None]], Callable[[Floats, HookPoint], ArrayLike | None]] | Intervention

def quoted(text: str) -> str:
    """Returns a text as LQL writes it: in double quotes, with escapes."""

def set_threads(threads: int) -> None:
    """Sets the number of threads that this process computes on, which is otherwise that of the machine's processors. It has to
    be set before the first model is opened."""

def execute_alone(text: str) -> Answer:
    """Carries out a statement that needs no open model: EXTRACT, SHOW MODELS or DIFF."""

@final
class Answer:
    """Result of one statement: typed data, its table, and its text."""

    def __new__(cls, json: str) -> Answer: ...
    def json(self) -> str:
        """Returns the whole result as JSON."""

    def text(self, width: int | None = None) -> str:
        """Returns the result as the prompt shows it."""

    def page(self) -> str | None:
        """Returns the result as one self-contained HTML page; ``None`` of results that have no page of their own."""

    def parts(self) -> list[Answer]:
        """Returns the results of a piped statement."""

    def columns(self) -> list[str]:
        """Returns the names of the table's columns."""

    def rows(self) -> list[tuple[Any, ...]]:
        """Returns the table's rows."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

@final
class Engine:
    """Session on one model."""

    @staticmethod
    def open(model: str | os.PathLike[str]) -> Engine:
        """Opens a vindex, a GGUF file or a checkpoint directory, by path or by name."""

    @staticmethod
    def connect(address: str) -> Engine:
        """Begins a session on a server."""

    def execute(self, text: str) -> list[Answer]:
        """Carries out statements of LQL."""

    def features(self) -> Features:
        """Returns the vindex as it is now."""

    def model(self, top_k: int | None = None) -> Model:
        """Returns the model as it is now."""

    def edit_feature(
        self,
        layer: int,
        feature: int,
        *,
        gate: ArrayLike | None = None,
        up: ArrayLike | None = None,
        down: ArrayLike | None = None,
        word: tuple[str, float] | None = None,
    ) -> Answer:
        """Replaces parts of a feature in the open patch."""

    def free_feature(self, layer: int) -> int:
        """Returns the feature of a layer that INSERT would write over next."""

    def set_walk_k(self, top_k: int | None = None) -> None:
        """Sets the number of features of each layer that INFER walks."""

    def unsaved(self) -> list[tuple[str, int]]:
        """Returns names and numbers of edits of the patches with edits that no file has."""

    def close(self) -> None:
        """Ends the session."""

    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def closed(self) -> bool: ...

@final
class Features:
    """A vindex under its patches at one moment."""

    @property
    def path(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def embedding_scale(self) -> float: ...
    def num_features(self, layer: int) -> int: ...
    def layer_bands(self) -> list[tuple[str, tuple[int, int]]]: ...
    def manifest(self) -> dict[str, Any]: ...
    def gate_vectors(self, layer: int) -> AnyFloats: ...
    def up_vectors(self, layer: int) -> AnyFloats: ...
    def down_vectors(self, layer: int) -> AnyFloats: ...
    def gate_vector(self, layer: int, feature: int) -> Floats: ...
    def up_vector(self, layer: int, feature: int) -> Floats | None: ...
    def down_vector(self, layer: int, feature: int) -> Floats: ...
    def relation_centre(self, relation: str) -> Floats | None: ...
    def memory_layers(self) -> list[int]: ...
    def embedding_matrix(self) -> AnyFloats: ...
    def embedding(self, token: int) -> Floats: ...
    def embed(self, text: str) -> Floats: ...
    def encode(self, text: str, add_special: bool = False) -> list[int]: ...
    def decode(self, tokens: list[int], skip_special: bool = False) -> str: ...
    def layer_query(self, layer: int, query: ArrayLike) -> Floats: ...
    def gate_knn(self, layer: int, query: ArrayLike, top_k: int) -> list[tuple[int, float]]: ...
    def walk(
        self, layer: int, input: ArrayLike, top_k: int
    ) -> list[tuple[int, float, float | None, float | None, float | None]]: ...
    def top_tokens(self, layer: int, feature: int) -> list[ScoredToken]: ...
    def label(self, layer: int, feature: int) -> tuple[str, str] | None: ...
    def stream_features(self, layers: Sequence[int], vectors: bool) -> object: ...
    def stream_embeddings(self) -> object: ...

@final
class Model:
    """A model under its patches at one moment."""

    @property
    def num_layers(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def family(self) -> str: ...
    @property
    def embedding_scale(self) -> float: ...
    def heads(self, layer: int) -> tuple[int, int, int, int]:
        """Returns the numbers of query heads and of key and value heads, and the widths of a head and of its values."""

    def encode(self, text: str, add_special: bool = True) -> list[int]: ...
    def decode(self, tokens: list[int], skip_special: bool = False) -> str: ...
    def run(
        self,
        prompts: list[list[int]],
        hooks: Sequence[GivenHook] = ...,
        every_token: bool = False,
        caches: list[KeyValueCache] | None = None,
    ) -> list[Floats]: ...
    def cache(self) -> KeyValueCache: ...
    def feed_forward(self, layer: int, input: ArrayLike) -> Floats: ...
    def nearest_entries(self, layer: int, input: ArrayLike, count: int) -> list[tuple[str, str, str, float]]: ...
    def target_delta(
        self, prompt: list[int], target: list[int], layer: int, steps: int
    ) -> tuple[Floats, float, float]: ...
    def word_tokens(self, word: str) -> list[int]: ...
    def predictions(self, logits: ArrayLike, top: int) -> list[ScoredToken]: ...
    def intervention(self, declaration: str) -> Intervention: ...
    def generate(
        self,
        prompt: str,
        max_tokens: int,
        sampling: str = "{}",
        stop: list[str] = ...,
        hooks: Sequence[GivenHook] = ...,
        exact: bool = False,
    ) -> Generation: ...
    def trace(self, prompt: str, every_token: bool = False, hooks: Sequence[GivenHook] = ...) -> ResidualTrace: ...
    def logit_lens(self, residuals: ArrayLike, top: int) -> list[list[ScoredToken]]: ...
    def track_token(self, residuals: ArrayLike, token: int) -> list[tuple[int, float, float]]: ...
    def embedding_neighbors(self, vector: ArrayLike, top: int) -> list[ScoredToken]: ...
    def project_through_unembed(self, vector: ArrayLike, top: int) -> list[ScoredToken]: ...
    def embedding_row(self, token: int) -> Floats: ...
    def unembedding_row(self, token: int) -> Floats: ...
    def attention_output(self, layer: int) -> AnyFloats: ...
    def head_contributions(self, tokens: list[int], token: int) -> list[list[float]]: ...

@final
class KeyValueCache:
    """Keys and values of the tokens of a sequence in every layer, which a pass goes on with.

    Its length is its number of tokens. A pass that has the cache keeps it from others; a copy is independent.
    """

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def copy(self) -> KeyValueCache:
        """Returns another cache with the same keys and values."""

    def truncate(self, length: int) -> None:
        """Forgets every token from position ``length`` on."""

    def clone_layer_from(self, donor: KeyValueCache, layer: int) -> None:
        """Takes over the keys and values of a layer from another cache of as many tokens."""

    def clone_layer_position_range(self, donor: KeyValueCache, layer: int, start: int, end: int) -> None:
        """Takes over the keys and values of a layer at the positions from ``start`` up to ``end``, which is left out, from another
        cache. They stay at their positions, as keys are rotated by them. Ends beyond the shorter cache are clamped, and without
        a position nothing is done."""

@final
class HookPoint:
    """A point of a pass, as a hook function is told it."""

    @property
    def name(self) -> str:
        """Name of the point; see :mod:`larql.points`."""

    @property
    def layer(self) -> int | None:
        """The layer, counted from 0; ``None`` outside of layers."""

    @property
    def sequences(self) -> NDArray[np.int64]:
        """Number of the sequence of each row, ``[rows]``."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """Position in its sequence of each row, ``[rows]``."""

@final
class Intervention:
    """A declaration of interventions that was resolved for a model."""

    @property
    def digest(self) -> str:
        """SHA-256 of the declaration in its normal form, in hexadecimal digits."""

    @property
    def fired(self) -> list[int]:
        """For each change the number of rows that it changed, over all passes."""

    @property
    def captured(self) -> list[Floats]:
        """For each capture the values of all rows so far, one after the other."""

    def reset(self) -> None:
        """Forgets what was captured and counted."""

@final
class Generation(Iterator[str]):
    """Text that comes piece by piece, in whole characters."""

    def __iter__(self) -> Generation: ...
    def __next__(self) -> str: ...
    @property
    def tokens(self) -> list[int]:
        """Numbers of the generated tokens, without a stop token; empty before the end."""

    @property
    def reason(self) -> str | None:
        """``stop_token``, ``stop_text``, ``max_tokens``, ``context_full`` or ``interrupted``; ``None`` before the end."""

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of the prompt's pass, and of all other passes."""

    def close(self) -> None:
        """Ends the generation."""

@final
class AnswerWaypoint:
    """An answer after one layer. Logits are before soft-capping."""

    @property
    def layer(self) -> int:
        """The layer; -1 is the embedding."""

    @property
    def rank(self) -> int:
        """Rank of the answer's token by the logit lens; 1 is the likeliest."""

    @property
    def prob(self) -> float:
        """Probability of the answer's token."""

    @property
    def whole_prob(self) -> float:
        """Probability of all tokens of the answer."""

    @property
    def logit(self) -> float:
        """Logit of the answer's token."""

    @property
    def attn_logit(self) -> float:
        """Contribution of attention to the logit."""

    @property
    def ffn_logit(self) -> float:
        """Contribution of the feed-forward step to the logit."""

    @property
    def norm_logit(self) -> float:
        """Change of the logit because the residual's norm changes. The three add up to the logit's change."""

    @property
    def residual_norm(self) -> float:
        """Norm of the residual."""

    @property
    def who(self) -> str:
        """Part of the layer that moves the logit."""

@final
class LayerSummary:
    """State of the residual stream after one layer."""

    @property
    def layer(self) -> int:
        """The layer; -1 is the embedding."""

    @property
    def residual_norm(self) -> float: ...
    @property
    def attn_delta_norm(self) -> float: ...
    @property
    def ffn_delta_norm(self) -> float: ...
    @property
    def top1_token(self) -> str:
        """Likeliest next token by the logit lens."""

    @property
    def top1_prob(self) -> float: ...

@final
class ResidualTrace:
    """Residual stream of a prompt at its last token or at every token. Layer -1 is the embedding."""

    @property
    def prompt(self) -> str: ...
    @property
    def tokens(self) -> list[str]: ...
    @property
    def token_ids(self) -> list[int]: ...
    @property
    def positions(self) -> list[int]: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def n_nodes(self) -> int:
        """Number of waypoints of all traced positions."""

    def residual(self, layer: int, position: int | None = None) -> Floats | None:
        """Returns the residual after a layer, ``[hidden]``; ``None`` if the position was not traced. Without a position it is
        the last one, as in the other methods."""

    def attn_delta(self, layer: int, position: int | None = None) -> Floats | None:
        """Returns attention's addition to the residual in a layer, ``[hidden]``."""

    def ffn_delta(self, layer: int, position: int | None = None) -> Floats | None:
        """Returns the rest of the layer's change of the residual, ``[hidden]``."""

    def top_k(self, layer: int, position: int | None = None, k: int = 5) -> list[tuple[str, float]]:
        """Returns the likeliest tokens after a layer by the logit lens, with their probabilities."""

    def rank_of(self, token: str, layer: int, position: int | None = None) -> int | None:
        """Returns the rank of a token after a layer by the logit lens; 1 is the likeliest."""

    def answer_trajectory(self, answer: str) -> list[AnswerWaypoint]:
        """Returns the trajectory of an answer at the prompt's last token, from the embedding through the layers. Hooks of the
        recording do not take part in it."""

    def summary(self) -> list[LayerSummary]:
        """Returns the state after each layer at the last traced position, from the embedding."""

    def lens(self) -> list[list[tuple[str, float]]]:
        """Returns the likeliest token and its probability at every waypoint of every traced position."""

    def last_logits(self) -> Floats:
        """Returns the logits after the last token, ``[vocab]``."""

    def save(self, path: str | os.PathLike[str]) -> int:
        """Appends the chains of all traced positions to a file, and returns their number."""

@final
class TraceStore:
    """Chains of waypoints of tokens, mapped. Waypoint 0 is the embedding, waypoint ``l + 1`` is layer ``l``."""

    def __new__(cls, path: str | os.PathLike[str]) -> TraceStore: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    def residual(self, token: int, waypoint: int) -> Floats | None: ...
    def attn_delta(self, token: int, waypoint: int) -> Floats | None: ...
    def ffn_delta(self, token: int, waypoint: int) -> Floats | None: ...
    def file_size(self) -> int: ...
    def __len__(self) -> int: ...

@final
class BoundaryStore:
    """Residuals at the ends of windows of tokens, mapped."""

    def __new__(cls, path: str | os.PathLike[str]) -> BoundaryStore: ...
    @property
    def n_boundaries(self) -> int: ...
    @property
    def total_tokens(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def window_size(self) -> int: ...
    def residual(self, boundary: int) -> Floats | None: ...
    def boundary_for_token(self, token: int) -> int | None: ...
    def token_range(self, boundary: int) -> tuple[int, int] | None: ...
    def __len__(self) -> int: ...

@final
class BoundaryWriter:
    """Writer of a boundary store. It appends to a file of the same width that is there already."""

    def __new__(
        cls,
        path: str | os.PathLike[str],
        hidden_size: int,
        window_size: int = 200,
        max_boundaries: int = 10000,
    ) -> BoundaryWriter: ...
    def append(self, token_offset: int, window_tokens: int, residual: ArrayLike) -> None:
        """Appends a window: its first token, its number of tokens, and the residual at its end, ``[hidden]``."""

    @property
    def n_boundaries(self) -> int: ...
    @property
    def total_tokens(self) -> int: ...
    def finish(self) -> os.PathLike[str]:
        """Closes the file, and returns its path."""

@final
class ContextStore:
    """Residuals and deltas at the ends of windows of tokens, mapped."""

    def __new__(cls, path: str | os.PathLike[str]) -> ContextStore: ...
    @property
    def n_boundaries(self) -> int: ...
    @property
    def total_tokens(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def tier(self) -> int: ...
    @property
    def delta_layers(self) -> list[int]: ...
    def residual(self, boundary: int) -> Floats | None: ...
    def deltas(self, boundary: int) -> tuple[Floats, Floats] | None:
        """Returns feed-forward deltas and attention deltas of a window, ``[layers, hidden]`` each."""

    def __len__(self) -> int: ...
