"""Resize of 8-bit images, compared with Pillow's, to which it is bit-identical.

python benchmarks/resize.py [ROW ...] [--runs N]
"""

from __future__ import annotations

import functools

import numpy as np
import operator_inputs as inputs
from harness import Row, Side, Skip, main

Size = tuple[int, int]


def _image(size: Size) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def _ours(old: Size, new: Size) -> Side:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.resize import resize_bilinear_uint8

    inputs.require_native()
    image, size = tf.constant(_image(old)), tf.constant(new)
    moved = 3 * (old[0] * old[1] + new[0] * new[1])
    limit = inputs.bytes_limit("reads one image and writes the other", moved)
    return Side(versions, inputs.call(resize_bilinear_uint8, image, size), limit)


def _pillow(old: Size, new: Size) -> Side:
    try:
        import PIL
        from PIL import Image
    except ImportError as error:
        raise Skip(f"there is no Pillow ({error})") from error

    image = Image.fromarray(_image(old))

    def run() -> None:
        image.resize(new[::-1], Image.Resampling.BILINEAR)

    return Side({"Pillow": PIL.__version__}, run)


def _row(name: str, old: Size, new: Size) -> Row:
    title = f"uint8 resize of {old[0]} x {old[1]} to {new[0]} x {new[1]}"
    ours, pillow = functools.partial(_ours, old, new), functools.partial(_pillow, old, new)
    return Row(name, title, 1.0, ours, "Pillow", pillow, runs=30, warm_up=5)


ROWS = [
    _row("resize", (480, 640), (800, 1067)),
    _row("resize_down", (1080, 1920), (750, 1333)),
]

if __name__ == "__main__":
    main(ROWS)
