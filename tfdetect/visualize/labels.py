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
    """Draw labels at their boxes, without overlap where possible."""
    font_size = max(14, round(math.sqrt(picture.shape[0] * picture.shape[1]) / 55))
    image = Image.fromarray(picture[:, :, ::-1])
    draw = ImageDraw.Draw(image)
    normal = load_font(font_file, font_size)
    placed: list[tuple[float, float, float, float]] = []
    for text, box, color in zip(texts, boxes, colors, strict=True):
        font, room = normal, image.width - font_size // 2
        if draw.textlength(text, font) > room:
            smaller = max(6, int(font_size * room / draw.textlength(text, font)))
            font = load_font(font_file, smaller)
        # Of the font and not of the text: equal heights, whether letters reach down or not.
        ascent, descent = font.getmetrics()
        pad = max(2, (ascent + descent) // 5)
        width, height = draw.textlength(text, font) + 2 * pad, ascent + descent + pad
        x, y = _place(box, width, height, image.size, placed)
        placed.append((x, y, x + width, y + height))
        draw.rounded_rectangle(placed[-1], radius=pad, fill=color.as_rgb())
        draw.text((x + pad, y + pad / 2), text, fill=_ink(color), font=font)
    return np.asarray(image)[:, :, ::-1].copy()


def _place(
    box: np.ndarray,
    width: float,
    height: float,
    picture: tuple[int, int],
    placed: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """The top left corner of a label: of the places at a box, that which covers labels least."""

    def covered(corner: tuple[float, float]) -> float:
        x, y = corner
        return sum(
            max(0, min(x + width, right) - max(x, left))
            * max(0, min(y + height, bottom) - max(y, top))
            for left, top, right, bottom in placed
        )

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
