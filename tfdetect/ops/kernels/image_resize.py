"""The native library's resize as a function of arrays, outside any graph of TensorFlow."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np

from tfdetect.ops import kernels

ImageResize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
"""Takes an image, uint8 [H, W, C], H, W and C at least 1, and its new height and width, each at
least 1; returns uint8 [height, width, C], to the bit what Pillow 11's BILINEAR makes of it."""


def native_image_resize() -> ImageResize | None:
    """The native library's, a quarter of Pillow's time; None where operators are portable.

    Processes that are forked from this one may call it, and threads at the same time.

    Raises:
        InputError: see `choose_ops`.
    """
    if kernels.choose_ops() != "native":
        return None
    function = kernels.functions().tfdetect_resize_image
    function.restype = ctypes.c_bool
    function.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 6, ctypes.c_void_p]

    def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if image.strides[1:] != (image.shape[2], 1) or image.strides[0] < 0:
            image = np.ascontiguousarray(image)
        output = np.empty((*size, image.shape[2]), np.uint8)
        # Pointers, for which nothing is checked.
        assert image.dtype == np.uint8
        assert output.size > 0
        assert image.size > 0
        if not function(
            image.ctypes.data, image.strides[0], *image.shape, *size, output.ctypes.data
        ):
            raise MemoryError(f"no memory to resize an image to {size[1]} x {size[0]} pixels")
        return output

    return resize
