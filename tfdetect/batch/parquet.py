"""pyarrow, where it is installed, and errors that name the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from tfdetect.errors import InputError


def require_pyarrow() -> None:
    """Fail early where Parquet cannot be read or written.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"Parquet needs pyarrow ({error}); install it with pip install 'tfdetect[batch]'"
        ) from error


@contextlib.contextmanager
def open_parquet(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`; errors within the `with` block name the file.

    Raises:
        InputError: the file cannot be read, or is not Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path}: not a regular file, give a Parquet file")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as Parquet ({reason}), replace it") from error
