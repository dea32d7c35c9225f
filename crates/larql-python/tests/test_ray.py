"""Bulk work on a local cluster of two nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import larql
import larql.ray

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield cluster
    ray.shutdown()
    cluster.shutdown()


PAIRS = [("The capital of France is", "Paris"), ("The capital of Spain is", "Madrid"), ("The capital of Egypt is", "Rome")]


def test_rows_get_the_answers_of_the_model(cluster: Any, vindex: larql.Vindex, tmp_path: Path) -> None:
    assert len(ray.nodes()) == 2
    prompts = [prompt for prompt, _ in PAIRS] * 20
    dataset = ray.data.from_items([{"prompt": prompt, "number": number} for number, prompt in enumerate(prompts)])
    larql.ray.infer(dataset, "atlas", workers=2, batch_size=8, top=2).write_parquet(str(tmp_path / "answers"))
    answers = ray.data.read_parquet(str(tmp_path / "answers")).take_all()
    assert sorted(row["number"] for row in answers) == list(range(len(prompts)))
    expected = {prompt: vindex.infer(prompt, 2) for prompt, _ in PAIRS}
    for row in answers:
        assert [row["token"], row["probability"]] == [row["tokens"][0], row["probabilities"][0]]
        assert list(row["tokens"]) == [token for token, _ in expected[row["prompt"]]]
        assert np.allclose(row["probabilities"], [share for _, share in expected[row["prompt"]]], atol=1e-5)


def test_answers_are_judged(cluster: Any) -> None:
    dataset = ray.data.from_items([{"prompt": prompt, "answer": answer} for prompt, answer in PAIRS])
    rows = larql.ray.evaluate(dataset, "atlas").take_all()
    assert {row["answer"]: bool(row["right"]) for row in rows} == {"Paris": True, "Madrid": True, "Rome": False}


def test_entities_are_described_and_prompts_traced(cluster: Any, vindex: larql.Vindex) -> None:
    entities = ray.data.from_items([{"entity": "France"}])
    (row,) = larql.ray.describe(entities, "atlas").take_all()
    assert "Paris" in list(row["targets"]) and len(row["relations"]) == len(row["confidences"])
    prompts = ray.data.from_items([{"prompt": PAIRS[0][0]}])
    (row,) = larql.ray.trace(prompts, "atlas", layers=[1, 3]).take_all()
    own = vindex.walk_model().capture_residuals(PAIRS[0][0], [1, 3])
    assert np.allclose(np.stack(list(row["residuals"])), np.stack([own[1], own[3]]), atol=1e-4)


def test_relations_of_entities_are_probed(cluster: Any, vindex: larql.Vindex) -> None:
    pairs = [("France", "capital"), ("Spain", "capital"), ("France", "no such relation")]
    dataset = ray.data.from_items([{"entity": entity, "relation": relation} for entity, relation in pairs])
    rows = {(row["entity"], row["relation"]): row for row in larql.ray.probe(dataset, "atlas").take_all()}
    assert [rows[pair]["target"] for pair in pairs] == ["Paris", "Madrid", ""]
    (own,) = vindex.select("confidence", entity="France", relation="capital", limit=1).to_dicts()
    assert np.isclose(rows["France", "capital"]["confidence"], own["confidence"])
    assert np.isnan(rows["France", "no such relation"]["confidence"])


def test_patches_lie_over_the_model_of_each_worker(cluster: Any, editable: larql.Vindex, tmp_path: Path) -> None:
    editable.insert("Atlantis", "capital", "Rome")
    patch = editable.save_patch(tmp_path / "edits.vlp").patch
    dataset = ray.data.from_items([{"prompt": "The capital of Atlantis is"}])
    (row,) = larql.ray.infer(dataset, "atlas", patches=[patch]).take_all()
    assert row["token"] == " Rome"
