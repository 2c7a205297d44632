"""The notebooks of the documentation, run from their first cell to their last."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.paths import ROOT
from tests.support.servables import model_dir

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# Instead of minutes: what is printed and drawn has the same form.
FEWER = {"STEPS": 10, "IMAGES": 8}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.full
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="the extra tfdetect[notebooks]")
    nbclient = pytest.importorskip("nbclient", reason="the extra tfdetect[notebooks]")
    pytest.importorskip("ipykernel", reason="the extra tfdetect[notebooks]")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "output" / "demo").mkdir(parents=True)
    (tmp_path / "output" / "demo" / "model").symlink_to(model_dir())
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for name, number in FEWER.items():
            cell.source = re.sub(rf"^{name} = \d+$", f"{name} = {number}", cell.source, flags=re.M)
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    drawn = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in drawn)
