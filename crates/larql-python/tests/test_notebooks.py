"""The notebooks of the book run on atlas and on a real model, and what they assert holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import larql

NOTEBOOKS = sorted((Path(__file__).parents[3] / "docs/src/notebooks").glob("*.ipynb"))
SMOLLM2 = Path("~/.cache/larql-test-models/smollm2-135m-instruct.q4_1.gguf").expanduser()


def run(path: Path, folder: Path, model: str = "atlas") -> None:
    """Runs a notebook with a model in the place of atlas."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = cell.source.replace('"atlas"', repr(model))
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        assert cell.cell_type != "code" or cell.outputs or cell.source.strip().endswith(";") or "import" in cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Path of a vindex of SmolLM2."""
    if not SMOLLM2.exists():
        pytest.skip(f"a test on {SMOLLM2}, which is not there; scripts/fetch-models.py downloads it")
    path = tmp_path_factory.mktemp("smollm2") / "smollm2.vindex"
    larql.extract(SMOLLM2, path)
    yield str(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_smollm2(path: Path, smollm2: str, tmp_path: Path) -> None:
    run(path, tmp_path, smollm2)
