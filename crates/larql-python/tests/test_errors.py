"""Wrong input: exceptions that say what to do, and never the end of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROMPT

import larql
from larql import errors


def test_all_exceptions_have_one_base() -> None:
    classes = [of for of in vars(errors).values() if isinstance(of, type) and issubclass(of, Exception)]
    assert len(classes) > 15 and all(issubclass(of, larql.LarqlError) for of in classes)


def test_a_text_that_is_no_statement_says_where(vindex: larql.Vindex) -> None:
    with pytest.raises(errors.ParseError) as caught:
        vindex.query('DESCRIBE "France" VERBSE;')
    assert caught.value.span == (18, 24) and caught.value.help == "did you mean VERBOSE?"
    assert "help: did you mean VERBOSE?" in str(caught.value)
    with pytest.raises(errors.ParseError, match="no statement"):
        vindex.query("  ")


@pytest.mark.parametrize("model", ["no-such-model", "/no/such/path.vindex"])
def test_a_model_that_is_not_there(model: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or model") as caught:
        larql.load(model)
    assert isinstance(caught.value, errors.ModelNotFoundError) and caught.value.help


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (np.zeros(3, np.float32), errors.ArgumentError, r"shape \(3,\); expected \(\d+,\)"),
        (np.zeros((2, 2), np.float32), errors.ArgumentError, "shape"),
        (np.zeros(0, np.float32), errors.ArgumentError, "shape"),
        ("text", errors.ArgumentTypeError, "expected floats"),
        (np.arange(4), errors.ArgumentTypeError, "int64; expected floats"),
        (np.array([None]), errors.ArgumentTypeError, "expected floats"),
    ],
)
def test_arrays_of_the_wrong_kind(vindex: larql.Vindex, query: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vindex.gate_knn(0, query)


def test_values_that_are_no_numbers(vindex: larql.Vindex) -> None:
    query = np.zeros(vindex.hidden_size, np.float32)
    query[5] = np.nan
    with pytest.raises(errors.ArgumentError, match="at index 5"):
        vindex.walk(query)


def test_numbers_of_things_that_do_not_exist(vindex: larql.Vindex, model: larql.WalkModel) -> None:
    for ask in (
        lambda: vindex.gate_vectors(99),
        lambda: vindex.gate_vector(0, 10**9),
        lambda: vindex.embedding(10**9),
        lambda: vindex.feature_label(-99, 0),
        lambda: model.unembedding_for(10**9),
        lambda: model.w_o_for_head(0, 99),
        lambda: model.trace(PROMPT).residual(99),
        lambda: model.run(PROMPT, hooks=[(("layer_output", 99), print)]),
    ):
        with pytest.raises(IndexError, match="does not exist"):
            ask()
    with pytest.raises(errors.QueryError, match="layer 99"):
        vindex.session.describe("France", layer=99)


@pytest.mark.parametrize("prompt", [None, 3, b"bytes", ["list", 3]])
def test_prompts_that_are_no_text(model: larql.WalkModel, vindex: larql.Vindex, prompt: Any) -> None:
    with pytest.raises(TypeError, match="str"):
        model.predict(prompt)
    with pytest.raises(TypeError, match="str"):
        vindex.session.infer(prompt)
    with pytest.raises(TypeError, match="str"):
        vindex.query(prompt)


def test_hooks_that_are_none(model: larql.WalkModel) -> None:
    with pytest.raises(errors.ArgumentError, match="the points are embedding, layer_input"):
        model.run(PROMPT, hooks=[("no_such_point", print)])
    with pytest.raises(errors.ArgumentError, match="blocks.0.hook_resid_pre"):
        model.run(PROMPT, hooks=[("blocks.0.hook_no", print)])
    with pytest.raises(TypeError, match="function"):
        model.run(PROMPT, hooks=[("logits", 3)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a hook is"):
        model.run(PROMPT, hooks=[print])  # type: ignore[list-item]
    with pytest.raises(errors.ArgumentError, match="returned an array of the shape"):
        model.run(PROMPT, hooks=[("logits", lambda values, point: values[:, :3])])


def test_declarations_that_do_not_fit(model: larql.WalkModel) -> None:
    at = {"layer": 0, "stage": "layer_output"}
    for declaration, message in [
        ({"interventions": [{"at": at}]}, "exactly one change"),
        ({"interventions": [{"at": {**at, "layer": 77}, "zero": True}]}, "layer 77 does not exist"),
        ({"interventions": [{"at": at, "add": {"values": [1.0]}}]}, "1 values"),
        ({"no": []}, "unknown field"),
    ]:
        with pytest.raises(errors.InterventionError, match=message):
            model.intervention(declaration)
    with pytest.raises(FileNotFoundError):
        model.intervention("no-such-file.json")


def test_options_out_of_range(model: larql.WalkModel) -> None:
    with pytest.raises(errors.ArgumentError, match="top_p"):
        model.generate(PROMPT, 3, top_p=7.0)
    with pytest.raises(errors.ArgumentError, match="positions"):
        model.trace(PROMPT, positions="some")  # type: ignore[arg-type]


def test_threads_are_set_before_a_model_is_opened(vindex: larql.Vindex) -> None:
    with pytest.raises(errors.ArgumentError, match="before the first model is opened"):
        larql.set_threads(2)
    with pytest.raises(errors.ArgumentError, match="at least 1"):
        larql.set_threads(0)


def test_closed_objects_say_so(tmp_path: Path) -> None:
    vindex = larql.load("atlas")
    model = vindex.walk_model()
    vindex.close()
    vindex.close()
    for ask in (lambda: vindex.query("STATS;"), lambda: vindex.gate_vectors(0), lambda: model.predict(PROMPT)):
        with pytest.raises(errors.ClosedError, match="open it again"):
            ask()
    assert "closed" in repr(vindex)


def test_a_vindex_that_is_deleted_beneath_goes_on(vindex: larql.Vindex, tmp_path: Path) -> None:
    path = tmp_path / "copy.vindex"
    vindex.compile(path)
    with larql.load(path) as copy:
        before = copy.infer(PROMPT, 3)
        for file in path.rglob("*"):
            if file.is_file():
                file.unlink()
        assert copy.infer(PROMPT, 3) == before
        copy.set_gate_vector(2, copy.find_free_feature(2), np.ones(copy.hidden_size))
        cache = copy.walk_model().cache()
        copy.walk_model().run(PROMPT, caches=[cache])
        assert len(cache) == len(copy.walk_model().tokenize(PROMPT)) and copy.session.graph(PROMPT).nodes
    with pytest.raises(larql.LarqlError):
        larql.load(path)


def test_threads_share_a_session(editable: larql.Vindex) -> None:
    found: list[str] = []

    def ask() -> None:
        for _ in range(5):
            found.append(editable.infer(PROMPT, 1)[0][0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    editable.session.insert("Atlantis", "capital", "Rome", mode="knn")
    for thread in threads:
        thread.join()
    assert found == [" Paris"] * 20


def test_long_calls_leave_the_interpreter_free(editable: larql.Vindex) -> None:
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    editable.insert("Atlantis", "capital", "Poseidon")
    done.set()
    thread.join()
    assert ticks > 20, "another thread ran meanwhile"


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="signals of this kind are of Unix")
@pytest.mark.parametrize("work", ["statement", "generation"])
def test_an_interrupt_ends_long_work(work: str) -> None:
    program = {
        "statement": "vindex.session.insert_all([(f'Land {i}', 'capital', 'Rome') for i in range(200)])",
        "generation": "''.join(vindex.walk_model().generate('The', 50, hooks=[('logits', lambda *_: time.sleep(1))]))",
    }[work]
    text = f"""
import larql, signal, threading, _thread, time
# Background processes of a shell begin with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
vindex = larql.load("atlas")
vindex.infer("The capital of France is")
threading.Timer(0.5, _thread.interrupt_main).start()
begun = time.monotonic()
try:
    {program}
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - begun < 30)
print(vindex.infer("The capital of France is", 1)[0][0])
"""
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100)
    assert run.stdout.split() == ["interrupted", "True", "Paris"], run.stderr
