#!/usr/bin/env python3
"""Makes tiny checkpoints that are quantised as the hub has them, with the outputs of transformers on their values.

    scripts/reference-environment.sh transformers
    pip install --target LIBRARIES --no-deps auto-gptq autoawq compressed-tensors bitsandbytes loguru frozendict
    PYTHONPATH=LIBRARIES python3 scripts/quantised-checkpoints.py tests/data/conformance tests/data/quantised

Each folder of the second set is a checkpoint made of one of the first: its linear layers are quantised with scales from
a seeded generator's rounding, packed and unpacked as the format's own library does it (auto_gptq's packing, AutoAWQ's
order, compressed-tensors' `pack_to_int32`, bitsandbytes' `quantize_4bit` and `int8_vectorwise_quant`), and transformers
computes in float32 with the values that this library's definition gives. `manifest.json` and `expected.safetensors` are
those of `larql conformance`; `exact.safetensors` holds the values of one quantised matrix.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

LAYERS = 2
PROMPTS = (1, 12)
GENERATED = 4


def grouped(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Values by groups of inputs, `[outputs, groups, size]`."""
    return weight.reshape(weight.shape[0], -1, size)


def affine(weight: torch.Tensor, bits: int, size: int, symmetric: bool, dtype: torch.dtype):
    """Scales and zero points `[outputs, groups]`, for unsigned codes of `bits`."""
    groups = grouped(weight, size)
    top = 2**bits - 1
    if symmetric:
        scale = groups.abs().amax(-1) / (top / 2)
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scale = (high - low) / top
        zero = (-low / scale).round().clamp(1, top)
    return scale.to(dtype), zero.to(torch.int32)


def codes_of(weight, scale, zero, group_of, bits):
    """Codes `[outputs, inputs]` for scales and zero points `[outputs, groups]`."""
    codes = (weight / scale.float()[:, group_of]).round() + zero[:, group_of]
    return codes.clamp(0, 2**bits - 1).to(torch.int32)


def pack_gptq(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Rows of codes to rows of words as auto_gptq's `QuantLinear.pack` does: a stream of bits down each column."""
    rows, cols = codes.shape
    words = np.zeros((rows * bits // 32, cols), dtype=np.uint64)
    values = codes.numpy().astype(np.uint64)
    for row in range(rows):
        word, shift = row * bits // 32, row * bits % 32
        words[word] |= (values[row] << np.uint64(shift)) & np.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[word + 1] |= values[row] >> np.uint64(32 - shift)
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def gptq(bits, size, symmetric, act_order=False, version=1):
    def quantise(name, weight, generator):
        outputs, inputs = weight.shape
        step = inputs if size == -1 else size
        group_of = torch.arange(inputs) // step
        if act_order:
            group_of = group_of[torch.randperm(inputs, generator=generator)]
        order = torch.argsort(group_of, stable=True)
        scale, zero = affine(weight[:, order], bits, step, symmetric, torch.float16)
        codes = codes_of(weight, scale, zero, group_of, bits)
        stored_zero = (zero - (1 if version == 1 else 0)) % 2**bits
        tensors = {
            "qweight": pack_gptq(codes.T, bits),
            "qzeros": pack_gptq(stored_zero, bits).T,
            "scales": scale.T,
            "g_idx": group_of.to(torch.int32),
        }
        # auto_gptq's QuantLinear.forward: scales * (weight - zeros), by g_idx.
        values = scale.float()[:, group_of] * (codes - zero[:, group_of]).float()
        if bits == 4 or bits == 8:
            check_gptq(tensors, values, bits, size, version)
        return tensors, values

    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "sym": symmetric, "desc_act": act_order}
    if version == 2:
        config["checkpoint_format"] = "gptq_v2"
    return quantise, config


def check_gptq(tensors, values, bits, size, version):
    """The same values by auto_gptq's own product with the unit matrix; it reads the first version of the format."""
    if version != 1:
        return
    linear = one_module("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py").QuantLinear
    inputs, outputs = values.shape[1], values.shape[0]
    layer = linear(bits, size, inputs, outputs, False, weight_dtype=torch.float32)
    layer.qweight, layer.qzeros = tensors["qweight"].contiguous(), tensors["qzeros"].contiguous()
    layer.scales, layer.g_idx = tensors["scales"].float().contiguous(), tensors["g_idx"]
    torch.testing.assert_close(layer(torch.eye(inputs)).T, values, rtol=1e-5, atol=1e-6)


def one_module(package: str, path: str):
    """A module of a package that as a whole asks for other versions of torch and transformers."""
    place = Path(importlib.util.find_spec(package).submodule_search_locations[0]) / path
    spec = importlib.util.spec_from_file_location(place.stem, place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def awq(size):
    def quantise(name, weight, generator):
        packing = one_module("awq", "utils/packing_utils.py")
        order, reverse, unpack = packing.AWQ_ORDER, packing.reverse_awq_order, packing.unpack_awq
        scale, zero = affine(weight, 4, size, False, torch.float16)
        group_of = torch.arange(weight.shape[1]) // size
        codes = codes_of(weight, scale, zero, group_of, 4)

        def pack(table):
            parts = table.reshape(table.shape[0], -1, 8)[:, :, order].numpy().astype(np.uint32)
            words = np.zeros(parts.shape[:2], dtype=np.uint32)
            for place in range(8):
                words |= parts[:, :, place] << np.uint32(4 * place)
            return torch.from_numpy(words.view(np.int32))

        tensors = {"qweight": pack(codes.T), "qzeros": pack(zero.T), "scales": scale.T}
        unpacked = reverse(*unpack(tensors["qweight"], tensors["qzeros"], 4), 4)
        found, found_zero = (table.bitwise_and(15).float() for table in unpacked)
        values = (found - found_zero[group_of]) * scale.T.float()[group_of]
        return tensors, values.T

    config = {"quant_method": "awq", "bits": 4, "group_size": size, "zero_point": True, "version": "gemm"}
    return quantise, config


def fp8(kind):
    def quantise(name, weight, generator):
        outputs, inputs = weight.shape
        if kind == "tile":
            rows, cols = -(-outputs // 32), -(-inputs // 32)
            padded = torch.zeros(rows * 32, cols * 32)
            padded[:outputs, :inputs] = weight
            tiles = padded.reshape(rows, 32, cols, 32)
            scale = tiles.abs().amax((1, 3)) / 448
            full = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)[:outputs, :inputs]
            stored = {"weight_scale_inv": scale}
        elif kind == "tensor":
            scale = weight.abs().max() / 448
            full, stored = scale, {"weight_scale": scale, "input_scale": torch.tensor(0.01)}
        else:
            scale = (weight.abs().amax(1, keepdim=True) / 448).to(torch.float32)
            full, stored = scale, {"weight_scale": scale}
        codes = (weight / full).to(torch.float8_e4m3fn)
        return {"weight": codes} | stored, codes.float() * full

    config = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    if kind == "tile":
        config["weight_block_size"] = [32, 32]
    if kind == "channel":
        config = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}
    return quantise, config


def compressed(form, bits=4, size=None, symmetric=True, act_order=False):
    def quantise(name, weight, generator):
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32

        outputs, inputs = weight.shape
        if form == "float-quantized":
            scale = (weight.abs().amax(1, keepdim=True) / 448).to(torch.bfloat16)
            codes = (weight / scale.float()).to(torch.float8_e4m3fn)
            return {"weight": codes, "weight_scale": scale}, codes.float() * scale.float()
        step = size or inputs
        group_of = torch.arange(inputs) // step
        if act_order:
            group_of = group_of[torch.randperm(inputs, generator=generator)]
        order = torch.argsort(group_of, stable=True)
        scale, zero = affine(weight[:, order], bits, step, symmetric, torch.bfloat16)
        codes = codes_of(weight, scale, zero, group_of, bits)
        middle = 2 ** (bits - 1)
        signed, signed_zero = (codes - middle).to(torch.int8), (zero - middle).to(torch.int8)
        tensors = {"weight_scale": scale}
        if form == "pack-quantized":
            tensors["weight_packed"] = pack_to_int32(signed, bits)
            tensors["weight_shape"] = torch.tensor([outputs, inputs])
            if not symmetric:
                tensors["weight_zero_point"] = pack_to_int32(signed_zero, bits, packed_dim=0).contiguous()
                back = unpack_from_int32(tensors["weight_zero_point"], bits, signed_zero.shape, packed_dim=0)
                assert (back == signed_zero).all()
            signed = unpack_from_int32(tensors["weight_packed"], bits, torch.Size([outputs, inputs]))
        else:
            tensors["weight"] = signed
            if not symmetric:
                tensors["weight_zero_point"] = signed_zero
        if act_order:
            tensors["weight_g_idx"] = group_of.to(torch.int32)
        values = (signed.float() - signed_zero.float()[:, group_of]) * scale.float()[:, group_of]
        return tensors, values

    weights = {
        "num_bits": 8 if form == "float-quantized" else bits,
        "type": "float" if form == "float-quantized" else "int",
        "strategy": "group" if size else "channel",
        "group_size": size,
        "symmetric": symmetric,
        "actorder": "group" if act_order else None,
    }
    config = {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}},
        "ignore": ["lm_head"],
    }
    return quantise, config


def bitsandbytes(kind, nested=False):
    def quantise(name, weight, generator):
        import bitsandbytes.backends.default.ops as ops
        import bitsandbytes.functional as functional

        if kind == "int8":
            codes, scales, _ = functional.int8_vectorwise_quant(weight.half())
            values = functional.int8_vectorwise_dequant(codes, scales).float()
            format_ = torch.tensor(0, dtype=torch.uint8)
            return {"weight": codes, "SCB": scales, "weight_format": format_}, values
        codes, state = functional.quantize_4bit(
            weight, blocksize=64, compress_statistics=nested, quant_type=kind
        )
        # The library's kernel for CPUs takes blocks for parts of rows, where they are parts of the whole sequence.
        dequantise = ops._dequantize_4bit_compute
        absmax = state.absmax
        if state.nested:
            absmax = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
        values = dequantise(codes.reshape(-1), absmax, state.code, 64, weight.shape, torch.float32)
        packed = state.as_dict(packed=True)
        return {"weight": codes} | {f"weight.{key}": value for key, value in packed.items()}, values

    config = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": kind != "int8",
        "load_in_8bit": kind == "int8",
        "bnb_4bit_quant_type": kind if kind != "int8" else "fp4",
        "bnb_4bit_use_double_quant": nested,
    }
    return quantise, config


KINDS = {
    "fp8-tiles-qwen3": ("qwen3", fp8("tile")),
    "fp8-tiles-deepseek": ("deepseek_v3", fp8("tile")),
    "fp8-tensor-mistral": ("mistral", fp8("tensor")),
    "fp8-channel-llama": ("llama", fp8("channel")),
    "gptq-4-sym-llama": ("llama", gptq(4, 32, True)),
    "gptq-4-asym-qwen2": ("qwen2", gptq(4, 32, False)),
    "gptq-4-act-order-mistral": ("mistral", gptq(4, 32, True, act_order=True)),
    "gptq-4-act-order-asym-phi3": ("phi3", gptq(4, 32, False, act_order=True)),
    "gptq-4-whole-llama": ("llama", gptq(4, -1, True)),
    "gptq-8-sym-gemma2": ("gemma2", gptq(8, 32, True)),
    "gptq-8-asym-olmo2": ("olmo2", gptq(8, 32, False)),
    "gptq-3-llama": ("llama", gptq(3, 32, False)),
    "gptq-2-llama": ("llama", gptq(2, 32, False)),
    "gptq-v2-mixtral": ("mixtral", gptq(4, 32, False, version=2)),
    "awq-llama": ("llama", awq(32)),
    "awq-qwen2": ("qwen2", awq(32)),
    "ct-pack-4-sym-llama": ("llama", compressed("pack-quantized", 4, 32)),
    "ct-pack-4-asym-granite": ("granite", compressed("pack-quantized", 4, 32, symmetric=False)),
    "ct-pack-4-act-order-qwen2": ("qwen2", compressed("pack-quantized", 4, 32, act_order=True)),
    "ct-pack-8-mistral": ("mistral", compressed("pack-quantized", 8)),
    "ct-int-8-sym-llama": ("llama", compressed("int-quantized", 8)),
    "ct-int-8-asym-qwen3": ("qwen3", compressed("int-quantized", 8, symmetric=False)),
    "ct-float-8-qwen2": ("qwen2", compressed("float-quantized")),
    "bnb-nf4-llama": ("llama", bitsandbytes("nf4")),
    "bnb-nf4-nested-gemma": ("gemma", bitsandbytes("nf4", nested=True)),
    "bnb-fp4-phi": ("phi", bitsandbytes("fp4")),
    "bnb-int8-mistral": ("mistral", bitsandbytes("int8")),
}


def is_linear(name: str, value: torch.Tensor) -> bool:
    skipped = ("embed", "lm_head", "norm", "mlp.gate.", "router", "block_sparse_moe.gate.")
    return name.endswith(".weight") and value.ndim == 2 and not any(part in name for part in skipped)


def main(conformance: Path, target: Path) -> None:
    # Results do not depend on the number of threads that a machine has.
    torch.set_num_threads(1)
    target.mkdir(exist_ok=True)
    names = sys.argv[3:] or KINDS
    facts = {}
    if (target / "manifest.json").exists():
        facts = json.loads((target / "manifest.json").read_text())["families"]
    for number, name in enumerate(KINDS):
        if name not in names:
            continue
        family, (quantise, quantisation) = KINDS[name]
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        facts[name] = make(conformance / family, folder, quantise, quantisation, number)
        print(name, facts[name])
    text = json.dumps({"families": dict(sorted(facts.items()))}, indent=1)
    (target / "manifest.json").write_text(text + "\n")


def make(source: Path, folder: Path, quantise, quantisation: dict, number: int) -> dict:
    config = json.loads((source / "config.hub.json").read_text())
    layers = min(LAYERS, config["num_hidden_layers"])
    config["num_hidden_layers"] = layers
    for key in ("layer_types", "mlp_layer_types"):
        if key in config:
            config[key] = config[key][:layers]
    stored, floats = {}, {}
    exact = None
    generator = torch.Generator().manual_seed(number)
    for name, value in load_file(source / "model.safetensors").items():
        parts = name.split(".")
        if "layers" in parts and int(parts[parts.index("layers") + 1]) >= layers:
            continue
        value = value.float()
        if not is_linear(name, value):
            stored[name] = floats[name] = value.half()
            assert torch.equal(stored[name].float(), value), f"{name} is not exact in half precision"
            continue
        tensors, values = quantise(name, value, generator)
        stem = name.removesuffix(".weight")
        stored |= {f"{stem}.{part}": tensor.contiguous() for part, tensor in tensors.items()}
        floats[name] = values.contiguous()
        if exact is None:
            exact = {name: floats[name]}
    config["dtype"] = "float16"
    config["quantization_config"] = quantisation
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(exact, folder / "exact.safetensors")
    expected, facts = reference(config, floats)
    save_file(expected, folder / "expected.safetensors")
    return facts


def reference(config: dict, floats: dict) -> tuple[dict, dict]:
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    plain["dtype"] = "float32"
    settings = AutoConfig.for_model(**plain)
    model = AutoModelForCausalLM.from_config(settings, attn_implementation="eager", dtype=torch.float32)
    state = {name: value.float() for name, value in floats.items()}
    # Through a folder, so that names are changed as they are for published files.
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(plain))
        save_file(state, Path(scratch) / "model.safetensors", metadata={"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(
            scratch, attn_implementation="eager", dtype=torch.float32
        ).eval()
    generator = torch.Generator().manual_seed(7)
    expected, largest, reached, response = {}, 0.0, 0.0, 0.0
    final = [module for name, module in model.named_modules() if name.endswith(("model.norm", "final_layernorm"))][-1]
    for prompt, length in enumerate(PROMPTS):
        tokens = torch.randint(3, config["vocab_size"], (1, length), generator=generator)
        before = []
        hook = final.register_forward_pre_hook(lambda _, arguments: before.append(arguments[0].detach()))
        with torch.no_grad():
            out = model(tokens, output_hidden_states=True, use_cache=False)
        hook.remove()
        generated, sequence = [], tokens
        for _ in range(GENERATED):
            with torch.no_grad():
                logits = model(sequence, use_cache=False).logits[0, -1]
            generated.append(int(logits.argmax()))
            sequence = torch.cat([sequence, torch.tensor([[generated[-1]]])], 1)
        expected |= {
            f"tokens_{prompt}": tokens[0],
            f"logits_{prompt}": out.logits[0].contiguous(),
            f"hidden_{prompt}": torch.stack([state[0] for state in out.hidden_states]),
            f"prenorm_{prompt}": before[0][0].contiguous(),
            f"generated_{prompt}": torch.tensor(generated),
        }
        largest = max(largest, max(float(state.abs().max()) for state in out.hidden_states))
        reached = max(reached, float(out.logits.abs().max()))
    # The change of logits for relative noise on the quantised weights.
    with torch.no_grad():
        noise = 1e-3
        tokens, exact = expected["tokens_1"][None], expected["logits_1"]
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "embed" not in name and "lm_head" not in name:
                rms = parameter.square().mean().sqrt()
                parameter += noise * rms * torch.randn(parameter.shape, generator=generator)
        response = float((model(tokens, use_cache=False).logits[0] - exact).abs().max()) / noise
    facts = {
        "hidden_absmax": round(largest, 3),
        "logit_absmax": round(reached, 3),
        "noise_response": round(response, 1),
    }
    return expected, facts


main(Path(sys.argv[1]), Path(sys.argv[2]))
