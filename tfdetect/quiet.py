"""Importing TensorFlow without its remarks about GPUs that are not there."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, quietly.

    On the CPU it then keeps the memory of feature maps for the next ones, where the C library's
    allocator gives every large block back and gets it anew, page by page: a tenth of the time of a
    prediction. TF_CPU_ALLOCATOR_USE_BFC=0 in the environment leaves it as it was.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    with without_startup_remarks():
        import tensorflow as tf

        tf.config.list_physical_devices()
