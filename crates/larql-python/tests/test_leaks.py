"""Memory: ten thousand calls leave nothing behind."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROMPT

import larql

CALLS = 10_000


def resident() -> int:
    """Bytes of memory that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["embedding", "matrix", "top_tokens", "query", "arrow", "error", "pickle", "up_vector", "cache", "page"])
def test_calls_leave_nothing_behind(vindex: larql.Vindex, model: larql.WalkModel, name: str) -> None:
    query = np.ones(vindex.hidden_size, np.float32)

    def error() -> None:
        with pytest.raises(larql.errors.ArgumentIndexError):
            vindex.gate_vectors(99)

    statement = vindex.query("SHOW LAYERS 0-1;")
    traced, cache = vindex.session.trace("The", layers=3), model.cache()
    model.run("The capital of France", caches=[cache])
    calls: dict[str, Callable[[], Any]] = {
        "embedding": lambda: vindex.embedding(17),
        "matrix": lambda: vindex.gate_vectors(1)[3],
        "top_tokens": lambda: vindex.feature_meta(1, 5),
        "query": lambda: vindex.gate_knn(0, query, 3),
        "arrow": lambda: statement.__arrow_c_stream__(),
        "error": error,
        "pickle": lambda: statement.__reduce__(),
        "up_vector": lambda: vindex.up_vector(1, 5),
        "cache": lambda: cache.copy().clone_layer_from(cache, 1),
        "page": lambda: traced.to_html(),
    }
    call = calls[name]
    # What is allocated once, such as caches of the allocator, is there after the first calls.
    for _ in range(CALLS // 5):
        call()
    gc.collect()
    before = resident()
    for _ in range(CALLS):
        call()
    gc.collect()
    assert resident() - before < 4 << 20, "a leak of a few hundred bytes a call would be more"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_passes_with_hooks_leave_nothing_behind(model: larql.WalkModel) -> None:
    def run() -> None:
        model.run("The", hooks=[("layer_output", lambda values, point: None)])

    for _ in range(100):
        run()
    gc.collect()
    before = resident()
    for _ in range(300):
        run()
    gc.collect()
    assert resident() - before < 4 << 20
    assert model.predict(PROMPT)[0][0] == " Paris"
