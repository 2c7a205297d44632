"""How the commands import TensorFlow."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT

SCRIPT = """
import sys
from tfdetect.quiet import import_tensorflow

import_tensorflow()
assert "keras" not in sys.modules
import tensorflow as tf

assert tf.keras.layers.Dense(3)(tf.zeros([1, 2])).shape == (1, 3)
"""


def test_without_keras_until_it_is_asked_for():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
