"""Reads NumPy's `.npz` (used for tensorpack's models) without trusting it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tfdetect.errors import InputError

# Weights are hardly compressible; a file that claims otherwise is meant to exhaust memory.
_MOST_COMPRESSION = 32
_MOST_COMPRESSION_OF_LARGE = 4  # from a gigabyte on
_LARGE = 1 << 30


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Whether a zip holds arrays and nothing else."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(
    archive: zipfile.ZipFile, source: str, size: int, progress: Callable[[int], Any]
) -> dict[str, np.ndarray]:
    """The arrays by name.

    Args:
        archive: an open one, of which `is_npz` holds.
        source: the file's name, for errors.
        size: bytes of the file.
        progress: is called with the number of bytes read.

    Raises:
        InputError: an entry is not an array of numbers, or claims more than it can hold.
        zipfile.BadZipFile, ValueError: it is damaged.
    """
    entries = archive.infolist()
    most = min(_MOST_COMPRESSION * size, max(_MOST_COMPRESSION_OF_LARGE * size, _LARGE))
    if sum(entry.file_size for entry in entries) > most:
        raise InputError(f"{source}: its entries claim far more bytes than the file has")
    arrays = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        content = archive.read(entry)
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise InputError(f"{source}: {name}: uses an unknown version of NumPy's format")
        shape, fortran, dtype = read_header(file)
        if dtype.kind not in "fiub":
            raise InputError(
                f"{source}: {name}: dtype {dtype.str} is not allowed; arrays hold numbers"
            )
        if prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise InputError(f"{source}: {name}: its shape {shape} does not fit its bytes")
        array = np.frombuffer(content, dtype, offset=file.tell())
        arrays[name] = array.reshape(shape, order="F" if fortran else "C")
        progress(entry.compress_size)
    return arrays
