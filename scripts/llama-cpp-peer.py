#!/usr/bin/env python3
"""llama.cpp as an engine that `larql bench --peer llama-cpp` measures beside LARQL.

    llama-cpp-peer.py MODEL.gguf --threads N

Reads requests on standard input and answers on standard output, a JSON object a line. Before the first request it says
what it is and how much memory it holds with nothing loaded:

    {"engine": "llama.cpp (llama-cpp-python 0.3.36)", "resident": RESIDENT}

Then, in this order of first use:

    {"do": "load", "tokens": [1, 2], "context": 512}    open the model for so many tokens, run these, choose the next
    {"do": "prefill", "tokens": [1, 2]}                 a new sequence: run these tokens in one pass
    {"do": "decode", "tokens": [1, 2], "count": 64}     a new sequence: run these untimed, then token by token, each the
                                                        likeliest after the one before
    {"do": "decode_together",                           as decode, of a new sequence for each prompt: each pass takes
     "prompts": [[1, 2], [3]], "count": 64}             one token of every sequence
    {"do": "resident"}                                  how much memory the process holds, and held at most

All but the last are answered by {"seconds": 0.5}: from before the model is opened to the first token chosen; of the pass,
until the logits after its last token are there; of all `count` passes together, without choosing between them. The
last is answered by {"resident": {"peak": BYTES, "anonymous": BYTES, "file": BYTES}}. What cannot be done is answered by
{"error": "…"}. The process ends when standard input does.

llama.cpp runs as its own programs run it by default: the file is mapped, weights are repacked where a kernel wants them
so, flash attention is chosen by itself, keys and values are f16, up to 512 tokens are computed at once, and layers with
a window keep only the window's keys. Nothing is timed but calls of its C interface.
"""

import argparse
import ctypes
import json
import sys
import time

import llama_cpp
import numpy


def resident() -> dict:
    """Bytes of memory of this process that are in RAM."""
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    size = {name: int(lines[field].split()[0]) * 1024 for name, field in FIELDS.items()}
    return {"resident": size}


FIELDS = {"peak": "VmHWM", "anonymous": "RssAnon", "file": "RssFile"}


class Engine:
    def __init__(self, path: str, threads: int):
        self.path, self.threads = path, threads
        self.model = self.context = None
        llama_cpp.llama_backend_init()

    def load(self, tokens: list, context: int) -> float:
        if self.model is not None:
            raise RuntimeError("the model is loaded already")
        started = time.perf_counter()
        self.open(context)
        self.likeliest(self.run(tokens))
        return time.perf_counter() - started

    def open(self, context: int) -> None:
        options = llama_cpp.llama_model_default_params()
        options.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
        self.model = llama_cpp.llama_model_load_from_file(self.path.encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {self.path}")
        self.context = self.context_of(context, 1)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def context_of(self, tokens: int, sequences: int):
        """Room for so many tokens of each of some sequences."""
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = tokens * sequences
        options.n_seq_max = sequences
        options.n_batch = max(options.n_batch, tokens)
        options.n_threads = options.n_threads_batch = self.threads
        options.swa_full = False
        context = llama_cpp.llama_init_from_model(self.model, options)
        if not context:
            raise RuntimeError(f"llama.cpp cannot make a context of {sequences} times {tokens} tokens")
        return context

    def prefill(self, tokens: list) -> float:
        self.forget()
        tokens = as_array(tokens)
        started = time.perf_counter()
        self.run(tokens)
        return time.perf_counter() - started

    def decode(self, tokens: list, count: int) -> float:
        self.forget()
        logits, seconds = self.run(tokens), 0.0
        for _ in range(count):
            token = as_array([self.likeliest(logits)])
            started = time.perf_counter()
            logits = self.run(token)
            seconds += time.perf_counter() - started
        return seconds

    def decode_together(self, prompts: list, count: int) -> float:
        if self.model is None:
            raise RuntimeError("no model is loaded yet")
        context = self.context_of(max(map(len, prompts)) + count, len(prompts))
        batch = llama_cpp.llama_batch_init(max(len(prompts), *map(len, prompts)), 0, 1)
        try:
            return self.time_together(context, batch, prompts, count)
        finally:
            llama_cpp.llama_batch_free(batch)
            llama_cpp.llama_free(context)

    def time_together(self, context, batch, prompts: list, count: int) -> float:
        tokens = []
        for sequence, prompt in enumerate(prompts):
            rows = [(token, at, sequence, at + 1 == len(prompt)) for at, token in enumerate(prompt)]
            run_rows(context, batch, rows)
            tokens.append(self.likeliest(llama_cpp.llama_get_logits_ith(context, -1)))
        seconds = 0.0
        for step in range(count):
            rows = [(token, len(prompts[at]) + step, at, True) for at, token in enumerate(tokens)]
            started = time.perf_counter()
            run_rows(context, batch, rows)
            seconds += time.perf_counter() - started
            tokens = [self.likeliest(llama_cpp.llama_get_logits_ith(context, at)) for at in range(len(rows))]
        return seconds

    def forget(self) -> None:
        if self.context is None:
            raise RuntimeError("no model is loaded yet")
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def run(self, tokens):
        """Runs tokens after those of before; the logits after the last, which are all that is computed."""
        tokens = as_array(tokens)
        batch = llama_cpp.llama_batch_get_one(tokens, len(tokens))
        if status := llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode of {len(tokens)} tokens gives {status}")
        return llama_cpp.llama_get_logits_ith(self.context, -1)

    def likeliest(self, logits) -> int:
        return int(numpy.argmax(numpy.ctypeslib.as_array(logits, shape=(self.vocabulary,))))


def run_rows(context, batch, rows: list) -> None:
    """Runs rows in one pass: of each the token, its position, its sequence, and whether its logits are wanted."""
    batch.n_tokens = len(rows)
    for at, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[at], batch.pos[at], batch.logits[at] = token, position, wanted
        batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
    if status := llama_cpp.llama_decode(context, batch):
        raise RuntimeError(f"llama_decode of {len(rows)} tokens gives {status}")
    # The pass may still run when the call returns.
    llama_cpp.llama_synchronize(context)


def as_array(tokens):
    """Token ids as the C interface takes them."""
    return tokens if isinstance(tokens, ctypes.Array) else (llama_cpp.llama_token * len(tokens))(*tokens)


@llama_cpp.llama_log_callback
def print_errors(level: int, text: bytes, _) -> None:
    if level == 4:
        print(text.decode(errors="replace"), end="", file=sys.stderr, flush=True)


def answer(engine: Engine, request: dict) -> dict:
    what = request.pop("do", None)
    if what == "resident":
        return resident()
    if what not in ("load", "prefill", "decode", "decode_together"):
        return {"error": f"cannot do {what!r}"}
    try:
        return {"seconds": getattr(engine, what)(**request)}
    except (RuntimeError, TypeError) as error:
        return {"error": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    llama_cpp.llama_log_set(print_errors, None)
    name = f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"
    engine = Engine(arguments.model, arguments.threads)
    print(json.dumps({"engine": name} | resident()), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
