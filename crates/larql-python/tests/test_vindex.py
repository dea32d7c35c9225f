"""The vindex as arrays and tables."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest

import larql


def test_figures_are_those_of_stats(vindex: larql.Vindex) -> None:
    stats = vindex.session.stats()
    assert (vindex.num_layers, vindex.hidden_size, vindex.vocab_size) == (
        stats.layers,
        stats.hidden_size,
        stats.vocab_size,
    )
    assert vindex.total_gate_vectors == stats.features
    assert vindex.model == stats.model and vindex.family == stats.family
    assert vindex.stats()["num_layers"] == stats.layers
    assert set(vindex.layer_bands()) == {"syntax", "knowledge", "output"}


def test_arrays_are_views_of_the_mapped_file(vindex: larql.Vindex) -> None:
    for array in (vindex.gate_vectors(1), vindex.embedding_matrix(), vindex.up_vectors(0), vindex.down_vectors(3)):
        assert not array.flags.writeable and not array.flags.owndata
    first, again = vindex.gate_vectors(1), vindex.gate_vectors(1)
    assert first.ctypes.data == again.ctypes.data, "both show the same bytes"
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1.0


def test_rows_are_those_of_the_matrices(vindex: larql.Vindex) -> None:
    features = vindex.num_features(2)
    gates, downs = vindex.gate_vectors(2), vindex.down_vectors(2)
    assert gates.shape == downs.shape == (features, vindex.hidden_size)
    for feature in (0, 7, features - 1):
        assert np.array_equal(vindex.gate_vector(2, feature), gates[feature].astype(np.float32))
        assert np.array_equal(vindex.down_vector(2, feature), downs[feature].astype(np.float32))
    assert np.array_equal(vindex.gate_vector(2, -1), vindex.gate_vector(2, features - 1))
    assert np.array_equal(vindex.embedding(17), vindex.embedding_matrix()[17].astype(np.float32))


def test_gate_knn_is_the_product_with_gate_rows(vindex: larql.Vindex) -> None:
    query = np.random.default_rng(7).normal(size=vindex.hidden_size).astype(np.float32)
    products = vindex.gate_vectors(1).astype(np.float32) @ query
    strongest = np.argsort(-np.abs(products))[:5]
    found = vindex.gate_knn(1, query, top_k=5)
    assert [feature for feature, _ in found] == strongest.tolist()
    assert np.allclose([score for _, score in found], products[strongest], rtol=1e-4)
    # Any precision of floats, and any strides.
    wide = np.repeat(query.astype(np.float64), 2)[::2]
    assert vindex.gate_knn(1, wide, top_k=5) == found


def test_embed_is_the_scaled_mean_of_embeddings(vindex: larql.Vindex) -> None:
    tokens = vindex.tokenize("Paris in France")
    mean = np.mean([vindex.embedding(token) for token in tokens], axis=0) * vindex.embed_scale_value
    assert np.allclose(vindex.embed("Paris in France"), mean, rtol=1e-5, atol=1e-6)
    assert vindex.decode(tokens) == "Paris in France"


def test_an_entity_walks_as_walk_says(vindex: larql.Vindex) -> None:
    assert len(vindex.tokenize(" Paris")) == 1, "WALK looks one token up"
    walked = vindex.session.walk(" Paris", top=3, layers=(2, 2)).rankings[0].rows
    hits = vindex.entity_walk(" Paris", layers=[2], top_k=3)
    assert [(hit.feature, hit.rank) for hit in hits] == [(row.feature, i) for i, row in enumerate(walked, 1)]
    assert np.allclose([hit.gate_score for hit in hits], [row.gate or 0 for row in walked], rtol=1e-5)
    assert [hit.top_token for hit in hits] == [row.tokens[0] for row in walked]


def test_features_say_what_they_write(vindex: larql.Vindex) -> None:
    rows = vindex.query("SHOW FEATURES 3 LIMIT 4;").rows  # type: ignore[attr-defined]
    for row in rows:
        meta = vindex.feature_meta(3, row.feature)
        assert meta is not None and meta.top_token == row.tokens[0]
        assert np.isclose(meta.c_score, row.score, rtol=1e-5)
        assert vindex.feature_label(3, row.feature) == row.label
        assert vindex.feature(3, row.feature)["label"] == row.label


def test_knowledge_has_the_known_shapes(vindex: larql.Vindex) -> None:
    edges = vindex.describe("France")
    capital = next(edge for edge in edges if edge.relation == "capital")
    assert capital.target == "Paris" and capital.source == "probe"
    assert vindex.get_target("France", "capital") == "Paris"
    assert vindex.has_edge("France", "capital") and not vindex.has_edge("France", "chemical-symbol")
    assert "capital" in {relation.name for relation in vindex.relations()}
    (token, probability), *_ = vindex.infer("The capital of France is", 3)
    assert token == " Paris" and 0.99 < probability < 1


def test_gate_rows_are_multiplied_by_the_inputs_of_a_trace(vindex: larql.Vindex) -> None:
    predictions, inputs = vindex.infer_trace("The capital of France is", 2)
    assert predictions == vindex.walk_model().predict("The capital of France is", 2)
    assert [layer for layer, _ in inputs] == list(range(vindex.num_layers))
    explained = vindex.session.explain("The capital of France is", layers=(2, 2), top=3).layers[0]
    scores = dict(vindex.gate_knn(2, inputs[2][1], vindex.num_features(2)))
    assert np.allclose([scores[row.feature] for row in explained.rows], [row.gate or 0 for row in explained.rows], rtol=1e-3)


def test_relations_have_a_typical_layer(vindex: larql.Vindex) -> None:
    table = vindex.query("SELECT layer FROM FEATURES WHERE label = capital;").to_dicts()
    layers = [row["layer"] for row in table]
    assert vindex.typical_layer("capital") == max(set(layers), key=layers.count)
    assert vindex.typical_layer("no such relation") is None
    assert vindex.knn_len() == 0


def test_select_takes_conditions(vindex: larql.Vindex) -> None:
    rows = vindex.select("target", "confidence", entity="France", relation="capital", min_confidence=0.5).to_dicts()
    assert [row["target"] for row in rows] == ["Paris"]
    assert vindex.select(entity="France", target_like="Par%").to_dicts()[0]["target"] == "Paris"


def test_tables_of_the_whole_vindex_stream_by_layer(vindex: larql.Vindex) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    reader = pyarrow.RecordBatchReader.from_stream(vindex.features_table(vectors=True))
    batches = list(reader)
    assert len(batches) == vindex.num_layers
    assert sum(batch.num_rows for batch in batches) == vindex.total_gate_vectors
    gate = np.stack(batches[1].column("gate").to_numpy(zero_copy_only=False))
    assert np.array_equal(gate, vindex.gate_vectors(1).astype(np.float32))
    embeddings = pyarrow.table(vindex.embeddings_table())
    assert embeddings.num_rows == vindex.vocab_size
    assert embeddings["text"][17].as_py() == vindex.decode([17])
    assert np.array_equal(np.asarray(embeddings["embedding"][17].as_py(), np.float32), vindex.embedding(17))
    edges = pyarrow.table(vindex.edges_table())
    assert {"relation", "target", "layer", "feature"} <= set(edges.column_names) and edges.num_rows > 100


def test_edits_show_in_arrays_and_can_be_undone(editable: larql.Vindex, tmp_path: Path) -> None:
    before = [editable.gate_vectors(layer).astype(np.float32) for layer in range(editable.num_layers)]
    changed = editable.insert("Atlantis", "capital", "Poseidon")
    assert changed.count == 1 and changed.effects[0].after > 0.9
    after = [editable.gate_vectors(layer).astype(np.float32) for layer in range(editable.num_layers)]
    moved = [layer for layer in range(editable.num_layers) if not np.array_equal(before[layer], after[layer])]
    assert moved, "the features that carry the edge have other gate rows"
    token, probability = editable.infer("The capital of Atlantis is", 1)[0]
    assert probability > 0.9
    with pytest.raises(larql.errors.PatchError, match="save_patch"):
        pickle.dumps(editable)
    saved = editable.save_patch(tmp_path / "edits.vlp")
    assert saved.operations > 0 and [row.saved for row in editable.patches().rows] == [True]

    reopened = pickle.loads(pickle.dumps(editable))
    assert reopened.infer("The capital of Atlantis is", 1)[0] == (token, probability)
    reopened.close()

    compiled = editable.compile(tmp_path / "edited.vindex")
    with larql.load(compiled.path) as copied:
        assert copied.infer("The capital of Atlantis is", 1)[0][0] == token
    editable.undo()
    assert np.array_equal(editable.gate_vectors(moved[0]).astype(np.float32), before[moved[0]])


def test_another_open_vindex_does_not_see_edits(editable: larql.Vindex, vindex: larql.Vindex) -> None:
    before = vindex.infer("The capital of France is", 1)
    editable.update({"target": "Rome"}, {"entity": "France", "relation": "capital"})
    assert editable.infer("The capital of France is", 1) != before
    assert vindex.infer("The capital of France is", 1) == before


def test_arrays_outlive_what_they_show(tmp_path: Path) -> None:
    vindex = larql.load("atlas")
    gates = vindex.gate_vectors(0)
    copy = gates.copy()
    vindex.close()
    del vindex
    gc.collect()
    assert np.array_equal(gates, copy)


def test_a_checkpoint_runs_without_features(vindex: larql.Vindex, tmp_path: Path) -> None:
    path = tmp_path / "atlas.gguf"
    vindex.compile(path, format="gguf")
    with larql.load(path) as checkpoint:
        assert checkpoint.infer("The capital of France is", 1)[0][0] == " Paris"
        assert checkpoint.tokenize("Paris") == vindex.tokenize("Paris")
        with pytest.raises(larql.errors.NeedsVindexError, match="extract it first"):
            checkpoint.gate_vectors(0)
    extracted = larql.extract(path, tmp_path / "again.vindex", level="browse")
    assert extracted.features == vindex.total_gate_vectors
    with larql.load(extracted.path) as again:
        assert again.gate_vectors(0).shape == vindex.gate_vectors(0).shape
        with pytest.raises(larql.errors.NotHeldError):
            again.infer("The capital of France is")
    assert "atlas" in [row.name for row in larql.models().rows]
