"""The font of labels in pictures."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
from collections.abc import Iterable
from pathlib import Path

from PIL import ImageFont

from tfdetect.errors import InputError


def load_font(path: str | os.PathLike[str] | None, size: int) -> ImageFont.FreeTypeFont:
    """A font in `size` pixels: that of a file, or DejaVu Sans.

    DejaVu has Latin, Greek, Cyrillic, Arabic, Hebrew and more, but not Chinese, Japanese or
    Korean; it comes with Matplotlib, so that pictures are the same on every machine.

    Raises:
        InputError: the file cannot be read or is not a font.
    """
    return _load(_dejavu() if path is None else os.fspath(path), size)


def missing_characters(texts: Iterable[str], path: str | os.PathLike[str] | None) -> str:
    """The characters of `texts` that the font has no glyph for, each once."""
    font = load_font(path, 20)
    lacking = _drawn(font, "\U0010ffff")  # no character
    characters = sorted({character for text in texts for character in text})
    return "".join(c for c in characters if not c.isspace() and _drawn(font, c) == lacking)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[object, bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@functools.cache
def _load(path: str, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(io.BytesIO(_read(path)), size)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read as a font ({error.strerror or error}); give a TrueType or "
            "OpenType file"
        ) from error


@functools.cache
def _read(path: str) -> bytes:
    return Path(path).read_bytes()


@functools.cache
def _dejavu() -> str:
    # Found without importing Matplotlib, which takes a second.
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None  # a dependency
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")
