"""Write arrays by name as a pickle that Detectron2 loads.

Python's own pickler names NumPy's function by where the NumPy at hand keeps it (`numpy._core` from
version 2 on), so that an older NumPy cannot load the file. What is written here, instruction by
instruction, is loaded by every NumPy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import numpy as np

_PROTOCOL = b"\x80\x03"  # of Python 3: the first with bytes
_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tC\x01b\x87R"


def pickle_arrays(arrays: Mapping[str, np.ndarray], author: str) -> bytes:
    """{"model": arrays, "__author__": author} as a pickle.

    The author is what tells Detectron2 that the names are its own; without one, it would look for
    Caffe2's.
    """
    return b"".join(_instructions(arrays, author))


def _instructions(arrays: Mapping[str, np.ndarray], author: str) -> Iterator[bytes]:
    yield _PROTOCOL + b"}(" + _text("model") + b"}("
    for name, array in arrays.items():
        yield _text(name)
        yield from _array(array)
    yield b"u" + _text("__author__") + _text(author) + b"u."


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _array(array: np.ndarray) -> Iterator[bytes]:
    """An empty array, and then its state: (version, shape, dtype, is Fortran order, content)."""
    little = array.astype(array.dtype.newbyteorder("<"))
    shape = b"(" + b"".join(map(_integer, array.shape)) + b"t"
    dtype = b"cnumpy\ndtype\n" + _text(little.dtype.str[1:]) + b"K\x00K\x01\x87R"
    byte_order = _text("<" if array.itemsize > 1 else "|")
    dtype_state = b"(K\x03" + byte_order + b"NNN" + _integer(-1) * 2 + b"K\x00tb"
    content = little.tobytes()
    yield _RECONSTRUCT + b"(K\x01" + shape + dtype + dtype_state + b"\x89"
    yield b"B" + struct.pack("<I", len(content)) + content + b"tb"
