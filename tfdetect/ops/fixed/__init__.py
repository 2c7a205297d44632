"""Forms of the operators in which every shape is known when the graph is traced.

XLA compiles nothing else, and LiteRT and ONNX do best with it. The ordinary forms look only at what
is there (candidates above the threshold, regions of a level, detections of an image), which is
faster where a graph is interpreted; these look at all that there could be, and give the same
results to float rounding.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["fixed_shapes", "uses_fixed_shapes"]

_local = threading.local()


@contextlib.contextmanager
def fixed_shapes() -> Iterator[None]:
    """Within it, what this thread traces has no shape that depends on values.

    Batch and image size must be known, and the operators be the portable ones
    (`tfdetect.ops.kernels.implementation`).
    """
    before = uses_fixed_shapes()
    _local.active = True
    try:
        yield
    finally:
        _local.active = before


def uses_fixed_shapes() -> bool:
    """Whether shapes are to be known; asked when something is traced."""
    return getattr(_local, "active", False)
