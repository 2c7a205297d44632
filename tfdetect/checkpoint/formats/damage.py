"""Turns errors of libraries that read files into one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tfdetect.errors import InputError


@contextmanager
def damage_named(source: str) -> Iterator[None]:
    """Say of any error within, such as zipfile, zlib, lzma and NumPy raise on damaged files, that
    the file is damaged."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{source}: truncated or damaged ({reason}); download or save it again"
        ) from None
