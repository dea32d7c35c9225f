#!/usr/bin/env python3
"""Makes the expected values of interventions with transformers' forward hooks.

    python3 scripts/intervention-references.py tests/data/conformance tests/data/interventions [SMOLLM2.gguf]

Needs torch, transformers and safetensors (scripts/reference-environment.sh transformers). For each family it writes
FAMILY.safetensors: captures, and logits after each intervention, float32, eager attention. Of SmolLM2, whose vocabulary is
large, smollm2.safetensors has the logits of every 64th token.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

FAMILIES = ["llama", "gemma2", "qwen3"]
LAYER = 1
HEAD = 1
FEATURES = [3, 10]
POSITION = 4
FACTOR = 2.5
GENERATED = 6
# The capital of France is Paris. The capital of
SMOLLM2_TOKENS = [504, 3575, 282, 4649, 314, 7042, 30, 378, 3575, 282]
SMOLLM2_COLUMNS = 64


def vector(width):
    """A vector that needs no random numbers."""
    return torch.sin(torch.arange(width, dtype=torch.float32) * 0.7)


def edit_output(module, change):
    """A hook that changes what a module returns."""

    def hook(_, __, output):
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    return module.register_forward_hook(hook)


def edit_input(module, change):
    """A hook that changes what a module receives."""
    return module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))


def references(model, tokens, columns):
    """Captures of one layer, and the logits of some columns after each intervention."""
    config = model.config
    layer = model.model.layers[LAYER]
    hidden = config.hidden_size
    head_dim = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    head = slice(HEAD * head_dim, (HEAD + 1) * head_dim)
    donor = torch.flip(tokens, [1])
    found = {"tokens": tokens[0], "donor": donor[0]}
    captured = {}

    def keep(name):
        def change(values):
            captured[name] = values[0].clone()
            return values

        return change

    def zero_head(values):
        values = values.clone()
        values[..., head] = 0
        return values

    def mean_head(values):
        values = values.clone()
        values[..., head] = values[0, :, head].mean(0)
        return values

    def zero_features(values):
        values = values.clone()
        values[..., FEATURES] = 0
        return values

    def steer_last(values):
        values = values.clone()
        values[:, -1] += FACTOR * vector(hidden)
        return values

    def project_out(values):
        unit = vector(hidden) / vector(hidden).norm()
        return values - (values @ unit)[..., None] * unit

    def patch(values):
        values = values.clone()
        values[:, POSITION] = captured["donor_output"][POSITION]
        return values

    with torch.no_grad():
        handles = [
            edit_input(layer.self_attn.o_proj, keep("head_outputs")),
            edit_input(layer.mlp.down_proj, keep("feature_activations")),
            edit_output(layer, keep("layer_output")),
        ]
        found["logits_plain"] = model(tokens).logits[0, :, columns]
        for handle in handles:
            handle.remove()
        found.update(captured)
        handle = edit_output(layer, keep("donor_output"))
        model(donor)
        handle.remove()

        for name, attach in [
            ("zero_head", lambda: edit_input(layer.self_attn.o_proj, zero_head)),
            ("mean_head", lambda: edit_input(layer.self_attn.o_proj, mean_head)),
            ("zero_features", lambda: edit_input(layer.mlp.down_proj, zero_features)),
            ("steer_last", lambda: edit_output(layer, steer_last)),
            ("project_out", lambda: edit_output(layer, project_out)),
            ("patch", lambda: edit_output(layer, patch)),
        ]:
            handle = attach()
            found[f"logits_{name}"] = model(tokens).logits[0, :, columns]
            handle.remove()

        handle = edit_output(layer, steer_last)
        generated = model.generate(
            tokens, max_new_tokens=GENERATED, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        handle.remove()
        found["generated_steer_last"] = generated[0, tokens.shape[1] :]
    return {name: values.contiguous() for name, values in found.items()}


def load(folder, **options):
    options = {"dtype": torch.float32, "attn_implementation": "eager", **options}
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def main(source, target, smollm2):
    target.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        folder = source / family
        tokens = load_file(folder / "expected.safetensors")["tokens_1"].reshape(1, -1)
        save_file(references(load(folder), tokens, slice(None)), target / f"{family}.safetensors")
    if smollm2:
        # The blocks of the file as floats, which is what LARQL computes with at --precision exact.
        model = load(smollm2.parent, gguf_file=smollm2.name)
        found = references(model, torch.tensor([SMOLLM2_TOKENS]), slice(None, None, SMOLLM2_COLUMNS))
        save_file(found, target / "smollm2.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
