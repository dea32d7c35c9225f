"""Sessions on a server, with results of the same types."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import larql

PROGRAM = Path(__file__).parents[3] / "target/debug/larql"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if not PROGRAM.exists():
        pytest.skip("the program is not built: cargo build --bin larql")
    arguments = [PROGRAM, "serve", "atlas", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        found = next(match for match in (re.search(r"http://[\d.]+:\d+", line) for line in lines) if match)
        yield found[0]
        server.terminate()


def test_a_server_answers_as_the_model_here(address: str, vindex: larql.Vindex) -> None:
    with larql.remote(address) as there:
        for edge, here in zip(there.describe("France"), vindex.session.describe("France"), strict=True):
            assert (edge.relation, edge.target, edge.via) == (here.relation, here.target, here.via)
            assert (edge.confidence is None) == (here.confidence is None)
        predictions = there.infer("The capital of France is", top=3).runs[0].predictions
        own = vindex.session.infer("The capital of France is", top=3).runs[0].predictions
        assert [next.token for next in predictions] == [next.token for next in own]
        assert there.stats().layers == vindex.num_layers
        assert len(there.query('SELECT * FROM EDGES WHERE entity = "France";')) > 3


def test_edits_lie_on_the_server_and_patches_here(address: str, tmp_path: Path) -> None:
    with larql.remote(address) as there, larql.remote(address) as other:
        there.insert("Atlantis", "capital", "Rome", mode="knn")
        answered = there.infer("The capital of Atlantis is").override
        assert answered is not None and answered.target == "Rome"
        assert other.infer("The capital of Atlantis is").override is None
        patch = tmp_path / "edits.vlp"
        there.save_patch(patch)
        assert patch.exists()


def test_weights_stay_on_the_server(address: str) -> None:
    with larql.remote(address) as there:
        with pytest.raises(larql.errors.RemoteError, match="sends no weights"):
            there.vindex.gate_vectors(0)
        with pytest.raises(larql.errors.RemoteError, match="sends no weights"):
            there.walk_model().predict("The")


def test_an_address_of_nothing_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="does not answer"):
        larql.remote("http://127.0.0.1:9")
    with pytest.raises(larql.errors.RemoteError, match="no address"):
        larql.remote("ftp://example.org")
