"""Results as static HTML, which stays in a saved notebook.

Tables have a bar behind each share of one. A trace of several positions is a heat map of positions and layers. Nothing is
loaded from elsewhere, and no script runs but that of an attribution graph, in a frame of its own above its table; colours are
translucent, so that they suit light and dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results import Result

# Columns whose values are shares of one, shown as bars.
_SHARES = frozenset(
    ["confidence", "probability", "prob", "whole_prob", "top1_prob", "other_top1_prob", "lens_probability"]
    + ["answer_probability", "before", "after", "labelled", "weight"]
)

# Rows that a notebook shows; the others are counted below.
_MOST_ROWS = 100

_BAR = "rgba(70, 130, 220, 0.35)"


def of_result(result: Result) -> str:
    """Returns a result as HTML: a heat map for a trace of several positions, a table otherwise."""
    rows = result.to_dicts()
    if result.kind == "trace" and len({row["position"] for row in rows}) > 1:
        return _trace(rows)
    if result.kind in ("message", "stats", "use", "extract", "compile"):
        return _text(result)
    columns = [name for name in result.columns if any(row[name] is not None for row in rows)]
    same = [name for name in columns if _is_said_once(name, rows)]
    columns = [name for name in columns if name not in same]
    heading = " · ".join(f"<b>{escape(name)}</b> {escape(visible(rows[0][name]))}" for name in same)
    heading = f"<p>{heading}</p>" if heading else ""
    # The lines of a change say more than its table.
    note = _text(result) if result.kind in ("changed", "patch") else ""
    return heading + table(columns, [[row[name] for name in columns] for row in rows]) + note


def _text(result: Result) -> str:
    """Returns a result as the prompt shows it. Some pages give preformatted text in HTML a proportional face."""
    return f"<pre style='font-family:monospace'>{escape(str(result))}</pre>"


def framed(page: str, title: str, below: str) -> str:
    """Returns a page in a frame of its own, whose scripts reach nothing outside of it, and what is folded below it. Viewers
    without frames show that alone."""
    frame = f"<iframe sandbox='allow-scripts' style='width:100%;height:28em;border:0' srcdoc='{escape(page)}'></iframe>"
    return f"{frame}<details><summary>{escape(title)}</summary>{below}</details>"


def _is_said_once(name: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Returns true for a column of texts that says the same in each of several rows: it goes above the table."""
    return len(rows) > 1 and isinstance(rows[0][name], str) and len({str(row[name]) for row in rows}) == 1


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns rows as an HTML table with bars behind the shares."""
    if not rows:
        return "<p><i>(nothing found)</i></p>"
    head = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(_cell(name, value) for name, value in zip(columns, row)) + "</tr>"
        for row in rows[:_MOST_ROWS]
    )
    more = len(rows) - _MOST_ROWS
    note = f"<p>{more} more rows</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, float):
        if name in _SHARES and 0 <= value <= 1:
            bar = f"background:linear-gradient(90deg,{_BAR} {value:.1%},transparent {value:.1%})"
            return f"<td style='text-align:right;min-width:5em;{bar}'>{value:.4f}</td>"
        return f"<td style='text-align:right'>{value:.4g}</td>"
    if isinstance(value, int):
        return f"<td style='text-align:right'>{value}</td>"
    text = ", ".join(map(visible, value)) if isinstance(value, list) else visible(str(value))
    return f"<td style='text-align:left'>{escape(text)}</td>"


def visible(text: str) -> str:
    """Returns a token's text with its leading blank made visible."""
    return "␣" + text[1:] if text.startswith(" ") else text


def _trace(rows: Sequence[dict[str, Any]]) -> str:
    """Returns a heat map: a column for each position, a row for each layer from the last to the embedding. The colour is
    the probability of the likeliest token, or of the answer where one is followed."""
    positions = {row["position"]: row["token"] or "" for row in rows}
    cells = {(row["layer"], row["position"]): row for row in rows}
    layers = sorted({row["layer"] for row in rows}, reverse=True)
    head = "".join(f"<th>{escape(visible(token))}</th>" for token in positions.values())
    lines = []
    for layer in layers:
        name = "emb" if layer < 0 else f"L{layer}"
        line = "".join(_heat(cells.get((layer, position))) for position in positions)
        lines.append(f"<tr><th>{name}</th>{line}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _heat(row: dict[str, Any] | None) -> str:
    if row is None:
        return "<td></td>"
    share = row["top1_prob"] if row["prob"] is None else row["prob"]
    text = visible(row["top1_token"]) if row["prob"] is None else f"{share:.2f}"
    colour = f"rgba(70, 130, 220, {share:.2f})"
    return f"<td title='{share:.4f}' style='text-align:center;background:{colour}'>{escape(text)}</td>"
