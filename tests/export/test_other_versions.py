"""The SavedModel in other versions of TensorFlow, where there are any: `make test-versions`.

TFDETECT_PYTHONS has their Pythons, with colons between. They need TensorFlow and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.servables import IMAGES, exported

PYTHONS = [path for path in os.environ.get("TFDETECT_PYTHONS", "").split(":") if path]
CLIENT = Path(__file__).parents[1] / "support" / "tensorflow_client.py"


def found_by(python: str, folder: Path) -> dict[str, np.ndarray]:
    """What a Python's TensorFlow gives for the images."""
    words = [python, CLIENT, exported("portable").path, "full_masks", "found.npz", *IMAGES]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return found_by(sys.executable, tmp_path_factory.mktemp("own"))


@pytest.mark.full
@pytest.mark.skipif(not PYTHONS, reason="TFDETECT_PYTHONS names no other TensorFlow")
@pytest.mark.parametrize("python", PYTHONS)
def test_the_same_detections(python, expected, tmp_path):
    found = found_by(python, tmp_path)
    assert set(found) == set(expected)
    for name, array in expected.items():
        if array.dtype.kind == "f":
            # The versions' own kernels differ in the last bits, of probabilities above all: scores
            # of keypoints by 7e-7 in 2.16.2, nothing else. (With TF_ENABLE_ONEDNN_OPTS 0, all
            # scores of 2.15 to 2.20 by 6e-8 from those of 2.21.)
            np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], array, err_msg=name)
