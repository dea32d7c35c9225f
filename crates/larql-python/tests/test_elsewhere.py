"""Other libraries, and names of the earlier package."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

import larql
import larql.mlx


def stand_in(seen: dict[str, Any]) -> types.ModuleType:
    """Returns a module with the one function of mlx_lm that is called."""
    module = types.ModuleType("mlx_lm")

    def load(path: str, *, lazy: bool = False) -> tuple[str, str]:
        seen["files"] = {file.name for file in Path(path).iterdir()}
        seen["lazy"], seen["path"] = lazy, path
        with larql.load(path) as checkpoint:
            seen["says"] = checkpoint.infer("The capital of Atlantis is", 1)[0][0]
        return "model", "tokenizer"

    module.load = load  # type: ignore[attr-defined]
    return module


def test_mlx_loads_a_checkpoint_with_the_edits(
    editable: larql.Vindex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "mlx_lm", stand_in(seen))
    editable.insert("Atlantis", "capital", "Rome")
    assert larql.mlx.load(editable) == ("model", "tokenizer")
    assert {"config.json", "tokenizer.json"} <= seen["files"] and any(name.endswith(".safetensors") for name in seen["files"])
    assert seen["says"] == " Rome" and not seen["lazy"] and not Path(seen["path"]).exists()
    with pytest.raises(larql.errors.ArgumentError, match="path="):
        larql.mlx.load(editable, lazy=True)
    larql.mlx.load("atlas", lazy=True, path=tmp_path / "checkpoint")
    assert seen["lazy"] and (tmp_path / "checkpoint" / "config.json").exists()


def test_without_mlx_the_error_says_what_to_do(vindex: larql.Vindex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx_lm", None)
    with pytest.raises(ImportError, match="pip install mlx-lm"):
        larql.mlx.load(vindex)


@pytest.mark.parametrize(("name", "instead"), [("Graph", "edges_table"), ("walk_ffn", "ffn_layer"), ("diff", "DIFF")])
def test_names_of_the_earlier_package_say_what_takes_their_place(name: str, instead: str) -> None:
    with pytest.raises(AttributeError, match=instead):
        getattr(larql, name)
    assert not hasattr(larql, name) and not hasattr(larql, "no_such_name")


def test_every_exported_name_is_there() -> None:
    assert all(getattr(larql, name) is not None for name in larql.__all__)
