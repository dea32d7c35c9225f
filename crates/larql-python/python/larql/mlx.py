"""The model in MLX, Apple's array library: a checkpoint with the edits, loaded by mlx-lm.

``pip install mlx-lm``, on a Mac with Apple silicon::

    model, tokenizer = larql.mlx.load("atlas")
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from . import errors
from .vindex import Vindex
from .vindex import load as load_vindex


def load(
    vindex: Vindex | str | os.PathLike[str], lazy: bool = False, *, path: str | os.PathLike[str] | None = None
) -> tuple[Any, Any]:
    """Writes a model with its edits as a checkpoint, and loads it by mlx-lm. Returns its model and its tokenizer.

    The checkpoint goes to the directory ``path``, which must be given for ``lazy`` loading, as weights are read from it later;
    otherwise to one that is deleted afterwards. A model that is given by its path or name is opened and closed.
    """
    try:
        import mlx_lm
    except ImportError as error:
        raise ImportError(
            "mlx_lm is not installed; install it by `pip install mlx-lm` on a Mac with Apple silicon, or use "
            "vindex.to_transformers(path), which runs anywhere"
        ) from error
    if lazy and path is None:
        raise errors.ArgumentError("lazy loading reads the checkpoint later; give the directory that it is to be written to: path=…")
    if not isinstance(vindex, Vindex):
        with load_vindex(vindex) as opened:
            return load(opened, lazy, path=path)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint" if path is None else Path(path)
        vindex.compile(checkpoint, format="safetensors")
        model, tokenizer = mlx_lm.load(str(checkpoint), lazy=lazy)[:2]
        return model, tokenizer
