"""Fixtures that several tests use."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# No test downloads anything, or uses what a user has downloaded: nothing answers there.
os.environ["TFDETECT_ZOO_URL"] = "http://127.0.0.1:9"
os.environ["FVCORE_CACHE"] = os.devnull

import numpy as np
import pytest

from tests.support.native import require_native, using_ops
from tests.support.paths import DATA
from tests.support.shared import VARIABLE, demo_model
from tfdetect.cli.heap import keep_freed_memory, prepare_heap

# As commands do, before TensorFlow is imported: without it half the time of a training step goes
# into clearing new pages.
prepare_heap()
keep_freed_memory()

# A shell has what it starts in the background ignore Ctrl-C, and processes inherit that; the ones
# that tests start are to be as at a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """The folder for what all processes of this run share; the first process makes and ends it."""
    if not hasattr(config, "workerinput"):
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="tfdetect-tests-")


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


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
    """The demo's model of boxes, masks and keypoints, converted: a copy for the module."""
    return shutil.copytree(demo_model(), tmp_path_factory.mktemp("model") / "joint")


@pytest.fixture
def shared_predictors():
    """Commands that the test runs in this process share their predictors with other tests'."""
    from tests.support.predictors import sharing_predictors

    with sharing_predictors():
        yield
