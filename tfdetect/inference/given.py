"""Checks the arguments of a Predictor, and describes them in errors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfdetect.errors import InputError


def is_one_image(images: Any) -> bool:
    """Whether this is intended as a single image; otherwise it can be iterated over."""
    if isinstance(images, np.ndarray):
        # An array of objects holds images, and one of four axes is a batch.
        return images.dtype != object and images.ndim != 4
    not_several = (str, bytes, os.PathLike, dict)
    # Tensors of other libraries can be iterated over; their rows are not images.
    return isinstance(images, not_several) or hasattr(images, "shape") or not _iterates(images)


def _iterates(value: Any) -> bool:
    try:
        return isinstance(value, Iterable) and iter(value) is not None
    except TypeError:
        return False


def check_image(name: str, image: Any) -> None:
    """Raise InputError, which says what to do, unless `image` is a uint8 [H, W, 3] array.

    Args:
        name: of the argument, such as "images[2]".
    """
    if not isinstance(image, np.ndarray):
        advice = _advice_on_type(image)
    elif image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
        return
    else:
        advice = _advice_on_array(image)
    raise InputError(
        f"{name}: expected a uint8 [H, W, 3] array in BGR order, got {describe(image)}"
        f"{'; ' if advice else ''}{advice}"
    )


def _advice_on_type(image: Any) -> str:
    if image is None:
        return "cv2.imread returns None for a file that it cannot read"
    if isinstance(image, (str, bytes, os.PathLike)):
        return "read the file first, with tfdetect.data.images.read_image"
    if type(image).__module__.startswith("PIL."):
        return 'give np.asarray(image.convert("RGB"))[:, :, ::-1]'
    if hasattr(image, "numpy"):
        return "give a NumPy array (.numpy())"
    return ""


def _advice_on_array(image: np.ndarray) -> str:
    shape = image.shape
    if 0 in shape:
        return "it has no pixels"
    if image.ndim == 2 or (image.ndim == 3 and shape[2] == 1):
        return "it is greyscale; give cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    if image.ndim == 3 and shape[2] == 4:
        return "it has four channels; give image[:, :, :3]"
    if image.ndim == 3 and shape[0] in (1, 3, 4) and shape[2] != 3:
        return "its channels come first; give image.transpose(1, 2, 0)"
    if image.ndim == 3 and shape[2] == 3:
        return "give the pixels from 0 to 255 as uint8"
    return ""


def read_boxes(name: str, boxes: Any) -> np.ndarray:
    """The float32 [P, 4] array of `boxes`.

    Raises:
        InputError: it is not such an array; the text begins with `name`.
    """
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected float [P, 4], got {describe(boxes)}") from error
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"{name}: expected float [P, 4], got {describe(array)}")
    return array


def describe(value: Any) -> str:
    """A short description of a value: its type and, for an array, dtype and shape."""
    if value is None:
        return "None"
    if isinstance(value, (str, bytes, os.PathLike)):
        return f"the path {os.fspath(value)!r}"[:200]
    kind = type(value)
    try:
        shape, dtype = list(value.shape), value.dtype
    except (AttributeError, TypeError):
        return f"a {kind.__module__}.{kind.__name__}".replace(" builtins.", " ")
    return f"{'' if isinstance(value, np.ndarray) else f'a {kind.__name__}, '}{dtype} {shape}"
