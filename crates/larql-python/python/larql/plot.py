"""Plots of results, by matplotlib: it draws still pictures, which stay in a saved notebook, and most researchers have it.

``pip install larql-vindex[plot]``. Each function draws on ``axes``, or on new ones, and returns them. In a notebook,
``%config InlineBackend.figure_formats = ["svg"]`` makes the pictures vector graphics.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ._html import visible
from .results import AttributionGraph, Described, ExplainedInference, Traced

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def describe(described: Described, *, limit: int = 15, axes: Axes | None = None) -> Axes:
    """Draws the edges of an entity with their confidence as bars, surest at the top."""
    edges = [edge for band in described.bands for edge in band.edges if edge.confidence is not None][:limit]
    drawn = _axes(axes, height=0.6 + 0.25 * len(edges))
    drawn.barh(range(len(edges)), [edge.confidence or 0 for edge in edges])
    drawn.set_yticks(range(len(edges)), [f"{edge.relation} → {edge.target}" for edge in edges])
    drawn.invert_yaxis()
    drawn.set(xlim=(0, 1), xlabel="confidence", title=described.entity)
    return drawn


def trace(traced: Traced, *, axes: Axes | None = None) -> Axes:
    """Draws a trace as a heat map: a column for each position, a row for each layer from the embedding upwards. The colour
    is the probability of the followed answer, or of the likeliest token, which is written in its cell."""
    positions = sorted({row.position for row in traced.rows})
    layers = sorted({row.layer for row in traced.rows})
    shares = np.full((len(layers), len(positions)), np.nan)
    drawn = _axes(axes, width=1.2 + 0.9 * len(positions), height=1.2 + 0.35 * len(layers))
    for row in traced.rows:
        x, y = positions.index(row.position), layers.index(row.layer)
        share = row.top1_prob if row.answer is None else row.answer.prob
        shares[y, x] = share
        text = visible(row.top1_token) if row.answer is None else f"{share:.2f}"
        drawn.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if share > 0.5 else "black")
    image = drawn.imshow(shares, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=1)
    drawn.figure.colorbar(image, ax=drawn, label="probability")
    drawn.set_xticks(range(len(positions)), [visible(traced.tokens[position]) for position in positions], rotation=45)
    drawn.set_yticks(range(len(layers)), ["emb" if layer < 0 else f"L{layer}" for layer in layers])
    drawn.set_title(traced.prompt if traced.answer is None else f"{traced.prompt} → {traced.answer.text}")
    return drawn


def explain(explained: ExplainedInference, *, limit: int = 15, axes: Axes | None = None) -> Axes:
    """Draws the features that contribute most to an answer's logit, either way, as bars."""
    rows = [row for layer in explained.layers for row in layer.rows if row.contribution is not None]
    rows.sort(key=lambda row: -abs(row.contribution or 0))
    rows = rows[:limit]
    drawn = _axes(axes, height=0.6 + 0.25 * len(rows))
    drawn.barh(range(len(rows)), [row.contribution or 0 for row in rows])
    names = [f"L{row.layer} f{row.feature}  {', '.join(row.tokens[:2])}" for row in rows]
    drawn.set_yticks(range(len(rows)), names)
    drawn.invert_yaxis()
    drawn.set(xlabel="contribution to the logit", title=f"{explained.prompt} → {visible(explained.answer.token)}")
    return drawn


def graph(attribution: AttributionGraph, *, axes: Axes | None = None) -> Axes:
    """Draws an attribution graph: positions from left to right, layers upwards from the tokens to the answer. The area of a
    node and the width of an edge are the parts of the logit that go through them; red ones lower it."""
    drawn = _axes(axes, width=1.5 + 1.1 * len(attribution.tokens), height=5.0)
    top = 1 + max((node.layer or 0) for node in attribution.nodes)
    shown = {node.id: node for node in attribution.nodes if node.kind != "rest"}
    beside: Counter[tuple[int, float]] = Counter()
    places: dict[int, tuple[float, float]] = {}
    for node in shown.values():
        column = len(attribution.tokens) - 1 if node.position is None else node.position
        level = {"token": -1.0, "answer": top + 0.5}.get(node.kind, (node.layer or 0) + (0.5 if node.kind == "feature" else 0.0))
        # Nodes of one place stand side by side.
        places[node.id] = (column + 0.16 * beside[column, level], level)
        beside[column, level] += 1
    greatest = max((abs(edge.weight) for edge in attribution.edges), default=1.0)
    for edge in attribution.edges:
        if edge.source in places and edge.target in places:
            (x, y), (to_x, to_y) = places[edge.source], places[edge.target]
            share = abs(edge.weight) / greatest
            colour = "tab:blue" if edge.weight > 0 else "tab:red"
            drawn.plot([x, to_x], [y, to_y], color=colour, alpha=0.15 + 0.6 * share, linewidth=0.5 + 3 * share, zorder=1)
    most = max(abs(node.influence) for node in shown.values()) or 1.0
    for id, (x, y) in places.items():
        node = shown[id]
        colour = "tab:blue" if node.influence >= 0 else "tab:red"
        drawn.scatter([x], [y], s=20 + 180 * abs(node.influence) / most, color=colour, zorder=2)
        if node.kind == "answer":
            drawn.annotate(visible(node.token), (x, y), textcoords="offset points", xytext=(8, 4))
    drawn.set_xticks(range(len(attribution.tokens)), [visible(token) for token in attribution.tokens])
    drawn.set_yticks([-1, *range(top), top + 0.5], ["tokens", *(f"L{layer}" for layer in range(top)), "answer"])
    drawn.set_title(f"{attribution.prompt} → {visible(attribution.answer.token)}")
    return drawn


def _axes(axes: Axes | None, *, width: float = 6.0, height: float = 4.0) -> Axes:
    """Returns the given axes, or new ones of a size in inches."""
    if axes is not None:
        return axes
    import matplotlib.pyplot as plt

    _, new = plt.subplots(figsize=(width, height), layout="constrained")
    return new
