"""Fixtures that several tests use."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from tests.support.native import require_native, using_ops
from tests.support.paths import DATA, DEMO
from tfdetect.cli.heap import keep_freed_memory, prepare_heap

# As commands do, before TensorFlow is imported: without it half the time of a training step goes
# into clearing new pages.
prepare_heap()
keep_freed_memory()

# A shell has what it starts in the background ignore Ctrl-C, and processes inherit that; the ones
# that tests start are to be as at a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def oracle():
    """Load the recorded inputs and outputs of one operator: `oracle("nms")["boxes"]`."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(DATA / "ops" / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return load


@pytest.fixture(params=["native", "portable"])
def implementation(request):
    """Run the test once with the compiled operators and once with the TensorFlow ones."""
    if request.param == "native":
        require_native()
    with using_ops(request.param):
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
