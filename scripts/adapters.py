#!/usr/bin/env python3
"""Makes small adapters of the conformance set's checkpoints, with the weights that PEFT merges them to.

    scripts/reference-environment.sh transformers
    pip install --target LIBRARIES --no-deps peft
    PYTHONPATH=LIBRARIES python3 scripts/adapters.py tests/data/conformance tests/data/adapters

Each folder is an adapter as PEFT saves it, with random factors, of the checkpoint that its `adapter_config.json` names;
`merged.safetensors` holds the tensors of the base that `merge_and_unload` changes, in float32.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

KINDS = {
    "lora-llama": ("llama", dict(target_modules=["q_proj", "v_proj", "down_proj"], lora_alpha=6)),
    "rslora-qwen2": (
        "qwen2",
        dict(
            target_modules=["k_proj", "up_proj"],
            lora_alpha=3,
            use_rslora=True,
            alpha_pattern={"layers.0.mlp.up_proj": 9},
            rank_pattern={"k_proj": 2},
        ),
    ),
    "dora-mistral": ("mistral", dict(target_modules=["o_proj", "gate_proj"], lora_alpha=5, use_dora=True)),
    "lora-phi3": ("phi3", dict(target_modules=["qkv_proj", "gate_up_proj"], lora_alpha=4)),
    "lora-gpt2": ("gpt2", dict(target_modules=["c_attn", "c_fc"], lora_alpha=4, fan_in_fan_out=True)),
    "lora-embedding-llama": (
        "llama",
        dict(target_modules=["embed_tokens", "q_proj"], lora_alpha=2, modules_to_save=["lm_head"]),
    ),
    "lora-bias-qwen2": ("qwen2", dict(target_modules=["q_proj"], lora_alpha=2, bias="lora_only")),
}


def main(conformance: Path, target: Path) -> None:
    torch.set_num_threads(1)
    for number, (name, (base, settings)) in enumerate(KINDS.items()):
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        torch.manual_seed(number)
        model = AutoModelForCausalLM.from_pretrained(conformance / base, dtype=torch.float32)
        layers = None if base == "gpt2" else [0, 1]
        config = LoraConfig(task_type="CAUSAL_LM", r=4, layers_to_transform=layers, **settings)
        if "embed_tokens" in settings["target_modules"]:
            config.layers_to_transform = None
        model = get_peft_model(model, config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter += 0.1 * torch.randn(parameter.shape)
        model.save_pretrained(folder, safe_serialization=True)
        written = json.loads((folder / "adapter_config.json").read_text())
        written["base_model_name_or_path"] = base
        (folder / "adapter_config.json").write_text(json.dumps(written, indent=1) + "\n")
        (folder / "README.md").unlink(missing_ok=True)
        merged = model.merge_and_unload()
        # By the names that the base's file has.
        merged.save_pretrained(folder / "whole", safe_serialization=True)
        before = load_file(conformance / base / "model.safetensors")
        after = load_file(folder / "whole" / "model.safetensors")
        changed = {key: value for key, value in after.items() if not torch.equal(value, before[key].float())}
        shutil.rmtree(folder / "whole")
        save_file({key: value.float().contiguous() for key, value in changed.items()}, folder / "merged.safetensors")
        print(name, sorted(load_file(folder / "adapter_model.safetensors"))[:3], len(changed))


main(Path(sys.argv[1]), Path(sys.argv[2]))
