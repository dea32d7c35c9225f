"""Caches of keys and values: passes that go on with them, and surgery on them; the feed-forward step alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from conftest import PROMPT

import larql
from larql import HookPoint, errors

BEGINNINGS = ["The capital of Spain", "The capital of France"]


def test_a_pass_goes_on_with_a_cache(model: larql.WalkModel) -> None:
    cache = model.cache()
    model.run("The capital of France", caches=[cache])
    assert len(cache) == len(model.tokenize("The capital of France"))
    copied = cache.copy()
    (logits,) = model.run(" is", caches=[cache])
    assert np.allclose(logits, model.run(PROMPT)[0], atol=1e-4)
    assert len(cache) == len(copied) + 1
    cache.truncate(len(copied))
    assert np.array_equal(model.run(" is", caches=[cache])[0], logits)
    assert repr(copied) == f"KeyValueCache({len(copied)} tokens)" and bool(model.cache())


def test_a_layer_of_another_cache_is_what_a_hook_puts_there(model: larql.WalkModel) -> None:
    donor, own, hooked = model.cache(), model.cache(), model.cache()
    donated: dict[str, np.ndarray] = {}
    last = model.num_layers - 1
    places = [("keys", last), ("values", last)]
    model.run(BEGINNINGS[:1], caches=[donor], hooks=[(places, lambda values, point: donated.update({point.name: values}))])
    model.run(BEGINNINGS[1:], caches=[own])
    (plain,) = model.run(" is", caches=[own.copy()])

    def put(values: np.ndarray, point: HookPoint) -> np.ndarray:
        return donated[point.name]

    model.run(BEGINNINGS[1:], caches=[hooked], hooks=[(places, put)])
    own.clone_layer_from(donor, last)
    (swapped,) = model.run(" is", caches=[own])
    assert np.array_equal(swapped, model.run(" is", caches=[hooked])[0])
    assert not np.array_equal(swapped, plain)


def test_all_layers_of_another_cache_are_that_cache(model: larql.WalkModel) -> None:
    donor, own = model.cache(), model.cache()
    model.run(BEGINNINGS, caches=[donor, own])
    untouched = own.copy()
    own.clone_layer_position_range(donor, 1, 9, 3)
    assert np.array_equal(model.run(" is", caches=[own.copy()])[0], model.run(" is", caches=[untouched])[0])
    for layer in range(model.num_layers):
        own.clone_layer_position_range(donor, layer, 0, 10**9)
    expected = model.run(" is", caches=[donor])[0]
    assert np.array_equal(model.run(" is", caches=[own])[0], expected)
    assert model.decode([int(expected[0].argmax())]) == " Madrid"


def test_caches_that_do_not_fit_are_refused(model: larql.WalkModel) -> None:
    own, short = model.cache(), model.cache()
    model.run(["The capital of France", "The"], caches=[own, short])
    with pytest.raises(errors.ArgumentError, match="expected as many"):
        own.clone_layer_from(short, 0)
    with pytest.raises(IndexError, match="layer 99 does not exist"):
        own.clone_layer_from(own, 99)
    with pytest.raises(TypeError):
        own.clone_layer_from("cache", 0)  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match="expected one for each prompt"):
        model.run(["a", "b"], caches=[own])
    with pytest.raises(errors.ArgumentError, match="in use by a pass"):
        model.run(["a", "b"], caches=[own, own])
    with pytest.raises(OverflowError):
        own.truncate(-1)
    length = len(own)
    with pytest.raises(ZeroDivisionError):
        model.run(" is", caches=[own], hooks=[("layer_output", lambda values, point: 1 / 0)])
    assert len(own) == length, "a pass that fails takes its tokens back"


def test_a_pass_keeps_its_cache_from_other_threads(model: larql.WalkModel) -> None:
    cache = model.cache()
    seen: list[str] = []

    def other() -> None:
        try:
            len(cache)
        except errors.ArgumentError as error:
            seen.append(str(error))

    def ask(values: np.ndarray, point: HookPoint) -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    model.run("The", caches=[cache], hooks=[("embedding", ask)])
    assert len(seen) == 1 and "in use by a pass" in seen[0]
    own = cache.copy()
    own.clone_layer_from(own, 0)
    assert len(own) == len(cache)


def test_the_step_alone_is_that_of_the_pass(model: larql.WalkModel, vindex: larql.Vindex) -> None:
    kept: dict[str, np.ndarray] = {}
    places = [("feed_forward_input", 1), ("feed_forward_output", 1)]
    model.run(PROMPT, hooks=[(places, lambda values, point: kept.update({point.name: values}))])
    inputs = kept["feed_forward_input"]
    output = model.ffn_layer(1, inputs)
    assert np.allclose(output, kept["feed_forward_output"], atol=1e-4)
    encoded = model.ffn_layer(1, inputs.tobytes(), len(inputs))
    assert isinstance(encoded, bytes) and np.array_equal(np.frombuffer(encoded, np.float32), output.ravel())
    assert np.allclose(model.ffn_layer(1, inputs[:, ::-1][:, ::-1]), output)

    selected = model.gate_select(1, inputs, top_k=3)
    by_row = {feature for row in inputs for feature, _ in vindex.gate_knn(1, row, 3)}
    assert selected == sorted(by_row)
    scored = dict(model.gate_select_scored(1, inputs[-1], top_k=3))
    assert scored == dict(vindex.gate_knn(1, inputs[-1], 3))
    with pytest.raises(errors.ArgumentError, match="seq_len says 3"):
        model.ffn_layer(1, inputs, 3)
    with pytest.raises(errors.ArgumentError, match="bytes; expected rows"):
        model.ffn_layer(1, b"12345")
    with pytest.raises(errors.ArgumentError, match="shape"):
        model.ffn_layer(1, np.ones((2, 3), np.float32))
    with pytest.raises(errors.ArgumentTypeError, match="expected floats"):
        model.ffn_layer(1, np.ones((2, model.hidden_size), np.int32))
