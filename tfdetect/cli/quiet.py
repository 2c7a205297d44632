"""Importing TensorFlow in a command: without its messages about GPUs that are not there."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

from tfdetect.cli.heap import prepare_heap

# What TensorFlow 2.16 to 2.21 says at import on a machine without an NVIDIA driver, no more.
_LOG_MESSAGES = (
    r"All log messages before absl::InitializeLog|cudart_stub|cuda_platform\.cc|cuda_dnn\.cc"
    r"|oneDNN custom operations are on|To enable the following instructions|cpu_feature_guard"
)
_FILTER = f"""
import re, sys
for line in sys.stdin.buffer:
    if not re.search({_LOG_MESSAGES.encode()!r}, line):
        try:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
        except OSError:
            pass
"""
_SECONDS = 5.0

_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """Have a process of its own leave the usual messages out of what goes to stderr.

    TensorFlow's library prints them while it is loaded, before anything can set its log level:
    TF_CPP_MIN_LOG_LEVEL holds only for what comes later, absl has no other setting, and there are
    no hooks in between. So for the time of the import descriptor 2 leads to a pipe. Anyone who
    reads it outlives this process: a crash prints what it printed, at once.
    """
    command = [sys.executable, "-I", "-S", "-c", _FILTER]
    try:
        # Ctrl-C is not for it: it ends with the pipe.
        reader = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    except OSError:  # no process or memory available: the messages are no reason to stop
        yield
        return
    assert reader.stdin is not None
    sys.stderr.flush()
    original = os.dup(2)
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)
        with contextlib.suppress(subprocess.TimeoutExpired):
            reader.wait(_SECONDS)


def import_tensorflow(float32_precision: str = "", threads: int | None = None) -> None:
    """Import TensorFlow and let it look for devices, quietly, for a process of this project's own.

    The process may keep the memory of feature maps for the next ones (`prepare_heap`), is without
    Keras until something asks for `tf.keras`, and multiplies float32 as float32: by default
    TensorFlow rounds to TF32's 11 bits on GPUs since Ampere.

    Args:
        float32_precision: FLOAT32_PRECISION, "high" or "medium" for TF32.
        threads: of an operation on the CPU, and operations at the same time; None for one on each
            core. It is for the first call in a process: TensorFlow's threads start once.
    """
    prepare_heap()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    loaded = "tensorflow" in sys.modules
    with contextlib.nullcontext() if loaded else _without_messages(), _without_keras():
        import tensorflow as tf

        tf.config.list_physical_devices()
    if not loaded:
        # TensorFlow's 250,000 objects stay, and no later collection looks at them: while a model is
        # loaded and traced, collections would take a seventh of that time.
        gc.freeze()
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    from tfdetect.inference.tf32 import allows_tf32

    tf.config.experimental.enable_tensor_float_32_execution(allows_tf32(float32_precision))


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Keep TensorFlow from importing Keras, which takes a second and 60 MB and is not used here.

    It imports Keras 2 instead where the environment asks for that, and goes on without where there
    is none. `tf.keras` looks at the environment again when it is first used.
    """
    if _LEGACY_KERAS in os.environ or importlib.util.find_spec("tf_keras") is not None:
        yield
        return
    os.environ[_LEGACY_KERAS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_LEGACY_KERAS, None)
