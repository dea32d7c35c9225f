"""Fixtures: the bundled model, opened once, and one of its own for tests that edit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import larql

PROMPT = "The capital of France is"


@pytest.fixture(scope="session")
def vindex() -> Iterator[larql.Vindex]:
    with larql.load("atlas") as vindex:
        yield vindex


@pytest.fixture(scope="session")
def model(vindex: larql.Vindex) -> larql.WalkModel:
    return vindex.walk_model()


@pytest.fixture()
def editable() -> Iterator[larql.Vindex]:
    """Vindex whose edits end with the test."""
    with larql.load("atlas") as vindex:
        yield vindex
