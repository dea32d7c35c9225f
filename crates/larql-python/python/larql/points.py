"""Points of a pass at which hooks watch and change values, and their names in TransformerLens.

================================ ================================================= =================================
point                            values                                            name in TransformerLens
================================ ================================================= =================================
``embedding``                    stream that enters layer 0, ``[rows, hidden]``    ``hook_embed``
``layer_input``                  stream that enters the layer, ``[rows, hidden]``  ``blocks.L.hook_resid_pre``
``attention_input``              after the attention norm, ``[rows, hidden]``      ``blocks.L.attn.hook_in``
``queries``                      after norm and rotation, ``[rows, heads * dim]``  ``blocks.L.attn.hook_rot_q``
``keys``                         after norm and rotation                           ``blocks.L.attn.hook_rot_k``
``values``                       ``[rows, kv_heads * dim]``                        ``blocks.L.attn.hook_v``
``attention_pattern``            ``[rows, heads, positions]``                      ``blocks.L.attn.hook_pattern``
``head_outputs``                 before the output projection                      ``blocks.L.attn.hook_z``
``attention_output``             attention's addition, ``[rows, hidden]``          ``blocks.L.hook_attn_out``
``feed_forward_input``           after the feed-forward norm, ``[rows, hidden]``   ``blocks.L.mlp.hook_in``
``expert_weights``               ``[rows, experts]``, in mixtures                  ``blocks.L.mlp.hook_expert_weights``
``feature_activations``          ``act(gate) * up``, ``[rows, features]``          ``blocks.L.mlp.hook_post``
``feed_forward_output``          the step's addition, ``[rows, hidden]``           ``blocks.L.hook_mlp_out``
``layer_output``                 stream that leaves the layer, ``[rows, hidden]``  ``blocks.L.hook_resid_post``
``final_norm``                   after the final norm, ``[rows asked for, hidden]`` ``ln_final.hook_normalized``
``logits``                       ``[rows asked for, vocab]``                       ``logits``
================================ ================================================= =================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from . import errors

Point = str | tuple[str, int | None]
"""Point: its name, for a place in all layers; name and layer; or its name in TransformerLens."""

Named = tuple[str, int | None]
"""Name of a point, and the layer of a place in a layer or ``None`` for all layers."""

_OF_LAYERS = {
    "hook_resid_pre": "layer_input",
    "attn.hook_in": "attention_input",
    "attn.hook_rot_q": "queries",
    "attn.hook_rot_k": "keys",
    "attn.hook_v": "values",
    "attn.hook_pattern": "attention_pattern",
    "attn.hook_z": "head_outputs",
    "hook_attn_out": "attention_output",
    "mlp.hook_in": "feed_forward_input",
    "mlp.hook_expert_weights": "expert_weights",
    "mlp.hook_post": "feature_activations",
    "hook_mlp_out": "feed_forward_output",
    "hook_resid_post": "layer_output",
}
_OUTSIDE = {
    "hook_embed": "embedding",
    "ln_final.hook_normalized": "final_norm",
    "logits": "logits",
}
_TRANSFORMER_LENS = {ours: theirs for theirs, ours in (_OF_LAYERS | _OUTSIDE).items()}

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")

ALL: tuple[Named, ...] = tuple((name, None) for name in _TRANSFORMER_LENS)
"""Every point of a pass."""


def named(point: Point) -> Named:
    """Returns the name and the layer of a point."""
    if isinstance(point, tuple):
        name, layer = point
        return name, layer
    if not isinstance(point, str):
        raise errors.ArgumentTypeError(f"a point is a str or (name, layer), not {type(point).__name__}")
    block = _BLOCK.fullmatch(point)
    if block is None:
        return _OUTSIDE.get(point, point), None
    if block[2] not in _OF_LAYERS:
        known = ", ".join(f"blocks.{block[1]}.{name}" for name in _OF_LAYERS)
        raise errors.ArgumentError(f"there is no point {point!r}; the points of a block are {known}")
    return _OF_LAYERS[block[2]], int(block[1])


def points(of: Point | Iterable[Point]) -> list[Named]:
    """Returns the names and the layers of one point or of several in a list."""
    if isinstance(of, (str, tuple)):
        return [named(cast(Point, of))]
    return [named(point) for point in of]


def transformer_lens_name(name: str, layer: int | None) -> str:
    """Returns the name of a point in TransformerLens."""
    theirs = _TRANSFORMER_LENS[name]
    return theirs if layer is None else f"blocks.{layer}.{theirs}"
