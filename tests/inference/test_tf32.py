"""The warning about TF32; there is no GPU here, so that one is made up."""

from __future__ import annotations

import warnings

import pytest
import tensorflow as tf

from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.inference.tf32 import warn_of_tf32
from tfdetect.ops.backend import Backend


@pytest.fixture
def gpu(monkeypatch):
    """As if there were a GPU of this compute capability, with TensorFlow's default."""

    def make(capability: tuple[int, int]) -> None:
        config = tf.config.experimental
        monkeypatch.setattr(
            config, "get_device_details", lambda _: {"compute_capability": capability}
        )
        monkeypatch.setattr(config, "tensor_float_32_execution_enabled", lambda: True)
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])

    return make


def said(precision: str = "", device: str = "gpu:0") -> list[str]:
    cfg = load_config(DEMO / "joint_rcnn" / "config.yaml", ["FLOAT32_PRECISION", precision])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_tf32(cfg, Backend.for_device(device, ops="portable"))
    return [str(warning.message) for warning in caught]


def test_on_an_ampere(gpu):
    gpu((8, 0))
    (line,) = said()
    assert "enable_tensor_float_32_execution(False)" in line
    assert said(device="/device:GPU:0") == [line]


def test_nothing_to_say(gpu):
    gpu((9, 0))
    assert said("high") == []
    assert said(device="/device:CPU:0") == []
    gpu((7, 5))
    assert said() == []
