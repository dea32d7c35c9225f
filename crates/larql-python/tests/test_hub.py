"""Models of the hub, by their names: the loopback hub of the tests stands for it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import PROMPT

import larql

PROGRAMS = Path(__file__).parents[3] / "target/debug"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of a hub that has atlas as alice/atlas."""
    program, larql_program = PROGRAMS / "larql-test-hub", PROGRAMS / "larql"
    if not (program.exists() and larql_program.exists()):
        pytest.skip("the programs are not built: cargo build --bins")
    folder = tmp_path_factory.mktemp("hub")
    with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        printed = dict(server.stdout.readline().strip().split("=", 1) for _ in range(2))
        variables = {**os.environ, **printed, "HF_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}
        variables.pop("HF_HUB_OFFLINE", None)
        with larql.load("atlas") as vindex:
            vindex.compile(folder / "atlas.vindex")
        arguments = [larql_program, "publish", folder / "atlas.vindex", "--repo", "alice/atlas", "--slices", "browse"]
        subprocess.run(arguments, env=variables, check=True, capture_output=True)
        yield variables
        server.terminate()


def opened(name: str, variables: dict[str, str], prompt: str = PROMPT) -> tuple[dict[str, str], str]:
    """Opens a model in a process of its own, as variables are read once. Returns what it says, and its errors."""
    text = f"""
import json, larql
try:
    with larql.load({name!r}) as vindex:
        print(json.dumps({{"path": vindex.path, "says": vindex.infer({prompt!r}, 1)[0][0]}}))
except larql.LarqlError as error:
    print(json.dumps({{"error": type(error).__name__, "message": str(error)}}))
"""
    run = subprocess.run([sys.executable, "-c", text], env=variables, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    decoded: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    return decoded, run.stderr


def test_a_repository_is_downloaded_once_and_opened_by_either_name(hub: dict[str, str]) -> None:
    by_address, _ = opened("hf://alice/atlas", hub)
    assert by_address["says"] == " Paris" and "models--alice--atlas" in by_address["path"]
    offline = {**hub, "HF_HUB_OFFLINE": "1"}
    assert opened("alice/atlas", offline)[0] == by_address
    assert opened("hf://alice/atlas@main", offline)[0] == by_address


def test_a_slice_opens_as_what_it_is(hub: dict[str, str]) -> None:
    browse, _ = opened("hf://alice/atlas-browse", hub)
    assert browse["error"] == "NotHeldError", browse


def test_names_of_nothing_say_so(hub: dict[str, str]) -> None:
    for name, part in [("hf://alice/nothing", "alice/nothing"), ("hf://alice/atlas@no-such-branch", "no-such-branch")]:
        answer, messages = opened(name, hub)
        assert answer["error"] == "ModelNotFoundError" and part in answer["message"], answer
        assert hub["HF_TOKEN"] not in answer["message"] + messages
    answer, _ = opened("hf://alice/elsewhere", {**hub, "HF_HUB_OFFLINE": "1"})
    assert answer["error"] == "ModelNotFoundError" and "HF_HUB_OFFLINE" in answer["message"], answer


def test_a_file_is_checked_by_its_digest(hub: dict[str, str], tmp_path: Path, vindex: larql.Vindex) -> None:
    vindex.compile(tmp_path / "atlas.gguf", format="gguf")
    digest = hashlib.sha256((tmp_path / "atlas.gguf").read_bytes()).hexdigest()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/atlas.gguf"
        right, _ = opened(f"{address}@sha256:{digest}", hub)
        assert right["says"] == " Paris", right
        wrong, _ = opened(f"{address}@sha256:{'0' * 64}", hub)
        assert wrong["error"] == "ModelNotFoundError" and "sha256" in wrong["message"].lower().replace("-", ""), wrong
        server.shutdown()
    unprotected, _ = opened("http://a.example/atlas.gguf", hub)
    assert unprotected["error"] == "ModelNotFoundError" and "add @sha256:DIGITS" in unprotected["message"], unprotected
