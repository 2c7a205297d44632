"""Importing TensorFlow without its remarks about GPUs that are not there."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from tfdetect.cli.heap import prepare_heap

# What TensorFlow 2.21 says at import on a machine without an NVIDIA driver, and nothing else.
_REMARKS = re.compile(
    rb"All log messages before absl::InitializeLog|cudart_stub|cuda_platform\.cc|cuda_dnn\.cc"
    rb"|oneDNN custom operations are on|To enable the following instructions|cpu_feature_guard"
)


@contextmanager
def without_startup_remarks() -> Iterator[None]:
    """Hold stderr back while TensorFlow starts, then pass on all but the usual remarks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held:
                if not _REMARKS.search(line):
                    os.write(2, line)


def allows_tf32(float32_precision: str) -> bool:
    """What FLOAT32_PRECISION means, by the names of PyTorch's `set_float32_matmul_precision`."""
    return float32_precision in ("high", "medium")


def import_tensorflow(float32_precision: str = "") -> None:
    """Import TensorFlow and let it look for devices, quietly, for a process of this project's own.

    The process may keep the memory of feature maps for the next ones (`prepare_heap`), is without
    Keras until something asks for `tf.keras`, and multiplies float32 as float32: by default
    TensorFlow rounds to TF32's 11 bits on GPUs since Ampere.

    Args:
        float32_precision: FLOAT32_PRECISION, "high" or "medium" for TF32.
    """
    prepare_heap()
    with without_startup_remarks(), _without_keras():
        import tensorflow as tf

        tf.config.list_physical_devices()
        tf.config.experimental.enable_tensor_float_32_execution(allows_tf32(float32_precision))


@contextmanager
def _without_keras() -> Iterator[None]:
    """Keep TensorFlow from importing Keras with it: a second and 60 MB for what nobody uses here.

    TensorFlow goes on without Keras where there is none.
    """
    import_module = importlib.import_module

    def import_all_but_keras(name: str, package: str | None = None) -> ModuleType:
        if name.startswith("keras."):
            raise ImportError(f"{name} is left for later")
        return import_module(name, package)

    importlib.import_module = import_all_but_keras
    try:
        yield
    finally:
        importlib.import_module = import_module
