"""Where the recorded arrays lie, and fixtures that several tests use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

# A shell has what it starts in the background ignore Ctrl-C, and processes inherit that; the ones
# that tests start are to be as at a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
DEMO = ROOT / "demo"


@pytest.fixture
def oracle():
    """Load the recorded inputs and outputs of one operator: `oracle("nms")["boxes"]`."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(DATA / "ops" / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return load


def require_native():
    """Skip the test where there is no C++ compiler; where there is one, a failed build fails it."""
    from tfdetect.ops import kernels
    from tfdetect.ops.kernels import build

    if kernels.library() is None:
        if build.find_toolchain() is None:
            pytest.skip("no compiled operators here (no C++ compiler)")
        pytest.fail("there is a C++ compiler, but the native operators do not build or load")


IMPLEMENTATIONS = ["native", pytest.param("portable", marks=pytest.mark.full)]
"""Of the fixture `implementation`, where the portable one is for `make test-full`."""


@pytest.fixture(params=["native", "portable"])
def implementation(request):
    """Run the test once with the compiled operators and once with the TensorFlow ones."""
    from tfdetect.ops import kernels

    if request.param == "native":
        require_native()
    with kernels.implementation(request.param):
        yield request.param


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """The demo's model of boxes, masks and keypoints, converted."""
    import convert_d2.command

    folder = tmp_path_factory.mktemp("model") / "joint"
    command = ["--config-file", str(DEMO / "joint_rcnn" / "config.yaml"), "--output", str(folder)]
    command += ["--weights", str(DEMO / "joint_rcnn" / "model_final.pkl")]
    command += ["--metadata", str(DEMO / "annotations.json")]
    assert convert_d2.command.main(command) == 0
    return folder
