"""Writes what reference implementations make of the texts in corpus.py, one JSON file for each vocabulary.

    pip install transformers gguf xllamacpp
    python make_expected.py DIRECTORY_OF_GGUF_FILES

splits.json has the lengths of the pieces that each way of splitting leaves of those texts.

For a GGUF file the reference is the tokenizer that transformers builds from its metadata (the same code as
`AutoTokenizer.from_pretrained(directory, gguf_file=name)`, which itself needs torch); for `tokenizer.json` it is
the Python package `tokenizers`. Where llama.cpp reads a file differently, it is printed.
"""

import json
import sys
from pathlib import Path
from urllib.request import urlopen

from corpus import TEXTS
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
from transformers import TokenizersBackend
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS, GGUF_TOKENIZER_MAPPING, convert_gguf_tokenizer

HERE = Path(__file__).parent


def gguf_metadata(path: Path) -> dict:
    return {key: field.contents() for key, field in GGUFReader(path).fields.items() if not key.startswith("GGUF.")}


def from_gguf(metadata: dict) -> TokenizersBackend:
    """As transformers' `get_gguf_tokenizer`, which reads the file with torch."""
    vocabulary, config = (
        {name: metadata[f"tokenizer.{key}"] for key, name in GGUF_TOKENIZER_MAPPING[group].items() if f"tokenizer.{key}" in metadata}
        for group in ("tokenizer", "tokenizer_config")
    )
    if vocabulary["tokenizer_type"] == "llama":
        config.setdefault("add_bos_token", True)
    for name in ("bos", "eos", "unknown", "padding"):
        token = metadata.get(f"tokenizer.ggml.{name}_token_id")
        short = {"unknown": "unk", "padding": "pad"}.get(name, name)
        config[f"{short}_token"] = None if token is None else vocabulary["tokens"][token]
    backend, _ = convert_gguf_tokenizer(metadata["general.architecture"], vocabulary)
    if vocabulary.get("pre_tokenizer_type") == "smollm":
        # transformers does not know the name and splits like GPT-2. The model was trained with single digits, as
        # its tokenizer.json and llama.cpp have it; it shows where several spaces stand before a number.
        backend.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    return TokenizersBackend(tokenizer_object=backend, **config)


def texts_for(special: list[str]) -> list[str]:
    """The corpus, and special tokens inside text; alone they are checked in the test."""
    sample = special[:: max(1, len(special) // 40)]
    return (
        TEXTS
        + [f"before{token}after" for token in sample]
        + [f" {token} {token}{token}\n" for token in sample[::4]]
        + ["".join(sample[:5]), sample[0][:-1], sample[0][1:]]
    )


def write(name: str, encode, decode, special: list[str]) -> None:
    cases = []
    for text in texts_for(special):
        ids = encode(text, False)
        case = {"text": text, "ids": ids}
        if (decoded := decode(ids)) != text:
            case["decoded"] = decoded
        cases.append(case)
    expected = {"with_special": encode("Hello", True), "cases": cases}
    lines = ",\n".join(json.dumps(case) for case in cases)
    out = f'{{"with_special": {json.dumps(expected["with_special"])}, "cases": [\n{lines}\n]}}\n'
    (HERE / f"{name}.json").write_text(out)
    print(f"{name}: {len(cases)} texts, {len(out)} bytes")


def compare_with_llama_cpp(path: Path, encode, special: list[str]) -> None:
    try:
        import xllamacpp
    except ImportError:
        return
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 64
    parameters.verbosity = 0
    parameters.cpuparams.n_threads = 2
    server = xllamacpp.Server(parameters)
    for text in texts_for(special):
        question = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        with urlopen(f"{server.listening_address}/tokenize", question) as answer:
            theirs = json.load(answer)["tokens"]
        ours = encode(text, False)
        if theirs != ours:
            at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
            print(f"  llama.cpp differs on {text[:40]!r} from token {at} on: {theirs[at:at + 5]} for {ours[at:at + 5]}")


def split(*patterns: str) -> Sequence:
    return Sequence([Split(Regex(pattern), behavior="isolated") for pattern in patterns])


def write_splits() -> None:
    ways = {name: split(GGUF_PRE_TOKENIZER_SPLITS[name]) for name in ("llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o")}
    ways["gpt-2"] = ByteLevel(add_prefix_space=False)
    ways["smollm"] = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    ways["deepseek-v3"] = split(
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
    lengths = {
        name: [[end - start for _, (start, end) in way.pre_tokenize_str(text)] for text in TEXTS]
        for name, way in ways.items()
    }
    (HERE / "splits.json").write_text(json.dumps({"texts": TEXTS, "lengths": lengths}, separators=(",", ":")) + "\n")


def main(directory: Path) -> None:
    for path in sorted(directory.glob("*.gguf")):
        metadata = gguf_metadata(path)
        tokenizer = from_gguf(metadata)
        kinds = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"])
        special = [token for token, kind in kinds if kind in (3, 4) and token.strip(" ")]
        encode = lambda text, add: tokenizer.encode(text, add_special_tokens=add)
        write(path.stem, encode, tokenizer.decode, special)
        for token in special:
            assert encode(token, False) == [tokenizer.convert_tokens_to_ids(token)], token
        compare_with_llama_cpp(path, encode, special)

    write_splits()
    tokenizer = Tokenizer.from_file(str(HERE / "byte_level.tokenizer.json"))
    write(
        "byte_level",
        lambda text, add: tokenizer.encode(text, add_special_tokens=add).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
        ["<pad>", "<eos>", "<bos>"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
