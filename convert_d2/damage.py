"""One line for whatever the libraries that read files stumble over."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from tfdetect.errors import InputError


@contextmanager
def damage_named(source: str) -> Iterator[None]:
    """Say of an error of zipfile or NumPy that the file is damaged."""
    try:
        yield
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
        *(RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError, SyntaxError),
    ) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{source}: cut short or damaged ({reason}); download or save it again"
        ) from None
