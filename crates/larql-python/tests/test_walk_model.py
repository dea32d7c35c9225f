"""The model as it runs: passes, hooks, declared interventions, generation, and token space."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import PROMPT

import larql
from larql import HookPoint, points


def test_predict_is_infer(model: larql.WalkModel, vindex: larql.Vindex) -> None:
    own = model.predict(PROMPT, 5)
    inferred = vindex.infer(PROMPT, 5)
    assert [token for token, _ in own] == [token for token, _ in inferred]
    assert np.allclose([share for _, share in own], [share for _, share in inferred], rtol=0, atol=1e-7)


def test_a_batch_is_its_prompts(model: larql.WalkModel) -> None:
    prompts = [PROMPT, "The capital of Spain is", "The"]
    together = model.run(prompts, every_token=True)
    for prompt, logits in zip(prompts, together):
        (alone,) = model.run(prompt, every_token=True)
        assert logits.shape == alone.shape == (len(model.tokenize(prompt)), model.vocab_size)
        assert np.allclose(logits, alone, atol=2e-4)
    assert [top[0][0] for top in model.predict_all(prompts[:2])] == [" Paris", " Madrid"]


def test_hooks_see_every_point_in_order(model: larql.WalkModel) -> None:
    seen: list[tuple[str, int | None, tuple[int, ...]]] = []
    rows = len(model.tokenize(PROMPT))
    model.run(PROMPT, hooks=[(list(points.ALL), lambda values, point: seen.append((point.name, point.layer, values.shape)))])
    assert seen[0] == ("embedding", None, (rows, model.hidden_size))
    assert seen[-2:] == [("final_norm", None, (1, model.hidden_size)), ("logits", None, (1, model.vocab_size))]
    of_layer = [name for name, layer, _ in seen if layer == 0]
    assert of_layer[0] == "layer_input" and of_layer[-1] == "layer_output" and len(of_layer) == 12
    assert of_layer[1] == "attention_input"
    shapes = {(name, layer): shape for name, layer, shape in seen}
    heads = model.num_q_heads_for_layer(1)
    assert shapes["attention_pattern", 1] == (rows, heads, rows)
    assert shapes["feature_activations", 1] == (rows, model.intermediate_size)


def test_a_hook_changes_in_place_or_by_what_it_returns(model: larql.WalkModel) -> None:
    def in_place(values: np.ndarray, point: HookPoint) -> None:
        values[-1] = 0

    def returned(values: np.ndarray, point: HookPoint) -> np.ndarray:
        return np.vstack([values[:-1], np.zeros_like(values[-1:])])

    plain = model.run(PROMPT)[0]
    one = model.run(PROMPT, hooks=[(("feed_forward_output", 2), in_place)])[0]
    other = model.run(PROMPT, hooks=[("blocks.2.hook_mlp_out", returned)])[0]
    assert np.array_equal(one, other) and not np.array_equal(one, plain)
    declared = model.intervention(
        {"interventions": [{"at": {"layer": 2, "stage": "feed_forward_output"}, "zero": True}]}
    )
    assert np.array_equal(model.run(PROMPT, hooks=[declared])[0], one)
    assert declared.fired == [1] and len(declared.digest) == 64


def test_hooks_end_with_their_scope_and_nest(model: larql.WalkModel) -> None:
    calls: list[str] = []
    before = model.predict(PROMPT)
    with model.hooks(("logits", lambda values, point: calls.append("outer"))):
        with model.hooks(("logits", lambda values, point: calls.append("inner"))):
            model.predict(PROMPT)
        assert calls == ["outer", "inner"]
        thread = threading.Thread(target=model.predict, args=(PROMPT,))
        thread.start()
        thread.join()
        assert calls == ["outer", "inner"], "another thread has hooks of its own"
    assert model.predict(PROMPT) == before and len(calls) == 2


def test_a_hook_may_keep_its_array(model: larql.WalkModel) -> None:
    kept: list[np.ndarray] = []
    plain = model.run(PROMPT)[0]
    hooked = model.run(PROMPT, hooks=[("layer_output", lambda values, point: kept.append(values))])[0]
    for values in kept:
        values[:] = 7
    assert np.array_equal(plain, hooked) and np.array_equal(model.run(PROMPT)[0], plain)


def test_an_exception_in_a_hook_is_raised_where_the_pass_began(model: larql.WalkModel) -> None:
    class Mine(Exception):
        pass

    def fails(values: np.ndarray, point: HookPoint) -> None:
        raise Mine(point.layer)

    with pytest.raises(Mine, match="1"):
        model.run(PROMPT, hooks=[(("layer_input", 1), fails)])
    with pytest.raises(Mine):
        "".join(model.generate(PROMPT, 4, hooks=[(("layer_input", 1), fails)]))
    with pytest.raises(Mine):
        model.trace(PROMPT, hooks=[(("layer_input", 1), fails)])
    assert model.predict(PROMPT)[0][0] == " Paris"


def test_rows_of_a_batch_say_their_prompt_and_position(model: larql.WalkModel) -> None:
    places: list[tuple[list[int], list[int]]] = []
    model.run(
        [PROMPT, "The"],
        hooks=[(("layer_input", 0), lambda values, point: places.append((point.sequences.tolist(), point.positions.tolist())))],
    )
    first, second = len(model.tokenize(PROMPT)), len(model.tokenize("The"))
    assert places == [([0] * first + [1] * second, [*range(first), *range(second)])]


def test_patching_is_what_hooks_do_by_hand(model: larql.WalkModel) -> None:
    donor, recipient = "The capital of Spain is", PROMPT
    last = len(model.tokenize(donor)) - 1
    residuals = model.forward_with_capture(donor, [1])[1]
    patched = model.patch_activations(donor, recipient, [(1, last)], [2, 3])

    def patch(values: np.ndarray, point: HookPoint) -> None:
        values[last] = residuals[last]

    with model.hooks(("blocks.1.hook_resid_post", patch)):
        by_hand = model.capture_residuals(recipient, [2, 3])
    assert all(np.array_equal(patched[layer], by_hand[layer]) for layer in (2, 3))
    assert not np.array_equal(patched[3], model.capture_residuals(recipient, [3])[3])


def test_steering_adds_at_the_last_token_only(model: larql.WalkModel) -> None:
    vector = np.random.default_rng(1).normal(size=model.hidden_size)
    plain = model.capture_residuals(PROMPT, [1])[1]
    steered = model.forward_steer(PROMPT, [(1, vector, 2.5)], [1])[1]
    assert np.allclose(steered - plain, 2.5 * vector, atol=1e-4)
    ablated = model.forward_ablate(PROMPT, [3], [3])[3]
    assert not ablated.any()


def test_decomposition_drops_a_branch(model: larql.WalkModel) -> None:
    with_attention = model.forward_attn_only(PROMPT, [0])[0]
    with_steps = model.forward_ffn_only(PROMPT, [0])[0]
    trace = model.trace(PROMPT)
    assert np.allclose(with_attention, trace.residual(-1) + trace.attn_delta(0), atol=1e-5)
    assert not np.allclose(with_steps, with_attention)
    heads = model.num_q_heads_for_layer(0)
    without = model.forward_attn_only_head_zero(PROMPT, [(0, range(heads))], [0])[0]
    assert np.allclose(without, trace.residual(-1), atol=1e-5)
    pre = model.forward_attn_only_capture_pre_o(PROMPT, [0])[0][-1]
    width = pre.size // heads
    by_head = [model.w_o_for_head(0, head).astype(np.float32) @ pre[head * width : (head + 1) * width] for head in range(heads)]
    assert np.allclose(sum(by_head), trace.attn_delta(0), atol=1e-4)


def test_the_cache_has_the_names_and_the_layout_of_transformer_lens(model: larql.WalkModel) -> None:
    logits, cache = model.run_with_cache(PROMPT)
    rows, heads = len(model.tokenize(PROMPT)), model.num_q_heads_for_layer(0)
    assert logits.shape == (1, rows, model.vocab_size)
    # Watched activations are computed apart from the down projection, which rounds differently.
    assert np.allclose(logits[0], model.run(PROMPT, every_token=True)[0], atol=1e-5)
    assert cache["blocks.1.attn.hook_pattern"].shape == (1, heads, rows, rows)
    assert np.allclose(cache["blocks.1.attn.hook_pattern"].sum(-1), 1, atol=1e-5)
    assert cache["blocks.0.attn.hook_z"].shape == (1, rows, heads, model.head_dim_for_layer(0))
    for layer in range(model.num_layers - 1):
        after = cache[f"blocks.{layer}.hook_resid_post"]
        assert np.array_equal(after, cache[f"blocks.{layer + 1}.hook_resid_pre"])
        parts = [cache[f"blocks.{layer}.{part}"] for part in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out")]
        assert np.allclose(after, sum(parts), atol=1e-4)
    _, some = model.run_with_cache(PROMPT, ["blocks.2.hook_resid_post", "hook_embed"])
    assert set(some) == {"blocks.2.hook_resid_post", "hook_embed"}


def test_generation_streams_the_text_of_the_command_line(model: larql.WalkModel) -> None:
    generation = model.generate(PROMPT, 6)
    pieces = list(generation)
    assert "".join(pieces).startswith(" Paris")
    assert generation.reason in ("stop_token", "max_tokens") and 0 < len(generation.tokens) <= 6
    assert model.decode(generation.tokens, skip_special=True) == "".join(pieces)
    assert list(generation) == []
    stopped = model.generate(PROMPT, 6, stop="Paris")
    assert "".join(stopped) == " " and stopped.reason == "stop_text"
    seeded = ["".join(model.generate("The", 8, temperature=1.0, seed=5)) for _ in range(2)]
    assert seeded[0] == seeded[1]


def test_generation_runs_hooks_at_every_token(model: larql.WalkModel) -> None:
    rows: list[int] = []
    generation = model.generate(PROMPT, 3, hooks=[(("layer_input", 0), lambda values, point: rows.append(len(values)))])
    text = "".join(generation)
    assert rows[0] == len(model.tokenize(PROMPT)) and set(rows[1:]) <= {1} and len(rows) >= len(generation.tokens)
    assert text.startswith(" Paris")
    spain = model.capture_residuals("The capital of Spain is", [3])[3]
    france = model.capture_residuals(PROMPT, [3])[3]
    text, tokens = model.generate_with_hooks(PROMPT, 1, steers=[(3, spain - france, 1.0)])
    assert text == " Madrid" and model.decode(tokens) == text


def test_generation_ends_when_it_is_dropped(model: larql.WalkModel) -> None:
    generation = model.generate("Once upon a time", 100_000, stop=[])
    next(generation)
    generation.close()
    with pytest.raises((KeyboardInterrupt, larql.LarqlError, StopIteration)):
        while True:
            next(generation)


def test_the_lens_of_the_last_layer_is_the_prediction(model: larql.WalkModel) -> None:
    residual = model.capture_residuals(PROMPT, [3])[3]
    lens = model.logit_lens(residual, 5)
    predicted = model.predict(PROMPT, 5)
    assert [model.decode([token]) for token, _ in lens] == [token for token, _ in predicted]
    assert np.allclose([share for _, share in lens], [share for _, share in predicted], atol=1e-6)
    token, share = lens[0]
    assert np.isclose(model.track_token_at(residual, token), share)
    race = model.track_race(model.capture_residuals(PROMPT, [0, 3]), k=1)
    assert race[3] == lens[:1]


def test_vectors_in_token_space(model: larql.WalkModel, vindex: larql.Vindex) -> None:
    token = model.tokenize(" Paris", add_special=False)[0]
    row = model.embedding_for(token, scaled=False)
    assert np.array_equal(row, vindex.embedding(token))
    assert np.allclose(model.embedding_for(token), row * vindex.embed_scale_value)
    assert model.embedding_neighbors(row, 1)[0][0] == token
    (first, product), *_ = model.project_through_unembed(model.unembedding_for(token), 1)
    assert first == token and np.isclose(product, np.square(model.unembedding_for(token)).sum(), rtol=1e-4)
    heads = model.head_contributions(PROMPT, token)
    assert heads.shape == (model.num_layers, model.num_q_heads_for_layer(0)) and np.isfinite(heads).all()


def test_declarations_are_read_from_files(model: larql.WalkModel, vindex: larql.Vindex, tmp_path: Path) -> None:
    file = tmp_path / "zero.json"
    file.write_text('{"interventions": [{"at": {"layer": 3, "stage": "feed_forward_output"}, "zero": true}]}')
    declared = model.intervention(file)
    (logits,) = model.run(PROMPT, hooks=[declared])
    receipt = vindex.session.infer(PROMPT, intervention=file)
    assert receipt.intervention is not None and receipt.intervention.digest == declared.digest
    assert np.isclose(receipt.runs[0].predictions[0].probability, np.exp(logits[0] - logits.max()).max() / np.exp(logits[0] - logits.max()).sum(), atol=1e-6)


def test_fewer_features_walk_differently(vindex: larql.Vindex) -> None:
    all_features = vindex.walk_model(vindex.intermediate_size)
    few = vindex.walk_model(8)
    assert all_features.predict(PROMPT) == vindex.walk_model().predict(PROMPT)
    assert few.predict(PROMPT) != all_features.predict(PROMPT)
