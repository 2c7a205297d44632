"""Places labels in a picture, and draws them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import supervision as sv
from PIL import Image, ImageDraw

from tfdetect.visualize.fonts import load_font


def draw_labels(
    picture: np.ndarray,
    texts: Sequence[str],
    boxes: np.ndarray,
    colors: Sequence[sv.Color],
    font_file: str | os.PathLike[str] | None,
) -> np.ndarray:
    """Draw labels into the picture at their boxes, without overlap where possible."""
    font_size = max(14, round(math.sqrt(picture.shape[0] * picture.shape[1]) / 55))
    size = picture.shape[1], picture.shape[0]
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    normal = load_font(font_file, font_size)
    placed = np.zeros((len(texts), 4))
    for index, (text, box, color) in enumerate(zip(texts, boxes, colors, strict=True)):
        font, room = normal, size[0] - font_size // 2
        if measure.textlength(text, font) > room:
            smaller = max(6, int(font_size * room / measure.textlength(text, font)))
            font = load_font(font_file, smaller)
        # Of the font and not of the text: equal heights, whether letters reach down or not.
        ascent, descent = font.getmetrics()
        pad = max(2, (ascent + descent) // 5)
        width, height = measure.textlength(text, font) + 2 * pad, ascent + descent + pad
        x, y = _place(box, width, height, size, placed[:index])
        placed[index] = x, y, x + width, y + height
        # Only the part that holds the label: a large picture would be copied several times. It
        # starts at even pixels, because Pillow rounds halves to even ones.
        left, top = (max(0, math.floor(corner) - 1) // 2 * 2 for corner in (x, y))
        part = picture[top : math.ceil(y + height) + 2, left : math.ceil(x + width) + 2]
        image = Image.fromarray(part[:, :, ::-1])
        draw = ImageDraw.Draw(image)
        inside = (placed[index] - [left, top, left, top]).tolist()
        draw.rounded_rectangle(inside, radius=pad, fill=color.as_rgb())
        origin = inside[0] + pad, inside[1] + pad / 2
        draw.text(origin, text, fill=_ink(color), font=font)
        part[:] = np.asarray(image)[:, :, ::-1]
    return picture


def _place(
    box: np.ndarray,
    width: float,
    height: float,
    picture: tuple[int, int],
    placed: np.ndarray,
) -> tuple[float, float]:
    """The top left corner of a label: of the places at a box, that which covers labels least."""

    def covered(corner: tuple[float, float]) -> float:
        low = np.maximum(placed[:, :2], corner)
        high = np.minimum(placed[:, 2:], np.add(corner, (width, height)))
        return float(np.maximum(high - low, 0).prod(1).sum())

    # min keeps the first of equals: places come in the order of preference.
    return min(_places(box, width, height, picture), key=covered)


def _places(
    box: np.ndarray, width: float, height: float, picture: tuple[int, int]
) -> Iterator[tuple[float, float]]:
    left, top, right, bottom = box.tolist()
    for x in (left, right - width):
        for y in (top - height, top, bottom, bottom - height):
            yield (
                max(0, min(x, picture[0] - 1 - width)),
                max(0, min(y, picture[1] - 1 - height)),
            )


def _ink(color: sv.Color) -> tuple[int, int, int]:
    """Black or white, whichever is more legible on the colour."""
    red, green, blue = color.as_rgb()
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
