"""Edits of single features, the edge memory, and what editing takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import PROMPT

import larql
from larql import HookPoint, errors


def test_set_vectors_are_read_and_run(editable: larql.Vindex) -> None:
    plain = editable.walk_model().run(PROMPT)[0]
    random = np.random.default_rng(3).normal(size=(3, editable.hidden_size))
    for vector, set_vector, read in zip(
        random,
        (editable.set_gate_vector, editable.set_up_vector, editable.set_down_vector),
        (editable.gate_vector, editable.up_vector, editable.down_vector),
    ):
        changed = set_vector(3, 17, vector)
        assert changed.change == "updated" and changed.features and changed.automatic
        assert np.array_equal(read(3, 17), vector.astype(np.float32))
    assert np.array_equal(editable.gate_vectors(3)[17], random[0].astype(np.float32))
    assert not np.array_equal(editable.walk_model().run(PROMPT)[0], plain)
    (row,) = editable.patches().rows
    assert row.operations == 3
    for _ in random:
        editable.undo()
    assert np.array_equal(editable.walk_model().run(PROMPT)[0], plain)


def test_a_vector_of_other_strides_and_precision_is_taken(editable: larql.Vindex) -> None:
    wide = np.random.default_rng(4).normal(size=(editable.hidden_size, 2)).astype(np.float64)
    editable.set_down_vector(0, 1, wide[:, 1])
    assert np.array_equal(editable.down_vector(0, 1), wide[:, 1].astype(np.float32))
    editable.set_down_vector(0, 1, wide[::-1, 0].astype(np.float16))
    assert np.array_equal(editable.down_vector(0, 1), wide[::-1, 0].astype(np.float16).astype(np.float32))


def test_a_listed_word_changes_no_vector(editable: larql.Vindex) -> None:
    gate, logits = editable.gate_vector(2, 5), editable.walk_model().run(PROMPT)[0]
    editable.set_feature_meta(2, 5, "Paris", c_score=4.5)
    meta = editable.feature_meta(2, 5)
    assert meta is not None and (meta.top_token, meta.c_score, len(meta.top_k)) == (" Paris", 4.5, 1)
    assert np.array_equal(editable.gate_vector(2, 5), gate)
    assert np.array_equal(editable.walk_model().run(PROMPT)[0], logits)
    assert (2, 5) in {(layer, feature) for layer, feature, *_ in editable.find_features_by_target("Paris", top_k=1000)}


def test_rows_of_parts_are_those_of_the_matrices(vindex: larql.Vindex) -> None:
    assert np.array_equal(vindex.up_vector(2, 9), vindex.up_vectors(2)[9].astype(np.float32))
    query = vindex.infer_trace(PROMPT)[1][2][1]
    for hit in vindex.walk(query, [2], 4):
        up, down = vindex.up_vector(2, hit.feature), vindex.down_vector(2, hit.feature)
        assert up is not None and np.isclose(hit.up_score, up @ query, atol=1e-3)
        assert np.isclose(hit.down_row_norm, np.linalg.norm(down), rtol=1e-5)


def test_the_free_feature_is_the_one_that_an_insertion_takes(editable: larql.Vindex) -> None:
    free = editable.find_free_feature(2)
    before = editable.gate_vectors(2).astype(np.float32)
    editable.insert("Atlantis", "capital", "Rome", layer=2)
    after = editable.gate_vectors(2).astype(np.float32)
    assert not np.array_equal(before[free], after[free])
    assert editable.find_free_feature(2) != free


def test_the_centre_of_a_relation_is_the_mean_of_its_gate_rows(vindex: larql.Vindex) -> None:
    centre = vindex.cluster_centre("capital")
    assert centre is not None and np.isclose(np.linalg.norm(centre), 1)
    rows = vindex.session.select("layer", "feature", table="features", where={"label": "capital"})
    gates = np.stack([vindex.gate_vector(row.layer, row.feature) for row in rows])
    mean = (gates / np.linalg.norm(gates, axis=1, keepdims=True)).mean(0)
    assert np.allclose(centre, mean / np.linalg.norm(mean), atol=1e-5)
    assert vindex.cluster_centre("no such relation") is None


def test_the_edge_memory_is_queried(editable: larql.Vindex) -> None:
    assert editable.knn_layers() == [] and editable.knn_len() == 0
    assert editable.knn_query(np.ones(editable.hidden_size, np.float32), 2) == []
    editable.insert("Atlantis", "capital", "Rome", mode="knn")
    (layer,) = editable.knn_layers()
    prompt = "The capital of Atlantis is"
    query = editable.infer_trace(prompt)[1][layer][1]
    ((entity, relation, target, cosine),) = editable.knn_query(query, layer)
    assert (entity, relation, target) == ("Atlantis", "capital", "Rome")
    answered = editable.session.infer(prompt).override
    assert answered is not None and np.isclose(cosine, answered.cosine, atol=1e-3)


def test_a_delta_makes_the_prompt_say_the_target(vindex: larql.Vindex, model: larql.WalkModel) -> None:
    delta, before, after = vindex.optimise_target_delta(PROMPT, "Rome", 2)
    assert before > 2 and after < 0.1

    def add(values: np.ndarray, point: HookPoint) -> None:
        values[-1] += delta

    with model.hooks(("blocks.2.hook_mlp_out", add)):
        token, probability = model.predict(PROMPT, 1)[0]
    assert token == " Rome" and np.isclose(-np.log(probability), after, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda v: v.set_gate_vector(0, 0, [1.0, 2.0]), errors.ArgumentError, r"vector has the shape \(2,\); expected"),
        (lambda v: v.set_up_vector(0, 0, "text"), errors.ArgumentTypeError, "expected floats"),
        (lambda v: v.set_down_vector(0, 0, np.full(v.hidden_size, np.inf)), errors.ArgumentError, "at index 0"),
        (lambda v: v.set_down_vector(0, 0, np.ones((1, v.hidden_size))), errors.ArgumentError, "shape"),
        (lambda v: v.set_gate_vector(99, 0, np.ones(v.hidden_size)), IndexError, "layer 99 does not exist"),
        (lambda v: v.set_gate_vector(0, 10**6, np.ones(v.hidden_size)), IndexError, "feature 1000000 does not exist"),
        (lambda v: v.set_feature_meta(0, 0, 3), errors.ArgumentTypeError, "top_token is a str"),
        (lambda v: v.set_feature_meta(0, 0, "  "), errors.EditError, "no tokens"),
        (lambda v: v.set_feature_meta(0, 0, "Paris", float("nan")), errors.ArgumentError, "finite"),
        (lambda v: v.find_free_feature(99), IndexError, "layer 99"),
        (lambda v: v.cluster_centre(None), errors.ArgumentTypeError, "relation is a str"),
        (lambda v: v.knn_query(np.ones(3, np.float32), 0), errors.ArgumentError, "shape"),
        (lambda v: v.knn_query(np.ones(v.hidden_size, np.float32), 99), IndexError, "layer 99"),
        (lambda v: v.optimise_target_delta(PROMPT, "", 2), errors.EditError, "empty target"),
        (lambda v: v.optimise_target_delta(b"bytes", "Rome", 2), errors.ArgumentTypeError, "prompt is a str"),
        (lambda v: v.optimise_target_delta(PROMPT, None, 2), errors.ArgumentTypeError, "target is a str"),
        (lambda v: v.optimise_target_delta(PROMPT, "Rome", 99), IndexError, "layer 99"),
        (lambda v: v.session.graph(3), errors.ArgumentTypeError, "prompt is a str"),
        (lambda v: v.session.graph(PROMPT, save="graph.png"), errors.QueryError, "html"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    editable: larql.Vindex, call: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(editable)
    assert editable.patches().rows == []


def test_what_needs_an_open_vindex_says_so(tmp_path: Any, vindex: larql.Vindex) -> None:
    path = tmp_path / "atlas.gguf"
    vindex.compile(path, format="gguf")
    checkpoint = larql.load(path)
    ones = np.ones(256, np.float32)
    for ask in (
        lambda: checkpoint.set_gate_vector(0, 0, ones),
        lambda: checkpoint.find_free_feature(0),
        lambda: checkpoint.cluster_centre("capital"),
        lambda: checkpoint.walk_model().gate_select(0, ones),
    ):
        with pytest.raises(errors.NeedsVindexError, match="extract it first"):
            ask()
    assert checkpoint.knn_query(ones, 0) == [], "a checkpoint has no edge memory"
    checkpoint.close()
    for ask in (
        lambda: checkpoint.knn_query(ones, 0),
        lambda: checkpoint.optimise_target_delta(PROMPT, "Rome", 2),
        lambda: checkpoint.find_free_feature(0),
        lambda: checkpoint.set_gate_vector(0, 0, ones),
    ):
        with pytest.raises(errors.ClosedError, match="open it again"):
            ask()
