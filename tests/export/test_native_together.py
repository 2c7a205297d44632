"""Native operators in one process, of several SavedModels and of Predictor: registered once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.seeded_weights import seeded_model
from tests.support.native import require_native
from tests.support.paths import ROOT
from tests.support.servables import IMAGES
from tests.support.small_training import CLASSES, configuration
from tfdetect.checkpoint.model_dir import save_model
from tfdetect.export.saved_model import export_savedmodel
from tfdetect.ops.kernels import build


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two copies of a native SavedModel, and the library of another version of the sources."""
    require_native()
    folder = tmp_path_factory.mktemp("native")
    cfg = configuration("COCO-Detection/faster_rcnn_R_50_FPN_1x")
    metadata = {"class_names": [f"class {index}" for index in range(CLASSES)]}
    save_model(folder / "model", cfg, seeded_model(cfg), metadata)
    source = export_savedmodel(folder / "model", folder / "servable", ops="native").path
    copies = [shutil.copytree(source, folder / name) for name in ("a", "b")]
    library = (source / "assets" / "tfdetect_ops.so").read_bytes()
    digest = build._digest().encode()
    assert library.count(digest) == 1
    other = folder / "other_version.so"
    other.write_bytes(library.replace(digest, digest[::-1]))
    return {
        "a": f"servable={copies[0]}",
        "b": f"servable={copies[1]}",
        "predictor": f"predictor={folder / 'model'}",
        "other": f"library={other}",
    }


REFUSED = "error tfdetect's operators are loaded in this process already, of another version"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("predictor a other b", ["found", "found", REFUSED, "found"]),
        pytest.param("a b predictor", ["found", "found", "found"], marks=pytest.mark.full),
        pytest.param("a predictor b", ["found", "found", "found"], marks=pytest.mark.full),
        pytest.param("a other b", ["found", REFUSED, "found"], marks=pytest.mark.full),
        pytest.param("predictor other a", ["found", REFUSED, "found"], marks=pytest.mark.full),
        # With portable operators.
        pytest.param("other a predictor", ["loaded", REFUSED, "found"], marks=pytest.mark.full),
    ],
)
def test_any_order(places, order, expected):
    words = [sys.executable, ROOT / "tests" / "support" / "native_process.py", IMAGES[0]]
    done = subprocess.run(
        [str(word) for word in [*words, *(places[name] for name in order.split())]],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TFDETECT_OPS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start), done.stderr
    assert len({line for line in lines if line.startswith("found")}) == 1
    if order.startswith("other"):
        assert "using the portable operators: tfdetect's operators are loaded" in done.stderr
