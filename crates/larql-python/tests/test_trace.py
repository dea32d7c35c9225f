"""Traces and the files of residuals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import PROMPT

import larql


def test_a_trace_adds_up_and_is_the_pass(model: larql.WalkModel) -> None:
    trace = model.trace(PROMPT, positions="all")
    assert trace.token_ids == model.tokenize(PROMPT) and trace.n_layers == model.num_layers
    assert trace.n_nodes == len(trace.tokens) * (trace.n_layers + 1)
    residuals = model.forward_with_capture(PROMPT, range(trace.n_layers))
    for layer in range(trace.n_layers):
        for position in trace.positions:
            total = trace.residual(layer - 1, position) + trace.attn_delta(layer, position) + trace.ffn_delta(layer, position)
            assert np.allclose(trace.residual(layer, position), total, atol=1e-4)
            assert np.array_equal(trace.residual(layer, position), residuals[layer][position])
    assert np.array_equal(trace.last_logits(), model.run(PROMPT)[0][0])
    assert not trace.attn_delta(-1).any()


def test_the_trajectory_is_that_of_the_statement(model: larql.WalkModel, vindex: larql.Vindex) -> None:
    trajectory = model.trace(PROMPT).answer_trajectory("Paris")
    traced = vindex.session.trace(PROMPT, answer="Paris")
    assert [waypoint.layer for waypoint in trajectory] == [row.layer for row in traced.rows] == [-1, 0, 1, 2, 3]
    for waypoint, row in zip(trajectory, traced.rows):
        assert row.answer is not None and waypoint.rank == row.answer.rank and waypoint.who == row.answer.who
        figures = (row.answer.prob, row.answer.attn_logit, row.answer.ffn_logit, row.answer.logit, row.residual_norm)
        own = (waypoint.prob, waypoint.attn_logit, waypoint.ffn_logit, waypoint.logit, waypoint.residual_norm)
        assert np.allclose(own, figures, rtol=1e-6, atol=1e-7)
    assert repr(trajectory[-1]).startswith("AnswerWaypoint(L3, rank=1, prob=0.99")
    for before, after in zip(trajectory, trajectory[1:]):
        change = after.attn_logit + after.ffn_logit + after.norm_logit
        assert np.isclose(after.logit - before.logit, change, atol=1e-3)


def test_summaries_and_readings(model: larql.WalkModel, vindex: larql.Vindex) -> None:
    trace = model.trace(PROMPT)
    rows = vindex.session.trace(PROMPT).rows
    for summary, row in zip(trace.summary(), [None, *rows] if rows[0].layer == 0 else rows):
        if row is not None:
            assert (summary.layer, summary.top1_token) == (row.layer, row.top1_token)
            assert np.isclose(summary.attn_delta_norm, row.attn_delta_norm, rtol=1e-5)
    assert trace.top_k(3, k=1)[0][0] == " Paris" and trace.rank_of("Paris", 3) == 1
    assert trace.lens()[0][-1][0] == " Paris"
    assert trace.residual(0, position=0) is None


def test_chains_are_saved_and_mapped(model: larql.WalkModel, tmp_path: Path) -> None:
    trace = model.trace(PROMPT, positions="all")
    path = tmp_path / "france.bin"
    assert trace.save(path) == len(trace.tokens)
    assert trace.save(path) == len(trace.tokens), "appends"
    store = larql.TraceStore(path)
    assert (store.n_tokens, store.n_layers, store.hidden_size) == (2 * len(trace.tokens), trace.n_layers, trace.hidden_size)
    assert store.file_size() == path.stat().st_size == 64 + store.n_tokens * (store.n_layers + 1) * 3 * store.hidden_size * 4
    residual = store.residual(2, 3)
    assert residual is not None and np.array_equal(residual, trace.residual(2, 2))
    assert not residual.flags.owndata and not residual.flags.writeable
    assert np.array_equal(store.ffn_delta(1, 4), trace.ffn_delta(3, 1))
    assert store.residual(999, 0) is None and store.attn_delta(0, 99) is None
    del store
    assert np.isfinite(residual).all()


def test_boundaries_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.bndx"
    writer = larql.BoundaryWriter(path, hidden_size=4, window_size=10, max_boundaries=3)
    for window in range(2):
        writer.append(window * 10, 10, np.full(4, window, dtype=np.float64))
    assert (writer.n_boundaries, writer.total_tokens) == (2, 20)
    assert writer.finish() == path
    with pytest.raises(larql.errors.ClosedError, match="finished"):
        writer.append(20, 10, np.zeros(4))
    store = larql.BoundaryStore(path)
    assert (len(store), store.total_tokens, store.window_size) == (2, 20, 10)
    assert store.residual(1).tolist() == [1, 1, 1, 1] and store.residual(2) is None
    assert store.boundary_for_token(13) == 1 and store.token_range(1) == (10, 20)
    assert repr(store) == "BoundaryStore(2 boundaries, 20 tokens, 0 KB data, window=10)"


def test_context_stores_are_read(vindex: larql.Vindex, tmp_path: Path) -> None:
    path = tmp_path / "france.ctxt"
    vindex.query(f'TRACE "{PROMPT}" SAVE "{path}" FORMAT CONTEXT TIER 3 WINDOW 2;')
    store = larql.ContextStore(path)
    assert store.tier == 3 and store.n_layers == vindex.num_layers and len(store) >= 2
    deltas = store.deltas(0)
    assert deltas is not None and deltas[0].shape == deltas[1].shape == (vindex.num_layers, vindex.hidden_size)
    trace = vindex.walk_model().trace(PROMPT, positions="all")
    assert np.allclose(deltas[1][2], trace.attn_delta(2, 1), atol=1e-5)


def test_a_file_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "no.bin"
    path.write_bytes(b"nothing")
    for store in (larql.TraceStore, larql.BoundaryStore, larql.ContextStore):
        with pytest.raises(larql.errors.StoreError, match="no.bin"):
            store(path)
