"""tensorpack's dataflow and augmentors, without the TensorFlow 1 layers that come with them.

Importing any part of tensorpack imports TensorFlow, on top of it tensorpack's own layers and
trainers, and sets environment variables that change how TensorFlow uses a GPU; if there is no
TensorFlow it does none of that, which it supports. So for the time of the import there is none.
Its worker processes stay small, too.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

_environment = dict(os.environ)
_missing = object()
_tensorflow = sys.modules.get("tensorflow", _missing)
sys.modules["tensorflow"] = None  # type: ignore[assignment]
try:
    # It prints that TensorFlow is missing.
    with contextlib.redirect_stdout(io.StringIO()):
        from tensorpack.dataflow import DataFlow, MultiProcessRunner, imgaug

        # `imgaug` is imported on first use.
        ImageAugmentor = imgaug.ImageAugmentor
finally:
    if _tensorflow is _missing:
        del sys.modules["tensorflow"]
    else:
        sys.modules["tensorflow"] = _tensorflow  # type: ignore[assignment]
    for name in set(os.environ) - set(_environment):
        del os.environ[name]
    os.environ.update(_environment)

__all__ = ["DataFlow", "ImageAugmentor", "MultiProcessRunner", "imgaug"]
