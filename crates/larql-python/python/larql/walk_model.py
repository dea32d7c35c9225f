"""The model as it runs: passes with hooks, declared interventions, traces, and vectors in token space."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _larql, errors
from ._larql import Generation, HookPoint, Intervention, KeyValueCache, ResidualTrace
from .points import ALL, Point, points, transformer_lens_name
from .session import Session, session

Floats = NDArray[np.float32]

HookFunction = Callable[[Floats, HookPoint], ArrayLike | None]
"""Function of a hook: receives the values at a point, a float32 array of its own, and the point. It may change the array in
place, or return another one of the same shape; the pass goes on with that. An exception ends the pass, and is raised where
the pass was begun."""

Hook = tuple[Point | list[Point], HookFunction] | Intervention
"""Point or points with the function that is called there, or a declared intervention."""

Prompt = str | Sequence[int]
"""Text, or the numbers of its tokens."""

ScoredToken = tuple[str, float]


class WalkModel:
    """The model of a session as it runs, with the patches of that session.

    Prompts are tokenised with the special tokens that the model expects. Arrays are float32. All passes are exact: activations
    are not quantised, except in :meth:`generate`, which runs as `larql run` does unless hooks take part or it is told to.
    """

    def __init__(self, model: str | os.PathLike[str], top_k: int | None = 8192) -> None:
        """Opens a model by path or name. ``top_k`` is the number of features of each layer that passes walk: those with the
        strongest gates. With ``None``, and with as many as a layer has, the walk is the dense step."""
        self._begin(session(model), top_k)

    def _begin(self, of: Session, top_k: int | None) -> None:
        self.session = of
        """Session that the model belongs to."""
        self.top_k = top_k
        """Number of features of each layer that passes walk; all of them if ``None``."""
        self._hooks: ContextVar[tuple[Hook, ...]] = ContextVar("hooks", default=())

    @classmethod
    def _of_session(cls, of: Session, top_k: int | None) -> WalkModel:
        model = cls.__new__(cls)
        model._begin(of, top_k)
        return model

    # Sizes and tokens.

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return self._model.num_layers

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self._model.hidden_size

    @property
    def intermediate_size(self) -> int:
        """Number of features of the first layer."""
        return self._model.intermediate_size

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self._model.vocab_size

    def num_q_heads_for_layer(self, layer: int) -> int:
        """Returns the number of query heads of a layer."""
        return self._model.heads(layer)[0]

    def head_dim_for_layer(self, layer: int) -> int:
        """Returns the width of a query head of a layer."""
        return self._model.heads(layer)[2]

    def tokenize(self, text: str, add_special: bool = True) -> list[int]:
        """Returns the numbers of a text's tokens."""
        return self._model.encode(_text(text, "text"), add_special)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Returns the text of tokens."""
        return self._model.decode(list(ids), skip_special)

    # Hooks.

    @contextmanager
    def hooks(self, *hooks: Hook) -> Iterator[WalkModel]:
        """Has every pass of this model within ``with`` call hooks, in order, after those of an outer ``with``::

            def double(values, point):
                values *= 2

            with model.hooks(("blocks.2.hook_mlp_out", double)):
                model.predict("The capital of France is")

        Hooks belong to the thread, or the asynchronous task, that enters ``with``. LQL statements have their own
        interventions, and do not call them.
        """
        token = self._hooks.set((*self._hooks.get(), *hooks))
        try:
            yield self
        finally:
            self._hooks.reset(token)

    def intervention(self, declaration: Mapping[str, Any] | str | os.PathLike[str]) -> Intervention:
        """Resolves a declaration for this model: a dict, or the JSON file of one.

        The result is a hook for :meth:`hooks` and :meth:`run`. Afterwards it has ``fired``, the number of rows that each
        change has changed, ``captured``, and the declaration's ``digest``.
        """
        if isinstance(declaration, Mapping):
            text = json.dumps(declaration, default=_as_list)
        else:
            with open(declaration, encoding="utf-8") as file:
                text = file.read()
        return self._model.intervention(text)

    # Passes.

    def run(
        self,
        prompts: str | Sequence[Prompt],
        *,
        hooks: Iterable[Hook] = (),
        every_token: bool = False,
        caches: Sequence[KeyValueCache] | None = None,
    ) -> list[Floats]:
        """Runs one prompt or several in one pass. Returns for each the logits of its last token, ``[1, vocab]``, or of every
        token, ``[tokens, vocab]``.

        With ``caches``, one for each prompt, a prompt goes on after the tokens of its cache, which grows by its own; texts get
        no special tokens there, unless the cache is empty.
        """
        model = self._model
        given = [prompts] if isinstance(prompts, str) else prompts
        goes_on = [False] * len(given) if caches is None else [len(cache) > 0 for cache in caches]
        tokens = [_tokens(model, prompt, not later) for prompt, later in zip(given, goes_on)]
        if caches is not None and len(caches) != len(given):
            raise errors.ArgumentError(f"{len(caches)} caches are given for {len(given)} prompts; expected one for each prompt")
        return model.run(tokens, self._chain(hooks), every_token, None if caches is None else list(caches))

    def cache(self) -> KeyValueCache:
        """Returns an empty cache of keys and values, for :meth:`run`. Keys and values of a layer can be taken over from another
        cache::

            donor, own = model.cache(), model.cache()
            model.run(["The capital of Spain", "The capital of France"], caches=[donor, own])
            own.clone_layer_from(donor, 2)
            model.run(" is", caches=[own])
        """
        return self._model.cache()

    def predict(self, prompt: Prompt, top_k_predictions: int = 5) -> list[ScoredToken]:
        """Returns the likeliest next tokens with their probabilities."""
        return self.predict_all([prompt], top_k_predictions)[0]

    def predict_all(self, prompts: Sequence[Prompt], top_k_predictions: int = 5) -> list[list[ScoredToken]]:
        """Returns the likeliest next tokens of several prompts, which run in one pass."""
        model = self._model
        return [
            [(token, share) for token, _, share in model.predictions(logits[-1], top_k_predictions)]
            for logits in self.run(prompts)
        ]

    def generate(
        self,
        prompt: str,
        max_tokens: int = 64,
        *,
        stop: str | Sequence[str] = (),
        hooks: Iterable[Hook] = (),
        exact: bool | None = None,
        **sampling: Any,
    ) -> Generation:
        """Continues a prompt. Returns an iterator of pieces of text, which come as they are generated.

        The choice of tokens is greedy unless ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``repetition_penalty``,
        ``presence_penalty``, ``frequency_penalty`` or ``seed`` say something else. ``"".join(…)`` of the iterator is the whole
        text. At the end it has ``tokens`` and the ``reason`` of the end. ``exact`` passes do not quantise activations; with
        hooks that is the default.
        """
        chain = self._chain(hooks)
        stop_texts = [stop] if isinstance(stop, str) else list(stop)
        precise = bool(chain) if exact is None else exact
        return self._model.generate(
            _text(prompt, "prompt"), max_tokens, json.dumps(sampling), stop_texts, chain, precise
        )

    def trace(
        self, prompt: str, positions: Literal["last", "all"] = "last", *, hooks: Iterable[Hook] = ()
    ) -> ResidualTrace:
        """Records the residual stream of a prompt at its last token or at every token, with all features."""
        if positions not in ("last", "all"):
            raise errors.ArgumentError(f"positions are 'last' or 'all', not {positions!r}")
        return self._model.trace(_text(prompt, "prompt"), positions == "all", self._chain(hooks))

    def run_with_cache(
        self, prompt: str, names: Iterable[str] | None = None
    ) -> tuple[Floats, dict[str, Floats]]:
        """Runs a prompt and returns its logits, ``[1, tokens, vocab]``, and the values at points by their names in
        TransformerLens, in its layout: the first axis is the batch of one; heads have an axis of their own
        (``hook_z``: ``[1, tokens, heads, dim]``, ``hook_pattern``: ``[1, heads, tokens, positions]``).

        ``names`` are the points to keep; all of them if ``None``.
        """
        model = self._model
        cache: dict[str, Floats] = {}

        def keep(values: Floats, point: HookPoint) -> None:
            cache[transformer_lens_name(point.name, point.layer)] = _in_lens_layout(model, values, point)

        chosen = points(list(names)) if names is not None else list(ALL)
        logits = model.run([model.encode(_text(prompt, "prompt"))], [*self._chain(()), (chosen, keep)], True)
        return logits[0][np.newaxis], cache

    # Captures and changes at the outputs of layers, by declared interventions.

    def capture_residuals(self, prompt: str, layers: Sequence[int]) -> dict[int, Floats]:
        """Returns the residual after each of the layers at the last token, ``[hidden]``."""
        return self._declared(prompt, [], layers)

    def forward_with_capture(self, prompt: str, layers: Sequence[int]) -> dict[int, Floats]:
        """Returns the residual after each of the layers at every token, ``[tokens, hidden]``."""
        return self._captured(prompt, [], [_capture(layer, "layer_output", "all") for layer in layers])

    def forward_ablate(
        self, prompt: str, ablate_layers: Sequence[int], capture_layers: Sequence[int]
    ) -> dict[int, Floats]:
        """Returns last-token residuals of a pass in which the outputs of some layers are 0 at every token."""
        return self._declared(prompt, [_zero(layer, "layer_output") for layer in ablate_layers], capture_layers)

    def forward_steer(
        self,
        prompt: str,
        steers: Sequence[tuple[int, ArrayLike, float]],
        capture_layers: Sequence[int],
    ) -> dict[int, Floats]:
        """Returns last-token residuals of a pass in which ``alpha * vector`` is added to outputs of layers at the last
        token, for each ``(layer, vector, alpha)``."""
        return self._declared(prompt, [self._steer(*steer) for steer in steers], capture_layers)

    def patch_activations(
        self,
        donor_prompt: str,
        recipient_prompt: str,
        coords: Sequence[tuple[int, int]],
        capture_layers: Sequence[int],
    ) -> dict[int, Floats]:
        """Returns last-token residuals of a pass over the recipient in which outputs of layers, at each
        ``(layer, position)``, are those of the donor."""
        changes = [
            {
                "at": {"layer": layer, "stage": "layer_output", "positions": [position]},
                "patch": {"prompt": donor_prompt, "positions": [position]},
            }
            for layer, position in coords
        ]
        return self._declared(recipient_prompt, changes, capture_layers)

    def generate_with_hooks(
        self,
        prompt: str,
        max_new_tokens: int,
        ablate_layers: Sequence[int] | None = None,
        steers: Sequence[tuple[int, ArrayLike, float]] | None = None,
    ) -> tuple[str, list[int]]:
        """Continues a prompt with ablated or steered layers. Returns the text and its tokens."""
        changes = [_zero(layer, "layer_output") for layer in ablate_layers or ()]
        changes += [self._steer(*steer) for steer in steers or ()]
        generation = self.generate(
            prompt, max_new_tokens, hooks=[self.intervention({"interventions": changes})], exact=True
        )
        return "".join(generation), generation.tokens

    # Decomposition.

    def forward_attn_only(self, prompt: str, layers: Sequence[int]) -> dict[int, Floats]:
        """Returns last-token residuals of a pass in which no feed-forward step adds anything."""
        changes = [_zero(layer, "feed_forward_output") for layer in range(self.num_layers)]
        return self._declared(prompt, changes, layers)

    def forward_ffn_only(self, prompt: str, layers: Sequence[int]) -> dict[int, Floats]:
        """Returns last-token residuals of a pass in which no attention adds anything."""
        changes = [_zero(layer, "attention_output") for layer in range(self.num_layers)]
        return self._declared(prompt, changes, layers)

    def forward_attn_only_head_zero(
        self, prompt: str, heads: Sequence[tuple[int, Sequence[int]]], layers: Sequence[int]
    ) -> dict[int, Floats]:
        """Returns residuals as :meth:`forward_attn_only`, with the outputs of some heads set to 0: ``(layer, heads)``."""
        changes = [_zero(layer, "feed_forward_output") for layer in range(self.num_layers)]
        changes += [_zero(layer, "head_outputs", heads=list(of_layer)) for layer, of_layer in heads]
        return self._declared(prompt, changes, layers)

    def forward_attn_only_capture_pre_o(self, prompt: str, layers: Sequence[int]) -> dict[int, Floats]:
        """Returns the outputs of heads before the output projection, ``[tokens, heads * dim]``, of a pass in which no
        feed-forward step adds anything."""
        changes = [_zero(layer, "feed_forward_output") for layer in range(self.num_layers)]
        return self._captured(prompt, changes, [_capture(layer, "head_outputs", "all") for layer in layers])

    def w_o_for_head(self, layer: int, head: int) -> NDArray[np.floating[Any]]:
        """Returns the columns of the output projection that read a head, ``[hidden, dim]``."""
        heads, _, _, width = self._model.heads(layer)
        if not 0 <= head < heads:
            raise errors.ArgumentIndexError(f"head {head} does not exist; there are {heads}, numbered from 0")
        return self._model.attention_output(layer)[:, head * width : (head + 1) * width]

    def head_contributions(self, prompt: str, token_id: int) -> Floats:
        """Returns what each attention head contributes to the logit of a token after a prompt, ``[layers, heads]``; heads
        that a layer lacks are not a number."""
        model = self._model
        by_layer = model.head_contributions(model.encode(_text(prompt, "prompt")), token_id)
        out = np.full((len(by_layer), max(map(len, by_layer))), np.nan, dtype=np.float32)
        for layer, heads in enumerate(by_layer):
            out[layer, : len(heads)] = heads
        return out

    # The feed-forward step alone, for programs that compute attention elsewhere.

    @overload
    def ffn_layer(self, layer: int, x: bytes, seq_len: int | None = None) -> bytes: ...

    @overload
    def ffn_layer(self, layer: int, x: NDArray[np.floating[Any]], seq_len: int | None = None) -> Floats: ...

    def ffn_layer(
        self, layer: int, x: bytes | NDArray[np.floating[Any]], seq_len: int | None = None
    ) -> bytes | Floats:
        """Returns the output of a layer's feed-forward step, ``[tokens, hidden]``, with all of its features, for inputs after the
        step's norm, ``[tokens, hidden]``. Bytes are taken and returned as native float32."""
        output = self._model.feed_forward(layer, self._inputs(x, seq_len))
        return output.tobytes() if isinstance(x, bytes) else output

    def gate_select(
        self, layer: int, x: bytes | ArrayLike, seq_len: int | None = None, top_k: int | None = None
    ) -> list[int]:
        """Returns the features of a layer that are among the ``top_k`` of any row of ``x``, ``[tokens, hidden]``, by the magnitude
        of their gate scores, in ascending order."""
        return [feature for feature, _ in self.gate_select_scored(layer, x, seq_len, top_k)]

    def gate_select_scored(
        self, layer: int, x: bytes | ArrayLike, seq_len: int | None = None, top_k: int | None = None
    ) -> list[tuple[int, float]]:
        """Returns features as :meth:`gate_select`, each with its gate score of the greatest magnitude."""
        features = self.session._engine.features()
        count = top_k or self.top_k or features.num_features(layer)
        found: dict[int, float] = {}
        for row in self._inputs(x, seq_len):
            for feature, score in features.gate_knn(layer, row, count):
                found[feature] = max(found.get(feature, 0.0), score, key=abs)
        return sorted(found.items())

    def _inputs(self, x: bytes | ArrayLike, seq_len: int | None) -> NDArray[Any]:
        """Returns inputs of a feed-forward step as an array, ``[tokens, hidden]``."""
        if isinstance(x, bytes):
            if not x or len(x) % (4 * self.hidden_size):
                raise errors.ArgumentError(f"x has {len(x)} bytes; expected rows of {self.hidden_size} values of float32")
            rows = np.frombuffer(x, np.float32).reshape(-1, self.hidden_size)
        else:
            rows = np.atleast_2d(np.asarray(x))
        if seq_len is not None and len(rows) != seq_len:
            raise errors.ArgumentError(f"x has {len(rows)} rows; seq_len says {seq_len}")
        return rows

    # Vectors in token space.

    def logit_lens(self, residual: ArrayLike, k: int = 10) -> list[tuple[int, float]]:
        """Returns the likeliest tokens of a residual, ``[hidden]``, through final norm and head, with their probabilities."""
        (top,) = self._model.logit_lens(np.asarray(residual)[np.newaxis], k)
        return [(token, share) for _, token, share in top]

    def track_token_at(self, residual: ArrayLike, token_id: int) -> float:
        """Returns the probability of a token for a residual, ``[hidden]``."""
        ((_, probability, _),) = self._model.track_token(np.asarray(residual)[np.newaxis], token_id)
        return probability

    def track_race(self, residuals: Mapping[int, ArrayLike], k: int = 5) -> dict[int, list[tuple[int, float]]]:
        """Returns the likeliest tokens of each layer's residual."""
        return {layer: self.logit_lens(residual, k) for layer, residual in residuals.items()}

    def embedding_neighbors(self, query: ArrayLike, k: int = 10) -> list[tuple[int, float]]:
        """Returns the tokens whose embeddings have the greatest cosine with a vector, ``[hidden]``."""
        return [(token, cosine) for _, token, cosine in self._model.embedding_neighbors(query, k)]

    def project_through_unembed(self, vec: ArrayLike, k: int = 10) -> list[tuple[int, float]]:
        """Returns the tokens whose rows of the output head have the greatest product with a vector, ``[hidden]``, without
        norm and soft cap."""
        return [(token, product) for _, token, product in self._model.project_through_unembed(vec, k)]

    def embedding_for(self, token_id: int, scaled: bool = True) -> Floats:
        """Returns a row of the embedding, ``[hidden]``, with the model's scale or without."""
        model = self._model
        row = model.embedding_row(token_id)
        return row * np.float32(model.embedding_scale) if scaled else row

    def unembedding_for(self, token_id: int) -> Floats:
        """Returns a row of the output head, ``[hidden]``."""
        return self._model.unembedding_row(token_id)

    def close(self) -> None:
        """Ends the session."""
        self.session.close()

    def __repr__(self) -> str:
        return f"WalkModel({self.session.path!r}, top_k={self.top_k})"

    def __reduce__(self) -> tuple[Any, tuple[Session, int | None]]:
        return WalkModel._of_session, (self.session, self.top_k)

    # Parts.

    @property
    def _model(self) -> _larql.Model:
        return self.session._engine.model(self.top_k)

    def _chain(self, more: Iterable[Hook]) -> list[_larql.GivenHook]:
        return [_given(hook) for hook in (*self._hooks.get(), *more)]

    def _declared(
        self, prompt: str, changes: list[dict[str, Any]], layers: Sequence[int]
    ) -> dict[int, Floats]:
        """Runs a prompt with changes, and returns the last-token residuals of layers."""
        captured = self._captured(prompt, changes, [_capture(layer, "layer_output", "last") for layer in layers])
        return {layer: values[0] for layer, values in captured.items()}

    def _captured(
        self, prompt: str, changes: list[dict[str, Any]], captures: list[dict[str, Any]]
    ) -> dict[int, Floats]:
        """Runs a prompt with changes, and returns what is captured of each layer, ``[rows, width]``."""
        model = self._model
        tokens = model.encode(_text(prompt, "prompt"))
        declared = model.intervention(json.dumps({"capture": captures, "interventions": changes}))
        model.run([tokens], [*self._chain(()), declared])
        rows = {"last": 1, "all": len(tokens)}
        return {
            capture["layer"]: values.reshape(rows[capture["positions"]], -1)
            for capture, values in zip(captures, declared.captured)
        }

    def _steer(self, layer: int, vector: ArrayLike, alpha: float) -> dict[str, Any]:
        values = np.asarray(vector, dtype=np.float32).tolist()
        return {
            "at": {"layer": layer, "stage": "layer_output", "positions": "last"},
            "add": {"values": values, "factor": alpha},
        }


def _given(hook: Hook) -> _larql.GivenHook:
    """Returns a hook as the extension module takes it."""
    if isinstance(hook, Intervention):
        return hook
    if not (isinstance(hook, tuple) and len(hook) == 2):
        raise errors.ArgumentTypeError(f"a hook is (point, function) or an intervention, not {hook!r}")
    of, function = hook
    return points(cast(Point, of)), function


def _tokens(model: _larql.Model, prompt: Prompt, add_special: bool = True) -> list[int]:
    """Returns the tokens of a prompt."""
    if isinstance(prompt, str):
        return model.encode(prompt, add_special)
    is_list = isinstance(prompt, (Sequence, np.ndarray)) and not isinstance(prompt, (bytes, bytearray))
    if not is_list or not all(isinstance(token, (int, np.integer)) for token in prompt):
        raise errors.ArgumentTypeError(f"a prompt is a str or the numbers of its tokens, not {prompt!r}")
    return [int(token) for token in prompt]


def _text(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise errors.ArgumentTypeError(f"{name} is a str, not {type(text).__name__}")
    return text


def _as_list(value: Any) -> Any:
    """Returns an array as a list, for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise errors.ArgumentTypeError(f"a declaration has no values of type {type(value).__name__}")


def _capture(layer: int, stage: str, positions: str) -> dict[str, Any]:
    return {"layer": layer, "stage": stage, "positions": positions}


def _zero(layer: int, stage: str, **place: Any) -> dict[str, Any]:
    return {"at": {"layer": layer, "stage": stage, "positions": "all", **place}, "zero": True}


def _in_lens_layout(model: _larql.Model, values: Floats, point: HookPoint) -> Floats:
    """Returns the values at a point of one prompt in the layout of TransformerLens."""
    if point.name == "attention_pattern":
        return values.transpose(1, 0, 2)[np.newaxis]
    if point.layer is not None and point.name in ("queries", "keys", "values", "head_outputs"):
        heads, kv_heads, _, _ = model.heads(point.layer)
        count = heads if point.name in ("queries", "head_outputs") else kv_heads
        return values.reshape(1, len(values), count, -1)
    return values[np.newaxis]
