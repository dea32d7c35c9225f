#!/usr/bin/env python3
"""Time of a model whose file is not in the page cache, or does not fit into memory, in LARQL and in llama.cpp.

    cold-cache.py LARQL MODEL.gguf [--rounds N] [--tokens N] [--cgroup FOLDER]

Before each measurement the file leaves the page cache. The engines are processes that take the requests of `larql bench`,
in turn. Printed are seconds until the first token, and tokens a second after it, medians of the rounds.

With --cgroup both run in that memory cgroup (version 1 or 2), which must exist and have a limit, for example

    mkdir /sys/fs/cgroup/memory/small && echo 400M > /sys/fs/cgroup/memory/small/memory.limit_in_bytes

Needs Linux, and the environment that reference-environment.sh makes.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
PROMPT = list(range(1, 17))


def evict(path):
    """Takes the pages of a file out of the page cache."""
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def measure(command, tokens, cgroup):
    """Seconds until the first token, and tokens a second after it, of a new process; none if it ended before."""

    def enter():
        if cgroup:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    pipe = subprocess.PIPE
    engine = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=enter)

    def ask(request):
        engine.stdin.write(json.dumps(request) + "\n")
        engine.stdin.flush()
        return json.loads(engine.stdout.readline())["seconds"]

    try:
        engine.stdout.readline()
        first = ask({"do": "load", "tokens": PROMPT, "context": len(PROMPT) + tokens})
        rest = ask({"do": "decode", "tokens": PROMPT, "count": tokens})
    except (BrokenPipeError, json.JSONDecodeError):
        # The system ends a process whose own memory is over the limit.
        return None
    finally:
        engine.communicate()
    return first, tokens / rest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("larql")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cgroup", type=pathlib.Path)
    options = parser.parse_args()
    threads = ["--threads", str(options.threads)]
    peer = [CACHE / "larql-reference/bin/python", HERE / "llama-cpp-peer.py", options.model, *threads]
    engines = {"larql": [options.larql, "bench", options.model, "--engine", *threads], "llama.cpp": peer}
    results = {name: [] for name in engines}
    for _ in range(options.rounds):
        for name, command in engines.items():
            evict(options.model)
            results[name].append(measure(list(map(str, command)), options.tokens, options.cgroup))
    print(f"{'':12}{'first token, s':>16}{'tokens a second':>18}")
    for name, rounds in results.items():
        if None in rounds:
            print(f"{name:12}{'ended by the system':>34}")
            continue
        first, rate = (statistics.median(values) for values in zip(*rounds))
        print(f"{name:12}{first:16.2f}{rate:18.2f}")


if __name__ == "__main__":
    main()
