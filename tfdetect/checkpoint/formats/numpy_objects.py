"""NumPy's arrays in a pickle, made from checked data."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tfdetect.checkpoint.formats.objects import (
    Budget,
    Constructor,
    Global,
    Malformed,
    Placeholder,
    check_shape,
)

_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])


class DType:
    """The dtype of a NumPy array, which a pickle makes first and then tells its byte order."""

    def __init__(self, code: str) -> None:
        if code not in _CODES:  # objects, records, text, complex numbers
            raise Malformed(
                f"an array of dtype {code[:20]!r} is not allowed; arrays hold numbers only"
            )
        self.numpy = np.dtype(f"<{code}")
        self.reason: str | None = None

    def set_state(self, state: Any, budget: Budget) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise Malformed("has a dtype of unknown format; save it again with a current NumPy")
        if state[1] == ">":
            self.numpy = self.numpy.newbyteorder(">")


class Array:
    """A NumPy array, which a pickle makes empty and then fills.

    Attributes:
        value: None until it is filled.
        reason: why it could not be filled; else None.
    """

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value
        self.reason: str | None = None

    def set_state(self, state: Any, budget: Budget) -> None:
        # (version, shape, dtype, is Fortran order, content); the first NumPys had no version.
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise Malformed("has an array of unknown format; save it again with a current NumPy")
        shape, dtype, fortran, content = state[-4:]
        self.value = _array(shape, dtype, "F" if fortran else "C", content, budget)


def _array(shape: Any, dtype: Any, order: Any, content: Any, budget: Budget) -> np.ndarray:
    if isinstance(dtype, (DType, Placeholder)) and dtype.reason:
        raise Malformed(dtype.reason)
    if isinstance(content, str):  # a byte string of Python 2
        content = content.encode("latin-1")
    if not isinstance(dtype, DType) or not isinstance(content, (bytes, bytearray)):
        raise Malformed("has an array whose content is not bytes; save it again")
    shape = check_shape(shape, "an array shape")
    if prod(shape) * dtype.numpy.itemsize != len(content):
        raise Malformed(f"has an array of shape {shape} with {len(content)} bytes; save it again")
    budget.claim("arrays", len(content))
    return np.ndarray(shape, dtype.numpy, buffer=content, order="F" if order == "F" else "C")


def _reconstruct(args: tuple, budget: Budget) -> Array:
    if not args or args[0] != Global("numpy.ndarray"):
        raise Malformed("has an array of a class other than numpy.ndarray; save it as plain arrays")
    return Array()


def _frombuffer(args: tuple, budget: Budget) -> Array:
    content, dtype, shape, order = args
    return Array(_array(shape, dtype, order, content, budget))


def _scalar(args: tuple, budget: Budget) -> Array:
    dtype, content = args
    return Array(_array((), dtype, "C", content, budget))


def _dtype(args: tuple, budget: Budget) -> DType:
    if not args or not isinstance(args[0], str):
        raise Malformed("has a dtype without a name; save it again with a current NumPy")
    return DType(args[0])


NUMPY_CONSTRUCTORS: dict[str, Constructor] = {
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "numpy.dtype": _dtype,
}
