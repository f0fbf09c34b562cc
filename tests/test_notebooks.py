"""Every notebook runs from top to bottom, and is kept without its pictures."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.mark.documents
@each_notebook
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter client's own dependencies
def test_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": path.parent}}
    for left in reversed(range(3)):
        try:
            nbclient.NotebookClient(notebook, timeout=300, startup_timeout=40, resources=resources).execute()
        except RuntimeError as error:
            # Jupyter chooses ports before its kernel takes them: another test may be first, and the kernel ends.
            if "Kernel didn't respond" not in str(error) or not left:
                raise
        else:
            break


@each_notebook
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
