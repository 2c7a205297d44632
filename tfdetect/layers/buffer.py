"""What Detectron2 keeps in a state dict beside the parameters, though it could be computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Buffer:
    """A constant of a layer, which is not a variable here.

    A layer's method `buffers` gives its own, by their names in Detectron2's state dict.

    Attributes:
        shape: of the value.
        compute: gives the value.
    """

    shape: tuple[int, ...]
    compute: Callable[[], np.ndarray]
