"""What importing tfdetect and TensorFlow does to a process: a user's, and a command's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.support.paths import ROOT
from tfdetect.cli.quiet import import_tensorflow

WITHOUT_KERAS = """
import sys
from tfdetect.cli.quiet import import_tensorflow

import_tensorflow()
assert "keras" not in sys.modules
import tensorflow as tf

assert tf.keras.layers.Dense(3)(tf.zeros([1, 2])).shape == (1, 3)
"""

# Every module but the commands and what needs a package that is not installed.
UNCHANGED = """
import builtins, importlib, logging, os, pkgutil, signal, sys, warnings
import numpy, tensorflow as tf, cv2, PIL.Image, pycocotools.mask, supervision  # these may
sys.modules.pop("tensorpack", None)

def state():
    return {
        "environment": dict(os.environ),
        "descriptors": [os.fstat(number)[:3] for number in range(3)],
        "streams": (sys.stdout, sys.stderr, sys.excepthook, sys.unraisablehook),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "functions": (importlib.import_module, builtins.__import__, os.fork, builtins.open),
        "levels": (logging.root.level, logging.root.handlers[:], tf.get_logger().level),
        "warnings": warnings.filters[:],
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "tensorflow": sys.modules["tensorflow"],
        "pixels": PIL.Image.MAX_IMAGE_PIXELS,
        "threads": cv2.getNumThreads(),
        "umask": os.umask(0o22),
    }

before = state()
import tfdetect

def commands(name):
    return name.startswith("tfdetect.cli") or name.endswith("__main__")

for found in pkgutil.walk_packages(tfdetect.__path__, "tfdetect."):
    if not commands(found.name):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            assert error.name in {"h11", "prometheus_client", "starlette", "uvicorn"}, error
after = state()
changed = [name for name in before if before[name] != after[name]]
assert not changed, (changed, [before[n] for n in changed], [after[n] for n in changed])
loaded = [name for name in sys.modules if name.startswith("tfdetect.cli.")]
assert not loaded, loaded
"""


def run(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_keras_until_it_is_asked_for():
    done = run(WITHOUT_KERAS)
    assert done.returncode == 0, done.stderr


def test_a_users_process_is_left_as_it_is():
    done = run(UNCHANGED)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("level", ["0", "2"])
def test_tensorflow_says_nothing_in_a_command(level):
    """Beside what TF_CPP_MIN_LOG_LEVEL asks for."""
    script = "from tfdetect.cli.quiet import import_tensorflow as start\nstart()\n"
    done = run(script, TF_CPP_MIN_LOG_LEVEL=level)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_crash_while_tensorflow_loads_prints_what_it_printed(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\n"
        "os.write(2, b'cudart_stub.cc:31] Could not find cuda drivers\\n')\n"
        "os.write(2, b'The processor has no AVX\\n')\n"
        "os.write(2, b'and no end of a line')\n"
        "os.abort()\n"
    )
    script = "from tfdetect.cli.quiet import import_tensorflow as start\nstart()\n"
    done = run(script, PYTHONPATH=str(tmp_path))
    assert done.returncode == -signal.SIGABRT
    assert done.stderr == "The processor has no AVX\nand no end of a line"


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
