"""Hooks in Python equal those of transformers: the expected values are those of the Rust tests of interventions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import larql
from larql import HookPoint

CRATES = Path(__file__).parents[2]
DATA = CRATES.parent / "tests/data"

# As in scripts/intervention-references.py.
HEAD, FEATURES, POSITION, FACTOR = 1, [3, 10], 4, 2.5

# Greatest difference of logits that conformance allows.
TOLERANCE = 2e-4

Floats = NDArray[np.float32]


def tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Reads a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "I64": np.int64}
    return {
        name: np.frombuffer(
            data[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]], types[entry["dtype"]]
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }


@pytest.fixture(params=["llama", "gemma2", "qwen3"])
def reference(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[larql.WalkModel, dict[str, NDArray[np.generic]]]:
    """Checkpoint of a family, and what transformers computes with it. Tokens are given as numbers, so that any tokenizer
    does for the checkpoint, which has none."""
    folder = tmp_path / request.param
    shutil.copytree(DATA / "conformance" / request.param, folder)
    shutil.copy(CRATES / "larql-assets/data/atlas/tokenizer.json", folder)
    expected = tensors(DATA / "interventions" / f"{request.param}.safetensors")
    return larql.WalkModel(folder, top_k=None), expected


def test_functions_at_points_equal_forward_hooks(
    reference: tuple[larql.WalkModel, dict[str, NDArray[np.generic]]],
) -> None:
    model, expected = reference
    tokens, donor = expected["tokens"].tolist(), expected["donor"].tolist()
    width = model.w_o_for_head(1, HEAD).shape[1]
    head = slice(HEAD * width, (HEAD + 1) * width)
    vector = np.sin(np.arange(model.hidden_size, dtype=np.float32) * np.float32(0.7))
    unit = vector / np.linalg.norm(vector)
    donated: list[Floats] = []
    model.run([donor], hooks=[(("layer_output", 1), lambda values, point: donated.append(values))])

    def zero_head(values: Floats, point: HookPoint) -> None:
        values[:, head] = 0

    def mean_head(values: Floats, point: HookPoint) -> None:
        values[:, head] = values[:, head].mean(0)

    def zero_features(values: Floats, point: HookPoint) -> None:
        values[:, FEATURES] = 0

    def steer_last(values: Floats, point: HookPoint) -> None:
        values[-1] += FACTOR * vector

    def project_out(values: Floats, point: HookPoint) -> Floats:
        return values - (values @ unit)[:, None] * unit

    def patch(values: Floats, point: HookPoint) -> None:
        values[POSITION] = donated[0][POSITION]

    changes: list[tuple[str, Callable[[Floats, HookPoint], Floats | None]]] = [
        ("blocks.1.attn.hook_z", zero_head),
        ("blocks.1.attn.hook_z", mean_head),
        ("blocks.1.mlp.hook_post", zero_features),
        ("blocks.1.hook_resid_post", steer_last),
        ("blocks.1.hook_resid_post", project_out),
        ("blocks.1.hook_resid_post", patch),
    ]
    for point, change in changes:
        (logits,) = model.run([tokens], hooks=[(point, change)], every_token=True)
        correct = expected[f"logits_{change.__name__}"]
        assert np.abs(logits - correct).max() < TOLERANCE, change.__name__
        assert np.abs(expected["logits_plain"] - correct).max() > 10 * TOLERANCE, "it changes something"


def test_captures_equal_those_of_forward_hooks(
    reference: tuple[larql.WalkModel, dict[str, NDArray[np.generic]]],
) -> None:
    model, expected = reference
    names = ["head_outputs", "feature_activations", "layer_output"]
    captured: dict[str, Floats] = {}
    hook = ([(name, 1) for name in names], lambda values, point: captured.__setitem__(point.name, values))
    (logits,) = model.run([expected["tokens"].tolist()], hooks=[hook], every_token=True)
    assert np.abs(logits - expected["logits_plain"]).max() < TOLERANCE
    for name in names:
        assert np.abs(captured[name] - expected[name]).max() < TOLERANCE, name


def test_a_compiled_checkpoint_is_read_by_transformers(vindex: larql.Vindex, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    model, tokenizer = vindex.to_transformers(tmp_path / "atlas")
    prompt = "The capital of France is"
    with torch.no_grad():
        logits = model.float()(**tokenizer(prompt, return_tensors="pt")).logits[0]
    (own,) = vindex.walk_model().run(prompt, every_token=True)
    assert np.abs(logits.numpy() - own).max() < 2e-3


def test_torch_takes_arrays_without_a_copy(vindex: larql.Vindex) -> None:
    torch = pytest.importorskip("torch")
    gates = vindex.gate_vectors(1)
    tensor = torch.from_dlpack(gates)
    assert tensor.data_ptr() == gates.ctypes.data and tuple(tensor.shape) == gates.shape
