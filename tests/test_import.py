"""How the commands import TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tensorflow as tf

from tests.support.paths import ROOT
from tfdetect.cli.quiet import import_tensorflow

SCRIPT = """
import sys
from tfdetect.cli.quiet import import_tensorflow

import_tensorflow()
assert "keras" not in sys.modules
import tensorflow as tf

assert tf.keras.layers.Dense(3)(tf.zeros([1, 2])).shape == (1, 3)
"""


def test_without_keras_until_it_is_asked_for():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("precision", "allowed"), [("", False), ("highest", False), ("high", True)]
)
def test_float32_is_not_rounded_to_tf32(precision, allowed):
    """On an H100 732 of the 1229 detections of the tiny models differ by more than 1e-4 with it."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        import_tensorflow(precision)
        assert tf.config.experimental.tensor_float_32_execution_enabled() is allowed
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
