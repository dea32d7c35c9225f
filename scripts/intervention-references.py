#!/usr/bin/env python3
"""Makes the expected values of interventions with transformers' forward hooks.

    python3 scripts/intervention-references.py tests/data/conformance tests/data/interventions

Needs torch, transformers and safetensors (scripts/reference-environment.sh transformers). For each family it writes
FAMILY.safetensors: captures, and logits after each intervention, float32, eager attention.
"""

import json
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


def main(source, target):
    target.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        folder = source / family
        tokens = load_file(folder / "expected.safetensors")["tokens_1"].reshape(1, -1)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        model.eval()
        config = json.loads((folder / "config.json").read_text())
        layer = model.model.layers[LAYER]
        hidden = config["hidden_size"]
        head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
        donor = torch.flip(tokens, [1])
        found = {"tokens": tokens[0], "donor": donor[0]}

        captured = {}

        def keep(name):
            def change(values):
                captured[name] = values[0].clone()
                return values

            return change

        with torch.no_grad():
            handles = [
                edit_input(layer.self_attn.o_proj, keep("head_outputs")),
                edit_input(layer.mlp.down_proj, keep("feature_activations")),
                edit_output(layer, keep("layer_output")),
            ]
            found["logits_plain"] = model(tokens).logits[0]
            for handle in handles:
                handle.remove()
            found.update({name: values.contiguous() for name, values in captured.items()})
            handle = edit_output(layer, keep("donor_output"))
            model(donor)
            handle.remove()

            def zero_head(values):
                values = values.clone()
                values[..., HEAD * head_dim : (HEAD + 1) * head_dim] = 0
                return values

            def mean_head(values):
                values = values.clone()
                mean = values[0, :, HEAD * head_dim : (HEAD + 1) * head_dim].mean(0)
                values[..., HEAD * head_dim : (HEAD + 1) * head_dim] = mean
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

            for name, handle in [
                ("zero_head", lambda: edit_input(layer.self_attn.o_proj, zero_head)),
                ("mean_head", lambda: edit_input(layer.self_attn.o_proj, mean_head)),
                ("zero_features", lambda: edit_input(layer.mlp.down_proj, zero_features)),
                ("steer_last", lambda: edit_output(layer, steer_last)),
                ("project_out", lambda: edit_output(layer, project_out)),
                ("patch", lambda: edit_output(layer, patch)),
            ]:
                handle = handle()
                found[f"logits_{name}"] = model(tokens).logits[0].contiguous()
                handle.remove()

            handle = edit_output(layer, steer_last)
            generated = model.generate(
                tokens, max_new_tokens=GENERATED, do_sample=False, eos_token_id=None, pad_token_id=0
            )
            handle.remove()
            found["generated_steer_last"] = generated[0, tokens.shape[1] :]
        save_file({name: values.contiguous() for name, values in found.items()}, target / f"{family}.safetensors")
        print(family, {name: tuple(values.shape) for name, values in found.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
