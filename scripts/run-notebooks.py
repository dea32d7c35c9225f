#!/usr/bin/env python3
"""Runs the notebooks of the book and writes their output into them.

    cargo xtask python && PYTHONPATH=target/python python3 scripts/run-notebooks.py [NAME …]

Needs nbclient, ipykernel, pyarrow and matplotlib (scripts/check-tools.txt).
"""

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs/src/notebooks"


def main(names):
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            # Times and folders of this machine do not belong into the repository.
            cell.metadata.pop("execution", None)
        text = nbformat.writes(notebook)
        text = re.sub(r"/tmp/tmp\w+", "/tmp/folder", text)
        text = re.sub(r"[^\"'<> ]*/(models/atlas-)", r"~/.cache/larql/\1", text)
        path.write_text(text + "\n")
        print(path.stem)


if __name__ == "__main__":
    main(sys.argv[1:])
