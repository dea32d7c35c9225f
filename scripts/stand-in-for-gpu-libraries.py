#!/usr/bin/env python3
"""Lets torch for Linux start without the gigabytes of GPU libraries that it links to and never calls on a CPU.

Puts an empty library in place of each one that is missing: every function in it answers with an error, which torch
takes for "no GPU here". Called by reference-environment.sh with the Python of the environment; needs a C compiler.
"""

import importlib.util
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

FOLDER = Path(next(iter(importlib.util.find_spec("torch").submodule_search_locations))) / "lib"


def output(*command) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wanted() -> tuple:
    """What torch's libraries need of others: {library: its versions}, and {version, or "": symbols}."""
    libraries, symbols = defaultdict(set), defaultdict(set)
    for file in FOLDER.glob("*.so*"):
        for library in re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-d", file)):
            libraries[library] |= set()
        library = None
        for kind, name in re.findall(r"(File|Name): (\S+)", output("readelf", "-V", file)):
            if kind == "File":
                library = name
            elif library:
                libraries[library].add(name)
        for symbol in re.findall(r"^ +U (\S+)$", output("nm", "-D", "--undefined-only", file), re.M):
            name, _, version = symbol.partition("@")
            symbols[version].add(name)
    return libraries, symbols


def stand_in(library: str, versions: dict) -> None:
    names = sorted(set().union(*versions.values()))
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stand_in.c"), Path(folder, "versions")
        # 100 is "no device" to both layers of CUDA.
        says = {name: '(long) "no GPU"' if "String" in name or "ErrorName" in name else "100" for name in names}
        source.write_text("".join(f"long {name}(void) {{ return {says[name]}; }}\n" for name in names))
        nodes = (f"{version} {{ global: {' '.join(f'{n};' for n in names)} }};\n" for version, names in versions.items())
        script.write_text("".join(nodes) if "" not in versions else "")
        options = [] if "" in versions else [f"-Wl,--version-script={script}"]
        target = FOLDER / library
        output("cc", "-shared", "-w", f"-Wl,-soname,{library}", *options, "-o", target, source)


def main() -> None:
    libraries, symbols = wanted()
    is_there = {file.name for file in FOLDER.iterdir()} | set(re.findall(r"^\s+(\S+) \(", output("ldconfig", "-p"), re.M))
    is_gpu = re.compile(r"lib(cu|nv|nccl)")
    missing = sorted(library for library in libraries.keys() - is_there if is_gpu.match(library))
    versions = {library: {v: symbols[v] for v in libraries[library] if v in symbols} for library in missing}
    # Symbols without a version may be anyone's: every library without versions gets them all.
    bare = {name for name in symbols[""] if re.match(r"__cuda|(cu|nv|nccl)[a-zA-Z]*[A-Z]", name)}
    for library in missing:
        stand_in(library, versions[library] or {"": bare})
    print(f"{len(missing)} stand-ins in {FOLDER}")


if __name__ == "__main__":
    main()
