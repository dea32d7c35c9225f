"""The model folder: what transformers, and everything that reads its checkpoints, expects."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import vocabulary
from model import Config, Llama


def write(model: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes weights in half precision, configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.to(torch.float16).contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    begin, end = (tokenizer.token_to_id(token) for token in (vocabulary.BEGIN, vocabulary.END))
    positions = model.config.max_position_embeddings
    files = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float16",
            **dataclasses.asdict(model.config),
            "head_dim": model.config.head_dim,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": begin,
            "eos_token_id": end,
        },
        "generation_config.json": {"bos_token_id": begin, "eos_token_id": end, "do_sample": False},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": vocabulary.BEGIN,
            "eos_token": vocabulary.END,
            "model_max_length": positions,
            "clean_up_tokenization_spaces": False,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Llama:
    """The model as it was written, in single precision."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = Config(**{field.name: content[field.name] for field in dataclasses.fields(Config)})
    model = Llama(config)
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model.eval()
