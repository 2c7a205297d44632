"""Running what is a graph elsewhere without tracing it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Within it, functions of TensorFlow are computed operation by operation.

    For what is called once, and is traced in another test: a whole model is traced in five seconds
    and optimized in two, and takes half a second without.
    """
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
